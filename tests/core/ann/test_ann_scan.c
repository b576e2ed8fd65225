/* The exact scan, with every instruction set: its list is the one that sorting all scores
 * gives, whatever the data. */
#include "core/ann/ann_rank.h"
#include "core/ann/ann_scan.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *suite_ann_scan(void);

static const struct num_ops *isa[3], *before;
static int n_isa;
static struct rng rng;

static void set_up(void)
{
    before = num;
    n_isa = num_available(isa);
    rng = rng_make(5, RNG_TEST);
}

static void tear_down(void) { num = before; }

/* ---- data ---- */

enum {
    NORMAL,
    FAR_FROM_ZERO,
    GRID,
    ALL_EQUAL,
    ZERO,
    SIZES_DIFFER,
    HUGE_VALUES,
    TINY,
    NEARLY_EQUAL,
    KINDS
};

static float value(int kind, int32_t row, int32_t d)
{
    const float x = rng_normal(&rng);
    switch (kind) {
    case FAR_FROM_ZERO: return 100 + (float)d + x;
    case GRID: return (float)((int)(rng_u64(&rng) % 5) - 2);
    case ALL_EQUAL: return (float)(d % 3) - 0.7f;
    case ZERO: return 0;
    case SIZES_DIFFER: return x * ldexpf(1, row % 40 - 20);
    case HUGE_VALUES: return x * 1e37f;
    case TINY: return x * 1e-40f;
    case NEARLY_EQUAL: return 1 + x * 1e-7f;
    default: return x;
    }
}

static int by_key(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x > y ? -1 : x < y;
}

struct world {
    int32_t V, D, nq, k;
    float *rows, *queries;
    uint64_t *allow, *key;
    int32_t *ids;
    float *scores;
};

static struct world world_new(int kind, int32_t V, int32_t D, int32_t nq, int32_t k)
{
    struct world w = { .V = V, .D = D, .nq = nq, .k = k };
    w.rows = xmalloc(sizeof(float) * (size_t)V * (size_t)D);
    w.queries = xmalloc(sizeof(float) * (size_t)nq * (size_t)D);
    w.allow = xcalloc((size_t)(V + 63) / 64, sizeof *w.allow);
    w.key = xmalloc(sizeof *w.key * (size_t)V);
    w.ids = xmalloc(sizeof(int32_t) * (size_t)nq * (size_t)k);
    w.scores = xmalloc(sizeof(float) * (size_t)nq * (size_t)k);
    for (int32_t v = 0; v < V; v++)
        for (int32_t d = 0; d < D; d++) w.rows[v * D + d] = value(kind, v, d);
    for (int32_t i = 0; i < nq; i++)
        for (int32_t d = 0; d < D; d++)
            w.queries[i * D + d] = value(kind == TINY ? NORMAL : kind, i, d);
    return w;
}

static void world_free(struct world *w)
{
    free(w->rows);
    free(w->queries);
    free(w->allow);
    free(w->key);
    free(w->ids);
    free(w->scores);
}

static bool is_allowed(const struct world *w, int32_t v)
{
    return w->allow[v / 64] >> (v % 64) & 1;
}

static void assert_exact(const struct world *w, bool filtered)
{
    for (int32_t i = 0; i < w->nq; i++) {
        int32_t n = 0;
        for (int32_t v = 0; v < w->V; v++)
            if (!filtered || is_allowed(w, v))
                w->key[n++] =
                    rank_key(num->vec->dot(w->queries + i * w->D, w->rows + v * w->D, w->D), v);
        qsort(w->key, (size_t)n, sizeof *w->key, by_key);
        for (int32_t j = 0; j < w->k; j++) {
            const float s = j < n ? rank_score(w->key[j]) : -INFINITY;
            ck_assert_int_eq(w->ids[i * w->k + j], j < n ? rank_row(w->key[j]) : -1);
            ck_assert(memcmp(&w->scores[i * w->k + j], &s, sizeof s) == 0);
        }
    }
}

