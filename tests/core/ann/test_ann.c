#include "core/ann/ann.h"
#include "core/base/mem.h"
#include "core/base/par.h"
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *suite_ann(void);

enum { V = 3000, D = 24, NQ = 30 };

static float *rows, *queries;
static struct ann *flat, *hnsw;
static struct err e;

/* Values on a coarse grid: sums are exact in any order, and ties occur. */
static uint32_t state;
static float grid(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)((int)(state >> 24) % 17 - 8) / 8;
}

static void forget_errors(void) { e = (struct err){ 0 }; }

static void setup(void)
{
    forget_errors();
    state = 7;
    rows = xmalloc(sizeof *rows * V * D);
    queries = xmalloc(sizeof *queries * NQ * D);
    for (int i = 0; i < V * D; i++) rows[i] = grid();
    for (int i = 0; i < NQ * D; i++) queries[i] = grid();
    ck_assert_int_eq(ann_build_flat(&flat, rows, V, D, &e), 0);
    ck_assert_int_eq(ann_build_hnsw(&hnsw, rows, V, D, 0, 0, 0, &e), 0);
}

static void teardown(void)
{
    ann_free(flat);
    ann_free(hnsw);
    free(rows);
    free(queries);
}

struct hit {
    float score;
    int32_t row;
};

static int by_score_then_row(const void *pa, const void *pb)
{
    const struct hit *a = pa, *b = pb;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->row < b->row ? -1 : 1;
}

/* The ranking by definition. */
static int32_t brute(struct hit *hit, const float *query, const uint8_t *excluded)
{
    int32_t n = 0;
    for (int32_t v = 0; v < V; v++) {
        if (excluded && excluded[v]) continue;
        float s = 0;
        for (int d = 0; d < D; d++) s += query[d] * rows[v * D + d];
        hit[n++] = (struct hit){ s, v };
    }
    qsort(hit, (size_t)n, sizeof *hit, by_score_then_row);
    return n;
}

/* Same scores; the same rows except among those that tie with the last one. */
static void assert_ranking(const int32_t *ids, const float *scores, int32_t k,
                           const float *query, const uint8_t *excluded)
{
    static struct hit hit[V];
    int32_t n = brute(hit, query, excluded);
    for (int32_t i = 0; i < k; i++) {
        if (i >= n) {
            ck_assert_int_eq(ids[i], -1);
            ck_assert(isinf(scores[i]) && scores[i] < 0);
            continue;
        }
        ck_assert_float_eq(scores[i], hit[i].score);
        int32_t last = k < n ? k - 1 : n - 1;
        if (k >= n || hit[i].score != hit[last].score) ck_assert_int_eq(ids[i], hit[i].row);
        ck_assert(ids[i] >= 0 && (!excluded || !excluded[ids[i]]));
        if (i > 0 && scores[i] == scores[i - 1]) ck_assert_int_lt(ids[i - 1], ids[i]);
    }
}

static void search_and_check(const struct ann *a, int32_t nq, int32_t k,
                             const struct ann_params *p, const uint8_t *excluded)
{
    int32_t *ids = xmalloc(sizeof *ids * (size_t)nq * (size_t)k);
    float *scores = xmalloc(sizeof *scores * (size_t)nq * (size_t)k);
    ck_assert_int_eq(ann_search(ids, scores, a, queries, nq, k, p, &e), 0);
    for (int32_t i = 0; i < nq; i++)
        assert_ranking(ids + i * k, scores + i * k, k, queries + i * D, excluded);
    free(ids);
    free(scores);
}

static const int shapes[][2] = { { 1, 1 },  { 1, 10 },   { 4, 99 }, { 4, 100 },   { 19, 7 },
                                 { 20, 7 }, { NQ, 150 }, { 2, V },  { 3, V + 50 } };

START_TEST(a_flat_search_equals_brute_force)
{
    search_and_check(flat, shapes[_i][0], shapes[_i][1], NULL, NULL);
}
END_TEST

START_TEST(an_exact_search_of_a_graph_equals_brute_force)
{
    search_and_check(hnsw, shapes[_i][0], shapes[_i][1], &(struct ann_params){ .exact = true },
                     NULL);
}
END_TEST

START_TEST(a_wide_search_of_a_graph_finds_nearly_everything)
{
    double recall;
    ck_assert_int_eq(ann_recall(&recall, hnsw, queries, NQ, 100, 1024, &e), 0);
    ck_assert_double_ge(recall, 0.99);
    double narrow;
    ck_assert_int_eq(ann_recall(&narrow, hnsw, queries, NQ, 100, 1, &e), 0);
    ck_assert_double_lt(narrow, recall);
}
END_TEST

