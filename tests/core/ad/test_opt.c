#include "core/ad/opt.h"
#include "core/fmt/safet.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct opt_cfg plain = {
    .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f
};

static void set_up(void) { num_init(); }

static void fill(float *x, int64_t n, uint64_t seed)
{
    struct rng r = rng_make(seed, RNG_TEST);
    for (int64_t i = 0; i < n; i++) x[i] = rng_normal(&r);
}

static const struct safet_tensor *tensor(const struct safet *s, const char *name)
{
    const struct safet_tensor *t = safet_find(s, name);
    ck_assert_msg(t != NULL, "no tensor %s", name);
    return t;
}

START_TEST(five_steps_follow_the_golden_vector)
{
    struct err e = { 0 };
    struct safet *s = NULL;
    ck_assert_msg(safet_open(&s, "tests/vectors/adam.safetensors", &e) == 0, "%s", e.msg);
    const struct safet_tensor *start = tensor(s, "param"), *grads = tensor(s, "grads");
    const double *want = tensor(s, "out.params")->data;
    struct params *ps = params_new(true);
    struct param *p = params_add(ps, "p", (int32_t)start->shape[0], (int32_t)start->shape[1], 1,
                                 INIT_ZERO, 0);
    memcpy(p->t.x, start->data, (size_t)start->n * sizeof(float));
    struct opt_adam *o = opt_new(ps, plain);
    for (int64_t t = 0; t < grads->shape[0]; t++) {
        memcpy(p->t.g, (const float *)grads->data + t * start->n,
               (size_t)start->n * sizeof(float));
        opt_step(o, ps, GROUPS_ALL, NULL);
        for (int64_t i = 0; i < start->n; i++) {
            double w = want[t * start->n + i];
            ck_assert_double_eq_tol((double)p->t.x[i], w, 2e-7 * fmax(1, fabs(w)));
        }
    }
    opt_free(o);
    params_free(ps);
    safet_close(s);
}
END_TEST

START_TEST(a_step_zeroes_the_gradients_of_its_groups_only)
{
    struct params *ps = params_new(true);
    struct param *a = params_add(ps, "a", 3, 5, 1, INIT_NORMAL, 1);
    struct param *b = params_add(ps, "b", 3, 5, 2, INIT_NORMAL, 1);
    params_init(ps, 1);
    float b_x[15];
    memcpy(b_x, b->t.x, sizeof b_x);
    fill(a->t.g, 15, 1);
    fill(b->t.g, 15, 2);
    struct opt_adam *o = opt_new(ps, plain);
    opt_step(o, ps, 1, NULL);
    for (int i = 0; i < 15; i++) {
        ck_assert(a->t.g[i] == 0);
        ck_assert(b->t.g[i] != 0);
    }
    ck_assert_mem_eq(b->t.x, b_x, sizeof b_x);
    opt_free(o);
    params_free(ps);
}
END_TEST

/* The first step of Adam moves by lr whatever the gradient: also for a group that comes later. */
START_TEST(each_parameter_counts_its_own_steps)
{
    struct params *ps = params_new(true);
    struct param *a = params_add(ps, "a", 1, 1, 1, INIT_ZERO, 0);
    struct param *b = params_add(ps, "b", 1, 1, 2, INIT_ZERO, 0);
    struct opt_adam *o = opt_new(ps, plain);
    for (int i = 0; i < 10; i++) {
        a->t.g[0] = 3;
        opt_step(o, ps, 1, NULL);
    }
    b->t.g[0] = -7;
    opt_step(o, ps, 2, NULL);
    ck_assert_double_eq_tol((double)b->t.x[0], 1e-3, 1e-9);
    opt_free(o);
    params_free(ps);
}
END_TEST

START_TEST(weight_decay_acts_on_weights_and_not_on_biases)
{
    struct params *ps = params_new(true);
    struct param *w = params_add(ps, "w", 1, 1, 1, INIT_NORMAL, 1);
    struct param *b = params_add(ps, "b", 1, 1, 1, INIT_ONE, 0);
    w->t.x[0] = b->t.x[0] = 2;
    struct opt_cfg cfg = plain;
    cfg.weight_decay = 0.1f;
    struct opt_adam *o = opt_new(ps, cfg);
    opt_step(o, ps, GROUPS_ALL, NULL);
    ck_assert_double_eq_tol((double)w->t.x[0], 2 - 1e-3, 1e-6);
    ck_assert(b->t.x[0] == 2);
    opt_free(o);
    params_free(ps);
}
END_TEST

START_TEST(one_and_two_threads_give_the_same_bits)
{
    enum { ROWS = 701, COLS = 67, N = ROWS * COLS };
    struct par *two = par_new(2);
    struct params *ps[2];
    for (int i = 0; i < 2; i++) {
        ps[i] = params_new(true);
        struct param *p = params_add(ps[i], "p", ROWS, COLS, 1, INIT_NORMAL, 1);
        params_init(ps[i], 1);
        struct opt_adam *o = opt_new(ps[i], plain);
        for (int t = 0; t < 3; t++) {
            fill(p->t.g, N, (uint64_t)t);
            opt_step(o, ps[i], GROUPS_ALL, i ? two : NULL);
        }
        opt_free(o);
    }
    ck_assert_mem_eq(params_at(ps[0], 0)->t.x, params_at(ps[1], 0)->t.x, N * sizeof(float));
    params_free(ps[0]);
    params_free(ps[1]);
    par_free(two);
}
END_TEST

Suite *suite_opt(void);
Suite *suite_opt(void)
{
    Suite *s = suite_create("opt");
    TCase *t = tcase_create("adam");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, five_steps_follow_the_golden_vector);
    tcase_add_test(t, a_step_zeroes_the_gradients_of_its_groups_only);
    tcase_add_test(t, each_parameter_counts_its_own_steps);
    tcase_add_test(t, weight_decay_acts_on_weights_and_not_on_biases);
    tcase_add_test(t, one_and_two_threads_give_the_same_bits);
    suite_add_tcase(s, t);
    return s;
}
