/* exp, gelu, relu and dropout of every instruction set. */
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <string.h>

#define SAME(a, b)       ck_assert_double_eq((double)(a), (double)(b))
#define CLOSE(a, b, tol) ck_assert_double_eq_tol((double)(a), (double)(b), (double)(tol))

static const struct num_ops *isa[3];
static int n_isa;

static void set_up(void) { n_isa = num_available(isa); }

START_TEST(exp_is_within_2e_7_of_double)
{
    enum { N = 4099 };
    static float x[N], y[N];
    for (int i = 0; i < N; i++) x[i] = -87.3f + (float)i * (175.9f / (N - 1));
    for (int k = 0; k < n_isa; k++) {
        isa[k]->act->exp(y, x, N);
        for (int i = 0; i < N; i++) {
            double want = exp((double)x[i]), rel = fabs((double)y[i] - want) / want;
            ck_assert_msg(rel <= 2e-7, "%s: exp(%.9g) = %.9g, off by %.3g", isa[k]->isa,
                          (double)x[i], (double)y[i], rel);
        }
    }
}
END_TEST

START_TEST(exp_of_the_extremes)
{
    const float x[] = { -INFINITY, -1e30f,   -200, 0,    -0.0f, 200,
                        1e30f,     INFINITY, NAN,  -103, 88.7f };
    float y[11];
    for (int k = 0; k < n_isa; k++) {
        isa[k]->act->exp(y, x, 11);
        for (int i = 0; i < 3; i++) SAME(y[i], 0);
        SAME(y[3], 1);
        SAME(y[4], 1);
        for (int i = 5; i < 8; i++) ck_assert(isinf(y[i]) && y[i] > 0);
        ck_assert(isnan(y[8]));
        ck_assert(y[9] >= 0 && y[9] < 1e-44f);
        ck_assert(isfinite(y[10]));
    }
}
END_TEST

START_TEST(gelu_and_its_slope_are_within_1e_6_of_double)
{
    enum { N = 4001 };
    static float x[N], y[N], d[N], alone[N];
    for (int i = 0; i < N; i++) x[i] = ((float)i - 2000) * .005f; /* -10 .. 10 */
    for (int k = 0; k < n_isa; k++) {
        isa[k]->act->gelu(y, d, x, N);
        isa[k]->act->gelu(alone, NULL, x, N);
        ck_assert_int_eq(memcmp(alone, y, sizeof y), 0);
        for (int i = 0; i < N; i++) {
            double v = (double)x[i], phi = .5 * (1 + erf(v / sqrt(2)));
            double slope = phi + v * exp(-v * v / 2) / sqrt(2 * M_PI);
            ck_assert_msg(fabs((double)y[i] - v * phi) <= 1e-6, "%s: gelu(%g) = %.9g not %.9g",
                          isa[k]->isa, v, (double)y[i], v * phi);
            ck_assert_msg(fabs((double)d[i] - slope) <= 1e-6, "%s: gelu'(%g) = %.9g not %.9g",
                          isa[k]->isa, v, (double)d[i], slope);
        }
    }
}
END_TEST

START_TEST(relu_and_its_gradient)
{
    const float x[] = { -1, 0, 2, -0.0f, 3, -4, 5, 6, -7, 8, 9, 10, 11, -12, 13, 14, 15 };
    float y[17], dx[17];
    for (int k = 0; k < n_isa; k++) {
        isa[k]->act->relu(y, x, 17);
        isa[k]->act->relu_bwd(dx, x, y, 17);
        for (int i = 0; i < 17; i++) {
            SAME(y[i], x[i] > 0 ? x[i] : 0);
            SAME(dx[i], x[i] > 0 ? x[i] : 0);
        }
    }
}
END_TEST

static const int32_t widths[] = { 1, 7, 8, 16, 17, 31, 32, 33, 47, 64, 100 };

