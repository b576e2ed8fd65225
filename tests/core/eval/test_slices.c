#include "core/base/mem.h"
#include "core/eval/slices.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

static char *dir;
static struct dataset d;

static void set_up(void) { dir = fixture_tmpdir(); }
static void tear_down(void)
{
    if (d.cu) dataset_close(&d);
    fixture_rmdir(dir);
    free(dir);
}

/* Training events: a 6, b 3, c 3, d 1, and x, y, z only in answers. */
START_TEST(answers_go_to_their_popularity_length_and_novelty)
{
    data_from_text(&d, dir,
                   "u1 a a a a a a a b\n" /* trained on 6 a; test: b, history of 7 */
                   "u2 b b b c c c x a\n" /* test: a */
                   "u3 d y z\n"           /* test: z, no training event */
                   "u4 b d\n"             /* trains only: b, d */
                   "u5 b b c c b\n");     /* trained on b b c; test: b, seen before */
    int64_t rank[] = { 0, 6, 200, -1, 3 };
    struct slices s;
    slices_of(&s, &d, SPLIT_TEST, rank);
    /* b 6 (3 + 1 + 2), a 6, c 4, d 2: of 18 events b has the first third, a and a part of c the second */
    ck_assert_int_eq(s.items[SLICE_HEAD], 1);
    ck_assert_int_eq(s.items[SLICE_MIDDLE], 1);
    ck_assert_int_eq(s.items[SLICE_TAIL], 5);
    int64_t n = 0;
    for (int i = SLICE_HEAD; i <= SLICE_TAIL; i++) n += s.m[i].n;
    ck_assert_int_eq(n, 4);
    ck_assert_int_eq(s.m[SLICE_TAIL].n, 1);
    ck_assert(s.m[SLICE_TAIL].hr[4] == 0); /* place 200 of 7 items: a masked one */
    ck_assert_int_eq(s.m[SLICE_BELOW_5].n, 1);
    ck_assert_int_eq(s.m[SLICE_5].n, 1);
    ck_assert(s.m[SLICE_5].hr[0] == 1);
    ck_assert_int_eq(s.m[SLICE_6_TO_8].n, 2);
    ck_assert(s.m[SLICE_6_TO_8].hr[0] == 0.5 && s.m[SLICE_6_TO_8].hr[1] == 1);
    ck_assert_int_eq(s.m[SLICE_ABOVE_8].n, 0);
    ck_assert_int_eq(s.m[SLICE_REPEAT].n, 1);
    ck_assert_int_eq(s.m[SLICE_NEW].n, 3);
}
END_TEST

START_TEST(coverage_and_gini_are_those_of_the_definition)
{
    static const int64_t equal[] = { 5, 5, 5, 5 }, one[] = { 0, 0, 12, 0 },
                         mixed[] = { 3, 0, 1, 0 };
    static const int64_t none[] = { 0, 0, 0, 0 };
    struct spread_out s = spread_of_lists(equal, 4);
    ck_assert_double_eq_tol(s.coverage, 1, 1e-12);
    ck_assert_double_eq_tol(s.gini, 0, 1e-12);
    s = spread_of_lists(one, 4);
    ck_assert_double_eq_tol(s.coverage, 0.25, 1e-12);
    ck_assert_double_eq_tol(s.gini, 0.75, 1e-12); /* (n - 1) / n */
    s = spread_of_lists(mixed, 4);
    ck_assert_double_eq_tol(s.gini, 0.625,
                            1e-12); /* mean absolute difference 1.25 over 2 times the mean 1 */
    ck_assert_double_eq_tol(spread_of_lists(none, 4).gini, 0, 1e-12);
}
END_TEST

START_TEST(mutual_information_is_normalised)
{
    static const int64_t same[] = { 4, 0, 0, 6 }, none[] = { 2, 4, 3, 6 }, one[] = { 3, 4 };
    static const int64_t half[] = { 5, 0, 0, 5, 5, 5 }; /* the third label knows nothing */
    ck_assert_double_eq_tol(nmi_of(same, 2, 2), 1, 1e-12);
    ck_assert_double_eq_tol(nmi_of(none, 2, 2), 0, 1e-12);
    ck_assert_double_eq_tol(nmi_of(one, 1, 2), 0, 1e-12);
    double hr = -(0.25 * log(0.25) * 2 + 0.5 * log(0.5)), hc = log(2), both = log(4);
    ck_assert_double_eq_tol(nmi_of(half, 3, 2), 2 * (hr + hc - both) / (hr + hc), 1e-12);
}
END_TEST

Suite *suite_slices(void);
Suite *suite_slices(void)
{
    Suite *s = suite_create("slices");
    TCase *t = tcase_create("slices");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, answers_go_to_their_popularity_length_and_novelty);
    tcase_add_test(t, coverage_and_gini_are_those_of_the_definition);
    tcase_add_test(t, mutual_information_is_normalised);
    suite_add_tcase(s, t);
    return s;
}
