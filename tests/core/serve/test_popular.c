#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/popular.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

Suite *suite_popular(void);

/* Popularity of row r is (r * 7) % 50; 40 rows. */
enum { V = 40 };
static char *dir;
static struct gen *gen;
static struct corpus corpus;
static struct arena *mem;
static struct rowset drop;
static int32_t row[V];
static float score[V];

static void setup(void)
{
    struct fixture fx = fixture_defaults();
    struct err e = { 0 };
    num_init();
    dir = fixture_tmpdir();
    fixture_bundle(&fx, dir);
    char *path = xasprintf("%s/%s", dir, fx.name);
    ck_assert_msg(gen_open(&gen, path, &e) == 0, "%s", e.msg);
    free(path);
    corpus = (struct corpus){ .gen = gen };
    mem = arena_new("popular", 1 << 14, 0);
    drop = rowset_new(mem, V);
}

static void teardown(void)
{
    arena_free(mem);
    gen_unref(gen);
    fixture_rmdir(dir);
    free(dir);
}

static int popularity(int32_t r) { return r * 7 % 50; }

static int32_t ask(int32_t limit, const uint64_t *allow, const uint64_t *seed)
{
    return popular_items(
        row, score, &corpus,
        &(struct popular_cfg){ .limit = limit, .drop = &drop, .allow = allow, .seed = seed },
        mem);
}

START_TEST(popular_items_come_by_popularity_then_row)
{
    ck_assert_int_eq(ask(V, NULL, NULL), V);
    for (int32_t i = 0; i < V; i++) {
        ck_assert(score[i] == (float)(popularity(row[i]) / 49.0));
        if (i == 0) continue;
        ck_assert(popularity(row[i - 1]) > popularity(row[i]) ||
                  (popularity(row[i - 1]) == popularity(row[i]) && row[i - 1] < row[i]));
    }
    ck_assert_int_eq(row[0], 7);
    ck_assert(score[0] == 1);
}
END_TEST

START_TEST(popular_draws_are_the_seeds)
{
    int32_t first[10], differs = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        int32_t copy[10];
        ck_assert_int_eq(ask(10, NULL, &seed), 10);
        for (int i = 0; i < 10; i++) copy[i] = row[i];
        if (seed == 0)
            for (int i = 0; i < 10; i++) first[i] = row[i];
        for (int i = 0; i < 10; i++) differs += row[i] != first[i];
        ck_assert_int_eq(ask(10, NULL, &seed), 10);
        for (int i = 0; i < 10; i++) {
            ck_assert_int_eq(row[i], copy[i]);
            for (int j = 0; j < i; j++) ck_assert_int_ne(row[i], row[j]);
        }
    }
    ck_assert_int_gt(differs, 49 * 10 / 2);
}
END_TEST

/* The first one drawn: in proportion to popularity + 1 among the pool's. */
START_TEST(popular_draws_follow_popularity)
{
    enum { DRAWS = 20000, LIMIT = 2, POOL = POPULAR_POOL * LIMIT };
    int seen[V] = { 0 };
    double sum = 0;
    int32_t pool[POOL];
    ck_assert_int_eq(ask(POOL, NULL, NULL), POOL);
    for (int i = 0; i < POOL; i++) {
        pool[i] = row[i];
        sum += popularity(row[i]) + 1;
    }
    for (uint64_t seed = 0; seed < DRAWS; seed++) {
        struct arena_mark m = arena_mark(mem);
        ck_assert_int_eq(ask(LIMIT, NULL, &seed), LIMIT);
        seen[row[0]]++;
        arena_release(mem, m);
    }
    for (int i = 0; i < POOL; i++) {
        const double p = (popularity(pool[i]) + 1) / sum, sd = sqrt(DRAWS * p * (1 - p));
        ck_assert_msg(fabs(seen[pool[i]] - DRAWS * p) < 5 * sd, "row %d: %d of %g", pool[i],
                      seen[pool[i]], DRAWS * p);
        seen[pool[i]] = 0;
    }
    for (int i = 0; i < V; i++) ck_assert_int_eq(seen[i], 0); /* nothing else */
}
END_TEST

START_TEST(popular_items_keep_to_filter_and_drops)
{
    const uint64_t even[] = { 0x5555555555 }, none[] = { 0 }, seed = 3;
    for (int seeded = 0; seeded < 2; seeded++) {
        drop = rowset_new(mem, V);
        ck_assert_int_eq(ask(V, even, seeded ? &seed : NULL), V / 2);
        for (int32_t i = 0; i < V / 2; i++) ck_assert_int_eq(row[i] % 2, 0);
        for (int32_t r = 0; r < V; r += 4) rowset_add(&drop, r);
        ck_assert_int_eq(ask(V, even, seeded ? &seed : NULL), V / 4);
        for (int32_t i = 0; i < V / 4; i++) ck_assert_int_eq(row[i] % 4, 2);
        ck_assert_int_eq(ask(3, even, seeded ? &seed : NULL), 3);
        ck_assert_int_eq(ask(V, none, seeded ? &seed : NULL), 0);
    }
}
END_TEST

Suite *suite_popular(void)
{
    Suite *s = suite_create("popular");
    TCase *t = tcase_create("popular");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, popular_items_come_by_popularity_then_row);
    tcase_add_test(t, popular_draws_are_the_seeds);
    tcase_add_test(t, popular_draws_follow_popularity);
    tcase_add_test(t, popular_items_keep_to_filter_and_drops);
    suite_add_tcase(s, t);
    return s;
}
