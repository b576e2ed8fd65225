/* bf16: rounding, and products against double. */
#include "core/ad/ops.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct rng rng;
static struct mm16 *mm;

static void set_up(void)
{
    num_init();
    rng = rng_make(3, RNG_TEST);
    mm = mm16_new(2);
}
static void tear_down(void) { mm16_free(mm); }

static float of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
static double value(bf16 h) { return (double)of_bits((uint32_t)h << 16); }

START_TEST(rounds_to_the_nearest_and_ties_to_even)
{
    static const struct {
        uint32_t from;
        bf16 to;
    } cases[] = {
        { 0x3f800000, 0x3f80 }, { 0x3f808000, 0x3f80 }, { 0x3f818000, 0x3f82 },
        { 0x3f808001, 0x3f81 }, { 0x80000000, 0x8000 }, { 0x7f800000, 0x7f80 },
        { 0xff800000, 0xff80 }, { 0x7f7fffff, 0x7f80 }, { 0x7fc00000, 0x7fc0 },
        { 0x7f800001, 0x7fc0 }, { 0xffffffff, 0x7fc0 }, { 0x00018000, 0x0002 },
    };
    enum { N = sizeof cases / sizeof *cases };
    const struct num_ops *isa[3];
    float x[N];
    bf16 y[N];
    for (int i = 0; i < N; i++) x[i] = of_bits(cases[i].from);
    for (int k = 0, n = num_available(isa); k < n; k++) {
        isa[k]->vec->to_bf16(y, x, N);
        for (int i = 0; i < N; i++)
            ck_assert_msg(y[i] == cases[i].to, "%s: %08x gives %04x", isa[k]->isa,
                          cases[i].from, y[i]);
    }
}
END_TEST

static bf16 *normals(int64_t n)
{
    bf16 *x = xcalloc((size_t)n + 1, sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        float f = rng_normal(&rng);
        num->vec->to_bf16(x + i, &f, 1);
    }
    return x;
}

static const struct mm16_shape shapes[] = {
    { .M = 1, .N = 1, .K = 1, .lda = 1, .ldb = 1, .ldc = 1 },
    { .M = 7, .N = 33, .K = 20, .lda = 20, .ldb = 33, .ldc = 40 },
    { .M = 64, .N = 101, .K = 64, .lda = 64, .ldb = 64, .ldc = 101, .tb = true },
    { .M = 37, .N = 64, .K = 5, .lda = 37, .ldb = 64, .ldc = 64, .ta = true, .add = true },
    { .M = 9, .N = 6, .K = 70, .lda = 80, .ldb = 6, .ldc = 6, .add = true },
};

START_TEST(products_agree_with_double)
{
    if (!mm) return; /* this CPU has none */
    struct mm16_shape s = shapes[_i];
    bf16 *a = normals((int64_t)s.lda * (s.ta ? s.K : s.M));
    bf16 *b = normals((int64_t)s.ldb * (s.tb ? s.N : s.K));
    for (int round = 0; round < 3; round++) { /* the first makes the primitive */
        float *c = xcalloc((size_t)s.M * (size_t)s.ldc, sizeof *c);
        for (int64_t i = 0; i < (int64_t)s.M * s.ldc; i++) c[i] = 2;
        mm16_product(mm, round % 2, &s, c, a, b);
        for (int32_t i = 0; i < s.M; i++)
            for (int32_t j = 0; j < s.ldc; j++) {
                double want = s.add || j >= s.N ? 2 : 0;
                for (int32_t k = 0; j < s.N && k < s.K; k++)
                    want += value(a[s.ta ? k * s.lda + i : i * s.lda + k]) *
                            value(b[s.tb ? j * s.ldb + k : k * s.ldb + j]);
                ck_assert_double_eq_tol((double)c[i * s.ldc + j], want,
                                        1e-5 * (1 + fabs(want)));
            }
        free(c);
    }
    free(a);
    free(b);
}
END_TEST

/* ---- the ops that use them, beside fp32 ---- */

enum { N = 300, I = 24, O = 40, V = 1100 };

struct both {
    struct params *ps;
    float loss;
    float *grad;
    int64_t n;
};

static struct both run(bool half, struct par *pool)
{
    struct bf16_ops ops = { mm, mm16_product };
    struct arena *mem = arena_new("t", 1 << 20, 0);
    struct tape *tp = tape_new(mem, pool);
    struct both r = { .ps = params_new(true) };
    params_add(r.ps, "x", N, I, 1, INIT_NORMAL, 1);
    params_add(r.ps, "w", I, O, 1, INIT_NORMAL, .2f);
    params_add(r.ps, "b", 1, O, 1, INIT_NORMAL, .2f);
    params_add(r.ps, "table", V, O, 1, INIT_NORMAL, .5f);
    params_init(r.ps, 9);
    int32_t target[N];
    for (int i = 0; i < N; i++) target[i] = i * 7 % V;
    if (half) tape_precise(tp, &ops);
    tape_begin(tp, GROUPS_ALL, 1, true);
    struct ten *y =
        ad_linear(tp, ad_param(tp, params_at(r.ps, 0)), ad_param(tp, params_at(r.ps, 1)),
                  ad_param(tp, params_at(r.ps, 2)), ACT_GELU);
    struct ten *l = ad_xent(tp, y, ad_param(tp, params_at(r.ps, 3)), target, 1, NULL);
    r.loss = l->x[0];
    tape_backward(tp, l);
    r.grad = xcalloc((size_t)params_size(r.ps), sizeof *r.grad);
    for (int32_t i = 0; i < 4; i++) {
        const struct ten *t = &params_at(r.ps, i)->t;
        memcpy(r.grad + r.n, t->g, (size_t)t->rows * (size_t)t->cols * sizeof *r.grad);
        r.n += (int64_t)t->rows * t->cols;
    }
    tape_free(tp);
    arena_free(mem);
    return r;
}

static void both_free(struct both *r)
{
    params_free(r->ps);
    free(r->grad);
}

START_TEST(linear_and_xent_are_near_fp32_and_the_same_for_any_pool)
{
    if (!mm) return;
    struct par *pool = par_new(2);
    struct both full = run(false, NULL), half = run(true, NULL), two = run(true, pool);
    ck_assert_double_eq_tol((double)half.loss, (double)full.loss, 2e-3 * (double)full.loss);
    ck_assert(half.loss != full.loss); /* it was used */
    ck_assert_mem_eq(half.grad, two.grad, (size_t)half.n * sizeof *half.grad);
    double worst = 0, most = 0;
    for (int64_t i = 0; i < full.n; i++) {
        worst = fmax(worst, fabs((double)half.grad[i] - (double)full.grad[i]));
        most = fmax(most, fabs((double)full.grad[i]));
    }
    ck_assert_double_lt(worst, .02 * most);
    both_free(&full);
    both_free(&half);
    both_free(&two);
    par_free(pool);
}
END_TEST

Suite *suite_mm16(void);
Suite *suite_mm16(void)
{
    Suite *s = suite_create("mm16");
    TCase *t = tcase_create("mm16");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, rounds_to_the_nearest_and_ties_to_even);
    tcase_add_loop_test(t, products_agree_with_double, 0, sizeof shapes / sizeof *shapes);
    tcase_add_test(t, linear_and_xent_are_near_fp32_and_the_same_for_any_pool);
    suite_add_tcase(s, t);
    return s;
}
