#include "core/base/rng.h"
#include "core/serve/filter_cache.h"
#include "tests/core/serve/fixture_attrs.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *suite_filter_cache(void);

enum { V = 500 };
static char *dir;
static struct items *it;
static struct attrs_index *ix;
static struct filter_cache *cache;
static struct arena *a;
static struct err e;
static struct filter_fault where;

static void setup(void)
{
    dir = fixture_tmpdir();
    e = (struct err){ 0 };
    it = fixture_attrs(dir, V, 3);
    ck_assert_int_eq(attrs_open(&ix, it, &e), 0);
    cache = filter_cache_new(ix);
    a = arena_new("test", 1 << 16, 0);
}

static void teardown(void)
{
    arena_free(a);
    filter_cache_free(cache);
    attrs_close(ix);
    items_close(it);
    fixture_rmdir(dir);
    free(dir);
}

/* What a price below i is asked with; each i is a filter of its own. */
struct cheap {
    struct filter_clause clause;
    struct filter filter;
};
static void make_cheap(struct cheap *c, int i)
{
    c->clause =
        (struct filter_clause){ { "price", 5 }, FILTER_RANGE, .range = { NAN, NAN, NAN, i } };
    c->filter = (struct filter){ .must = &c->clause, .n_must = 1 };
}

static struct filter_held hold(int i)
{
    struct cheap c;
    struct filter_held h;
    make_cheap(&c, i);
    ck_assert_int_eq(filter_cache_hold(&h, cache, a, NULL, &c.filter, &where, &e), 0);
    return h;
}

static void ask(int i)
{
    struct filter_held h = hold(i);
    filter_cache_release(cache, &h);
}

static int64_t hits(void) { return filter_cache_counts(cache).hits; }

START_TEST(filter_cache_keeps_what_is_asked_twice)
{
    struct filter_held first = hold(50), second = hold(50), third = hold(50);
    ck_assert_int_eq(first.slot, -1);
    ck_assert_int_ge(second.slot, 0);
    ck_assert_ptr_ne(first.rows.bits, second.rows.bits);
    ck_assert_ptr_eq(third.rows.bits, second.rows.bits);
    ck_assert_mem_eq(first.rows.bits, second.rows.bits, attrs_words(ix) * 8);
    ck_assert(first.rows.n == third.rows.n && third.rows.n > 0 && third.rows.n < V);
    ck_assert_int_eq(hits(), 1);
    ck_assert_int_eq(filter_cache_counts(cache).misses, 2);
    size_t used = arena_used(a);
    struct filter_held fourth = hold(50);
    ck_assert_uint_eq(arena_used(a), used);
    filter_cache_release(cache, &first);
    filter_cache_release(cache, &second);
    filter_cache_release(cache, &third);
    filter_cache_release(cache, &fourth);
}
END_TEST

START_TEST(filter_cache_tells_filters_apart)
{
    struct filter_value v[] = { { { "2003", 4 }, 2003 },
                                { { "2003", 4 }, NAN },
                                { { "true", 4 }, NAN } };
    const struct filter_clause c[] = {
        { { "year", 4 }, FILTER_ANY, .value = &v[0], .n_values = 1 },
        { { "in_stock", 8 }, FILTER_ANY, .value = &v[0], .n_values = 1 },
        { { "in_stock", 8 }, FILTER_ANY, .value = &v[1], .n_values = 1 },
        { { "in_stock", 8 }, FILTER_ANY, .value = &v[2], .n_values = 1 },
        { { "in_stock", 8 }, FILTER_ANY, .value = &v[1], .n_values = 2 },
        { { "in_stock", 8 }, FILTER_ANY, .n_values = 0 },
        { { "price", 5 }, FILTER_RANGE, .range = { 50, NAN, NAN, NAN } },
        { { "price", 5 }, FILTER_RANGE, .range = { NAN, 50, NAN, NAN } },
        { { "price", 5 }, FILTER_RANGE, .range = { NAN, NAN, 50, NAN } },
        { { "price", 5 }, FILTER_EXISTS, .exists = true },
        { { "price", 5 }, FILTER_EXISTS, .exists = false },
        { { "brand", 5 }, FILTER_EXISTS, .exists = true },
    };
    enum { N = sizeof c / sizeof c[0] };
    struct filter_held h[2 * N + 1];
    for (int i = 0; i <= 2 * N; i++) {
        struct filter f = { 0 };
        if (i < N) f.must = &c[i], f.n_must = 1;
        if (i >= N && i < 2 * N) f.must_not = &c[i - N], f.n_must_not = 1;
        for (int time = 0; time < 2; time++)
            ck_assert_int_eq(filter_cache_hold(&h[i], cache, a, NULL, &f, &where, &e), 0);
    }
    ck_assert_int_eq(hits(), 0);
    for (int i = 0; i <= 2 * N; i++)
        for (int j = 0; j < i; j++) ck_assert_int_ne(h[i].slot, h[j].slot);
    for (int i = 0; i <= 2 * N; i++) filter_cache_release(cache, &h[i]);
}
END_TEST

START_TEST(filter_cache_drops_what_was_not_used_for_longest)
{
    for (int i = 0; i < FILTER_CACHE_MOST; i++) ask(i), ask(i);
    ck_assert_int_eq(filter_cache_counts(cache).kept, FILTER_CACHE_MOST);
    ask(0); /* 1 is the oldest now */
    ask(100), ask(100);
    ck_assert_int_eq(filter_cache_counts(cache).kept, FILTER_CACHE_MOST);
    int64_t before = hits();
    ask(0), ask(100), ask(2);
    ck_assert_int_eq(hits(), before + 3);
    struct filter_held gone = hold(1);
    ck_assert_int_eq(hits(), before + 3);
    filter_cache_release(cache, &gone);
}
END_TEST

