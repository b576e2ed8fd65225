/* k_loss.h — the passes of the softmax losses over tiles of scores, for one vector per user and for
 * K vectors of which each score takes the best.
 *   num->loss->exp_cols(x, sum, max, n, cols);
 * Thread: any (pure). */
#pragma once
#include <stdint.h>

struct k_loss_ops {
    /* Of each column of x [n,cols], cols a multiple of 16: max[c] = the largest of itself and x[j,c]. */
    void (*max_cols)(float *max, const float *x, int32_t n, int32_t cols);
    /* x[j,c] becomes exp(x[j,c] - max[c]), and sum[c] += what they sum to.  exp(-inf) = 0. */
    void (*exp_cols)(float *x, float *sum, const float *max, int32_t n, int32_t cols);
    /* best[j] = max_k x[k,j] and win[j], the first k that attains it; x [K,n] with row stride ld. */
    void (*best)(float *best, int32_t *win, const float *x, int32_t K, int32_t n, int32_t ld);
    /* best[j,c] = max_k x[j,k,c] and win[j,c]; x [n,K,cols], cols a multiple of 16. */
    void (*best_cols)(float *best, int32_t *win, const float *x, int32_t K, int32_t n, int32_t cols);
    /* Returns sum_j log(1 + exp x[j]); x[j] becomes its derivative 1 / (1 + exp -x[j]).  -inf counts as nothing. */
    float (*softplus_sum)(float *x, int32_t n);
    /* The products of the K vectors' gradients, 1/K of the work of dense ones.
     * dq[k] += sum over j with win[j] = k of e[j] table[j]      dq [K,D], table [n,D] */
    void (*win_rows)(float *dq, const float *e, const int32_t *win, const float *table, int32_t K,
                     int32_t n, int32_t D);
    /* dtable[j] (+)= sum_b e[b,j] q[b*K + win[b,j]]     dtable [n,D], q [B*K,D]
     * e[b,j], win[b,j] lie at b*next + j*side (a power of two is slow); add = 0: overwritten */
    void (*win_cols)(float *dtable, const float *e, const int32_t *win, const float *q, int32_t B,
                     int32_t K, int32_t n, int32_t next, int32_t side, int32_t D, int add);

    /* dx[j] += g exp(x[j] - lse): the gradient of log sum exp x */
    void (*lse_bwd)(float *dx, const float *x, float lse, float g, int64_t n);
};
extern const struct k_loss_ops k_loss_base, k_loss_v3, k_loss_v4;