static void scan_every_way(struct world *w)
{
    struct scan *s = scan_new(w->rows, w->V, w->D);
    struct scan_job job = { .queries = w->queries, .nq = w->nq, .k = w->k };
    int32_t *list = xmalloc(sizeof *list * (size_t)w->V), n = 0;
    for (int fp32 = 0; fp32 < 2; fp32++) {
        job.fp32 = fp32;
        ck_assert_int_eq(scan_all(w->ids, w->scores, s, &job), (int64_t)w->nq * w->V);
        assert_exact(w, false);
    }
    for (int32_t v = 0; v < w->V; v++)
        if (v / 16 % 3 && rng_u64(&rng) % 4 == 0) {
            w->allow[v / 64] |= (uint64_t)1 << (v % 64);
            list[n++] = v;
        }
    rng_shuffle(&rng, list, n);
    job.allow = w->allow;
    for (int fp32 = 0; fp32 < 2; fp32++) {
        job.fp32 = fp32;
        ck_assert_int_eq(scan_all(w->ids, w->scores, s, &job), (int64_t)w->nq * n);
        assert_exact(w, true);
    }
    ck_assert_int_eq(scan_list(w->ids, w->scores, s, &job, list, n), (int64_t)w->nq * n);
    assert_exact(w, true);
    free(list);
    scan_free(s);
}

static const int32_t shapes[][4] = {
    /* V, D, nq, k */
    { 1, 1, 1, 1 },       { 15, 2, 2, 5 },       { 16, 3, 3, 16 },    { 17, 4, 7, 20 },
    { 100, 5, 1, 1 },     { 300, 17, 33, 10 },   { 64, 64, 6, 64 },   { 5000, 8, 5, 100 },
    { 4000, 64, 2, 100 }, { 3000, 33, 12, 900 }, { 1500, 130, 4, 3 },
};

START_TEST(a_scan_of_any_shape_is_exact)
{
    for (int i = 0; i < n_isa; i++) {
        num = isa[i];
        struct world w =
            world_new(NORMAL, shapes[_i][0], shapes[_i][1], shapes[_i][2], shapes[_i][3]);
        scan_every_way(&w);
        world_free(&w);
    }
}
END_TEST

START_TEST(a_scan_of_any_data_is_exact)
{
    for (int i = 0; i < n_isa; i++) {
        num = isa[i];
        struct world w = world_new(_i, 4000, 24, 7, 50);
        scan_every_way(&w);
        world_free(&w);
    }
}
END_TEST

START_TEST(rows_that_round_to_the_same_bf16_are_told_apart)
{
    enum { V = 6000, D = 16 };
    struct world w = world_new(ZERO, V, D, 1, 40);
    for (int32_t v = 0; v < V; v++)
        for (int32_t d = 0; d < D; d++)
            w.rows[v * D + d] = (v % 2 ? 1.0f : -1.0f) + (float)((v * 7919) % V) * 1e-6f;
    for (int32_t d = 0; d < D; d++) w.queries[d] = 1;
    scan_every_way(&w);
    world_free(&w);
}
END_TEST

START_TEST(a_scan_needs_no_more_memory_the_second_time)
{
    struct world w = world_new(NORMAL, 3000, 16, 40, 300);
    struct scan *s = scan_new(w.rows, w.V, w.D);
    const struct scan_job job = { .queries = w.queries, .nq = w.nq, .k = w.k };
    (void)scan_all(w.ids, w.scores, s, &job);
    const void *was = ann_scratch(SCRATCH_SCAN, 1);
    (void)scan_all(w.ids, w.scores, s, &job);
    ck_assert_ptr_eq(ann_scratch(SCRATCH_SCAN, 1), was);
    scan_free(s);
    world_free(&w);
}
END_TEST

/* ---- kernels ---- */

