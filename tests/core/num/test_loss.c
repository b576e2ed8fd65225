#include "core/base/rng.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <string.h>

enum { MAX_N = 600, MAX_K = 5, MAX_B = 7, MAX_D = 70 };

static const struct num_ops *isa[3];
static int n_isa;
static const int32_t sizes[] = { 1,  2,  3,  4,  7,   8,   15,  16, 17,
                                 31, 33, 64, 65, 127, 129, 255, 600 };
static const int32_t widths[] = { 1, 5, 16, 19, 32, 64, 70 };
enum { N_SIZES = sizeof sizes / sizeof *sizes, N_WIDTHS = sizeof widths / sizeof *widths };

static void set_up(void)
{
    num_init();
    n_isa = num_available(isa);
}

static void fill(float *x, int64_t n, struct rng *r)
{
    for (int64_t i = 0; i < n; i++) x[i] = 3 * rng_normal(r);
}

static void near(float got, double want, double size)
{
    ck_assert_double_eq_tol((double)got, want, 3e-6 * fmax(fabs(size), 1e-3));
}

/* The maximum over k of x[k*ld] in double, and the first k that has it. */
static double best_at(const float *x, int32_t K, int64_t ld, int32_t *win)
{
    *win = 0;
    for (int32_t k = 1; k < K; k++)
        if (x[k * ld] > x[*win * ld]) *win = k;
    return (double)x[*win * ld];
}

START_TEST(best_takes_the_first_of_the_largest)
{
    static float x[MAX_K * (MAX_N + 3)], e[MAX_N + 1];
    static int32_t win[MAX_N + 1];
    int32_t n = sizes[_i], ld = n + 3;
    struct rng r = rng_make(1, RNG_TEST);
    for (int i = 0; i < n_isa; i++)
        for (int32_t K = 1; K <= MAX_K; K++) {
            fill(x, (int64_t)K * ld, &r);
            x[(K - 1) * ld] = x[0]; /* a tie: the first must win */
            e[n] = 77;
            win[n] = 77;
            isa[i]->loss->best(e, win, x, K, n, ld);
            for (int32_t j = 0; j < n; j++) {
                int32_t w;
                double want = best_at(x + j, K, ld, &w);
                ck_assert((double)e[j] == want && win[j] == w);
            }
            ck_assert(e[n] == 77 && win[n] == 77); /* not a float too far */
        }
}
END_TEST

START_TEST(tiles_of_exponentials_sums_and_winners_are_those_of_the_definition)
{
    enum { MAX_COLS = 80, ROWS = 70 };
    static float x[ROWS * MAX_K * MAX_COLS], e[ROWS * MAX_COLS + 1];
    static int32_t win[ROWS * MAX_COLS + 1];
    static const int32_t rows[] = { 1, 2, 15, ROWS };
    const int32_t n = rows[_i % 4], cols = 16 * (_i / 4 + 1);
    struct rng r = rng_make(4, RNG_TEST);
    for (int i = 0; i < n_isa; i++)
        for (int32_t K = 1; K <= MAX_K; K++) {
            float max[MAX_COLS + 1], sum[MAX_COLS + 1];
            fill(x, (int64_t)n * K * cols, &r);
            x[(K - 1) * cols] = x[0];
            for (int32_t c = 0; c <= MAX_COLS; c++) max[c] = -2, sum[c] = 5;
            e[n * cols] = 77;
            win[n * cols] = 77;
            isa[i]->loss->best_cols(e, win, x, K, n, cols);
            isa[i]->loss->max_cols(max, e, n, cols);
            isa[i]->loss->exp_cols(e, sum, max, n, cols);
            for (int32_t c = 0; c < cols; c++) {
                int32_t w;
                double top = -2, s = 5;
                for (int32_t j = 0; j < n; j++)
                    top = fmax(top, best_at(x + j * K * cols + c, K, cols, &w));
                for (int32_t j = 0; j < n; j++) {
                    double want = exp(best_at(x + j * K * cols + c, K, cols, &w) - top);
                    near(e[j * cols + c], want, want);
                    ck_assert_int_eq(win[j * cols + c], w);
                    s += want;
                }
                ck_assert((double)max[c] == top);
                near(sum[c], s, s);
            }
            ck_assert(max[cols] == -2 && sum[cols] == 5); /* not a column too far */
            ck_assert(e[n * cols] == 77 && win[n * cols] == 77);
        }
}
END_TEST

START_TEST(minus_infinity_counts_as_nothing)
{
    float x[3 * 16], max[16], sum[16] = { 0 };
    for (int i = 0; i < n_isa; i++) {
        for (int j = 0; j < 3 * 16; j++) x[j] = j % 16 && j >= 16 ? -INFINITY : 2;
        for (int c = 0; c < 16; c++) max[c] = -INFINITY, sum[c] = 0;
        isa[i]->loss->max_cols(max, x, 3, 16);
        isa[i]->loss->exp_cols(x, sum, max, 3, 16);
        for (int c = 0; c < 16; c++) ck_assert(max[c] == 2 && sum[c] == (c ? 1 : 3));
        for (int j = 0; j < 3 * 16; j++) ck_assert(x[j] == (j % 16 && j >= 16 ? 0 : 1));
    }
}
END_TEST

