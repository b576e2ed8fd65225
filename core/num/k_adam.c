#include "core/num/k_adam.h"
#include "core/num/isa.h"
#include <math.h>

static void step(float *restrict x, float *restrict g, float *restrict m, float *restrict v,
                 int64_t n, const struct k_adam_step *c)
{
    const float b1 = c->beta1, b2 = c->beta2, decay = c->decay;
    const float size = c->size, root = c->root, eps = c->eps, clip = c->clip, shrink = c->shrink;
    const float a1 = 1.0f - b1, a2 = 1.0f - b2;
    for (int64_t i = 0; i < n; i++) {
        float gi = clip * g[i] + decay * x[i];
        float mi = b1 * m[i] + a1 * gi;
        float vi = b2 * v[i] + a2 * (gi * gi);
        m[i] = mi;
        v[i] = vi;
        g[i] = 0;
        x[i] = shrink * x[i] - size * mi / (root * sqrtf(vi) + eps);
    }
}

static void average(float *restrict y, const float *restrict x, float a, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += a * (x[i] - y[i]);
}

const struct k_adam_ops NUM_TABLE(k_adam) = { .step = step, .average = average };
