/* k_adam.h — one step of Adam over a run of parameters.
 *   num->adam->step(x, g, m, v, n, &c);
 * Thread: any (pure). */
#pragma once
#include <stdint.h>

struct k_adam_step {
    float beta1, beta2;
    float clip;   /* the gradient is multiplied with it first */
    float decay;  /* added to the gradient as decay x */
    float shrink; /* x is multiplied with it: 1 - lr decay for AdamW, else 1 */
    float size;  /* lr / (1 - beta1^t) */
    float root;  /* 1 / sqrt(1 - beta2^t) */
    float eps;
};

struct k_adam_ops {
    /* g = clip g + decay x; m, v: running means of g and g^2; x = shrink x - size m / (root sqrt(v) + eps); g = 0.
     * All [n], one pass.  Kingma & Ba 2015, algorithm 1; shrink: Loshchilov & Hutter 2019, algorithm 2. */
    void (*step)(float *x, float *g, float *m, float *v, int64_t n, const struct k_adam_step *c);
    /* y += a (x - y) */
    void (*average)(float *y, const float *x, float a, int64_t n);
};
extern const struct k_adam_ops k_adam_base, k_adam_v3, k_adam_v4;
