#include "core/eval/baseline.h"
#include "core/eval/links.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static struct dataset d;
static struct err e;

static void set_up(void)
{
    dir = fixture_tmpdir();
    e = (struct err){ 0 };
}

static void tear_down(void)
{
    if (d.cu) dataset_close(&d);
    fixture_rmdir(dir);
    free(dir);
}

static int32_t row(const char *id) { return items_find(d.items, id, strlen(id)); }

static double weight(const struct links *l, const char *a, const char *b)
{
    for (int64_t i = l->cu[row(a)]; i < l->cu[row(a) + 1]; i++)
        if (l->item[i] == row(b)) return l->weight[i];
    return 0;
}

START_TEST(markov_counts_pairs_of_the_training_part)
{
    data_from_text(&d, dir, "u1 a b a b b x y\nu2 a c b x y\nu3 c b\n");
    struct links l = links_markov(&d, NULL);
    ck_assert(weight(&l, "a", "b") == 2);
    ck_assert(weight(&l, "b", "a") == 1);
    ck_assert(weight(&l, "b", "b") == 1);
    ck_assert(weight(&l, "a", "c") == 1);
    ck_assert(weight(&l, "c", "b") ==
              2); /* u3 has too few events for a test: all of it trains */
    ck_assert(weight(&l, "b", "x") == 0);
    ck_assert_int_eq(l.item[l.cu[row("a")]], row("b"));
    ck_assert_int_eq(l.item[l.cu[row("b")]], row("a")); /* equal counts: the pair seen first */
    links_free(&l);
}
END_TEST

START_TEST(itemcf_weighs_pairs_by_length_and_counts)
{
    data_from_text(&d, dir, "u1 a b c x y\nu2 a b x y\nu3 a b a\nu4 c x y\n");
    struct links l = links_itemcf(&d, NULL);
    /* Training: a b c | a b | a (u3 has 3 events) | c.  Counts: a 3, b 2, c 2. */
    double w3 = 1 / log2(4), w2 = 1 / log2(3);
    ck_assert_double_eq_tol(weight(&l, "a", "b"), (w3 + w2) / sqrt(6), 1e-12);
    ck_assert_double_eq_tol(weight(&l, "b", "a"), (w3 + w2) / sqrt(6), 1e-12);
    ck_assert_double_eq_tol(weight(&l, "c", "a"), w3 / sqrt(6), 1e-12);
    ck_assert(weight(&l, "a", "a") == 0);
    links_free(&l);
}
END_TEST

START_TEST(itemcf_looks_at_the_last_50_events_only)
{
    char text[1024] = "u1 old";
    for (int i = 0; i < 50; i++) snprintf(text + strlen(text), 16, " i%d", i);
    snprintf(text + strlen(text), 16, " x y\n");
    data_from_text(&d, dir, text);
    struct links l = links_itemcf(&d, NULL);
    ck_assert_int_eq(l.cu[row("old") + 1] - l.cu[row("old")], 0);
    ck_assert(weight(&l, "i0", "old") == 0);
    ck_assert_double_eq_tol(weight(&l, "i0", "i49"), 1 / log2(51), 1e-12);
    links_free(&l);
}
END_TEST

START_TEST(links_are_the_same_for_any_number_of_threads)
{
    data_random(&d, dir, 500, 400, 30, 1);
    struct par *pool = par_new(3);
    struct links a = links_itemcf(&d, NULL), b = links_itemcf(&d, pool);
    size_t n = (size_t)a.cu[d.n_items];
    ck_assert_mem_eq(a.cu, b.cu, ((size_t)d.n_items + 1) * sizeof *a.cu);
    ck_assert_mem_eq(a.item, b.item, n * sizeof *a.item);
    ck_assert_mem_eq(a.weight, b.weight, n * sizeof *a.weight);
    links_free(&a);
    links_free(&b);
    par_free(pool);
}
END_TEST

/* Rank of a single user's answer, from MRR@5; 9: not among the first five. */
static int rank_of(enum baseline b, enum split s, enum seen seen)
{
    struct metrics m;
    ck_assert_msg(baseline_eval(&m, NULL, NULL, &d, b, s, seen, NULL, &e) == 0, "%s", e.msg);
    return m.hr[0] > 0 ? (int)lround(1 / (m.mrr[0] * (double)m.n)) - 1 : 9;
}

START_TEST(lists_are_completed_with_the_popularity_order)
{
    /* Only u1 has cases.  Popularity: a 3 (with u2, u3), c 2, b 1; rows a b c d. */
    data_from_text(&d, dir, "u1 a b c d\nu2 a c\nu3 a c\n");
    ck_assert_int_eq(rank_of(BASE_POP, SPLIT_TEST, SEEN_KEEP), 3);
    ck_assert_int_eq(rank_of(BASE_POP, SPLIT_TEST, SEEN_MASK), 0);
    ck_assert_int_eq(rank_of(BASE_POP, SPLIT_VALID, SEEN_KEEP), 1);
    ck_assert_int_eq(rank_of(BASE_POP, SPLIT_VALID, SEEN_MASK), 0);
    /* Zeroed items come last, by row. */
    ck_assert_int_eq(rank_of(BASE_POP, SPLIT_TEST, SEEN_ZERO), 0);
    /* b has no successor in training: the popularity order again. */
    ck_assert_int_eq(rank_of(BASE_MARKOV, SPLIT_VALID, SEEN_KEEP), 1);
    ck_assert_int_eq(rank_of(BASE_HISTORY, SPLIT_TEST, SEEN_KEEP), 9);
}
END_TEST

