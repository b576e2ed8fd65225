/* k_loss.h — the softmax passes of the losses over large numbers of columns.
 *   num->loss->tile_exp(&max, &sum, x, K, n, ld);
 * Thread: any (pure). */
#pragma once
#include <stdint.h>

struct k_loss_ops {
    /* Some columns of a row of logits seen by K vectors: x [K,n] with row stride ld,
     * value[j] = max_k x[k,j].  *max = max_j value[j], *sum = sum_j exp(value[j] - *max).
     * x is replaced: x[k,j] becomes exp(value[j] - *max) for the first k that attains value[j],
     * 0 for the others.  Columns of nothing but -inf count 0. */
    void (*tile_exp)(float *max, float *sum, float *x, int32_t K, int32_t n, int32_t ld);
    /* The same two results, x left as it is. */
    void (*tile_sum)(float *max, float *sum, const float *x, int32_t K, int32_t n, int32_t ld);
    /* dx[j] += g exp(x[j] - lse): the gradient of log sum exp x */
    void (*lse_bwd)(float *dx, const float *x, float lse, float g, int64_t n);
};
extern const struct k_loss_ops k_loss_base, k_loss_v3, k_loss_v4;