START_TEST(the_width_of_one_search_leaves_the_next_alone)
{
    enum { K = 10 };
    int32_t before[NQ * K], wide[NQ * K], after[NQ * K];
    float s[NQ * K];
    struct ann_params narrow = { .ef_search = 10 };
    ck_assert_int_eq(ann_search(before, s, hnsw, queries, NQ, K, &narrow, &e), 0);
    ck_assert_int_eq(ann_search(wide, s, hnsw, queries, NQ, K,
                                &(struct ann_params){ .ef_search = 2000 }, &e),
                     0);
    ck_assert_int_eq(ann_search(after, s, hnsw, queries, NQ, K, &narrow, &e), 0);
    ck_assert_mem_eq(before, after, sizeof before);
    ck_assert_int_ne(memcmp(before, wide, sizeof before), 0);
    ck_assert_int_eq(ann_ef(hnsw), 128);
}
END_TEST

static const int n_excluded[] = { 1, 50, 299, 301, 1500, V - 3, V };

/* Excludes the best rows of query 0, then others. */
static void choose(uint8_t *excluded, int32_t *list, int n)
{
    static struct hit hit[V];
    brute(hit, queries, NULL);
    memset(excluded, 0, V);
    for (int i = 0; i < n; i++) excluded[list[i] = hit[i].row] = 1;
}

START_TEST(excluded_rows_never_come_back)
{
    static uint8_t excluded[V];
    static int32_t list[V + 3];
    int n = n_excluded[_i];
    choose(excluded, list, n);
    list[n] = -1;
    list[n + 1] = V;
    list[n + 2] = list[0]; /* neither out of range nor twice is an error */
    struct ann_params p = { .exclude = list, .n_exclude = n + 3 };
    search_and_check(flat, 5, 100, &p, excluded);
    search_and_check(flat, 25, 20, &p, excluded);
    p.exact = true;
    search_and_check(hnsw, 5, 100, &p, excluded);
    search_and_check(flat, 5, 20, NULL, NULL); /* and nothing is left of them afterwards */
}
END_TEST

START_TEST(a_graph_keeps_its_recall_when_the_best_rows_are_excluded)
{
    enum { K = 100 };
    static uint8_t excluded[V];
    static int32_t list[V];
    static struct hit hit[V];
    int32_t ids[K];
    float scores[K];
    choose(excluded, list, n_excluded[_i]);
    struct ann_params p = { .exclude = list, .n_exclude = n_excluded[_i], .ef_search = 512 };
    ck_assert_int_eq(ann_search(ids, scores, hnsw, queries, 1, K, &p, &e), 0);
    int32_t n = brute(hit, queries, excluded), owed = n < K ? n : K, hits = 0;
    for (int i = 0; i < K; i++) {
        if (i >= owed) {
            ck_assert_int_eq(ids[i], -1);
            continue;
        }
        ck_assert_int_ge(ids[i], 0);
        ck_assert(!excluded[ids[i]]);
        hits += scores[i] >= hit[owed - 1].score;
    }
    ck_assert_int_ge(hits * 100, owed * 95);
}
END_TEST

START_TEST(a_graph_returns_as_many_rows_as_there_are)
{
    int32_t *ids = xmalloc(sizeof *ids * (V + 5));
    float *scores = xmalloc(sizeof *scores * (V + 5));
    ck_assert_int_eq(ann_search(ids, scores, hnsw, queries, 1, V + 5, NULL, &e), 0);
    assert_ranking(ids, scores, V + 5, queries, NULL);
    free(ids);
    free(scores);
}
END_TEST

START_TEST(a_zero_query_returns_the_first_rows_that_are_allowed)
{
    enum { K = 5 };
    float q[3 * D] = { 0 };
    memcpy(q, queries, sizeof(float) * D);
    memcpy(q + 2 * D, queries + D, sizeof(float) * D);
    int32_t ids[3 * K], list[] = { 0, 3 };
    float scores[3 * K];
    const struct ann *both[] = { flat, hnsw };
    struct ann_params p = { .exclude = list, .n_exclude = 2, .ef_search = 512 };
    ck_assert_int_eq(ann_search(ids, scores, both[_i], q, 3, K, &p, &e), 0);
    const int32_t expected[] = { 1, 2, 4, 5, 6 };
    ck_assert_mem_eq(ids + K, expected, sizeof expected);
    for (int i = K; i < 2 * K; i++) ck_assert_float_eq(scores[i], 0);
    static uint8_t excluded[V];
    excluded[0] = excluded[3] = 1;
    assert_ranking(ids, scores, K, q, excluded);
    assert_ranking(ids + 2 * K, scores + 2 * K, K, q + 2 * D, excluded);
}
END_TEST

