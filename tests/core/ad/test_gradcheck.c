#include "core/ad/gradcheck.h"
#include "core/ad/ops.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>

static void set_up(void) { num_init(); }

static const int32_t target[6] = { 3, 0, 10, 2, 2, 7 };

struct model {
    int builds;
    float spoil; /* added to one entry of the gradient */
};

static void spoil_bwd(struct tape *tp, const struct ten *y, void *saved)
{
    (void)tp;
    (void)y;
    struct ten **of = saved;
    of[0]->g[1] += of[1]->x[0];
}

/* Six users against 11 items. */
static struct ten *build(struct tape *tp, struct params *ps, void *ctx)
{
    struct model *m = ctx;
    m->builds++;
    struct ten *q = ad_param(tp, params_at(ps, 0)), *table = ad_param(tp, params_at(ps, 1));
    struct ten *loss = ad_xent(tp, q, table, target, 1, NULL);
    if (m->spoil == 0 || !q->g) return loss;
    struct ten **of = ARENA_NEW(tape_arena(tp), struct ten *, 2);
    of[0] = q;
    of[1] = tape_ten(tp, 1, 1, false);
    of[1]->x[0] = m->spoil;
    tape_push(tp, loss, spoil_bwd, of, "spoil");
    return loss;
}

static struct params *new_params(void)
{
    struct params *ps = params_new(true);
    params_add(ps, "q", 6, 9, 1, INIT_NORMAL, 0.7f);
    params_add(ps, "table", 11, 9, 2, INIT_NORMAL, 0.7f);
    params_init(ps, 4);
    return ps;
}

START_TEST(a_right_gradient_passes)
{
    struct params *ps = new_params();
    struct model m = { 0, 0 };
    ck_assert_double_lt(ad_gradcheck(ps, build, &m, 2e-2f, 20, 1), 1e-3);
    ck_assert_int_gt(m.builds, 4 * 20);
    params_free(ps);
}
END_TEST

START_TEST(a_gradient_that_is_off_by_a_tenth_is_noticed)
{
    struct params *ps = new_params();
    struct model m = { 0, 0.1f };
    ck_assert_double_gt(ad_gradcheck(ps, build, &m, 2e-2f, 1000, 1), 1e-2);
    params_free(ps);
}
END_TEST

START_TEST(parameters_are_left_as_they_were)
{
    struct params *ps = new_params(), *copy = new_params();
    struct model m = { 0, 0 };
    (void)ad_gradcheck(ps, build, &m, 2e-2f, 5, 1);
    for (int32_t i = 0; i < 2; i++) {
        const struct ten *t = &params_at(ps, i)->t;
        size_t n = (size_t)t->rows * (size_t)t->cols;
        ck_assert_mem_eq(t->x, params_at(copy, i)->t.x, n * sizeof(float));
        for (size_t j = 0; j < n; j++) ck_assert(t->g[j] == 0);
    }
    params_free(ps);
    params_free(copy);
}
END_TEST

START_TEST(not_a_number_does_not_pass)
{
    struct params *ps = new_params();
    struct model m = { 0, NAN };
    double worst = ad_gradcheck(ps, build, &m, 2e-2f, 1000, 1);
    ck_assert(!(worst <= 1e9));
    params_free(ps);
}
END_TEST

Suite *suite_gradcheck(void);
Suite *suite_gradcheck(void)
{
    Suite *s = suite_create("gradcheck");
    TCase *t = tcase_create("gradcheck");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, a_right_gradient_passes);
    tcase_add_test(t, a_gradient_that_is_off_by_a_tenth_is_noticed);
    tcase_add_test(t, parameters_are_left_as_they_were);
    tcase_add_test(t, not_a_number_does_not_pass);
    suite_add_tcase(s, t);
    return s;
}
