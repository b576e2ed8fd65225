#include "core/ann/ann_impl.h"
#include "core/base/mem.h"
#include "core/base/par.h"
#include "core/num/num.h"
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
enum { FLAT, SCAN, HNSW, IVF, TYPES };

static struct ann *type[TYPES];
static struct err e;

/* Values on a coarse grid: sums are exact in any order, and ties occur. */
static uint32_t state;
static float grid(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)((int)(state >> 24) % 17 - 8) / 8;
}

static void forget_errors(void) { e = (struct err){ 0 }; }

static int build(struct ann **a, int t, const float *x, int32_t n, int32_t d)
{
    return t == FLAT   ? ann_build_flat(a, x, n, d, &e)
           : t == SCAN ? ann_build_scan(a, x, n, d, &e)
           : t == HNSW ? ann_build_hnsw(a, x, n, d, 0, 0, 0, &e)
                       : ann_build_ivf(a, x, n, d, 0, 0, &e);
}

static void setup(void)
{
    num_init();
    forget_errors();
    state = 7;
    rows = xmalloc(sizeof *rows * V * D);
    queries = xmalloc(sizeof *queries * NQ * D);
    for (int i = 0; i < V * D; i++) rows[i] = grid();
    for (int i = 0; i < NQ * D; i++) queries[i] = grid();
    for (int t = 0; t < TYPES; t++)
        ck_assert_msg(build(&type[t], t, rows, V, D) == 0, "%s", e.msg);
}