START_TEST(a_query_that_is_not_finite_is_an_error)
{
    const float poison[] = { NAN, INFINITY, -INFINITY };
    float q[D] = { 0 };
    int32_t id;
    float score;
    q[D - 1] = poison[_i];
    ck_assert_int_eq(ann_search(&id, &score, hnsw, q, 1, 1, NULL, &e), ERR_INVALID);
}
END_TEST

START_TEST(rows_that_are_not_finite_are_refused)
{
    struct ann *a;
    const float was = rows[V * D / 2];
    rows[V * D / 2] = NAN;
    ck_assert_int_eq(ann_build_flat(&a, rows, V, D, &e), ERR_INVALID);
    ck_assert_ptr_null(a);
    ck_assert_int_eq(ann_build_hnsw(&a, rows, V, D, 0, 0, 0, NULL), ERR_INVALID);
    ck_assert_ptr_null(a);
    ck_assert_int_eq(ann_build_flat(&a, rows, 0, D, NULL), ERR_EMPTY);
    rows[V * D / 2] = was;
}
END_TEST

START_TEST(one_row_is_enough)
{
    struct ann *a[2];
    float zero[D] = { 0 };
    ck_assert_int_eq(ann_build_flat(&a[0], rows, 1, D, &e), 0);
    ck_assert_int_eq(ann_build_hnsw(&a[1], rows, 1, D, 0, 0, 0, &e), 0);
    for (int i = 0; i < 2; i++) {
        int32_t ids[3];
        float scores[3];
        ck_assert_int_eq(ann_search(ids, scores, a[i], queries, 1, 3, NULL, &e), 0);
        ck_assert(ids[0] == 0 && ids[1] == -1 && ids[2] == -1);
        ck_assert_int_eq(ann_search(ids, scores, a[i], zero, 1, 3, NULL, &e), 0);
        ck_assert(ids[0] == 0 && ids[1] == -1);
        ann_free(a[i]);
    }
}
END_TEST

static void *saved(const struct ann *a, size_t *nb)
{
    char path[] = "/tmp/test_ann.XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(ann_save(a, path, &e), 0);
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    fseek(f, 0, SEEK_END);
    *nb = (size_t)ftell(f);
    rewind(f);
    void *data = xmalloc(*nb);
    ck_assert_uint_eq(fread(data, 1, *nb, f), *nb);
    fclose(f);
    unlink(path);
    return data;
}

START_TEST(what_is_saved_opens_as_it_was)
{
    const struct ann *both[] = { flat, hnsw };
    size_t nb;
    void *data = saved(both[_i], &nb);
    struct ann *a;
    ck_assert_int_eq(ann_open_mem(&a, data, nb, V, D, &e), 0);
    ck_assert_str_eq(ann_type(a), _i ? "hnsw32" : "flat");
    ck_assert_int_eq(ann_count(a), V);
    ck_assert_int_eq(ann_ef(a), _i ? 128 : 0);
    ck_assert_mem_eq(ann_rows(a), rows, sizeof *rows * V * D);
    enum { K = 50 };
    int32_t x[NQ * K], y[NQ * K];
    float sx[NQ * K], sy[NQ * K];
    ck_assert_int_eq(ann_search(x, sx, both[_i], queries, NQ, K, NULL, &e), 0);
    ck_assert_int_eq(ann_search(y, sy, a, queries, NQ, K, NULL, &e), 0);
    ck_assert_mem_eq(x, y, sizeof x);
    ck_assert_mem_eq(sx, sy, sizeof sx);
    ann_free(a);
    free(data);
}
END_TEST

START_TEST(a_file_that_does_not_exist_is_an_error)
{
    struct ann *a;
    ck_assert_int_eq(ann_open(&a, "/nonexistent/index.faiss", V, D, &e), ERR_NOT_FOUND);
    ck_assert_ptr_null(a);
    ck_assert_int_eq(ann_save(flat, "/nonexistent/index.faiss", NULL), ERR_IO);
}
END_TEST

