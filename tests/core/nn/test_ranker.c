/* The rank model beside its golden vectors: shapes, empty sequences, shared sequences, what a checkpoint keeps. */
#include "core/nn/ranker.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <string.h>

static struct arena *mem;
static struct tape *tp;

static void set_up(void)
{
    num_init();
    mem = arena_new("ranker", 1 << 16, 0);
    tp = tape_new(mem, NULL);
}

static void tear_down(void)
{
    tape_free(tp);
    arena_free(mem);
}

static const struct ranker_shape shape = { .n_tables = 2,
                                           .n_inputs = 2,
                                           .n_steps = 1,
                                           .table = { { "user", 5, 4 }, { "item", 9, 8 } },
                                           .input = { 0, 1 },
                                           .step = { 1 } };

static struct ranker *small(int32_t output, bool sequence)
{
    struct ranker_cfg c;
    struct err e = { 0 };
    conf_defaults(ranker_opts, &c);
    c.hidden = 16;
    c.max_len = 6;
    c.top_1 = 8;
    c.top_2 = 0;
    c.output = output;
    c.sequence = sequence;
    ck_assert_msg(ranker_check(&c, &shape, &e) == 0, "%s", e.msg);
    struct ranker *m = ranker_new(&c, &shape, true);
    params_init(ranker_params(m), 1);
    return m;
}

static const int32_t user[] = { 1, 2, 3, 4 }, item[] = { 8, 7, 6, 5 };
static const int32_t step[] = { 1, 2, 3, 4, 5 };
static const int32_t cu[] = { 0, 2, 2, 5, 5 }, pos[] = { 0, 1, 0, 1, 2 };
static const struct ranker_column input[] = { { user, NULL }, { item, NULL } };
static const int32_t *const steps[] = { step };

static struct ranker_batch batch(void)
{
    return (struct ranker_batch){
        .B = 4, .input = input, .seq = { .B = 4, .N = 5, .cu = cu, .pos = pos }, .step = steps
    };
}

/* Logits of an evaluation [4]. */
static void logits(const struct ranker *m, const struct ranker_batch *b, float *y)
{
    tape_begin(tp, 0, 0, false);
    struct ranked r = ranker_forward(m, tp, b);
    ck_assert_int_eq(r.logit->rows, b->B);
    memcpy(y, r.logit->x, (size_t)b->B * sizeof *y);
    for (int32_t i = 0; i < b->B; i++) ck_assert(isfinite(y[i]));
}

START_TEST(empty_sequences_have_a_vector_of_their_own)
{
    float before[4], after[4];
    struct ranker *m = small(_i, true);
    struct ranker_batch b = batch();
    logits(m, &b, before);
    params_find(ranker_params(m), "seq_empty.weight")->t.x[3] += 10;
    logits(m, &b, after);
    for (int i = 0; i < 4; i++) ck_assert((before[i] == after[i]) == (i % 2 == 0));
    ranker_free(m);
}
END_TEST

START_TEST(a_batch_without_any_step_is_ranked)
{
    float y[4];
    static const int32_t none[5] = { 0 };
    struct ranker *m = small(_i, true);
    struct ranker_batch b = batch();
    b.seq = (struct seqpack){ .B = 4, .N = 0, .cu = none, .pos = none };
    logits(m, &b, y);
    tape_begin(tp, GROUPS_ALL, 1, true);
    tape_backward(tp, ad_sum(tp, ranker_forward(m, tp, &b).logit, 1));
    const struct param *p = params_find(ranker_params(m), "seq_empty.weight");
    float most = 0;
    for (int32_t i = 0; i < p->t.cols; i++) most = fmaxf(most, fabsf(p->t.g[i]));
    ck_assert_float_gt(most, 0);
    ranker_free(m);
}
END_TEST

