#include "core/num/k_seg.h"
#include "core/num/isa.h"
#include "core/num/simd.h"
#include <math.h>
#include <stddef.h>

static void dot(float *s, const float *x, const float *q, int32_t n, int32_t D, float scale)
{
    for (int32_t i = 0; i < n; i++) s[i] = scale * simd_dot(x + (int64_t)i * D, q, D);
}

static void dot_bwd(float *dx, float *dq, const float *ds, const float *x, const float *q,
                    int32_t n, int32_t D, float scale)
{
    for (int32_t i = 0; i < n; i++) {
        float c = scale * ds[i];
        if (dx) simd_add(dx + (int64_t)i * D, q, c, D);
        if (dq) simd_add(dq, x + (int64_t)i * D, c, D);
    }
}

static float masked_max(const float *x, const uint8_t *mask, int32_t n)
{
    float m = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        if ((!mask || mask[i]) && x[i] > m) m = x[i];
    return m == -INFINITY ? 0.0f : m;
}

static void softmax(float *y, const float *x, const uint8_t *mask, int32_t n)
{
    float m = masked_max(x, mask, n), sum = 0;
    for (int32_t i = 0; i < n; i += VW)
        vf_put(y + i, vf_exp(vf_get(x + i, n - i) - m), n - i);
    for (int32_t i = 0; i < n; i++) {
        if (mask && !mask[i]) y[i] = 0;
        sum += y[i];
    }
    float inv = sum > 0 ? 1.0f / sum : 0.0f;
    for (int32_t i = 0; i < n; i++) y[i] *= inv;
}

static void softmax_bwd(float *dx, const float *dy, const float *y, int32_t n)
{
    float t = simd_dot(dy, y, n);
    for (int32_t i = 0; i < n; i++) dx[i] += y[i] * (dy[i] - t);
}

/* One vector of columns of K rows at a time: the sums stay in registers over the tokens. */
static void mix(float *y, const float *a, const float *p, const float *z, int32_t n, int32_t K,
                int32_t D)
{
    for (int32_t k = 0; k < K; k++)
        for (int32_t j = 0; j < D; j += VW) {
            vf s = { 0 };
            for (int32_t i = 0; i < n; i++)
                s += a[(int64_t)i * K + k] * p[i] * vf_get(z + (int64_t)i * D + j, D - j);
            vf_put(y + (int64_t)k * D + j, s, D - j);
        }
}

static void mix_bwd(float *da, float *dp, float *dz, const float *dy, const float *a,
                    const float *p, const float *z, int32_t n, int32_t K, int32_t D)
{
    for (int32_t i = 0; i < n; i++) {
        const float *ai = a + (int64_t)i * K, *zi = z + (int64_t)i * D;
        float dpi = 0;
        for (int32_t k = 0; k < K; k++) {
            const float *dyk = dy + (int64_t)k * D;
            if (da || dp) {
                float t = simd_dot(dyk, zi, D);
                if (da) da[(int64_t)i * K + k] += p[i] * t;
                dpi += ai[k] * t;
            }
            if (dz) simd_add(dz + (int64_t)i * D, dyk, ai[k] * p[i], D);
        }
        if (dp) dp[i] += dpi;
    }
}

const struct k_seg_ops NUM_TABLE(k_seg) = {
    .dot = dot,
    .dot_bwd = dot_bwd,
    .softmax = softmax,
    .softmax_bwd = softmax_bwd,
    .mix = mix,
    .mix_bwd = mix_bwd,
};
