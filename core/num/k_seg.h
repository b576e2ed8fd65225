/* k_seg.h — kernels of the K-interest head on one sequence of n tokens.
 *   num->seg->dot(s, x, q, n, D, scale);       gradients accumulate
 * mask[n]: 1 the token counts, 0 it does not; NULL: all count.
 * Thread: any (pure). */
#pragma once
#include <stdint.h>

struct k_seg_ops {
    /* s[i] = scale x[i].q              s [n], x [n,D], q [D] */
    void (*dot)(float *s, const float *x, const float *q, int32_t n, int32_t D, float scale);
    /* dx[i] += scale ds[i] q, dq += scale sum_i ds[i] x[i]; dx or dq may be NULL */
    void (*dot_bwd)(float *dx, float *dq, const float *ds, const float *x, const float *q,
                    int32_t n, int32_t D, float scale);
    /* y = softmax of x [n] over the tokens that count, 0 elsewhere; all 0 when none counts */
    void (*softmax)(float *y, const float *x, const uint8_t *mask, int32_t n);
    /* dx += y (dy - sum dy y) */
    void (*softmax_bwd)(float *dx, const float *dy, const float *y, int32_t n);
    /* y[k] = sum_i a[i,k] p[i] z[i]    y [K,D] overwritten, a [n,K], p [n], z [n,D] */
    void (*mix)(float *y, const float *a, const float *p, const float *z, int32_t n, int32_t K,
                int32_t D);
    /* da [n,K], dp [n], dz [n,D]; each may be NULL */
    void (*mix_bwd)(float *da, float *dp, float *dz, const float *dy, const float *a,
                    const float *p, const float *z, int32_t n, int32_t K, int32_t D);
};
extern const struct k_seg_ops k_seg_base, k_seg_v3, k_seg_v4;