static void teardown(void)
{
    for (int t = 0; t < TYPES; t++) ann_free(type[t]);
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
static int32_t brute(struct hit *hit, const float *query, const uint64_t *allow)
{
    int32_t n = 0;
    for (int32_t v = 0; v < V; v++) {
        if (allow && !(allow[v / 64] >> (v % 64) & 1)) continue;
        hit[n++] = (struct hit){ num->vec->dot(query, rows + v * D, D), v };
    }
    qsort(hit, (size_t)n, sizeof *hit, by_score_then_row);
    return n;
}

static void assert_ranking(const int32_t *ids, const float *scores, int32_t k,
                           const float *query, const uint64_t *allow)
{
    static struct hit hit[V];
    int32_t n = brute(hit, query, allow);
    for (int32_t i = 0; i < k; i++) {
        ck_assert_int_eq(ids[i], i < n ? hit[i].row : -1);
        ck_assert(scores[i] == (i < n ? hit[i].score : -INFINITY));
    }
}

static void search_and_check(const struct ann *a, int32_t nq, int32_t k,
                             const struct ann_params *p)
{
    int32_t *ids = xmalloc(sizeof *ids * (size_t)nq * (size_t)k);
    float *scores = xmalloc(sizeof *scores * (size_t)nq * (size_t)k);
    ck_assert_int_eq(ann_search(ids, scores, a, queries, nq, k, p, &e), 0);
    for (int32_t i = 0; i < nq; i++)
        assert_ranking(ids + i * k, scores + i * k, k, queries + i * D, p ? p->allow : NULL);
    free(ids);
    free(scores);
}

static const int shapes[][2] = { { 1, 1 },  { 1, 10 },   { 4, 99 }, { 4, 100 },   { 19, 7 },
                                 { 20, 7 }, { NQ, 150 }, { 2, V },  { 3, V + 50 } };

START_TEST(flat_and_scan_give_the_list_that_sorting_all_rows_gives)
{
    search_and_check(type[FLAT], shapes[_i][0], shapes[_i][1], NULL);
    search_and_check(type[SCAN], shapes[_i][0], shapes[_i][1], NULL);
}
END_TEST

START_TEST(an_exact_search_of_any_type_gives_that_list)
{
    for (int t = 0; t < TYPES; t++)
        search_and_check(type[t], shapes[_i][0], shapes[_i][1],
                         &(struct ann_params){ .exact = true });
}
END_TEST

START_TEST(a_wide_search_finds_nearly_everything)
{
    double narrow, wide;
    ck_assert_int_eq(ann_recall(&wide, type[_i], queries, NQ, 5, 1024, &e), 0);
    ck_assert_double_ge(wide, 0.99);
    ck_assert_int_eq(ann_recall(&narrow, type[_i], queries, NQ, 5, 1, &e), 0);
    ck_assert_double_lt(narrow, wide);
}
END_TEST

START_TEST(the_width_of_one_search_leaves_the_next_alone)
{
    enum { K = 10 };
    int32_t before[NQ * K], wide[NQ * K], after[NQ * K];
    float s[NQ * K];
    const struct ann *a = type[_i];
    const int32_t own = ann_width(a);
    struct ann_params narrow = { .width = 2 };
    ck_assert_int_eq(ann_search(before, s, a, queries, NQ, K, &narrow, &e), 0);
    ck_assert_int_eq(
        ann_search(wide, s, a, queries, NQ, K, &(struct ann_params){ .width = 2000 }, &e), 0);
    ck_assert_int_eq(ann_search(after, s, a, queries, NQ, K, &narrow, &e), 0);
    ck_assert_mem_eq(before, after, sizeof before);
    ck_assert_int_ne(memcmp(before, wide, sizeof before), 0);
    ck_assert_int_eq(ann_width(a), own);
}
END_TEST

START_TEST(an_answer_does_not_depend_on_the_queries_beside_it)
{
    enum { K = 20 };
    int32_t together[NQ * K], alone[NQ * K];
    float s[NQ * K], t[NQ * K];
    ck_assert_int_eq(ann_search(together, s, type[_i], queries, NQ, K, NULL, &e), 0);
    for (int i = 0; i < NQ; i++)
        ck_assert_int_eq(
            ann_search(alone + i * K, t + i * K, type[_i], queries + i * D, 1, K, NULL, &e), 0);
    ck_assert_mem_eq(together, alone, sizeof alone);
    ck_assert_mem_eq(s, t, sizeof t);
}
END_TEST

/* ---- filters ---- */

enum { WORDS = (V + 63) / 64 };

static uint64_t allow[WORDS];

static void clear(int32_t row) { allow[row / 64] &= ~((uint64_t)1 << (row % 64)); }

/* All but the n best of query 0.  Bits past V are set: they mean nothing. */
static struct ann_params without_best(int n)
{
    static struct hit hit[V];
    brute(hit, queries, NULL);
    memset(allow, 0xff, sizeof allow);
    for (int i = 0; i < n; i++) clear(hit[i].row);
    return (struct ann_params){ .allow = allow, .n_allow = V - n };
}

/* n rows drawn from all. */
static struct ann_params drawn(int n)
{
    memset(allow, 0, sizeof allow);
    for (int left = n; left > 0;) {
        int v = (int)(((uint64_t)(state = state * 1664525u + 1013904223u) * V) >> 32);
        left -= !(allow[v / 64] >> (v % 64) & 1);
        allow[v / 64] |= (uint64_t)1 << (v % 64);
    }
    return (struct ann_params){ .allow = allow, .n_allow = n };
}

static const int n_excluded[] = { 1, 50, 299, 301, 1500, V - 3, V };

START_TEST(an_exact_search_with_a_filter_gives_the_list_of_the_allowed_rows)
{
    for (int t = 0; t < TYPES; t++) {
        struct ann_params p = without_best(n_excluded[_i]);
        p.exact = true;
        search_and_check(type[t], 5, 100, &p);
        p = drawn(V - n_excluded[_i]);
        p.exact = t != FLAT && t != SCAN;
        search_and_check(type[t], 25, 20, &p);
        search_and_check(type[t], 25, V, &p);
    }
}
END_TEST

/* Recall against the exact answer; whatever was done, nothing comes that is not allowed and
 * nothing is short. */
static double filtered_recall(const struct ann *a, int32_t k, struct ann_params p)
{
    static struct hit hit[V];
    int32_t *ids = xmalloc(sizeof *ids * NQ * (size_t)k);
    float *scores = xmalloc(sizeof *scores * NQ * (size_t)k);
    struct ann_plan plan;
    int64_t hits = 0, all = 0;
    p.plan = &plan;
    ck_assert_int_eq(ann_search(ids, scores, a, queries, NQ, k, &p, &e), 0);
    ck_assert(plan.scored > 0 && plan.mode);
    for (int i = 0; i < NQ; i++) {
        const int32_t n = brute(hit, queries + i * D, allow), owed = n < k ? n : k;
        for (int j = 0; j < owed; j++) {
            const int32_t r = ids[i * k + j];
            ck_assert(r >= 0 && (allow[r / 64] >> (r % 64) & 1));
            ck_assert(scores[i * k + j] == num->vec->dot(queries + i * D, rows + r * D, D));
            hits += scores[i * k + j] >= hit[owed - 1].score;
        }
        for (int j = owed; j < k; j++) ck_assert_int_eq(ids[i * k + j], -1);
        all += owed;
    }
    free(scores);
    free(ids);
    return (double)hits / (double)all;
}

/* The index with the costs of a machine on which a graph or lists are free, or take for
 * ever. */
static struct ann as_if(const struct ann *a, bool free_of_charge)
{
    struct ann x = *a;
    x.cost.width = free_of_charge ? 0 : 1e9;
    x.cost.width2 = 0;
    if (free_of_charge) x.cost.ranking = 1; /* so that a scan of few rows costs something */
    return x;
}

START_TEST(a_filtered_search_keeps_its_recall_whatever_the_plan)
{
    static const int kept[] = { V - 1, V - 50, V / 2, V / 10, V / 100, V / 1000 };
    for (int t = 0; t < TYPES; t++)
        for (int plan = 0; plan < 2; plan++) {
            const struct ann a = as_if(type[t], plan);
            struct ann_params p = drawn(kept[_i]);
            p.width = t == IVF ? 160 : 1000; /* 99 % of the best without a filter */
            ck_assert_double_ge(filtered_recall(&a, 100, p), 0.99);
            p = without_best(V - kept[_i]);
            p.width = t == IVF ? 160 : 1000;
            ck_assert_double_ge(filtered_recall(&a, 100, p), 0.99);
        }
}
END_TEST

/* The 200 worst rows of query 0: nothing near it is allowed. */
START_TEST(a_filter_against_the_query_is_answered_as_well)
{
    for (int t = 0; t < TYPES; t++) {
        const struct ann a = as_if(type[t], true);
        struct ann_params p = without_best(V - 200);
        p.width = t == IVF ? 20 : 50;
        int32_t ids[100];
        float scores[100];
        ck_assert_int_eq(ann_search(ids, scores, &a, queries, 1, 100, &p, &e), 0);
        for (int i = 0; i < 100; i++)
            ck_assert(ids[i] >= 0 && (allow[ids[i] / 64] >> (ids[i] % 64) & 1));
    }
}
END_TEST

START_TEST(a_graph_or_lists_return_as_many_rows_as_there_are)
{
    search_and_check(type[_i], 1, V + 5, NULL);
    struct ann_params p = drawn(300);
    search_and_check(type[_i], 3, 301, &p);
}
END_TEST

START_TEST(the_plan_says_what_was_done)
{
    static const char *const mode[] = { "flat", "scan", "graph", "lists" };
    int32_t id;
    float score;
    struct ann_plan plan;
    struct ann_params p = { .plan = &plan };
    ck_assert_int_eq(ann_search(&id, &score, type[_i], queries, 1, 1, &p, &e), 0);
    ck_assert_str_eq(plan.mode, mode[_i]);
    ck_assert(plan.scored > 0 && plan.scored <= V);
    p = drawn(3); /* that is least work for any of them */
    p.plan = &plan;
    ck_assert_int_eq(ann_search(&id, &score, type[_i], queries, 1, 1, &p, &e), 0);
    ck_assert_str_eq(plan.mode, "allowed");
    ck_assert_int_eq(plan.scored, 3);
}
END_TEST

START_TEST(a_zero_query_returns_the_first_rows_that_are_allowed)
{
    enum { K = 5 };
    float q[3 * D] = { 0 };
    memcpy(q, queries, sizeof(float) * D);
    memcpy(q + 2 * D, queries + D, sizeof(float) * D);
    int32_t ids[3 * K];
    float scores[3 * K];
    struct ann_params p = without_best(0);
    clear(0);
    clear(3);
    p.n_allow = V - 2;
    p.exact = true;
    ck_assert_int_eq(ann_search(ids, scores, type[_i], q, 3, K, &p, &e), 0);
    const int32_t expected[] = { 1, 2, 4, 5, 6 };
    ck_assert_mem_eq(ids + K, expected, sizeof expected);
    for (int i = K; i < 2 * K; i++) ck_assert_float_eq(scores[i], 0);
    assert_ranking(ids, scores, K, q, allow);
    assert_ranking(ids + 2 * K, scores + 2 * K, K, q + 2 * D, allow);
}
END_TEST

START_TEST(a_query_that_is_not_finite_is_an_error)
{
    const float poison[] = { NAN, INFINITY, -INFINITY };
    float q[D] = { 0 };
    int32_t id;
    float score;
    q[D - 1] = poison[_i % 3];
    ck_assert_int_eq(ann_search(&id, &score, type[HNSW], q, 1, 1, NULL, &e), ERR_INVALID);
}
END_TEST

START_TEST(rows_that_are_not_finite_are_refused)
{
    struct ann *a;
    const float was = rows[V * D / 2];
    rows[V * D / 2] = NAN;
    for (int t = 0; t < TYPES; t++) {
        forget_errors();
        ck_assert_int_eq(build(&a, t, rows, V, D), ERR_INVALID);
        ck_assert_ptr_null(a);
        forget_errors();
        ck_assert_int_eq(build(&a, t, rows, 0, D), ERR_EMPTY);
    }
    rows[V * D / 2] = was;
}
END_TEST

START_TEST(one_row_is_enough)
{
    float zero[D] = { 0 };
    for (int t = 0; t < TYPES; t++) {
        struct ann *a;
        int32_t ids[3];
        float scores[3];
        ck_assert_msg(build(&a, t, rows, 1, D) == 0, "%s", e.msg);
        ck_assert_int_eq(ann_search(ids, scores, a, queries, 1, 3, NULL, &e), 0);
        ck_assert(ids[0] == 0 && ids[1] == -1 && ids[2] == -1);
        ck_assert_int_eq(ann_search(ids, scores, a, zero, 1, 3, NULL, &e), 0);
        ck_assert(ids[0] == 0 && ids[1] == -1);
        ann_free(a);
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
    size_t nb;
    void *data = saved(type[_i], &nb);
    struct ann *a;
    ck_assert_int_eq(ann_open_mem(&a, data, nb, ann_type(type[_i]), V, D, &e), 0);
    ck_assert_str_eq(ann_type(a), ann_type(type[_i]));
    ck_assert_int_eq(ann_count(a), V);
    ck_assert_int_eq(ann_width(a), ann_width(type[_i]));
    ck_assert_mem_eq(ann_rows(a), rows, sizeof *rows * V * D);
    enum { K = 50 };
    int32_t x[NQ * K], y[NQ * K];
    float sx[NQ * K], sy[NQ * K];
    ck_assert_int_eq(ann_search(x, sx, type[_i], queries, NQ, K, NULL, &e), 0);
    ck_assert_int_eq(ann_search(y, sy, a, queries, NQ, K, NULL, &e), 0);
    ck_assert_mem_eq(x, y, sizeof x);
    ck_assert_mem_eq(sx, sy, sizeof sx);
    ann_free(a);
    free(data);
}
END_TEST

START_TEST(a_file_opens_only_as_the_type_that_it_is)
{
    static const char *const said[] = { "flat", "scan", "hnsw32", "ivf187", "hnsw16", "" };
    size_t nb;
    void *data = saved(type[_i], &nb);
    struct ann *a;
    const bool flat = _i == FLAT || _i == SCAN;
    for (int t = 0; t < 6; t++) {
        const bool fits = flat ? t == FLAT || t == SCAN : t == _i;
        ck_assert_int_eq(ann_open_mem(&a, data, nb, said[t], V, D, NULL),
                         fits ? 0 : ERR_BAD_BUNDLE);
        if (fits) ck_assert_str_eq(ann_type(a), said[t]);
        ann_free(a);
    }
    ck_assert_int_eq(ann_open_mem(&a, data, nb, NULL, V, D, &e), 0);
    ck_assert_str_eq(ann_type(a), flat ? "flat" : ann_type(type[_i]));
    ann_free(a);
    free(data);
}
END_TEST

START_TEST(a_file_that_does_not_exist_is_an_error)
{
    struct ann *a;
    ck_assert_int_eq(ann_open(&a, "/nonexistent/index.faiss", NULL, V, D, &e), ERR_NOT_FOUND);
    ck_assert_ptr_null(a);
    ck_assert_int_eq(ann_save(type[FLAT], "/nonexistent/index.faiss", NULL), ERR_IO);
}
END_TEST

START_TEST(the_same_rows_build_the_same_file)
{
    struct ann *again;
    size_t nb, nb_again;
    ck_assert_int_eq(build(&again, _i, rows, V, D), 0);
    void *x = saved(type[_i], &nb), *y = saved(again, &nb_again);
    ck_assert_uint_eq(nb, nb_again);
    ck_assert_mem_eq(x, y, nb);
    free(x);
    free(y);
    ann_free(again);
}
END_TEST

/* Small ones, so that every byte can be tried.  FAISS writes lists of which most are empty
 * in another form. */
enum { SV = 40, SD = 3, IVF_SPARSE = TYPES, FORMS };

static const float *few_values(void)
{
    static float x[SV * SD];
    for (int i = 0; i < SV * SD; i++) x[i] = rows[i % (3 * SD)];
    return x;
}

static void *small(size_t *nb, int t)
{
    struct ann *a;
    if (t == HNSW)
        ck_assert_int_eq(ann_build_hnsw(&a, rows, SV, SD, 2, 0, 0, &e), 0);
    else if (t == IVF)
        ck_assert_int_eq(ann_build_ivf(&a, rows, SV, SD, 5, 2, &e), 0);
    else if (t == IVF_SPARSE)
        ck_assert_int_eq(ann_build_ivf(&a, few_values(), SV, SD, 30, 2, &e), 0);
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
    ck_assert_int_eq(ann_open_mem(&a, data, nb, NULL, SV + 1, SD, NULL), ERR_BAD_BUNDLE);
    ck_assert_int_eq(ann_open_mem(&a, data, nb, NULL, SV, SD + 1, &e), ERR_BAD_BUNDLE);
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
        ck_assert_int_eq(ann_open_mem(&a, part, n, NULL, SV, SD, NULL), ERR_BAD_BUNDLE);
        free(part);
    }
    uint8_t *more = xmalloc(nb + 1);
    memcpy(more, data, nb);
    more[nb] = 0;
    struct ann *a;
    ck_assert_int_eq(ann_open_mem(&a, more, nb + 1, NULL, SV, SD, NULL), ERR_BAD_BUNDLE);
    free(more);
    free(data);
}
END_TEST

/* Whatever a byte is changed to, the file is refused or the index searches in bounds. */
START_TEST(a_damaged_file_is_refused_or_harmless)
{
    static const uint8_t with[] = { 0x01, 0x80, 0xff };
    size_t nb, n_refused = 0;
    uint8_t *data = small(&nb, _i);
    for (size_t at = 0; at < nb; at++)
        for (size_t w = 0; w < sizeof with; w++) {
            struct ann *a;
            data[at] ^= with[w];
            if (ann_open_mem(&a, data, nb, NULL, SV, SD, NULL) == 0) {
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
    ck_assert_uint_gt(n_refused, _i == HNSW ? nb / 2 : nb / 8); /* values may be any */
    free(data);
}
END_TEST

/* Where an 8-byte number of the file lies and what it must not be. */
static void refused(uint8_t *data, size_t nb, size_t at, uint64_t value, const char *why)
{
    uint64_t was;
    struct ann *a;
    forget_errors();
    memcpy(&was, data + at, sizeof was);
    memcpy(data + at, &value, sizeof value);
    ck_assert_int_eq(ann_open_mem(&a, data, nb, NULL, SV, SD, &e), ERR_BAD_BUNDLE);
    ck_assert_msg(strstr(e.msg, why) != NULL, "%s", e.msg);
    memcpy(data + at, &was, sizeof was);
}

START_TEST(lists_that_do_not_hold_every_row_once_are_refused)
{
    size_t nb;
    uint8_t *data = small(&nb, IVF);
    enum { HEADER = 4 + 33, CENTROIDS = 4 + 33 + 8 + 5 * SD * 4, MAP = 1 + 8 };
    const size_t n_lists = HEADER, lists = HEADER + 16 + CENTROIDS + MAP, sizes = lists + 32;
    ck_assert(memcmp(data + lists, "ilar", 4) == 0 &&
              memcmp(data + lists + 20, "full", 4) == 0);
    uint64_t first;
    memcpy(&first, data + sizes, sizeof first);
    const size_t row = sizes + 5 * 8 + first * SD * 4;
    refused(data, nb, n_lists, 0, "number of lists is out of range");
    refused(data, nb, n_lists, SV + 1, "number of lists is out of range");
    refused(data, nb, n_lists + 8, 6, "search parameters");
    refused(data, nb, lists - 8, 1, "map of its rows");
    refused(data, nb, lists + 4, 6, "number of lists differs");
    refused(data, nb, lists + 12, 8, "not as they were");
    refused(data, nb, sizes, first + 1, "more rows than there are");
    refused(data, nb, sizes, first - 1, "fewer rows than there are");
    refused(data, nb, sizes, UINT64_MAX, "more rows than there are");
    refused(data, nb, row, SV, "row is out of range");
    refused(data, nb, row, UINT64_MAX, "row is out of range");
    int64_t second;
    memcpy(&second, data + row + 8, sizeof second);
    refused(data, nb, row, (uint64_t)second, "in two lists");
    refused(data, nb, row - SD * 4, 0x7fc000007fc00000, "not finite");
    free(data);
}
END_TEST

START_TEST(automatic_choice_measures_every_type_that_may_win)
{
    struct ann *a;
    struct ann_report r;
    ck_assert_int_eq(ann_build_auto(&a, &r, rows, V, D, queries, NQ, NULL, &e), 0);
    ck_assert_int_eq(r.n, 2); /* for few rows nothing but a scan is tried */
    ck_assert_str_eq(r.of[0].type, "flat");
    ck_assert_str_eq(r.of[1].type, "scan");
    ck_assert_double_eq(r.recall, 1);
    ck_assert_int_eq(r.width, 0);
    ck_assert_str_eq(ann_type(a), r.of[r.chosen].type);
    ann_free(a);

    struct ann_auto o = { .exact_below = 100, .want_recall = 0.5, .recall_k = 20 };
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(
            ann_build_auto(&a, &r, rows, V, D, i ? NULL : queries, i ? 0 : NQ, &o, &e), 0);
        ck_assert_int_eq(r.n, ANN_CANDIDATES);
        ck_assert_str_eq(ann_type(a), r.of[r.chosen].type);
        ck_assert_int_eq(ann_width(a), r.width);
        for (int c = 0; c < r.n; c++) {
            ck_assert_double_ge(r.of[c].recall, 0.5);
            ck_assert(r.of[c].us_one > 0 && r.of[c].us_batch > 0);
        }
        ann_free(a);
    }
}
END_TEST

START_TEST(what_recalls_too_little_is_not_chosen)
{
    struct ann *a;
    struct ann_report r;
    struct ann_auto o = { .exact_below = 100, .want_recall = 1.1 };
    ck_assert_int_eq(ann_build_auto(&a, &r, rows, V / 4, D, queries, 3, &o, &e), 0);
    ck_assert_int_eq(r.width, 0);
    ck_assert_int_eq(ann_width(a), 0);
    ann_free(a);
}
END_TEST

START_TEST(tuning_widens_until_the_recall_is_reached)
{
    struct ann *a;
    double recall, again;
    ck_assert_int_eq(build(&a, _i, rows, V, D), 0);
    ck_assert_int_eq(ann_tune(&recall, a, queries, NQ, 5, 0.99, 0, &e), 0);
    ck_assert_double_ge(recall, 0.99);
    ck_assert_int_eq(ann_recall(&again, a, queries, NQ, 5, 0, &e), 0);
    ck_assert_double_eq(recall, again);
    ck_assert_int_eq(ann_recall(&again, a, queries, NQ, 5, ann_width(a) / 2, &e), 0);
    ck_assert_double_lt(again, 0.99);
    ck_assert_int_eq(ann_tune(&recall, a, queries, NQ, 5, 0.99, 3, &e), 0);
    ck_assert_int_eq(ann_width(a), 3);
    ck_assert_double_lt(recall, 0.99);
    ann_free(a);
}
END_TEST

enum { JOBS = 64, JOB_K = 20 };

static int32_t job_ids[JOBS][JOB_K];

static void job(void *ctx, int block, int worker)
{
    (void)ctx;
    (void)worker;
    float scores[JOB_K];
    uint64_t bits[WORDS];
    const int q = block % 4, t = block / 4 % TYPES;
    memset(bits, 0xff, sizeof bits);
    for (int i = 0; i < 8; i++) bits[q] &= ~((uint64_t)1 << (7 * i));
    struct ann_params p = { .width = 64 * (1 + q) };
    if (block % 32 >= 16) {
        p.allow = bits;
        p.n_allow = V - 8;
        p.exact = true;
    }
    struct err mine = { 0 };
    if (ann_search(job_ids[block], scores, type[t], queries + q * D, 1, JOB_K, &p, &mine) < 0)
        job_ids[block][0] = -2;
}

START_TEST(searches_of_many_threads_do_not_disturb_each_other)
{
    struct par *pool = par_new(4);
    par_for(pool, JOBS, job, NULL);
    par_free(pool);
    for (int i = 32; i < JOBS; i++)
        ck_assert_mem_eq(job_ids[i], job_ids[i % 32], sizeof job_ids[i]);
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
    tcase_add_loop_test(t, flat_and_scan_give_the_list_that_sorting_all_rows_gives, 0,
                        LEN(shapes));
    tcase_add_loop_test(t, an_exact_search_of_any_type_gives_that_list, 0, LEN(shapes));
    tcase_add_loop_test(t, a_wide_search_finds_nearly_everything, HNSW, TYPES);
    tcase_add_loop_test(t, the_width_of_one_search_leaves_the_next_alone, HNSW, TYPES);
    tcase_add_loop_test(t, an_answer_does_not_depend_on_the_queries_beside_it, 0, TYPES);
    tcase_add_loop_test(t, an_exact_search_with_a_filter_gives_the_list_of_the_allowed_rows, 0,
                        LEN(n_excluded));
    tcase_add_loop_test(t, a_filtered_search_keeps_its_recall_whatever_the_plan, 0, 6);
    tcase_add_test(t, a_filter_against_the_query_is_answered_as_well);
    tcase_add_loop_test(t, a_graph_or_lists_return_as_many_rows_as_there_are, HNSW, TYPES);
    tcase_add_loop_test(t, the_plan_says_what_was_done, 0, TYPES);
    tcase_add_loop_test(t, a_zero_query_returns_the_first_rows_that_are_allowed, 0, TYPES);
    tcase_add_loop_test(t, a_query_that_is_not_finite_is_an_error, 0, 3 * TYPES);
    tcase_add_test(t, searches_of_many_threads_do_not_disturb_each_other);
    suite_add_tcase(s, t);

    t = tcase_create("build and file");
    tcase_add_unchecked_fixture(t, setup, teardown);
    tcase_add_checked_fixture(t, forget_errors, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, rows_that_are_not_finite_are_refused);
    tcase_add_test(t, one_row_is_enough);
    tcase_add_loop_test(t, what_is_saved_opens_as_it_was, 0, TYPES);
    tcase_add_loop_test(t, a_file_opens_only_as_the_type_that_it_is, 0, TYPES);
    tcase_add_test(t, a_file_that_does_not_exist_is_an_error);
    tcase_add_loop_test(t, the_same_rows_build_the_same_file, 0, TYPES);
    tcase_add_loop_test(t, a_file_of_other_rows_is_refused, SCAN, FORMS);
    tcase_add_loop_test(t, a_truncated_file_is_refused_wherever_it_ends, SCAN, FORMS);
    tcase_add_loop_test(t, a_damaged_file_is_refused_or_harmless, SCAN, FORMS);
    tcase_add_test(t, lists_that_do_not_hold_every_row_once_are_refused);
    tcase_add_test(t, automatic_choice_measures_every_type_that_may_win);
    tcase_add_test(t, what_recalls_too_little_is_not_chosen);
    tcase_add_loop_test(t, tuning_widens_until_the_recall_is_reached, HNSW, TYPES);
    suite_add_tcase(s, t);
    return s;
}
