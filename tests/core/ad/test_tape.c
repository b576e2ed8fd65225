#include "core/ad/ops.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <string.h>

static struct arena *mem;
static struct tape *tp;
static struct params *ps;

static void set_up(void)
{
    num_init();
    mem = arena_new("tape test", 1 << 12, 0);
    tp = tape_new(mem, NULL);
    ps = params_new(true);
    params_add(ps, "a", 4, 6, 1, INIT_NORMAL, 0.5f);
    params_add(ps, "b", 5, 6, 2, INIT_NORMAL, 0.5f);
    params_init(ps, 1);
}

static void tear_down(void)
{
    params_free(ps);
    tape_free(tp);
    arena_free(mem);
}

static struct ten *build(struct tape *t)
{
    struct ten *a = ad_param(t, params_at(ps, 0)), *b = ad_param(t, params_at(ps, 1));
    return ad_sum(t, ad_softmax(t, ad_matmul_nt(t, a, b, 1)), 1);
}

static bool all_zero(const struct ten *t)
{
    for (int32_t i = 0; i < t->rows * t->cols; i++)
        if (t->g[i] != 0) return false;
    return true;
}

START_TEST(constants_record_nothing)
{
    tape_begin(tp, 0, 1, false);
    struct ten *y = build(tp);
    ck_assert_ptr_null(y->g);
    ck_assert_int_eq(tape_nodes(tp), 0);
    tape_backward(tp, y);
    ck_assert(all_zero(&params_at(ps, 0)->t));
}
END_TEST

START_TEST(nodes_are_recorded_in_order_with_their_names)
{
    tape_begin(tp, GROUPS_ALL, 1, true);
    (void)build(tp);
    const char *const want[] = { "matmul_nt", "softmax", "sum" };
    ck_assert_int_eq(tape_nodes(tp), 3);
    for (int32_t i = 0; i < 3; i++) ck_assert_str_eq(tape_op(tp, i), want[i]);
}
END_TEST

START_TEST(only_the_named_groups_learn)
{
    tape_begin(tp, 2, 1, true);
    struct ten *a = ad_param(tp, params_at(ps, 0)), *b = ad_param(tp, params_at(ps, 1));
    tape_backward(tp, ad_sum(tp, ad_matmul_nt(tp, a, b, 1), 1));
    ck_assert(all_zero(&params_at(ps, 0)->t));
    ck_assert(!all_zero(&params_at(ps, 1)->t));
}
END_TEST

START_TEST(gradients_of_two_steps_add_up_until_they_are_zeroed)
{
    float first[24];
    struct ten *g = &params_at(ps, 0)->t;
    for (int i = 0; i < 2; i++) {
        tape_begin(tp, GROUPS_ALL, 1, true);
        struct ten *a = ad_param(tp, params_at(ps, 0)), *b = ad_param(tp, params_at(ps, 1));
        tape_backward(tp, ad_sum(tp, ad_matmul_nt(tp, a, b, 1), 1));
        if (i == 0) memcpy(first, g->g, sizeof first);
    }
    for (int i = 0; i < 24; i++) ck_assert(fabsf(g->g[i] - 2 * first[i]) <= 1e-6f);
    params_zero_grad(ps);
    ck_assert(all_zero(g));
}
END_TEST

START_TEST(a_tensor_used_twice_gets_both_gradients)
{
    tape_begin(tp, GROUPS_ALL, 1, true);
    struct ten *a = ad_param(tp, params_at(ps, 0));
    tape_backward(tp, ad_sum(tp, ad_add(tp, ad_sum(tp, a, 2), ad_sum(tp, a, 3)), 1));
    for (int i = 0; i < 24; i++) ck_assert(a->g[i] == 5);
}
END_TEST