START_TEST(the_same_rows_build_the_same_graph)
{
    struct ann *again;
    size_t nb, nb_again;
    ck_assert_int_eq(ann_build_hnsw(&again, rows, V, D, 0, 0, 0, &e), 0);
    void *x = saved(hnsw, &nb), *y = saved(again, &nb_again);
    ck_assert_uint_eq(nb, nb_again);
    ck_assert_mem_eq(x, y, nb);
    free(x);
    free(y);
    ann_free(again);
}
END_TEST

/* A small graph, so that every byte can be tried. */
enum { SV = 40, SD = 3 };

static void *small(size_t *nb, int graph)
{
    struct ann *a;
    if (graph)
        ck_assert_int_eq(ann_build_hnsw(&a, rows, SV, SD, 2, 0, 0, &e), 0);
    else
        ck_assert_int_eq(ann_build_flat(&a, rows, SV, SD, &e), 0);
    void *data = saved(a, nb);
    ann_free(a);
    return data;
}

START_TEST(a_file_of_other_rows_is_refused)
{
    size_t nb;
    void *data = small(&nb, _i);
    struct ann *a;
    ck_assert_int_eq(ann_open_mem(&a, data, nb, SV + 1, SD, NULL), ERR_BAD_BUNDLE);
    ck_assert_int_eq(ann_open_mem(&a, data, nb, SV, SD + 1, &e), ERR_BAD_BUNDLE);
    ck_assert_ptr_nonnull(strstr(e.msg, "dimension 3, expected 4"));
    ck_assert_ptr_null(a);
    free(data);
}
END_TEST

START_TEST(a_truncated_file_is_refused_wherever_it_ends)
{
    size_t nb;
    uint8_t *data = small(&nb, _i);
    for (size_t n = 0; n < nb; n++) {
        struct ann *a;
        uint8_t *part = xmalloc(n ? n : 1); /* a block of its own: reading past it would show */
        memcpy(part, data, n);
        ck_assert_int_eq(ann_open_mem(&a, part, n, SV, SD, NULL), ERR_BAD_BUNDLE);
        free(part);
    }
    uint8_t *more = xmalloc(nb + 1);
    memcpy(more, data, nb);
    more[nb] = 0;
    struct ann *a;
    ck_assert_int_eq(ann_open_mem(&a, more, nb + 1, SV, SD, NULL), ERR_BAD_BUNDLE);
    free(more);
    free(data);
}
END_TEST

/* Whatever a byte is changed to, the file is refused or the index searches in bounds. */
START_TEST(a_damaged_file_is_refused_or_harmless)
{
    static const uint8_t with[] = { 0x01, 0x80, 0xff };
    size_t nb, n_refused = 0;
    uint8_t *data = small(&nb, 1);
    for (size_t at = 0; at < nb; at++)
        for (size_t w = 0; w < sizeof with; w++) {
            struct ann *a;
            data[at] ^= with[w];
            if (ann_open_mem(&a, data, nb, SV, SD, NULL) == 0) {
                int32_t ids[SV];
                float scores[SV];
                ck_assert_int_eq(ann_search(ids, scores, a, queries, 1, SV, NULL, NULL), 0);
                for (int i = 0; i < SV; i++) ck_assert(ids[i] >= -1 && ids[i] < SV);
                ann_free(a);
            } else {
                n_refused++;
            }
            data[at] ^= with[w];
        }
    ck_assert_uint_gt(n_refused, nb / 2);
    free(data);
}
END_TEST

START_TEST(automatic_choice_is_flat_for_few_and_a_good_graph_for_many)
{
    struct ann *a;
    struct ann_report r;
    ck_assert_int_eq(ann_build_auto(&a, &r, rows, V, D, queries, NQ, NULL, &e), 0);
    ck_assert_str_eq(ann_type(a), "flat");
    ck_assert_double_eq(r.recall, 1);
    ck_assert_int_eq(r.ef_search, 0);
    ann_free(a);

    struct ann_auto o = { .flat_below = 100, .want_recall = 0.5, .recall_k = 20 };
    ck_assert_int_eq(ann_build_auto(&a, &r, rows, V, D, queries, NQ, &o, &e), 0);
    ck_assert_str_eq(ann_type(a), "hnsw32");
    ck_assert_double_ge(r.recall, 0.5);
    ck_assert_int_eq(ann_ef(a), r.ef_search);
    double recall;
    ck_assert_int_eq(ann_recall(&recall, a, queries, NQ, 20, 0, &e), 0);
    ck_assert_double_eq(recall, r.recall);
    ann_free(a);

    ck_assert_int_eq(ann_build_auto(&a, &r, rows, V, D, NULL, 0, &o, &e), 0);
    ck_assert_double_ge(r.recall, 0.5);
    ann_free(a);
}
END_TEST

