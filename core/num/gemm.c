#include "core/num/gemm.h"
#include <cblas.h>

void gemm_nn_ld(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
                int32_t M, int32_t N, int32_t K, float alpha, float beta)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, M, N, K, alpha, a, lda, b, ldb, beta,
                c, ldc);
}

void gemm_nt_ld(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
                int32_t M, int32_t N, int32_t K, float alpha, float beta)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, M, N, K, alpha, a, lda, b, ldb, beta,
                c, ldc);
}

void gemm_nn(float *c, const float *a, const float *b, int32_t M, int32_t N, int32_t K,
             float alpha, float beta)
{
    gemm_nn_ld(c, N, a, K, b, N, M, N, K, alpha, beta);
}

void gemm_nt(float *c, const float *a, const float *b, int32_t M, int32_t N, int32_t K,
             float alpha, float beta)
{
    gemm_nt_ld(c, N, a, K, b, K, M, N, K, alpha, beta);
}

void gemm_tn(float *c, const float *a, const float *b, int32_t M, int32_t N, int32_t K,
             float alpha, float beta)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, M, N, K, alpha, a, M, b, N, beta, c,
                N);
}
