/* Layer normalisation of every instruction set against double; gradients by central differences
 * of the double function. */
#include "core/base/mem.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { R = 3, MAX_D = 70, ROW0 = 40 };

#define CLOSE(a, b, tol) ck_assert_double_eq_tol((double)(a), (double)(b), (double)(tol))

static const struct num_ops *isa[3];
static int n_isa;
static struct rng rng;

static void set_up(void)
{
    n_isa = num_available(isa);
    rng = rng_make(12, RNG_TEST);
}

struct problem {
    int32_t D;
    bool residual;
    struct drop drop;
    float x[R * MAX_D], r[R * MAX_D], gain[MAX_D], bias[MAX_D], dy[R * MAX_D];
};

static void random_fill(float *x, int32_t n, float mean)
{
    for (int32_t i = 0; i < n; i++) x[i] = mean + rng_normal(&rng);
}

static void problem_make(struct problem *p, int32_t D, bool residual, float drop)
{
    p->D = D;
    p->residual = residual;
    p->drop = drop > 0 ? drop_make(99, drop) : drop_none();
    random_fill(p->x, R * D, .5f);
    random_fill(p->r, R * D, 0);
    random_fill(p->gain, D, 1);
    random_fill(p->bias, D, 0);
    random_fill(p->dy, R * D, 0);
}

static double factor(const struct problem *p, int32_t i, int32_t c)
{
    if (!p->residual) return 0;
    if (!drop_active(&p->drop)) return 1;
    return drop_keeps(&p->drop, drop_row(&p->drop, ROW0 + i), (uint32_t)c)
               ? (double)p->drop.scale
               : 0;
}

static void reference(const struct problem *p, double *y)
{
    const int32_t D = p->D;
    for (int32_t i = 0; i < R; i++) {
        double s[MAX_D], mean = 0, var = 0;
        for (int32_t c = 0; c < D; c++) {
            s[c] = (double)p->x[i * D + c] + factor(p, i, c) * (double)p->r[i * D + c];
            mean += s[c] / D;
        }
        for (int32_t c = 0; c < D; c++) var += (s[c] - mean) * (s[c] - mean) / D;
        for (int32_t c = 0; c < D; c++)
            y[i * D + c] =
                (s[c] - mean) / sqrt(var + 1e-12) * (double)p->gain[c] + (double)p->bias[c];
    }
}

static double loss(const struct problem *p)
{
    double y[R * MAX_D], s = 0;
    reference(p, y);
    for (int32_t i = 0; i < R * p->D; i++) s += y[i] * (double)p->dy[i];
    return s;
}

/* d loss / d v[i], where v is a member of p */
static double slope(struct problem *p, float *v, int32_t i)
{
    const float v0 = v[i], step = 1.0f / 4096;
    v[i] = v0 + step;
    const double up = (double)v[i], hi = loss(p);
    v[i] = v0 - step;
    const double down = (double)v[i], lo = loss(p);
    v[i] = v0;
    return (hi - lo) / (up - down);
}

static void check_slopes(struct problem *p, float *v, const float *got, int32_t n,
                         const char *what, const char *name)
{
    for (int32_t i = 0; i < n; i++) {
        double want = slope(p, v, i);
        ck_assert_msg(fabs((double)got[i] - 1 - want) <= 2e-3 + 2e-3 * fabs(want),
                      "%s, D=%d: %s[%d] is %g, not %g", name, p->D, what, i, (double)got[i] - 1,
                      want);
    }
}