START_TEST(rows_may_share_one_sequence)
{
    float own[4], shared[4];
    static const int32_t of[] = { 0, 0, 0, 0 }, cu4[] = { 0, 2, 4, 6, 8 },
                         pos4[] = { 0, 1, 0, 1, 0, 1, 0, 1 },
                         step4[] = { 1, 2, 1, 2, 1, 2, 1, 2 };
    static const int32_t *const repeated[] = { step4 };
    struct ranker *m = small(OUTPUT_HEAD, true);
    struct ranker_batch b = batch(), s = batch();
    b.seq = (struct seqpack){ .B = 4, .N = 8, .cu = cu4, .pos = pos4 };
    b.step = repeated;
    s.seq = (struct seqpack){ .B = 1, .N = 2, .cu = cu4, .pos = pos4 };
    s.seq_of = of;
    logits(m, &b, own);
    logits(m, &s, shared);
    ck_assert_mem_eq(own, shared, sizeof own);
    ranker_free(m);
}
END_TEST

START_TEST(without_the_sequence_it_is_not_looked_at)
{
    float a[4], b_[4];
    struct ranker *m = small(OUTPUT_HEAD, false);
    struct ranker_batch b = batch();
    ck_assert_ptr_null(params_find(ranker_params(m), "pos.weight"));
    logits(m, &b, a);
    b.seq = (struct seqpack){ 0 };
    logits(m, &b, b_);
    ck_assert_mem_eq(a, b_, sizeof a);
    ranker_free(m);
}
END_TEST

START_TEST(running_averages_belong_to_the_weights_and_learn_nothing)
{
    struct ranker *m = small(OUTPUT_HEAD, true);
    struct param *mean = params_find(ranker_params(m), "top.0.norm.mean");
    ck_assert_ptr_nonnull(mean);
    struct ranker_batch b = batch();
    tape_begin(tp, GROUPS_ALL, 1, true);
    tape_backward(tp, ad_sum(tp, ranker_forward(m, tp, &b).logit, 1)); /* momentum 0 */
    float first = mean->t.x[0];
    ck_assert_float_ne(first, 0);
    for (int32_t i = 0; i < mean->t.cols; i++) ck_assert_float_eq(mean->t.g[i], 0);
    b.momentum = 1;
    tape_begin(tp, GROUPS_ALL, 2, true);
    (void)ranker_forward(m, tp, &b);
    ck_assert_float_eq(mean->t.x[0], first);
    ranker_free(m);
}
END_TEST

START_TEST(weights_that_are_no_numbers_show_in_the_logits)
{
    struct ranker *m = small(OUTPUT_HEAD, true);
    struct ranker_batch b = batch();
    params_find(ranker_params(m), "top.0.norm.var")->t.x[2] = -1;
    tape_begin(tp, 0, 0, false);
    ck_assert(isnan(ranker_forward(m, tp, &b).logit->x[0]));
    ranker_free(m);
}
END_TEST

START_TEST(what_cannot_be_built_is_refused)
{
    struct ranker_cfg c;
    struct err e = { 0 };
    struct ranker_shape s = shape;
    conf_defaults(ranker_opts, &c);
    c.heads = 3;
    ck_assert_int_eq(ranker_check(&c, &s, &e), ERR_CONFIG);
    c.heads = 2;
    s.n_steps = 0;
    ck_assert_int_eq(ranker_check(&c, &s, NULL), ERR_CONFIG);
    c.sequence = false;
    ck_assert_int_eq(ranker_check(&c, &s, NULL), 0);
    s.n_inputs = 0;
    ck_assert_int_eq(ranker_check(&c, &s, NULL), ERR_CONFIG);
}
END_TEST

Suite *suite_ranker(void);
Suite *suite_ranker(void)
{
    Suite *s = suite_create("ranker");
    TCase *t = tcase_create("ranker");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, empty_sequences_have_a_vector_of_their_own, 0, 3);
    tcase_add_loop_test(t, a_batch_without_any_step_is_ranked, 0, 3);
    tcase_add_test(t, rows_may_share_one_sequence);
    tcase_add_test(t, without_the_sequence_it_is_not_looked_at);
    tcase_add_test(t, running_averages_belong_to_the_weights_and_learn_nothing);
    tcase_add_test(t, weights_that_are_no_numbers_show_in_the_logits);
    tcase_add_test(t, what_cannot_be_built_is_refused);
    suite_add_tcase(s, t);
    return s;
}
