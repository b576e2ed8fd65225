#include "core/base/rng.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>

enum { MAX_N = 133 };

static const struct num_ops *isa[3];
static int n_isa;
static const int32_t sizes[] = { 1, 3, 4, 8, 15, 16, 17, 31, 64, 133 };

static void set_up(void)
{
    num_init();
    n_isa = num_available(isa);
}

START_TEST(a_step_is_that_of_the_paper)
{
    float x[MAX_N + 1], g[MAX_N + 1], m[MAX_N + 1], v[MAX_N + 1];
    const struct k_adam_step c = { .beta1 = 0.9f,
                                   .beta2 = 0.99f,
                                   .clip = 0.8f,
                                   .decay = 0.1f,
                                   .shrink = 0.95f,
                                   .size = 0.02f,
                                   .root = 3.0f,
                                   .eps = 1e-4f };
    int32_t n = sizes[_i];
    for (int i = 0; i < n_isa; i++) {
        struct rng r = rng_make(1, RNG_TEST);
        double want[MAX_N][3];
        for (int32_t j = 0; j <= n; j++) {
            x[j] = rng_normal(&r);
            g[j] = rng_normal(&r);
            m[j] = rng_normal(&r);
            v[j] = (float)rng_f64(&r);
            if (j == n) continue;
            double gj = (double)c.clip * (double)g[j] + (double)c.decay * (double)x[j];
            double mj = (double)c.beta1 * (double)m[j] + (1 - (double)c.beta1) * gj;
            double vj = (double)c.beta2 * (double)v[j] + (1 - (double)c.beta2) * gj * gj;
            want[j][0] = (double)c.shrink * (double)x[j] -
                         (double)c.size * mj / ((double)c.root * sqrt(vj) + (double)c.eps);
            want[j][1] = mj;
            want[j][2] = vj;
        }
        float guard = x[n];
        isa[i]->adam->step(x, g, m, v, n, &c);
        for (int32_t j = 0; j < n; j++) {
            ck_assert_double_eq_tol((double)x[j], want[j][0], 1e-6 * fmax(1, fabs(want[j][0])));
            ck_assert_double_eq_tol((double)m[j], want[j][1], 1e-6);
            ck_assert_double_eq_tol((double)v[j], want[j][2], 1e-6);
            ck_assert(g[j] == 0);
        }
        ck_assert(x[n] == guard && g[n] != 0);
    }
}
END_TEST

START_TEST(an_average_moves_part_of_the_way)
{
    float x[MAX_N + 1], y[MAX_N + 1];
    int32_t n = sizes[_i];
    for (int i = 0; i < n_isa; i++) {
        for (int32_t j = 0; j <= n; j++) {
            x[j] = (float)j;
            y[j] = -1;
        }
        isa[i]->adam->average(y, x, 0.25f, n);
        for (int32_t j = 0; j < n; j++)
            ck_assert_float_eq_tol(y[j], -1 + 0.25f * (float)(j + 1), 1e-5f);
        ck_assert(y[n] == -1);
    }
}
END_TEST

Suite *suite_adam(void);
Suite *suite_adam(void)
{
    Suite *s = suite_create("adam");
    TCase *t = tcase_create("kernels");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_loop_test(t, a_step_is_that_of_the_paper, 0, (int)(sizeof sizes / sizeof *sizes));
    tcase_add_loop_test(t, an_average_moves_part_of_the_way, 0,
                        (int)(sizeof sizes / sizeof *sizes));
    suite_add_tcase(s, t);
    return s;
}