static void check(struct problem *p, const struct num_ops *v)
{
    const int32_t D = p->D;
    const float *r = p->residual ? p->r : NULL;
    float y[R * MAX_D], xhat[R * MAX_D], rstd[R], plain[R * MAX_D];
    double want[R * MAX_D] = { 0 };
    v->norm->fwd(y, xhat, rstd, p->x, r, p->gain, p->bias, R, D, ROW0, &p->drop);
    v->norm->fwd(plain, NULL, NULL, p->x, r, p->gain, p->bias, R, D, ROW0, &p->drop);
    ck_assert_int_eq(memcmp(plain, y, (size_t)(R * D) * sizeof *y), 0);
    reference(p, want);
    for (int32_t i = 0; i < R * D; i++)
        ck_assert_msg(fabs((double)y[i] - want[i]) <= 1e-5, "%s, D=%d: y[%d] = %g, not %g",
                      v->isa, D, i, (double)y[i], want[i]);

    float dx[R * MAX_D], dr[R * MAX_D], dgain[MAX_D], dbias[MAX_D];
    v->vec->fill(dx, 1, R * D); /* gradients are added to what is there */
    v->vec->fill(dr, 1, R * D);
    v->vec->fill(dgain, 1, D);
    v->vec->fill(dbias, 1, D);
    v->norm->bwd(dx, r ? dr : NULL, dgain, dbias, p->dy, xhat, rstd, p->gain, R, D, ROW0,
                 &p->drop, 0);
    float dx_set[R * MAX_D], dr_set[R * MAX_D]; /* the same, written instead of added */
    v->vec->fill(dx_set, 7, R * D);
    v->vec->fill(dr_set, 7, R * D);
    v->norm->bwd(dx_set, r ? dr_set : NULL, NULL, NULL, p->dy, xhat, rstd, p->gain, R, D, ROW0,
                 &p->drop, NORM_SET_X | NORM_SET_R);
    for (int32_t i = 0; i < R * D; i++) {
        ck_assert(fabsf(dx_set[i] - (dx[i] - 1)) <= 1e-5f);
        ck_assert(!r || fabsf(dr_set[i] - (dr[i] - 1)) <= 1e-5f);
    }
    check_slopes(p, p->x, dx, R * D, "dx", v->isa);
    if (r) check_slopes(p, p->r, dr, R * D, "dr", v->isa);
    check_slopes(p, p->gain, dgain, D, "dgain", v->isa);
    check_slopes(p, p->bias, dbias, D, "dbias", v->isa);
}

static const int32_t widths[] = { 3, 8, 15, 16, 17, 33, 64, 70 };

START_TEST(norm_matches_double_in_value_and_gradient)
{
    struct problem *p = xmalloc(sizeof *p);
    for (int mode = 0; mode < 3; mode++) {
        problem_make(p, widths[_i], mode > 0, mode == 2 ? .4f : 0);
        for (int k = 0; k < n_isa; k++) check(p, isa[k]);
    }
    free(p);
}
END_TEST

START_TEST(norm_of_a_constant_row_is_its_bias)
{
    float x[20], y[20], gain[20], bias[20], dx[20] = { 0 }, xhat[20], rstd[1];
    const struct drop none = drop_none();
    for (int c = 0; c < 20; c++) {
        x[c] = 4;
        gain[c] = 2;
        bias[c] = (float)c;
    }
    for (int k = 0; k < n_isa; k++) {
        isa[k]->norm->fwd(y, xhat, rstd, x, NULL, gain, bias, 1, 20, 0, &none);
        for (int c = 0; c < 20; c++) CLOSE(y[c], bias[c], 1e-6f);
        CLOSE(rstd[0], 1e6f, 1);
        isa[k]->norm->bwd(dx, NULL, NULL, NULL, bias, xhat, rstd, gain, 1, 20, 0, &none, 0);
        for (int c = 0; c < 20; c++) ck_assert(isfinite(dx[c]));
    }
}
END_TEST

Suite *suite_norm(void);
Suite *suite_norm(void)
{
    Suite *s = suite_create("norm");
    TCase *t = tcase_create("norm");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_loop_test(t, norm_matches_double_in_value_and_gradient, 0,
                        sizeof widths / sizeof *widths);
    tcase_add_test(t, norm_of_a_constant_row_is_its_bias);
    suite_add_tcase(s, t);
    return s;
}