START_TEST(least_of_is_reached_by_k_scores_and_seldom_by_many_more)
{
    enum { N = 1000 };
    float x[N];
    for (int i = 0; i < n_isa; i++)
        for (int kind = 0; kind < 3; kind++)
            for (int32_t k = 1; k <= N; k += 37) {
                for (int j = 0; j < N; j++)
                    x[j] = kind == 0   ? rng_normal(&rng)
                           : kind == 1 ? (float)(rng_u64(&rng) % 3)
                                       : 5;
                const float t = isa[i]->scan->least_of(x, N, k);
                int32_t n = 0;
                for (int j = 0; j < N; j++) n += x[j] >= t;
                ck_assert_int_ge(n, k);
                if (kind == 0) ck_assert_int_le(n, k + k / 8);
            }
}
END_TEST

START_TEST(keep_moves_what_is_not_less_to_the_front_in_order)
{
    enum { N = 100 };
    float x[N + SCAN_SPARE];
    int32_t at[N + SCAN_SPARE];
    for (int i = 0; i < n_isa; i++)
        for (int32_t n = 0; n <= N; n++) {
            int32_t want[N] = { 0 }, m = 0;
            for (int32_t j = 0; j < n; j++) {
                x[j] = j % 11 == 3 ? NAN : rng_normal(&rng);
                at[j] = 1000 + j;
                if (!(x[j] < 0.5f)) want[m++] = at[j];
            }
            ck_assert_int_eq(isa[i]->scan->keep(x, at, n, 0.5f), m);
            ck_assert_mem_eq(at, want, sizeof *at * (size_t)m);
            for (int32_t j = 0; j < m; j++) ck_assert(!(x[j] < 0.5f));
        }
}
END_TEST

/* ---- rankings ---- */

START_TEST(keys_rank_by_score_then_row)
{
    static const float s[] = { INFINITY, 3, 1e-40f, 0, -1e-40f, -2, -INFINITY };
    enum { N = sizeof s / sizeof *s };
    for (int i = 0; i < N; i++) {
        ck_assert(rank_score(rank_key(s[i], 7)) == s[i]);
        ck_assert_int_eq(rank_row(rank_key(s[i], 0x7ffffffe)), 0x7ffffffe);
        ck_assert(rank_key(s[i], 3) > rank_key(s[i], 4));
        if (i + 1 < N) ck_assert(rank_key(s[i], 900) > rank_key(s[i + 1], 0));
    }
    ck_assert(rank_key(-0.0f, 5) == rank_key(0.0f, 5));
    ck_assert(rank_key(NAN, 5) == rank_key(-INFINITY, 5));
}
END_TEST

START_TEST(keys_are_sorted_whatever_their_number)
{
    uint64_t x[300], y[300] = { 0 }, tmp[300];
    for (int32_t n = 0; n <= 300; n++) {
        for (int32_t i = 0; i < n; i++) x[i] = y[i] = rng_u64(&rng) % (n % 2 ? 1u << 30 : 20);
        rank_sort(x, tmp, n);
        qsort(y, (size_t)n, sizeof *y, by_key);
        ck_assert_mem_eq(x, y, sizeof *x * (size_t)n);
    }
}
END_TEST

Suite *suite_ann_scan(void)
{
    Suite *s = suite_create("ann_scan");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_scan_of_any_shape_is_exact, 0,
                        (int)(sizeof shapes / sizeof *shapes));
    tcase_add_loop_test(t, a_scan_of_any_data_is_exact, 0, KINDS);
    tcase_add_test(t, rows_that_round_to_the_same_bf16_are_told_apart);
    tcase_add_test(t, a_scan_needs_no_more_memory_the_second_time);
    tcase_add_test(t, least_of_is_reached_by_k_scores_and_seldom_by_many_more);
    tcase_add_test(t, keep_moves_what_is_not_less_to_the_front_in_order);
    tcase_add_test(t, keys_rank_by_score_then_row);
    tcase_add_test(t, keys_are_sorted_whatever_their_number);
    suite_add_tcase(s, t);
    return s;
}
