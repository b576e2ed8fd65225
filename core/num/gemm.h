/* gemm.h — single-precision matrix products through BLAS, one thread.
 *   gemm_nn(c, a, b, M, N, K, alpha, beta)     c = alpha a b + beta c
 *   nn: a [M,K], b [K,N]    nt: a [M,K], b [N,K]    tn: a [K,M], b [K,N]    c [M,N]
 * The _ld forms take row strides.  Thread: any (pure). */
#pragma once
#include <stdint.h>

void gemm_nn(float *c, const float *a, const float *b, int32_t M, int32_t N, int32_t K,
             float alpha, float beta);
void gemm_nt(float *c, const float *a, const float *b, int32_t M, int32_t N, int32_t K,
             float alpha, float beta);
void gemm_tn(float *c, const float *a, const float *b, int32_t M, int32_t N, int32_t K,
             float alpha, float beta);
void gemm_nn_ld(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
                int32_t M, int32_t N, int32_t K, float alpha, float beta);
void gemm_nt_ld(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
                int32_t M, int32_t N, int32_t K, float alpha, float beta);
