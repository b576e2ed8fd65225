#include "core/data/event_types.h"
#include "core/data/split.h"
#include <check.h>
#include <string.h>

static struct err e;
static void set_up(void) { e = (struct err){ 0 }; }

static const int64_t times[] = { 50, 10, 20, 30, 40, 60, 70, 80, 90, 100 };

static int resolve(struct split_rule *r, const char *valid, const char *test)
{
    struct split_opts o = { .kind = SPLIT_TIME };
    ck_assert_int_eq(split_point_parse(&o.valid, valid, &e), 0);
    ck_assert_int_eq(split_point_parse(&o.test, test, &e), 0);
    return split_resolve(r, &o, times, 10, &e);
}

START_TEST(moments_are_times_or_shares_of_the_events)
{
    struct split_rule r;
    ck_assert_msg(resolve(&r, "80%", "90%") == 0, "%s", e.msg);
    ck_assert_int_eq(r.valid_from, 90);
    ck_assert_int_eq(r.test_from, 100);
    ck_assert_int_eq(resolve(&r, "30", "1970-01-01T00:01:00Z"), 0);
    ck_assert_int_eq(r.valid_from, 30);
    ck_assert_int_eq(r.test_from, 60);
}
END_TEST

static const struct {
    const char *valid, *test, *reason;
} wrong[] = {
    { "10", "50",
      "nothing comes before it for training (the first event is of 1970-01-01 00:00:10)" },
    { "50", "50", "both begin at 1970-01-01 00:00:50" },
    { "50", "20", "must come after" },
    { "200", "300", "validation from 1970-01-01 00:03:20: the last" },
    { "50", "101", "test from 1970-01-01 00:01:41: the last event is of 1970-01-01 00:01:40" }
};

START_TEST(moments_that_leave_a_part_empty_are_refused)
{
    struct split_rule r;
    ck_assert_int_eq(resolve(&r, wrong[_i].valid, wrong[_i].test), ERR_INVALID);
    ck_assert_msg(strstr(e.msg, wrong[_i].reason), "%s", e.msg);
}
END_TEST

START_TEST(what_is_no_moment_is_wrong_usage)
{
    static const char *const text[] = {
        "", "%", "0%", "100%", "-5%", "x%", "soon", "2021-02-30"
    };
    struct split_point p;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        ck_assert_int_eq(split_point_parse(&p, text[i], NULL), ERR_USAGE);
}
END_TEST

START_TEST(an_answer_is_the_first_event_of_its_window_with_history_before_it)
{
    static const int64_t t[] = { 1, 2, 2, 5, 5, 8, 9 };
    struct split_rule r = { SPLIT_TIME, 2, 6 };
    ck_assert_int_eq(split_train_len(&r, t, 7), 1);
    ck_assert_int_eq(split_valid_at(&r, t, 7), 1);
    ck_assert_int_eq(split_test_at(&r, t, 7), 5);
    ck_assert_int_eq(split_test_at(&r, t, 5), -1);      /* ends before */
    ck_assert_int_eq(split_valid_at(&r, t + 1, 6), -1); /* begins there: no history */
    r.valid_from = 6;
    r.test_from = 9;
    ck_assert_int_eq(split_valid_at(&r, t, 7), 5);
    ck_assert_int_eq(split_test_at(&r, t, 7), 6);
    r.valid_from = 3;
    r.test_from = 4;
    ck_assert_int_eq(split_valid_at(&r, t, 7), -1); /* no event in between */
    ck_assert_int_eq(split_test_at(&r, t, 7), 3);
    r = (struct split_rule){ .kind = SPLIT_LEAVE_ONE_OUT };
    ck_assert_int_eq(split_train_len(&r, NULL, 7), 5);
    ck_assert_int_eq(split_valid_at(&r, NULL, 2), -1);
}
END_TEST

START_TEST(event_types_have_weights_and_a_word_for_the_others)
{
    struct event_types t;
    ck_assert_int_eq(event_types_parse(&t, "view, buy = 5,add to cart=2.5", &e), 0);
    ck_assert(event_types_weight(&t, (struct span){ "view", 4 }) == 1);
    ck_assert(event_types_weight(&t, (struct span){ "buy", 3 }) == 5);
    ck_assert(event_types_weight(&t, (struct span){ "add to cart", 11 }) == 2.5f);
    ck_assert(event_types_weight(&t, (struct span){ "vie", 3 }) == 0);
    ck_assert_int_eq(event_types_parse(&t, "buy=3,*=0.5", &e), 0);
    ck_assert(event_types_weight(&t, (struct span){ "other", 5 }) == 0.5f);
}
END_TEST

START_TEST(wrong_event_types_are_said)
{
    static const char *const text[] = { "",       "a,,b",  "a=0",   "a=-1", "a=x",
                                        "a=1001", "a,b,a", "*,*=2", "=3",   "a=1=2" };
    struct event_types t;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        ck_assert_msg(event_types_parse(&t, text[i], NULL) == ERR_USAGE, "%s", text[i]);
}
END_TEST

Suite *suite_split(void);
Suite *suite_split(void)
{
    Suite *s = suite_create("split");
    TCase *t = tcase_create("split");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, moments_are_times_or_shares_of_the_events);
    tcase_add_loop_test(t, moments_that_leave_a_part_empty_are_refused, 0,
                        sizeof wrong / sizeof *wrong);
    tcase_add_test(t, what_is_no_moment_is_wrong_usage);
    tcase_add_test(t, an_answer_is_the_first_event_of_its_window_with_history_before_it);
    tcase_add_test(t, event_types_have_weights_and_a_word_for_the_others);
    tcase_add_test(t, wrong_event_types_are_said);
    suite_add_tcase(s, t);
    return s;
}
