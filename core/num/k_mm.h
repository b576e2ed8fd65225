/* k_mm.h — matrix products in place: no packing, the same bits for a row whatever rows are beside
 * it.  Made for the encoder's shapes (inner size up to a few hundred), where BLAS spends its
 * time copying.  Thread: any (pure). */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct k_mm_ops {
    /* c[i,j] = bias[j] + sum_k a[i*lda + k] b[k*ldb + j]; add: c += the sum (bias NULL).
     * c [M,N] stride ldc, a [M,K], b [K,N].  bias may be NULL. */
    void (*nn)(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
               const float *bias, int32_t M, int32_t N, int32_t K, bool add);
    /* c[i,j] = sum_k a[k*lda + i] b[k*ldb + j]; add: +=.      a [K,M], b [K,N] */
    void (*tn)(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
               int32_t M, int32_t N, int32_t K, bool add);
};
