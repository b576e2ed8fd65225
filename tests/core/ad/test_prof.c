#include "core/ad/ops.h"
#include "core/ad/prof.h"
#include "core/num/num.h"
#include "core/num/rate.h"
#include <check.h>
#include <string.h>
#include <time.h>

static void set_up(void) { num_init(); }

static void wait_ms(long ms) { nanosleep(&(struct timespec){ 0, ms * 1000000 }, NULL); }

START_TEST(laps_add_up_by_part)
{
    struct prof *p = prof_new();
    const struct cost c = {
        .rows = 3, .in = 4, .out = 5, .flop = { 10, 20 }, .floats = { 1, 2 }
    };
    prof_mark(p);
    wait_ms(20);
    prof_lap(p, "product", &c, PROF_FORWARD);
    prof_lap(p, "other", NULL, PROF_FORWARD);
    wait_ms(20);
    prof_lap(p, "product", &c, PROF_BACKWARD);
    prof_lap(p, "product", &c, PROF_FORWARD);
    ck_assert_int_eq(prof_count(p), 2);
    const struct prof_part *q = prof_part(p, 0);
    ck_assert_str_eq(q->name, "product");
    ck_assert_int_eq(q->calls, 2);
    ck_assert_int_eq(q->rows, 6);
    ck_assert(q->flop[PROF_FORWARD] == 20 && q->flop[PROF_BACKWARD] == 20);
    ck_assert(q->floats[PROF_FORWARD] == 2 && q->floats[PROF_BACKWARD] == 2);
    ck_assert_double_ge(q->seconds[PROF_FORWARD], .02);
    ck_assert_double_ge(q->seconds[PROF_BACKWARD], .02);
    ck_assert_double_lt(prof_part(p, 1)->seconds[PROF_FORWARD], .02);
    prof_free(p);
}
END_TEST

START_TEST(products_of_other_shapes_are_other_parts)
{
    struct prof *p = prof_new();
    prof_lap(p, "product", &(struct cost){ .in = 4, .out = 5 }, PROF_FORWARD);
    prof_lap(p, "product", &(struct cost){ .in = 4, .out = 6 }, PROF_FORWARD);
    ck_assert_int_eq(prof_count(p), 2);
    prof_free(p);
}
END_TEST

START_TEST(nobody_has_to_measure)
{
    prof_mark(NULL);
    prof_lap(NULL, "x", NULL, PROF_FORWARD);
    ck_assert_int_eq(prof_count(NULL), 0);
    prof_free(NULL);
}
END_TEST

/* The tape's nodes are the parts, and their cost is what the shapes say. */
START_TEST(a_tape_laps_its_ops)
{
    static const float x[2 * 3], w[3 * 4];
    struct arena *mem = arena_new("t", 1 << 12, 0);
    struct tape *tp = tape_new(mem, NULL);
    struct prof *p = prof_new();
    struct params *ps = params_new(true);
    struct param *weight = params_add(ps, "w", 3, 4, 1, INIT_ZERO, 0);
    memcpy(weight->t.x, w, sizeof w);
    tape_profile(tp, p);
    tape_begin(tp, GROUPS_ALL, 1, true);
    struct ten *y =
        ad_linear(tp, tape_const(tp, x, 2, 3), ad_param(tp, weight), NULL, ACT_NONE);
    tape_backward(tp, ad_sum(tp, y, 1));
    ck_assert_int_eq(prof_count(p), 2);
    const struct prof_part *q = prof_part(p, 0);
    ck_assert_str_eq(q->name, "linear");
    ck_assert_int_eq(q->in, 3);
    ck_assert_int_eq(q->out, 4);
    ck_assert(q->flop[PROF_FORWARD] == 2 * 2 * 3 * 4);
    ck_assert(q->flop[PROF_BACKWARD] == 2 * 2 * 3 * 4); /* x is a constant */
    params_free(ps);
    prof_free(p);
    tape_free(tp);
    arena_free(mem);
}
END_TEST

START_TEST(rates_are_measured)
{
    struct par *pool = par_new(2);
    ck_assert_double_gt(rate_sgemm(pool, 1, 1, 1), 0);
    ck_assert_double_gt(rate_sgemm(pool, 70, 33, 20), 1e6);
    ck_assert_double_gt(rate_copy(pool), 1e6);
    par_free(pool);
}
END_TEST

Suite *suite_prof(void);
Suite *suite_prof(void)
{
    Suite *s = suite_create("prof");
    TCase *t = tcase_create("prof");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, laps_add_up_by_part);
    tcase_add_test(t, products_of_other_shapes_are_other_parts);
    tcase_add_test(t, nobody_has_to_measure);
    tcase_add_test(t, a_tape_laps_its_ops);
    tcase_add_test(t, rates_are_measured);
    suite_add_tcase(s, t);
    return s;
}
