#include "core/serve/pick.h"
#include <check.h>

/* Candidates of three lists in order; no diversity, so that no corpus is needed. */
static struct arena *mem;
static struct cand c[8];

static void setup(void)
{
    static const int32_t best[] = { 0, 0, 0, 1, 0, 1, 2, 0 };
    mem = arena_new("pick", 1 << 12, 0);
    for (int32_t i = 0; i < 8; i++) c[i] = (struct cand){ (float)(8 - i), i, best[i] };
}

static void teardown(void) { arena_free(mem); }

static int32_t pick_some(int32_t limit, const int32_t *owed)
{
    const struct pick_cfg cfg = { .limit = limit, .owed = owed, .n_lists = 3 };
    return pick(c, 8, &cfg, NULL, mem, NULL);
}

START_TEST(the_best_are_taken_where_nothing_is_owed)
{
    ck_assert_int_eq(pick_some(4, NULL), 4);
    for (int32_t i = 0; i < 4; i++) ck_assert_int_eq(c[i].row, i);
    ck_assert_int_eq(pick_some(20, NULL), 8);
}
END_TEST

START_TEST(places_are_kept_for_lists_that_are_owed_some)
{
    static const int32_t owed[] = { 1, 1, 1 };
    ck_assert_int_eq(pick_some(4, owed), 4);
    ck_assert_int_eq(c[0].row, 0);
    ck_assert_int_eq(c[1].row, 1);
    ck_assert_int_eq(c[2].row, 3); /* 2 would take the place of list 1 or 2 */
    ck_assert_int_eq(c[3].row, 6);
}
END_TEST

START_TEST(a_list_without_enough_candidates_gives_its_places_away)
{
    static const int32_t owed[] = { 0, 0, 3 };
    ck_assert_int_eq(pick_some(4, owed), 4);
    ck_assert_int_eq(c[2].row, 2);
    ck_assert_int_eq(c[3].row, 6);
}
END_TEST

START_TEST(quotas_add_up_and_follow_the_weights)
{
    static const float half[] = { 0.5f, 0.3f, 0.2f }, none[] = { 0, 0, 0 };
    int32_t owed[3];
    pick_quota(owed, 3, half, 0, 10);
    ck_assert(owed[0] == 5 && owed[1] == 3 && owed[2] == 2);
    pick_quota(owed, 3, half, 0, 9); /* 4.5, 2.7, 1.8: the largest remainders go up */
    ck_assert(owed[0] == 4 && owed[1] == 3 && owed[2] == 2);
    pick_quota(owed, 3, half, 3, 10);
    ck_assert(owed[0] + owed[1] + owed[2] == 10 && owed[2] == 3);
    pick_quota(owed, 3, half, 50, 10); /* more than there is room for */
    ck_assert(owed[0] + owed[1] + owed[2] == 10 && owed[2] == 3);
    pick_quota(owed, 3, none, 0, 4);
    ck_assert(owed[0] == 2 && owed[1] == 1 && owed[2] == 1);
}
END_TEST

Suite *suite_pick(void);
Suite *suite_pick(void)
{
    Suite *s = suite_create("pick");
    TCase *t = tcase_create("pick");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_best_are_taken_where_nothing_is_owed);
    tcase_add_test(t, places_are_kept_for_lists_that_are_owed_some);
    tcase_add_test(t, a_list_without_enough_candidates_gives_its_places_away);
    tcase_add_test(t, quotas_add_up_and_follow_the_weights);
    suite_add_tcase(s, t);
    return s;
}