START_TEST(dropout_is_the_same_mask_in_every_instruction_set)
{
    enum { R = 5, ROW0 = 1000 };
    const int32_t D = widths[_i];
    static float x[R * 100], y[R * 100 + 4];
    const struct drop d = drop_make(rng_hash(3, (uint64_t)D), .3f);
    for (int i = 0; i < R * D; i++) x[i] = (float)(i + 1);
    for (int k = 0; k < n_isa; k++) {
        for (int i = 0; i < R * D + 4; i++) y[i] = .5f;
        isa[k]->act->drop(y, x, R, D, ROW0, &d, false);
        isa[k]->act->drop(y, x, R, D, ROW0, &d, true);
        for (int r = 0; r < R; r++)
            for (int c = 0; c < D; c++) {
                bool keep = drop_keeps(&d, drop_row(&d, ROW0 + r), (uint32_t)c);
                float once = keep ? x[r * D + c] * d.scale : 0;
                CLOSE(y[r * D + c], 2 * once, 1e-3f);
                ck_assert_int_eq(y[r * D + c] != 0, keep);
            }
        for (int i = R * D; i < R * D + 4; i++) SAME(y[i], .5f);
    }
}
END_TEST

/* Shares of kept elements, and of pairs of neighbours kept together, by row and by column. */
START_TEST(dropout_keeps_the_right_share_and_neighbours_are_independent)
{
    enum { R = 4000, D = 64 };
    const double p[] = { .1, .5, .9 };
    for (int k = 0; k < 3; k++) {
        const struct drop d = drop_make(rng_hash(5, (uint64_t)k), (float)p[k]);
        const double q = 1 - p[k];
        double kept = 0, right = 0, below = 0, half = 0;
        for (int r = 0; r < R; r++) {
            uint64_t key = drop_row(&d, r), next = drop_row(&d, r + 1);
            for (uint32_t c = 0; c < D; c++) {
                bool here = drop_keeps(&d, key, c);
                kept += here;
                right += here && drop_keeps(&d, key, (c + 1) % D);
                half +=
                    here && drop_keeps(&d, key, (c + 16) % D); /* the other half of the hash */
                below += here && drop_keeps(&d, next, c);
            }
        }
        const double n = (double)R * D, sd = sqrt(q * (1 - q) / n), sd2 = sqrt(q * q / n);
        ck_assert_double_eq_tol(kept / n, q, 5 * sd);
        ck_assert_double_eq_tol(right / n, q * q, 5 * sd2);
        ck_assert_double_eq_tol(half / n, q * q, 5 * sd2);
        ck_assert_double_eq_tol(below / n, q * q, 5 * sd2);
    }
}
END_TEST

START_TEST(dropout_threshold_is_exact_to_two_to_the_minus_16)
{
    ck_assert_uint_eq(drop_make(1, .5f).keep, 32768);
    ck_assert_uint_eq(drop_make(1, .25f).keep, 49152);
    ck_assert_uint_eq(drop_make(1, 0).keep, DROP_ALL);
    SAME(drop_make(1, .5f).scale, 2);
    struct drop none = drop_none();
    ck_assert(!drop_active(&none));
}
END_TEST

Suite *suite_act(void);
Suite *suite_act(void)
{
    Suite *s = suite_create("act");
    TCase *t = tcase_create("act");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, exp_is_within_2e_7_of_double);
    tcase_add_test(t, exp_of_the_extremes);
    tcase_add_test(t, gelu_and_its_slope_are_within_1e_6_of_double);
    tcase_add_test(t, relu_and_its_gradient);
    tcase_add_loop_test(t, dropout_is_the_same_mask_in_every_instruction_set, 0,
                        sizeof widths / sizeof *widths);
    tcase_add_test(t, dropout_keeps_the_right_share_and_neighbours_are_independent);
    tcase_add_test(t, dropout_threshold_is_exact_to_two_to_the_minus_16);
    suite_add_tcase(s, t);
    return s;
}
