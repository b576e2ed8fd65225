/* gemm.h — the single-precision matrix product through BLAS, one thread: for products so large that
 * packing pays; k_mm.h has the others.  Thread: any (pure). */
#pragma once
#include <stdint.h>

/* c [M,N] = alpha a b^T + beta c, a [M,K], b [N,K]; ldc, lda, ldb are the strides of their rows. */
void gemm_nt_ld(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
                int32_t M, int32_t N, int32_t K, float alpha, float beta);
