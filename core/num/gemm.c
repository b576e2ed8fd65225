#include "core/num/gemm.h"
#include <cblas.h>

void gemm_nt_ld(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
                int32_t M, int32_t N, int32_t K, float alpha, float beta)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, M, N, K, alpha, a, lda, b, ldb, beta,
                c, ldc);
}