START_TEST(a_graph_that_never_recalls_enough_gives_way_to_a_scan)
{
    struct ann *a;
    struct ann_report r;
    struct ann_auto o = { .flat_below = 100, .want_recall = 1.1 };
    ck_assert_int_eq(ann_build_auto(&a, &r, rows, V / 4, D, queries, 3, &o, &e), 0);
    ck_assert_str_eq(ann_type(a), "flat");
    ck_assert_int_eq(r.ef_search, 0);
    ann_free(a);
}
END_TEST

enum { JOBS = 64, JOB_K = 20 };

static int32_t job_ids[JOBS][JOB_K];

static void job(void *ctx, int block, int worker)
{
    (void)ctx;
    (void)worker;
    int32_t list[8];
    float scores[JOB_K];
    int q = block % 4;
    for (int i = 0; i < 8; i++) list[i] = q * 11 + i;
    struct ann_params p = { .exclude = list, .n_exclude = 8, .ef_search = 64 * (1 + q) };
    struct err mine = { 0 };
    if (ann_search(job_ids[block], scores, block % 8 < 4 ? flat : hnsw, queries + q * D, 1,
                   JOB_K, &p, &mine) < 0)
        job_ids[block][0] = -2;
}

START_TEST(searches_of_many_threads_do_not_disturb_each_other)
{
    struct par *pool = par_new(4);
    par_for(pool, JOBS, job, NULL);
    par_free(pool);
    for (int i = 8; i < JOBS; i++)
        ck_assert_mem_eq(job_ids[i], job_ids[i % 8], sizeof job_ids[i]);
    ck_assert_int_ne(job_ids[0][0], -2);
}
END_TEST

#define LEN(a) ((int)(sizeof(a) / sizeof *(a)))

Suite *suite_ann(void)
{
    Suite *s = suite_create("ann");
    TCase *t = tcase_create("search");
    tcase_add_unchecked_fixture(t, setup, teardown);
    tcase_add_checked_fixture(t, forget_errors, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_flat_search_equals_brute_force, 0, LEN(shapes));
    tcase_add_loop_test(t, an_exact_search_of_a_graph_equals_brute_force, 0, LEN(shapes));
    tcase_add_test(t, a_wide_search_of_a_graph_finds_nearly_everything);
    tcase_add_test(t, the_width_of_one_search_leaves_the_next_alone);
    tcase_add_loop_test(t, excluded_rows_never_come_back, 0, LEN(n_excluded));
    tcase_add_loop_test(t, a_graph_keeps_its_recall_when_the_best_rows_are_excluded, 0,
                        LEN(n_excluded));
    tcase_add_test(t, a_graph_returns_as_many_rows_as_there_are);
    tcase_add_loop_test(t, a_zero_query_returns_the_first_rows_that_are_allowed, 0, 2);
    tcase_add_loop_test(t, a_query_that_is_not_finite_is_an_error, 0, 3);
    tcase_add_test(t, searches_of_many_threads_do_not_disturb_each_other);
    suite_add_tcase(s, t);

    t = tcase_create("build and file");
    tcase_add_unchecked_fixture(t, setup, teardown);
    tcase_add_checked_fixture(t, forget_errors, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, rows_that_are_not_finite_are_refused);
    tcase_add_test(t, one_row_is_enough);
    tcase_add_loop_test(t, what_is_saved_opens_as_it_was, 0, 2);
    tcase_add_test(t, a_file_that_does_not_exist_is_an_error);
    tcase_add_test(t, the_same_rows_build_the_same_graph);
    tcase_add_loop_test(t, a_file_of_other_rows_is_refused, 0, 2);
    tcase_add_loop_test(t, a_truncated_file_is_refused_wherever_it_ends, 0, 2);
    tcase_add_test(t, a_damaged_file_is_refused_or_harmless);
    tcase_add_test(t, automatic_choice_is_flat_for_few_and_a_good_graph_for_many);
    tcase_add_test(t, a_graph_that_never_recalls_enough_gives_way_to_a_scan);
    suite_add_tcase(s, t);
    return s;
}
