/* Values are checked through the ops (tests/core/ad); here what only the kernels can show: NULL
 * gradients, masks, and that nothing beyond the sizes is touched. */
#include "core/base/rng.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>

enum { MAX_N = 50, MAX_K = 4, MAX_D = 70 };

static const struct num_ops *isa[3];
static int n_isa;
static const struct {
    int32_t n, K, D;
} shape[] = {
    { 1, 1, 1 }, { 2, 4, 64 }, { 50, 4, 64 }, { 7, 3, 19 }, { 33, 2, 70 }, { 0, 2, 8 }
};
enum { N_SHAPES = sizeof shape / sizeof *shape };

static void set_up(void)
{
    num_init();
    n_isa = num_available(isa);
}

static void fill(float *x, int64_t n, struct rng *r)
{
    for (int64_t i = 0; i < n; i++) x[i] = rng_normal(r);
}

static void same(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        ck_assert_double_eq_tol((double)a[i], (double)b[i], 1e-5 * fmax(1, fabs((double)b[i])));
}

START_TEST(mix_bwd_gives_each_gradient_also_without_the_others)
{
    static float a[MAX_N * MAX_K], p[MAX_N], z[MAX_N * MAX_D], dy[MAX_K * MAX_D];
    static float da[2][MAX_N * MAX_K], dp[2][MAX_N], dz[2][MAX_N * MAX_D];
    int32_t n = shape[_i].n, K = shape[_i].K, D = shape[_i].D;
    struct rng r = rng_make(1, RNG_TEST);
    fill(a, MAX_N * MAX_K, &r);
    fill(p, MAX_N, &r);
    fill(z, MAX_N * MAX_D, &r);
    fill(dy, MAX_K * MAX_D, &r);
    for (int i = 0; i < n_isa; i++) {
        const struct k_seg_ops *seg = isa[i]->seg;
        for (int t = 0; t < 2; t++) {
            for (int32_t j = 0; j < MAX_N * MAX_K; j++) da[t][j] = 1;
            for (int32_t j = 0; j < MAX_N; j++) dp[t][j] = 1;
            for (int32_t j = 0; j < MAX_N * MAX_D; j++) dz[t][j] = 1;
        }
        seg->mix_bwd(da[0], dp[0], dz[0], dy, a, p, z, n, K, D);
        seg->mix_bwd(da[1], NULL, NULL, dy, a, p, z, n, K, D);
        seg->mix_bwd(NULL, dp[1], NULL, dy, a, p, z, n, K, D);
        seg->mix_bwd(NULL, NULL, dz[1], dy, a, p, z, n, K, D);
        same(da[0], da[1], MAX_N * MAX_K); /* beyond n K both are still 1 */
        same(dp[0], dp[1], MAX_N);
        same(dz[0], dz[1], MAX_N * MAX_D);
        if (n < MAX_N) ck_assert(da[0][n * K] == 1 && dp[0][n] == 1 && dz[0][n * D] == 1);
    }
}
END_TEST

START_TEST(dot_and_its_gradient_are_those_of_the_definition)
{
    static float x[MAX_N * MAX_D], q[MAX_D], s[MAX_N + 1], dx[MAX_N * MAX_D + 1], dq[MAX_D + 1];
    int32_t n = shape[_i].n, D = shape[_i].D;
    struct rng r = rng_make(2, RNG_TEST);
    fill(x, MAX_N * MAX_D, &r);
    fill(q, MAX_D, &r);
    for (int i = 0; i < n_isa; i++) {
        s[n] = 9;
        isa[i]->seg->dot(s, x, q, n, D, 0.5f);
        ck_assert(s[n] == 9);
        for (int32_t t = 0; t <= n * D; t++) dx[t] = 0;
        for (int32_t t = 0; t <= D; t++) dq[t] = 0;
        isa[i]->seg->dot_bwd(dx, dq, s, x, q, n, D, 2);
        ck_assert(dx[n * D] == 0 && dq[D] == 0);
        for (int32_t c = 0; c < D; c++) {
            double want = 0;
            for (int32_t t = 0; t < n; t++) {
                want += 2 * (double)s[t] * (double)x[t * D + c];
                ck_assert_double_eq_tol((double)dx[t * D + c], 2 * (double)s[t] * (double)q[c],
                                        1e-5);
            }
            ck_assert_double_eq_tol((double)dq[c], want, 1e-4 * fmax(1, fabs(want)));
        }
    }
}
END_TEST

START_TEST(softmax_of_large_scores_stays_finite_and_masks_are_exact_zeros)
{
    float y[20], x[20];
    uint8_t mask[20];
    for (int i = 0; i < n_isa; i++) {
        for (int j = 0; j < 20; j++) {
            x[j] = j % 2 ? 1e4f : 3e4f;
            mask[j] = j % 2 != 0; /* the large ones do not count */
        }
        isa[i]->seg->softmax(y, x, mask, 20);
        for (int j = 0; j < 20; j++) ck_assert(j % 2 ? fabsf(y[j] - 0.1f) < 1e-6f : y[j] == 0);
        isa[i]->seg->softmax(y, x, NULL, 20);
        for (int j = 0; j < 20; j++) ck_assert(j % 2 ? y[j] == 0 : fabsf(y[j] - 0.1f) < 1e-6f);
    }
}
END_TEST

Suite *suite_seg(void);
Suite *suite_seg(void)
{
    Suite *s = suite_create("seg");
    TCase *t = tcase_create("kernels");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_loop_test(t, mix_bwd_gives_each_gradient_also_without_the_others, 0, N_SHAPES);
    tcase_add_loop_test(t, dot_and_its_gradient_are_those_of_the_definition, 0, N_SHAPES);
    tcase_add_test(t, softmax_of_large_scores_stays_finite_and_masks_are_exact_zeros);
    suite_add_tcase(s, t);
    return s;
}