START_TEST(a_step_takes_no_more_memory_than_the_one_before)
{
    size_t used = 0;
    for (int i = 0; i < 3; i++) {
        tape_begin(tp, GROUPS_ALL, 1, true);
        tape_backward(tp, build(tp));
        if (i) ck_assert_uint_eq(arena_used(mem), used);
        used = arena_used(mem);
    }
}
END_TEST

START_TEST(dropout_keys_depend_on_the_step_and_their_turn_only)
{
    uint64_t a[2], b[2];
    tape_begin(tp, 0, 7, true);
    a[0] = tape_drop_key(tp);
    a[1] = tape_drop_key(tp);
    tape_begin(tp, 0, 7, true);
    b[0] = tape_drop_key(tp);
    b[1] = tape_drop_key(tp);
    ck_assert_uint_ne(a[0], a[1]);
    ck_assert_uint_eq(a[0], b[0]);
    ck_assert_uint_eq(a[1], b[1]);
    tape_begin(tp, 0, 8, true);
    ck_assert_uint_ne(tape_drop_key(tp), a[0]);
}
END_TEST

START_TEST(a_bound_parameter_stands_for_some_of_its_rows)
{
    static const int32_t row[] = { 0, 3 };
    struct param *a = params_find(ps, "a");
    params_part(a);
    tape_begin(tp, GROUPS_ALL, 1, true);
    tape_bind(tp, a, row, 2);
    struct ten *t = ad_param(tp, a);
    ck_assert(t->rows == 2 && t->cols == 6);
    ck_assert_mem_eq(t->x, a->t.x, 6 * sizeof(float));
    ck_assert_mem_eq(t->x + 6, a->t.x + 18, 6 * sizeof(float));
    tape_backward(tp, ad_sum(tp, t, 2));
    ck_assert_ptr_eq(a->part.g, t->g);
    for (int i = 0; i < 12; i++) ck_assert(a->part.g[i] == 2);
    tape_begin(tp, 0, 1, false); /* the next step has all of it, and no gradient */
    ck_assert_int_eq(ad_param(tp, a)->rows, 4);
    ck_assert_ptr_null(ad_param(tp, a)->g);
}
END_TEST

START_TEST(initial_values_hang_on_seed_and_name_and_not_on_order)
{
    struct params *other = params_new(false);
    params_add(other, "b", 5, 6, 1, INIT_NORMAL, 0.5f);
    params_add(other, "a", 4, 6, 1, INIT_NORMAL, 0.5f);
    params_init(other, 1);
    ck_assert_mem_eq(params_find(other, "a")->t.x, params_find(ps, "a")->t.x,
                     24 * sizeof(float));
    ck_assert_mem_eq(params_find(other, "b")->t.x, params_find(ps, "b")->t.x,
                     30 * sizeof(float));
    ck_assert_ptr_null(params_find(other, "c"));
    ck_assert_ptr_null(params_find(other, "a")->t.g);
    ck_assert_int_eq(params_size(other), 54);
    params_init(other, 2);
    ck_assert_mem_ne(params_find(other, "a")->t.x, params_find(ps, "a")->t.x,
                     24 * sizeof(float));
    params_free(other);
}
END_TEST

Suite *suite_tape(void);
Suite *suite_tape(void)
{
    Suite *s = suite_create("tape");
    TCase *t = tcase_create("tape");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, constants_record_nothing);
    tcase_add_test(t, nodes_are_recorded_in_order_with_their_names);
    tcase_add_test(t, only_the_named_groups_learn);
    tcase_add_test(t, gradients_of_two_steps_add_up_until_they_are_zeroed);
    tcase_add_test(t, a_tensor_used_twice_gets_both_gradients);
    tcase_add_test(t, a_step_takes_no_more_memory_than_the_one_before);
    tcase_add_test(t, dropout_keys_depend_on_the_step_and_their_turn_only);
    tcase_add_test(t, a_bound_parameter_stands_for_some_of_its_rows);
    tcase_add_test(t, initial_values_hang_on_seed_and_name_and_not_on_order);
    suite_add_tcase(s, t);
    return s;
}
