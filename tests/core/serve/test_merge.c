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

START_TEST(merge_union_keeps_first_appearances_and_counts_lists)
{
    static const int32_t ids[3 * 4] = { 5, 3, 9, -1, 3, 5, 7, 0, -1, -1, -1, -1 };
    static const int32_t want[] = { 5, 3, 9, 7, 0 };
    struct cand *c;
    int32_t fetched[3];
    ck_assert_int_eq(merge_union(&c, fetched, mem, ids, 3, 4), 5);
    for (int i = 0; i < 5; i++) ck_assert_int_eq(c[i].row, want[i]);
    ck_assert_int_eq(fetched[0], 3);
    ck_assert_int_eq(fetched[1], 4);
    ck_assert_int_eq(fetched[2], 0);
}
END_TEST

START_TEST(merge_score_takes_the_first_best_query)
{
    static const float item[3 * 2] = { 1, 0, 0, 1, 1, 1 }, query[3 * 2] = { 2, -1, 2, 3, 3, 2 };
    struct cand c[3] = { { .row = 0 }, { .row = 1 }, { .row = 2 } };
    merge_score(c, 3, query, 3, 2, item);
    ck_assert(c[0].score == 3 && c[0].best == 2);
    ck_assert(c[1].score == 3 && c[1].best == 1);
    ck_assert(c[2].score == 5 && c[2].best == 1); /* 5 with queries 1 and 2 */
}
END_TEST

static int by_order(const void *a, const void *b)
{
    const struct cand *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->row - y->row;
}

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
    tcase_add_test(t, merge_union_keeps_first_appearances_and_counts_lists);
    tcase_add_test(t, merge_score_takes_the_first_best_query);
    tcase_add_loop_test(t, merge_top_equals_a_sort, 0, 50);
    tcase_add_test(t, rowset_holds_what_was_added);
    suite_add_tcase(s, t);
    return s;
}