START_TEST(products_with_winners_are_those_of_the_definition)
{
    static float e[MAX_B * (MAX_N + 9)], table[MAX_N * MAX_D], q[MAX_B * MAX_K * MAX_D];
    static float got[MAX_N * MAX_D];
    static double want[MAX_N * MAX_D];
    static int32_t win[MAX_B * (MAX_N + 9)];
    static float e_t[(MAX_B + 1) * MAX_N];
    static int32_t win_t[(MAX_B + 1) * MAX_N];
    int32_t n = sizes[_i / N_WIDTHS], D = widths[_i % N_WIDTHS], ld = n + 9;
    struct rng r = rng_make(2, RNG_TEST);
    fill(e, MAX_B * ld, &r);
    fill(table, (int64_t)n * D, &r);
    fill(q, (int64_t)MAX_B * MAX_K * D, &r);
    for (int i = 0; i < n_isa; i++)
        for (int32_t K = 1; K <= MAX_K; K += 2) {
            for (int32_t j = 0; j < MAX_B * ld; j++)
                win[j] = (int32_t)rng_below(&r, (uint32_t)K);

            for (int32_t t = 0; t < K * D; t++) want[t] = (double)(got[t] = q[t]);
            for (int32_t j = 0; j < n; j++)
                for (int32_t c = 0; c < D; c++)
                    want[win[j] * D + c] += (double)e[j] * (double)table[j * D + c];
            isa[i]->loss->win_rows(got, e, win, table, K, n, D);
            for (int32_t t = 0; t < K * D; t++) near(got[t], want[t], sqrt(n) * 10);

            for (int add = 0; add < 2; add++) {
                for (int32_t t = 0; t < n * D; t++) {
                    got[t] = table[t];
                    want[t] = add ? (double)table[t] : 0;
                }
                for (int32_t b = 0; b < MAX_B; b++)
                    for (int32_t j = 0; j < n; j++)
                        for (int32_t c = 0; c < D; c++)
                            want[j * D + c] += (double)e[b * ld + j] *
                                               (double)q[(b * K + win[b * ld + j]) * D + c];
                isa[i]->loss->win_cols(got, e, win, q, MAX_B, K, n, ld, 1, D, add);
                for (int32_t t = 0; t < n * D; t++) near(got[t], want[t], 30);
                /* the same with e and win the other way round */
                for (int32_t b = 0; b < MAX_B; b++)
                    for (int32_t j = 0; j < n; j++) {
                        e_t[j * (MAX_B + 1) + b] = e[b * ld + j];
                        win_t[j * (MAX_B + 1) + b] = win[b * ld + j];
                    }
                for (int32_t t = 0; t < n * D; t++) got[t] = table[t];
                isa[i]->loss->win_cols(got, e_t, win_t, q, MAX_B, K, n, 1, MAX_B + 1, D, add);
                for (int32_t t = 0; t < n * D; t++) near(got[t], want[t], 30);
            }
        }
}
END_TEST

START_TEST(softplus_and_its_derivative_are_those_of_the_definition)
{
    static float x[MAX_N + 1], got[MAX_N + 1];
    int32_t n = sizes[_i];
    struct rng r = rng_make(5, RNG_TEST);
    fill(x, n + 1, &r);
    for (int32_t j = 0; j < n; j++) x[j] *= 20;
    if (n > 2) x[1] = -INFINITY; /* counts as nothing */
    if (n > 4) x[3] = 500;
    for (int i = 0; i < n_isa; i++) {
        double want = 0;
        memcpy(got, x, sizeof got);
        float sum = isa[i]->loss->softplus_sum(got, n);
        for (int32_t j = 0; j < n; j++) {
            double v = (double)x[j];
            want += v > 0 ? v + log1p(exp(-v)) : log1p(exp(v));
            near(got[j], 1 / (1 + exp(-v)), 1);
        }
        near(sum, want, 1 + fabs(want));
        ck_assert(got[n] == x[n]);
    }
}
END_TEST

START_TEST(lse_bwd_adds_probabilities)
{
    static float x[MAX_N], dx[MAX_N + 1];
    int32_t n = sizes[_i];
    struct rng r = rng_make(3, RNG_TEST);
    fill(x, n, &r);
    for (int i = 0; i < n_isa; i++) {
        for (int32_t j = 0; j <= n; j++) dx[j] = 5;
        isa[i]->loss->lse_bwd(dx, x, 1.5f, -0.5f, n);
        for (int32_t j = 0; j < n; j++) {
            double d = -0.5 * exp((double)x[j] - 1.5);
            near(dx[j], 5 + d, 5 + fabs(d));
        }
        ck_assert(dx[n] == 5);
    }
}
END_TEST

Suite *suite_loss(void);
Suite *suite_loss(void)
{
    Suite *s = suite_create("loss");
    TCase *t = tcase_create("kernels");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_loop_test(t, best_takes_the_first_of_the_largest, 0, N_SIZES);
    tcase_add_loop_test(t, tiles_of_exponentials_sums_and_winners_are_those_of_the_definition,
                        0, 4 * 5);
    tcase_add_test(t, minus_infinity_counts_as_nothing);
    tcase_add_loop_test(t, products_with_winners_are_those_of_the_definition, 0,
                        N_SIZES * N_WIDTHS);
    tcase_add_loop_test(t, softplus_and_its_derivative_are_those_of_the_definition, 0, N_SIZES);
    tcase_add_loop_test(t, lse_bwd_adds_probabilities, 0, N_SIZES);
    suite_add_tcase(s, t);
    return s;
}