START_TEST(history_lists_distinct_items_newest_first)
{
    data_from_text(&d, dir, "u1 a b c b a\n"); /* history a b c b: list b c a */
    ck_assert_int_eq(rank_of(BASE_HISTORY, SPLIT_TEST, SEEN_KEEP), 2);
    ck_assert_int_eq(rank_of(BASE_HISTORY, SPLIT_TEST, SEEN_MASK), 9);
    ck_assert_int_eq(rank_of(BASE_HISTORY, SPLIT_TEST, SEEN_ZERO), 9);
    ck_assert_int_eq(rank_of(BASE_HISTORY, SPLIT_VALID, SEEN_KEEP),
                     1); /* history a b c: list c b a */
}
END_TEST

START_TEST(a_zeroed_answer_comes_after_everything_else)
{
    data_from_text(&d, dir,
                   "u1 a b c a\nu2 d d\n"); /* not in the history: d; then a b c by row */
    ck_assert_int_eq(rank_of(BASE_POP, SPLIT_TEST, SEEN_ZERO), 1);
    ck_assert_int_eq(rank_of(BASE_POP, SPLIT_TEST, SEEN_MASK), 9);
}
END_TEST

START_TEST(markov_ranks_successors_by_count)
{
    data_from_text(&d, dir, "u1 p a q r\nu2 a r\nu3 a q\nu4 a q\nu5 q z\nu6 q r\nu7 q r\n");
    /* Test: last item q, successors r (2), z (1).  Valid: last item a, successors q (2), r (1). */
    ck_assert_int_eq(rank_of(BASE_MARKOV, SPLIT_TEST, SEEN_KEEP), 0);
    ck_assert_int_eq(rank_of(BASE_MARKOV, SPLIT_VALID, SEEN_KEEP), 0);
}
END_TEST

START_TEST(a_split_without_answers_is_an_error)
{
    struct metrics m;
    data_from_text(&d, dir, "u1 a b\nu2 a\n");
    ck_assert_int_eq(
        baseline_eval(&m, NULL, NULL, &d, BASE_POP, SPLIT_TEST, SEEN_KEEP, NULL, &e),
        ERR_EMPTY);
}
END_TEST

/* ---- the reference figures ---- */

struct figures {
    const char *set;
    enum baseline base;
    double masked[6], kept[6]; /* HR@5 NDCG@5 HR@10 NDCG@10 HR@20 NDCG@20 */
};
static const struct figures published[] = {
    { "Beauty",
      BASE_ITEMCF,
      { .0503, .0346, .0694, .0407, .0956, .0473 },
      { .0361, .0237, .0580, .0308, .0848, .0375 } },
    { "Beauty",
      BASE_MARKOV,
      { .0491, .0378, .0628, .0422, .0774, .0459 },
      { .0485, .0369, .0624, .0413, .0774, .0451 } },
    { "Sports_and_Outdoors",
      BASE_ITEMCF,
      { .0258, .0182, .0361, .0215, .0509, .0252 },
      { .0183, .0126, .0289, .0160, .0449, .0200 } },
    { "Sports_and_Outdoors",
      BASE_MARKOV,
      { .0262, .0197, .0341, .0223, .0429, .0245 },
      { .0261, .0196, .0339, .0221, .0428, .0244 } },
    { "Yelp",
      BASE_ITEMCF,
      { .0141, .0087, .0251, .0122, .0436, .0168 },
      { .0278, .0174, .0458, .0232, .0700, .0293 } },
    { "Yelp",
      BASE_HISTORY,
      { 0, 0, 0, 0, 0, 0 },
      { .0547, .0389, .0620, .0414, .0653, .0422 } },
};

static void compare(const struct figures *p, enum seen seen, const double *want,
                    struct par *pool)
{
    struct metrics m;
    ck_assert_msg(baseline_eval(&m, NULL, NULL, &d, p->base, SPLIT_TEST, seen, pool, &e) == 0,
                  "%s", e.msg);
    ck_assert_int_eq(m.n, d.n_users);
    for (int c = 0; c < 3; c++) {
        ck_assert_msg(fabs(m.hr[c] - want[2 * c]) < 1e-4, "%s %d HR@%d %.4f, published %.4f",
                      p->set, p->base, rank_cut[c], m.hr[c], want[2 * c]);
        ck_assert_msg(fabs(m.ndcg[c] - want[2 * c + 1]) < 1e-4,
                      "%s %d NDCG@%d %.4f, published %.4f", p->set, p->base, rank_cut[c],
                      m.ndcg[c], want[2 * c + 1]);
    }
}

START_TEST(figures_equal_the_published_ones)
{
    const struct figures *p = &published[_i];
    if (!data_real(&d, dir, p->set)) return;
    struct par *pool = par_new(2);
    compare(p, SEEN_MASK, p->masked, pool);
    compare(p, SEEN_KEEP, p->kept, pool);
    par_free(pool);
}
END_TEST

Suite *suite_baseline(void);
Suite *suite_baseline(void)
{
    Suite *s = suite_create("baseline");
    TCase *t = tcase_create("baseline");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, markov_counts_pairs_of_the_training_part);
    tcase_add_test(t, itemcf_weighs_pairs_by_length_and_counts);
    tcase_add_test(t, itemcf_looks_at_the_last_50_events_only);
    tcase_add_test(t, links_are_the_same_for_any_number_of_threads);
    tcase_add_test(t, lists_are_completed_with_the_popularity_order);
    tcase_add_test(t, history_lists_distinct_items_newest_first);
    tcase_add_test(t, a_zeroed_answer_comes_after_everything_else);
    tcase_add_test(t, markov_ranks_successors_by_count);
    tcase_add_test(t, a_split_without_answers_is_an_error);
    tcase_add_loop_test(t, figures_equal_the_published_ones, 0,
                        sizeof published / sizeof *published);
    suite_add_tcase(s, t);
    return s;
}
