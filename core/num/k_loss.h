/* k_loss.h — the passes of the softmax losses over many columns, for one vector per user and for
 * K vectors of which each column takes the best.
 *   num->loss->exp_row(&max, &sum, x, n);
 * Thread: any (pure). */
#pragma once
#include <stdint.h>

struct k_loss_ops {
    /* *max = max_j x[j], *sum = sum_j exp(x[j] - *max), x[j] replaced by those exponentials.
     * -inf counts as nothing, also where the whole row is. */
    void (*exp_row)(float *max, float *sum, float *x, int32_t n);
    /* The same of best[j] = max_k x[k,j], x [K,n] with row stride ld.  e [n]: the exponentials,
     * win [n]: the first k that attains the maximum. */
    void (*exp_best)(float *max, float *sum, float *e, int32_t *win, const float *x, int32_t K,
                     int32_t n, int32_t ld);
    /* best[j] = max_k x[k,j] and win[j], the first k that attains it. */
    void (*best)(float *best, int32_t *win, const float *x, int32_t K, int32_t n, int32_t ld);
    /* Returns sum_j log(1 + exp x[j]); x[j] becomes its derivative 1 / (1 + exp -x[j]).  -inf counts as nothing. */
    float (*softplus_sum)(float *x, int32_t n);
    /* Only *max and *sum. */
    void (*sum_best)(float *max, float *sum, const float *x, int32_t K, int32_t n, int32_t ld);

    /* The products of the K vectors' gradients, 1/K of the work of dense ones.
     * dq[k] += sum over j with win[j] = k of e[j] table[j]      dq [K,D], table [n,D] */
    void (*win_rows)(float *dq, const float *e, const int32_t *win, const float *table, int32_t K,
                     int32_t n, int32_t D);
    /* dtable[j] (+)= sum_b e[b,j] q[b*K + win[b,j]]     dtable [n,D], q [B*K,D]
     * e, win [B,n] with row stride ld (a power of two is slow); add = 0: overwritten */
    void (*win_cols)(float *dtable, const float *e, const int32_t *win, const float *q, int32_t B,
                     int32_t K, int32_t n, int32_t ld, int32_t D, int add);

    /* dx[j] += g exp(x[j] - lse): the gradient of log sum exp x */
    void (*lse_bwd)(float *dx, const float *x, float lse, float g, int64_t n);
};
extern const struct k_loss_ops k_loss_base, k_loss_v3, k_loss_v4;
