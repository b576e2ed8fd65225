/* Vectors, products and dropout hashes of every instruction set against plain double loops. */
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SAME(a, b) ck_assert_double_eq((double)(a), (double)(b))

static const struct num_ops *isa[3];
static int n_isa;
static struct rng rng;

static void set_up(void)
{
    n_isa = num_available(isa);
    rng = rng_make(11, RNG_TEST);
}

/* Lengths around every vector width and its multiples. */
static const int32_t lengths[] = { 0,  1,  2,  3,  4,  5,  7,  8,   9,  15,
                                   16, 17, 31, 33, 63, 64, 65, 100, 257 };
enum { N_LENGTHS = sizeof lengths / sizeof *lengths, PAD = 8 };

/* n normal numbers with PAD sentinels behind, so that a write past the end shows. */
static float *vec_new(int64_t n, float deviation)
{
    float *x = xmalloc((size_t)(n + PAD) * sizeof *x);
    for (int64_t i = 0; i < n + PAD; i++)
        x[i] = i < n ? deviation * rng_normal(&rng) : 12345.0f;
    return x;
}

static void vec_free(float *x, int64_t n)
{
    for (int64_t i = n; i < n + PAD; i++) SAME(x[i], 12345.0f);
    free(x);
}

#define NEAR(got, want, tol)                                                                   \
    ck_assert_msg(fabs((double)(got) - (want)) <= (tol), "%s, n=%d: %.9g instead of %.9g",     \
                  v->isa, n, (double)(got), (double)(want))

START_TEST(vectors_match_plain_loops)
{
    const int32_t n = lengths[_i];
    for (int k = 0; k < n_isa; k++) {
        const struct num_ops *v = isa[k];
        float *a = vec_new(n, 1), *b = vec_new(n, 1), *y = vec_new(n, 1), *y0 = vec_new(n, 1);
        double dot = 0, sum = 0, max = -HUGE_VAL, tol = 1e-6 * (n + 1);
        for (int32_t i = 0; i < n; i++) {
            dot += (double)a[i] * (double)b[i];
            sum += (double)a[i];
            max = fmax(max, (double)a[i]);
        }
        NEAR(v->vec->dot(a, b, n), dot, tol);
        NEAR(v->vec->sum(a, n), sum, tol);
        ck_assert_double_eq((double)v->vec->max(a, n), max);
        v->vec->add(y, a, b, n);
        for (int32_t i = 0; i < n; i++) SAME(y[i], a[i] + b[i]);
        v->vec->mul(y, a, b, n);
        for (int32_t i = 0; i < n; i++) SAME(y[i], a[i] * b[i]);
        v->vec->scale(y, -2.5f, a, n);
        for (int32_t i = 0; i < n; i++) SAME(y[i], -2.5f * a[i]);
        memcpy(y0, y, (size_t)n * sizeof *y);
        v->vec->axpy(y, 3, b, n);
        for (int32_t i = 0; i < n; i++) NEAR(y[i], (double)y0[i] + 3 * (double)b[i], 2e-6);
        v->vec->fill(y, 7, n);
        for (int32_t i = 0; i < n; i++) SAME(y[i], 7);
        vec_free(a, n);
        vec_free(b, n);
        vec_free(y, n);
        vec_free(y0, n);
    }
}
END_TEST

START_TEST(softmax_rows_match_double)
{
    const int32_t n = lengths[_i];
    for (int k = 0; k < n_isa; k++) {
        const struct num_ops *v = isa[k];
        float *x = vec_new(n, 4), *y = vec_new(n, 1), *dy = vec_new(n, 1), *dx = vec_new(n, 1);
        double top = -HUGE_VAL, sum = 0, dot = 0;
        for (int32_t i = 0; i < n; i++) top = fmax(top, (double)x[i]);
        for (int32_t i = 0; i < n; i++) sum += exp((double)x[i] - top);
        double lse = top + log(sum);
        float got = v->vec->softmax_row(y, x, n);
        if (n == 0) {
            ck_assert(isinf(got) && got < 0 && isinf(v->vec->lse(x, n)));
        } else {
            NEAR(got, lse, 2e-6 * fabs(lse) + 1e-6);
            NEAR(v->vec->lse(x, n), lse, 2e-6 * fabs(lse) + 1e-6);
        }
        for (int32_t i = 0; i < n; i++) NEAR(y[i], exp((double)x[i] - lse), 1e-6);
        for (int32_t i = 0; i < n; i++) dot += (double)y[i] * (double)dy[i];
        float *dx0 = vec_new(n, 1);
        memcpy(dx, dx0, (size_t)n * sizeof *dx);
        v->vec->softmax_row_bwd(dx, y, dy, n);
        for (int32_t i = 0; i < n; i++)
            NEAR(dx[i], (double)dx0[i] + (double)y[i] * ((double)dy[i] - dot), 2e-6);
        vec_free(dx0, n);
        vec_free(x, n);
        vec_free(y, n);
        vec_free(dy, n);
        vec_free(dx, n);
    }
}
END_TEST

