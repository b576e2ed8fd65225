/* k_mm.h — matrix products in place: the same bits for a row whatever rows are beside it, and no
 * packing (nt turns 32 rows of b at a time on its stack).  Made for the model's shapes, where BLAS spends
 * its time copying, and does not know the CPU when that is newer.  Thread: any (pure). */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct k_mm_ops {
    /* c[i,j] = bias[j] + sum_k a[i*lda + k] b[k*ldb + j]; add: c += the sum (bias NULL).
     * c [M,N] stride ldc, a [M,K], b [K,N].  bias may be NULL. */
    void (*nn)(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
               const float *bias, int32_t M, int32_t N, int32_t K, bool add);
    /* c[i,j] = sum_k a[i*lda + k] b[j*ldb + k]; add: +=.      a [M,K], b [N,K] */
    void (*nt)(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
               int32_t M, int32_t N, int32_t K, bool add);
    /* c[i,j] = sum_k a[k*lda + i] b[k*ldb + j]; add: +=.      a [K,M], b [K,N] */
    void (*tn)(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
               int32_t M, int32_t N, int32_t K, bool add);
};
