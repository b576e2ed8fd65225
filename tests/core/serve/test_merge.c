#include "core/base/rng.h"
#include "core/num/num.h"
#include "core/serve/merge.h"
#include "core/serve/rowset.h"
#include <check.h>
#include <stdlib.h>

static struct arena *mem;

static void setup(void)
{
    num_init();
    mem = arena_new("merge", 1 << 12, 0);
}

static void teardown(void) { arena_free(mem); }

static const int32_t row_a[] = { 5, 3, 9 }, row_b[] = { 3, 5, 7, 0 };
static const float score_a[] = { 9, 8, 7 }, score_b[] = { 6, 5, 4, 3 };
static const struct list lists[] = { { row_a, score_a, 3 }, { row_b, score_b, 4 }, { 0 } };

START_TEST(merge_by_turns_takes_what_is_not_taken)
{
    static const int32_t order[] = { 1, 2, 0 };
    static const struct cand want[] = {
        { 6, 3, 1 }, { 9, 5, 0 }, { 4, 7, 1 }, { 7, 9, 0 }, { 3, 0, 1 }
    };
    const struct merge_cfg cfg = { .how = MERGE_ROUND_ROBIN, .order = order };
    struct cand *c;
    ck_assert_int_eq(merge_lists(&c, mem, lists, 3, &cfg, NULL, NULL), 5);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(c[i].row, want[i].row);
        ck_assert_int_eq(c[i].best, want[i].best);
        ck_assert(c[i].score == want[i].score);
    }
}
END_TEST

START_TEST(merge_by_reciprocal_ranks_adds_up_places)
{
    static const float weight[] = { 1, 3, 1 };
    const struct merge_cfg cfg = { .how = MERGE_RRF, .rrf_k = 1, .weight = weight };
    struct cand *c;
    int32_t n = merge_lists(&c, mem, lists, 3, &cfg, NULL, NULL);
    ck_assert_int_eq(n, 5);
    ck_assert_int_eq(merge_top(c, n, n), 5);
    ck_assert_int_eq(c[0].row, 3); /* 1/3 + 3/2 */
    ck_assert(c[0].score == 1.0f / 3 + 3.0f / 2 && c[0].best == 1);
    ck_assert_int_eq(c[1].row, 5); /* 1/2 + 3/3 */
    ck_assert(c[1].score == 0.5f + 1 && c[1].best == 1);
    ck_assert_int_eq(c[4].row, 9); /* 1/4 */
    ck_assert(c[4].score == 0.25f && c[4].best == 0);
}
END_TEST

static int by_order(const void *a, const void *b)
{
    const struct cand *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->row - y->row;
}

/* Few different scores, so that many are equal. */
START_TEST(merge_of_exact_lists_takes_the_best)
{
    enum { K = 4, V = 60 };
    struct cand all[V], list[V], *c;
    int32_t row[K][V];
    float score[K][V];
    struct list l[K];
    struct rng rng = rng_make((uint64_t)_i, RNG_TEST);
    const int32_t limit = 1 + (int32_t)rng_below(&rng, V),
                  spread = 2 + (int32_t)rng_below(&rng, 50);
    for (int32_t k = 0; k < K; k++) {
        for (int32_t v = 0; v < V; v++) {
            list[v] = (struct cand){ (float)rng_below(&rng, (uint32_t)spread), v, k };
            if (k == 0 || list[v].score > all[v].score) all[v] = list[v];
        }
        qsort(list, V, sizeof *list, by_order);
        for (int32_t i = 0; i < V; i++) {
            row[k][i] = list[i].row;
            score[k][i] = list[i].score;
        }
        l[k] = (struct list){ row[k], score[k], limit };
    }
    qsort(all, V, sizeof *all, by_order);
    const struct merge_cfg cfg = { .how = MERGE_MAX, .best = limit };
    ck_assert_int_eq(merge_lists(&c, mem, l, K, &cfg, NULL, NULL), limit);
    for (int32_t i = 0; i < limit; i++) {
        ck_assert_int_eq(c[i].row, all[i].row);
        ck_assert_int_eq(c[i].best, all[i].best);
        ck_assert(c[i].score == all[i].score);
    }
}
END_TEST

START_TEST(merge_top_equals_a_sort)
{
    enum { MOST = 200 };
    struct cand a[MOST], b[MOST];
    struct rng rng = rng_make((uint64_t)_i, RNG_TEST);
    int32_t n = (int32_t)rng_below(&rng, MOST + 1), limit = 1 + (int32_t)rng_below(&rng, MOST);
    for (int32_t i = 0; i < n; i++)
        a[i] = b[i] = (struct cand){ (float)rng_below(&rng, 20), (i * 37) % 211, i };
    int32_t m = merge_top(a, n, limit);
    qsort(b, (size_t)n, sizeof b[0], by_order);
    ck_assert_int_eq(m, n < limit ? n : limit);
    for (int32_t i = 0; i < m; i++) ck_assert_int_eq(a[i].row, b[i].row);
}
END_TEST

START_TEST(rowset_holds_what_was_added)
{
    struct rowset s = rowset_new(mem, 1000);
    for (int32_t i = 0; i < 1000; i++) ck_assert(rowset_add(&s, i * 65536));
    for (int32_t i = 0; i < 1000; i++) {
        ck_assert(!rowset_add(&s, i * 65536));
        ck_assert(rowset_has(&s, i * 65536));
        ck_assert(!rowset_has(&s, i * 65536 + 1));
    }
    struct rowset none = rowset_new(mem, 0);
    ck_assert(!rowset_has(&none, 0));
}
END_TEST

Suite *suite_merge(void);
Suite *suite_merge(void)
{
    Suite *s = suite_create("merge");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, merge_by_turns_takes_what_is_not_taken);
    tcase_add_test(t, merge_by_reciprocal_ranks_adds_up_places);
    tcase_add_loop_test(t, merge_of_exact_lists_takes_the_best, 0, 50);
    tcase_add_loop_test(t, merge_top_equals_a_sort, 0, 50);
    tcase_add_test(t, rowset_holds_what_was_added);
    suite_add_tcase(s, t);
    return s;
}