START_TEST(filter_cache_never_replaces_what_is_held)
{
    struct filter_held h[FILTER_CACHE_MOST];
    for (int i = 0; i < FILTER_CACHE_MOST; i++) ask(i), h[i] = hold(i);
    ask(100);
    struct filter_held more = hold(100); /* finds no room */
    ck_assert_int_eq(more.slot, -1);
    for (int i = 0; i < FILTER_CACHE_MOST; i++) {
        struct cheap c;
        struct filter_rows want;
        make_cheap(&c, i);
        ck_assert_int_eq(filter_compile(&want, a, ix, NULL, &c.filter, &where, &e), 0);
        ck_assert_int_eq(h[i].rows.n, want.n);
        ck_assert_mem_eq(h[i].rows.bits, want.bits, attrs_words(ix) * 8);
    }
    filter_cache_release(cache, &h[7]);
    more = hold(100);
    ck_assert_int_eq(more.slot, h[7].slot);
    filter_cache_release(cache, &more);
    for (int i = 0; i < FILTER_CACHE_MOST; i++)
        if (i != 7) filter_cache_release(cache, &h[i]);
}
END_TEST

START_TEST(filter_cache_does_not_keep_a_filter_of_many_bytes)
{
    enum { N = 300 };
    static char text[N][16];
    struct filter_value v[N];
    for (int i = 0; i < N; i++)
        v[i] = (struct filter_value){ { text[i], snprintf(text[i], 16, "b%d", i) }, NAN };
    struct filter_clause c = { { "brand", 5 }, FILTER_ANY, .value = v, .n_values = N };
    struct filter f = { .must = &c, .n_must = 1 };
    for (int i = 0; i < 3; i++) {
        struct filter_held h;
        ck_assert_int_eq(filter_cache_hold(&h, cache, a, NULL, &f, &where, &e), 0);
        ck_assert_int_eq(h.slot, -1);
        ck_assert_int_gt(h.rows.n, V / 2);
    }
    ck_assert_int_eq(filter_cache_counts(cache).kept, 0);
}
END_TEST

START_TEST(filter_cache_passes_on_what_is_wrong_with_a_filter)
{
    struct filter_clause c = { { "colour", 6 }, FILTER_EXISTS, .exists = true };
    struct filter f = { .must_not = &c, .n_must_not = 1 };
    struct filter_held h;
    ck_assert_int_eq(filter_cache_hold(&h, cache, a, NULL, &f, &where, &e),
                     ERR_UNKNOWN_ATTRIBUTE);
    ck_assert(where.must_not && where.key && where.clause == 0);
    struct filter_cache_counts n = filter_cache_counts(cache);
    ck_assert(n.hits == 0 && n.misses == 0 && n.kept == 0);
}
END_TEST

/* Asks for three times as many filters as are kept, often for the same few, and checks each. */
static void *ask_many(void *arg)
{
    struct rng rng = rng_make(*(const uint64_t *)arg, RNG_TEST);
    struct arena *own = arena_new("thread", 1 << 16, 0);
    struct filter_fault fault;
    int64_t wrong = 0;
    for (int t = 0; t < 2000; t++) {
        arena_reset(own);
        struct cheap c;
        struct filter_rows want;
        struct filter_held h[2];
        for (int k = 0; k < 2; k++) {
            make_cheap(&c,
                       (int)rng_below(&rng, rng_below(&rng, 2) ? 10 : 3 * FILTER_CACHE_MOST));
            if (filter_cache_hold(&h[k], cache, own, NULL, &c.filter, &fault, NULL) < 0)
                abort();
        }
        if (filter_compile(&want, own, ix, NULL, &c.filter, &fault, NULL) < 0) abort();
        wrong += want.n != h[1].rows.n ||
                 memcmp(want.bits, h[1].rows.bits, attrs_words(ix) * 8) != 0;
        for (int k = 0; k < 2; k++) filter_cache_release(cache, &h[k]);
    }
    arena_free(own);
    return (void *)(intptr_t)wrong;
}

START_TEST(filter_cache_serves_threads_at_once)
{
    enum { THREADS = 4 };
    pthread_t thread[THREADS];
    uint64_t seed[THREADS] = { 1, 2, 3, 4 };
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, ask_many, &seed[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        ck_assert_int_eq(pthread_join(thread[i], &wrong), 0);
        ck_assert_ptr_null(wrong);
    }
    struct filter_cache_counts n = filter_cache_counts(cache);
    ck_assert_int_eq(n.hits + n.misses, 2 * 2000 * THREADS);
    ck_assert_int_gt(n.hits, 2000 * THREADS / 2);
}
END_TEST

Suite *suite_filter_cache(void)
{
    Suite *s = suite_create("filter_cache");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, filter_cache_keeps_what_is_asked_twice);
    tcase_add_test(t, filter_cache_tells_filters_apart);
    tcase_add_test(t, filter_cache_drops_what_was_not_used_for_longest);
    tcase_add_test(t, filter_cache_never_replaces_what_is_held);
    tcase_add_test(t, filter_cache_does_not_keep_a_filter_of_many_bytes);
    tcase_add_test(t, filter_cache_passes_on_what_is_wrong_with_a_filter);
    tcase_add_test(t, filter_cache_serves_threads_at_once);
    suite_add_tcase(s, t);
    return s;
}