START_TEST(softmax_gives_masked_entries_zero_and_a_masked_row_zeros)
{
    for (int k = 0; k < n_isa; k++) {
        float x[19], y[19];
        for (int i = 0; i < 19; i++) x[i] = i % 3 ? 1.0f : -INFINITY;
        (void)isa[k]->vec->softmax_row(y, x, 19);
        for (int i = 0; i < 19; i++)
            if (i % 3)
                ck_assert_double_eq_tol((double)y[i], 1.0 / 12, 1e-7);
            else
                SAME(y[i], 0);
        isa[k]->vec->fill(x, -INFINITY, 19);
        float lse = isa[k]->vec->softmax_row(y, x, 19);
        ck_assert(isinf(lse) && lse < 0);
        for (int i = 0; i < 19; i++) SAME(y[i], 0);
    }
}
END_TEST

START_TEST(transpose_and_row_sums_match_plain_loops)
{
    static const int32_t shape[][2] = { { 1, 1 },   { 3, 5 },   { 16, 16 },
                                        { 17, 40 }, { 64, 33 }, { 7, 64 } };
    const int32_t R = shape[_i][0], C = shape[_i][1], n = R * C;
    for (int k = 0; k < n_isa; k++) {
        const struct num_ops *v = isa[k];
        float *x = vec_new(n, 1), *y = vec_new(n, 1), *s = vec_new(C, 1), *s0 = vec_new(C, 1);
        v->vec->transpose(y, x, R, C);
        for (int32_t r = 0; r < R; r++)
            for (int32_t c = 0; c < C; c++) SAME(y[c * R + r], x[r * C + c]);
        memcpy(s, s0, (size_t)C * sizeof *s);
        v->vec->sum_rows(s, x, R, C, C);
        for (int32_t c = 0; c < C; c++) {
            double want = (double)s0[c];
            for (int32_t r = 0; r < R; r++) want += (double)x[r * C + c];
            NEAR(s[c], want, 1e-5);
        }
        vec_free(x, n);
        vec_free(y, n);
        vec_free(s, C);
        vec_free(s0, C);
    }
}
END_TEST

START_TEST(scatter_add_sums_repeated_rows)
{
    for (int k = 0; k < n_isa; k++) {
        const int32_t row[] = { 2, 0, 2, 2 };
        float table[3 * 5] = { 0 }, x[4 * 5];
        for (int i = 0; i < 20; i++) x[i] = (float)i;
        isa[k]->vec->scatter_add(table + 1, 5, x + 1, 5, row, 4, 3); /* columns 1..3 */
        for (int c = 0; c < 5; c++) {
            bool in = c >= 1 && c <= 3;
            SAME(table[c], in ? x[5 + c] : 0);
            SAME(table[5 + c], 0);
            SAME(table[10 + c], in ? x[c] + x[10 + c] + x[15 + c] : 0);
        }
    }
}
END_TEST

START_TEST(scatter_axpy_sums_scaled_rows)
{
    enum { ROWS = 5, COLS = 19, N = 40 };
    int32_t row[N], src[N];
    float coef[N];
    struct rng r = rng_make(6, RNG_TEST);
    for (int i = 0; i < N; i++) {
        row[i] = (int32_t)rng_below(&r, ROWS);
        src[i] = (int32_t)rng_below(&r, 3);
        coef[i] = rng_normal(&r);
    }
    for (int k = 0; k < n_isa; k++)
        for (int with_src = 0; with_src < 2; with_src++) {
            float *table = vec_new(ROWS * COLS, 1), *x = vec_new(3 * COLS, 1);
            double want[ROWS * COLS];
            for (int i = 0; i < ROWS * COLS; i++) want[i] = (double)table[i];
            for (int i = 0; i < N; i++)
                for (int c = 0; c < COLS; c++)
                    want[row[i] * COLS + c] +=
                        0.5 * (double)coef[i] * (double)x[(with_src ? src[i] : 0) * COLS + c];
            isa[k]->vec->scatter_axpy(table, COLS, row, 0.5f, coef, x, COLS,
                                      with_src ? src : NULL, N, COLS);
            for (int i = 0; i < ROWS * COLS; i++)
                ck_assert_double_eq_tol((double)table[i], want[i], 1e-5);
            vec_free(table, ROWS * COLS);
            vec_free(x, 3 * COLS);
        }
}
END_TEST

