#include "core/num/k_mm.h"
#include "core/num/isa.h"
#include "core/num/mm_tile.h"

/* Inner size of one pass: its tile of a and its panel of b stay in the first-level cache. */
enum { K_STEP = 256, PANEL = 32 };

static void tiles_nn(struct mm_args g, int32_t M, int32_t N)
{
    for (int32_t i = 0, rows; i < M; i += rows) {
        rows = mm_next_rows(M - i);
        mm_row_tile(g, rows, N, false);
        g.c += rows * g.ldc;
        if (g.from) g.from += rows * g.ldf;
        g.a += rows * g.lda;
    }
}

static void tiles_tn(struct mm_args g, int32_t M, int32_t N)
{
    for (int32_t i = 0, rows; i < M; i += rows) {
        rows = mm_next_rows(M - i);
        mm_row_tile(g, rows, N, true);
        g.c += rows * g.ldc;
        if (g.from) g.from += rows * g.ldf;
        g.a += rows;
    }
}

static void nn(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
               const float *bias, int32_t M, int32_t N, int32_t K, bool add)
{
    struct mm_args g = { c, a, b, add ? c : bias, ldc, lda, ldb, add ? ldc : 0, K };
    for (int32_t k = 0; k < K || k == 0; k += K_STEP) {
        g.K = K - k < K_STEP ? K - k : K_STEP;
        g.a = a + k;
        g.b = b + (ptrdiff_t)k * ldb;
        tiles_nn(g, M, N);
        g.from = c;
        g.ldf = ldc;
    }
}

/* t [K,PANEL] = transpose of b [n,K], n <= PANEL; columns past n, up to a whole vector, hold anything. */
static void turn_panel(float *t, const float *b, ptrdiff_t ldb, int32_t n, int32_t K)
{
    for (int32_t j = 0; j < n; j += VW)
        for (int32_t k = 0; k < K; k += VW)
            simd_transpose(t + k * PANEL + j, PANEL, b + j * ldb + k, ldb, n - j,
                           K - k < VW ? K - k : VW);
}

static void nt(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
               int32_t M, int32_t N, int32_t K, bool add)
{
    _Alignas(64) float t[K_STEP * PANEL];
    for (int32_t k = 0; k < K || k == 0; k += K_STEP) {
        const int32_t nk = K - k < K_STEP ? K - k : K_STEP;
        for (int32_t j = 0; j < N; j += PANEL) {
            const int32_t n = N - j < PANEL ? N - j : PANEL;
            turn_panel(t, b + (ptrdiff_t)j * ldb + k, ldb, n, nk);
            float *cj = c + j;
            struct mm_args g = { cj, a + k, t, add || k > 0 ? cj : NULL, ldc, lda, PANEL, ldc, nk };
            tiles_nn(g, M, n);
        }
    }
}

static void tn(float *c, int32_t ldc, const float *a, int32_t lda, const float *b, int32_t ldb,
               int32_t M, int32_t N, int32_t K, bool add)
{
    struct mm_args g = { c, a, b, add ? c : NULL, ldc, lda, ldb, ldc, K };
    for (int32_t k = 0; k < K || k == 0; k += K_STEP) {
        g.K = K - k < K_STEP ? K - k : K_STEP;
        g.a = a + (ptrdiff_t)k * lda;
        g.b = b + (ptrdiff_t)k * ldb;
        tiles_tn(g, M, N);
        g.from = c;
    }
}

extern const struct k_mm_ops NUM_TABLE(k_mm);
const struct k_mm_ops NUM_TABLE(k_mm) = {
    .nn = nn,
    .nt = nt,
    .tn = tn,
};
