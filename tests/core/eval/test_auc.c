#include "core/base/rng.h"
#include "core/eval/auc.h"
#include <check.h>
#include <math.h>

#define NEAR(a, b) ck_assert_double_eq_tol((a), (b), 1e-12)

START_TEST(auc_of_few_rows_is_what_counting_pairs_gives)
{
    NEAR(auc((float[]){ .1f, .4f, .35f, .8f }, (float[]){ 0, 0, 1, 1 }, 4), 0.75);
    NEAR(auc((float[]){ 1, 2 }, (float[]){ 0, 1 }, 2), 1);
    NEAR(auc((float[]){ 1, 2 }, (float[]){ 1, 0 }, 2), 0);
}
END_TEST

START_TEST(ties_count_half)
{
    NEAR(auc((float[]){ 1, 1, 1 }, (float[]){ 0, 1, 1 }, 3), 0.5);
    NEAR(auc((float[]){ 1, 1, 2, 0 }, (float[]){ 0, 1, 1, 1 }, 4), 0.5);
}
END_TEST

/* Scores of few values, so that many tie. */
START_TEST(auc_of_many_rows_equals_all_pairs)
{
    enum { N = 300 };
    float score[N], label[N];
    double wins = 0, pairs = 0;
    struct rng r = rng_make(3, RNG_TEST);
    for (int i = 0; i < N; i++) {
        score[i] = (float)rng_below(&r, 20) / 7;
        label[i] = (float)rng_below(&r, 2);
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            if (!(label[i] > label[j])) continue;
            pairs++;
            wins += score[i] > score[j] ? 1 : score[i] == score[j] ? 0.5 : 0;
        }
    NEAR(auc(score, label, N), wins / pairs);
}
END_TEST

START_TEST(what_cannot_be_compared_is_no_number)
{
    ck_assert(isnan(auc((float[]){ 1, 2 }, (float[]){ 1, 1 }, 2)));
    ck_assert(isnan(auc(NULL, NULL, 0)));
    ck_assert(isnan(auc((float[]){ 1, NAN }, (float[]){ 1, 0 }, 2)));
    ck_assert(
        isnan(auc_grouped((float[]){ 1, NAN }, (float[]){ 1, 0 }, (int32_t[]){ 0, 0 }, 2)));
    ck_assert(isnan(auc_grouped((float[]){ 1, 2 }, (float[]){ 1, 0 }, (int32_t[]){ 0, 1 }, 2)));
}
END_TEST

/* Group 5: 1 of 1 pair won, 2 rows; group 2: 1 of 2 pairs, 3 rows; group 9 has one class. */
START_TEST(groups_weigh_by_their_rows_and_those_of_one_class_not_at_all)
{
    const float score[] = { .9f, .1f, 3, 2, 1, 5, 7 };
    const float label[] = { 1, 0, 0, 1, 0, 1, 1 };
    const int32_t group[] = { 5, 5, 2, 2, 2, 9, 9 };
    NEAR(auc_grouped(score, label, group, 7), (2 * 1.0 + 3 * 0.5) / 5);
}
END_TEST

START_TEST(log_loss_is_the_mean_of_logarithms)
{
    NEAR(log_loss((float[]){ 0.5f, 0.25f }, (float[]){ 1, 0 }, 2), -(log(0.5) + log(0.75)) / 2);
    ck_assert(isfinite(log_loss((float[]){ 0, 1 }, (float[]){ 1, 0 }, 2)));
}
END_TEST

Suite *suite_auc(void);
Suite *suite_auc(void)
{
    Suite *s = suite_create("auc");
    TCase *t = tcase_create("auc");
    tcase_add_test(t, auc_of_few_rows_is_what_counting_pairs_gives);
    tcase_add_test(t, ties_count_half);
    tcase_add_test(t, auc_of_many_rows_equals_all_pairs);
    tcase_add_test(t, what_cannot_be_compared_is_no_number);
    tcase_add_test(t, groups_weigh_by_their_rows_and_those_of_one_class_not_at_all);
    tcase_add_test(t, log_loss_is_the_mean_of_logarithms);
    suite_add_tcase(s, t);
    return s;
}