/* ---- products ---- */

static const struct {
    int32_t M, N, K;
} products[] = { { 1, 1, 1 },   { 1, 64, 64 },   { 12, 32, 8 }, { 13, 33, 17 }, { 50, 192, 64 },
                 { 5, 7, 600 }, { 25, 16, 257 }, { 3, 100, 1 }, { 64, 65, 5 },  { 11, 31, 0 } };
enum { N_PRODUCTS = sizeof products / sizeof *products };

START_TEST(products_match_double)
{
    const int32_t M = products[_i].M, N = products[_i].N, K = products[_i].K;
    const int32_t lda = K + 3, ldt = M + 2, ldb = N + 1, n = M;
    const double tol = 3e-7 * (K + 4);
    for (int k = 0; k < n_isa; k++) {
        const struct num_ops *v = isa[k];
        float *a = vec_new(M * lda, 1), *at = vec_new((int64_t)K * ldt, 1),
              *bias = vec_new(N, 1);
        float *b = vec_new((int64_t)K * ldb, 1), *c = vec_new(M * N, 1),
              *c0 = vec_new(M * N, 1);
        float *bt = vec_new((int64_t)N * lda, 1);
        for (int32_t l = 0; l < K; l++)
            for (int32_t j = 0; j < N; j++) bt[j * lda + l] = b[l * ldb + j];
        /* nn: plain, bias, add; tn: plain, add; nt: plain, add */
        for (int mode = 0; mode < 7; mode++) {
            const bool add = mode == 2 || mode == 4 || mode == 6, tn = mode == 3 || mode == 4;
            memcpy(c, c0, (size_t)(M * N) * sizeof *c);
            if (mode >= 5)
                v->mm->nt(c, N, a, lda, bt, lda, M, N, K, add);
            else if (tn)
                v->mm->tn(c, N, at, ldt, b, ldb, M, N, K, add);
            else
                v->mm->nn(c, N, a, lda, b, ldb, mode == 1 ? bias : NULL, M, N, K, add);
            for (int32_t i = 0; i < M; i++)
                for (int32_t j = 0; j < N; j++) {
                    double s = add ? (double)c0[i * N + j] : mode == 1 ? (double)bias[j] : 0;
                    for (int32_t l = 0; l < K; l++)
                        s += (double)(tn ? at[l * ldt + i] : a[i * lda + l]) *
                             (double)b[l * ldb + j];
                    NEAR(c[i * N + j], s, tol);
                }
        }
        vec_free(a, M * lda);
        vec_free(at, (int64_t)K * ldt);
        vec_free(b, (int64_t)K * ldb);
        vec_free(bt, (int64_t)N * lda);
        vec_free(bias, N);
        vec_free(c, M * N);
        vec_free(c0, M * N);
    }
}
END_TEST

START_TEST(a_row_of_a_product_has_the_same_bits_whatever_rows_are_beside_it)
{
    enum { M = 29, N = 70, K = 300 };
    for (int k = 0; k < n_isa; k++) {
        float *a = vec_new(M * K, 1), *b = vec_new(K * N, 1), *c = vec_new(M * N, 1), one[N];
        isa[k]->mm->nn(c, N, a, K, b, N, NULL, M, N, K, false);
        for (int32_t i = 0; i < M; i++) {
            isa[k]->mm->nn(one, N, a + i * K, K, b, N, NULL, 1, N, K, false);
            ck_assert_int_eq(memcmp(one, c + i * N, sizeof one), 0);
        }
        vec_free(a, M * K);
        vec_free(b, K * N);
        vec_free(c, M * N);
    }
}
END_TEST

Suite *suite_vec(void);
Suite *suite_vec(void)
{
    Suite *s = suite_create("vec");
    TCase *t = tcase_create("vec");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_loop_test(t, vectors_match_plain_loops, 0, N_LENGTHS);
    tcase_add_loop_test(t, softmax_rows_match_double, 0, N_LENGTHS);
    tcase_add_test(t, softmax_gives_masked_entries_zero_and_a_masked_row_zeros);
    tcase_add_loop_test(t, transpose_and_row_sums_match_plain_loops, 0, 6);
    tcase_add_test(t, scatter_add_sums_repeated_rows);
    tcase_add_test(t, scatter_axpy_sums_scaled_rows);
    tcase_add_loop_test(t, products_match_double, 0, N_PRODUCTS);
    tcase_add_test(t, a_row_of_a_product_has_the_same_bits_whatever_rows_are_beside_it);
    suite_add_tcase(s, t);
    return s;
}
