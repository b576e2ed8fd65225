#include "core/ann/ann_faiss.h"
#include "core/ann/ann_impl.h"
#include "core/ann/ann_rank.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdlib.h>

enum {
    CHUNK = 32, /* queries that FAISS is given at once */
    SLACK = 16, /* rows fetched beside k, since FAISS rounds otherwise */
};

/* ---- one way each ---- */

struct call { /* queries of one call, none of them zero */
    int32_t *ids;
    float *scores;
    const struct ann *a;
    const float *queries;
    int32_t nq, k;
    const uint64_t *allow;
    int32_t n_allow; /* V where allow is NULL */
    int64_t scored;
    int32_t rescued;
};

static const float *query_of(const struct call *c, int32_t i)
{
    return c->queries + (size_t)i * (size_t)c->a->D;
}

/* Queries [first, first + n) by scanning the rows in place. */
static void by_scan(struct call *c, int32_t first, int32_t n)
{
    const size_t to = (size_t)first * (size_t)c->k;
    const struct scan_job job = {
        .queries = query_of(c, first), .nq = n, .k = c->k, .allow = c->allow
    };
    c->scored += scan_all(c->ids + to, c->scores + to, c->a->scan, &job);
}

static int32_t list_allowed(int32_t *row, const uint64_t *allow, int32_t V)
{
    int32_t n = 0;
    for (int32_t w = 0; w < (V + 63) / 64; w++) {
        uint64_t bits = allow[w];
        if (V - w * 64 < 64) bits &= ((uint64_t)1 << (V - w * 64)) - 1;
        for (; bits; bits &= bits - 1) row[n++] = w * 64 + __builtin_ctzll(bits);
    }
    return n;
}

static void by_list(struct call *c)
{
    const int32_t V = c->a->V;
    REQUIRE(c->allow, "every row is to be listed");
    int32_t *row = ann_scratch(SCRATCH_ROWS, (size_t)(c->n_allow + 1) * sizeof *row);
    const struct scan_job job = { .queries = c->queries, .nq = c->nq, .k = c->k };
    const int32_t n = list_allowed(row, c->allow, V);
    c->scored += scan_list(c->ids, c->scores, c->a->scan, &job, row, n);
}

static int failed(struct err *e, const char *msg)
{
    return err_set(e, ERR_ANN, "searching the index: %s", msg);
}

/* What FAISS found for a chunk, in the thread's scratch. */
struct found {
    int64_t *ids;
    float *scores;
    int64_t *lists; /* IVF: [nq,n_lists] */
    int32_t *order; /* the same, and their scores, as they were ranked */
    float *order_score;
};

static struct found room_for(int32_t nq, int32_t k, int32_t n_lists)
{
    const size_t n = (size_t)nq * (size_t)k, l = (size_t)nq * (size_t)n_lists;
    char *p = ann_scratch(SCRATCH_SEARCH, n * 12 + l * 16);
    struct found f = { .ids = (int64_t *)(void *)p, .lists = (int64_t *)(void *)(p + n * 8) };
    f.scores = (float *)(void *)(p + n * 8 + l * 8);
    f.order = (int32_t *)(void *)(p + n * 12 + l * 8);
    f.order_score = (float *)(void *)(p + n * 12 + l * 12);
    return f;
}

/* Query i's answer out of n rows; how many there are. */
static int32_t take(const struct call *c, int32_t i, const int64_t *row, int32_t n)
{
    const size_t to = (size_t)i * (size_t)c->k;
    return scan_rescore(c->ids + to, c->scores + to, c->a->scan, query_of(c, i), c->k, row, n,
                        c->allow);
}

/* FAISS's list is cut by its own rounding: what it left out may belong before our k-th where
 * that comes within the rounding's bound of the last row fetched. */
static bool cut_is_sure(const struct call *c, int32_t i, int32_t found, const float *scores,
                        int32_t n)
{
    if (n == c->a->V) return found == c->k || found == n;
    if (found < c->k) return false;
    const float last = c->scores[(size_t)i * (size_t)c->k + (size_t)c->k - 1];
    return (double)last >
           (double)scores[n - 1] + scan_bound(c->a->scan, query_of(c, i)) * (1 + 0x1p-20);
}

static int by_flat(struct call *c, struct err *e)
{
    const int32_t V = c->a->V, n = c->k < V - SLACK ? c->k + SLACK : V;
    char msg[256];
    for (int32_t i = 0; i < c->nq; i += CHUNK) {
        struct annf_query q = { .queries = query_of(c, i), .k = n };
        q.nq = c->nq - i < CHUNK ? c->nq - i : CHUNK;
        struct found f = room_for(q.nq, n, 0);
        if (annf_search(f.ids, f.scores, c->a->index, &q, msg, sizeof msg) < 0)
            return failed(e, msg);
        c->scored += (int64_t)q.nq * V;
        for (int32_t j = 0; j < q.nq; j++) {
            const size_t at = (size_t)j * (size_t)n;
            const int32_t got = take(c, i + j, f.ids + at, n);
            if (!cut_is_sure(c, i + j, got, f.scores + at, n)) by_scan(c, i + j, 1);
        }
    }
    return 0;
}

static void rescue_if_short(struct call *c, int32_t i, int32_t found)
{
    if (found >= (c->k < c->n_allow ? c->k : c->n_allow)) return;
    c->rescued++;
    by_scan(c, i, 1);
}

/* FAISS 1.7.3 sizes its queue by the index's own ef or by k, never by the parameters': so ef
 * rows are asked for. */
static int by_graph(struct call *c, int32_t ef, struct err *e)
{
    const int32_t n = c->k > ef ? c->k : ef, fetch = n < c->a->V ? n : c->a->V;
    char msg[256];
    for (int32_t i = 0; i < c->nq; i += CHUNK) {
        struct annf_query q = { .queries = query_of(c, i), .k = fetch, .ef = n };
        q.nq = c->nq - i < CHUNK ? c->nq - i : CHUNK;
        struct found f = room_for(q.nq, fetch, 0);
        if (annf_search(f.ids, f.scores, c->a->index, &q, msg, sizeof msg) < 0)
            return failed(e, msg);
        c->scored += (int64_t)q.nq * fetch;
        for (int32_t j = 0; j < q.nq; j++) {
            const int32_t most = c->allow || c->k + SLACK > fetch ? fetch : c->k + SLACK;
            rescue_if_short(c, i + j, take(c, i + j, f.ids + (size_t)j * (size_t)fetch, most));
        }
    }
    return 0;
}

static int32_t count_allowed(const int64_t *id, int32_t n, const uint64_t *allow)
{
    if (!allow) return n;
    int32_t c = 0;
    for (int32_t i = 0; i < n; i++) c += (int32_t)(allow[id[i] >> 6] >> (id[i] & 63) & 1);
    return c;
}

/* The nearest lists until `want` allowed rows are in them; -1 in what is left of the n.
 * Never fewer than `least` lists. false: the n do not hold so many. */
static bool pick_lists(struct call *c, int64_t *list, const int32_t *order, int32_t n,
                       int32_t least, double want)
{
    int64_t seen = 0;
    int32_t i = 0;
    for (; i < n && (i < least || (double)seen < want); i++) {
        int32_t n_rows;
        const int64_t *id = annf_list(c->a->index, order[i], &n_rows);
        seen += count_allowed(id, n_rows, c->allow);
        list[i] = order[i];
    }
    const bool enough = (double)seen >= want || i == c->a->n;
    for (; i < n; i++) list[i] = -1;
    c->scored += seen;
    return enough;
}

/* Allowed rows that a search of k must look at, for its recall to be that of a search
 * without filter: a filter that keeps few rows near the query makes it look further, down to
 * a scan. */
static double rows_to_see(const struct ann *a, int32_t width, int32_t k)
{
    const double deep = k > ANN_DEPTH ? (double)k / ANN_DEPTH : 1;
    return deep * width * a->V / a->n;
}

static int by_lists(struct call *c, int32_t width, int32_t n_lists, struct err *e)
{
    const struct ann *a = c->a;
    const int32_t k = c->k < a->V ? c->k : a->V;
    char msg[256];
    for (int32_t i = 0; i < c->nq; i += CHUNK) {
        struct annf_query q = {
            .queries = query_of(c, i), .k = k, .n_lists = n_lists, .allow = c->allow
        };
        bool enough[CHUNK] = { false };
        q.nq = c->nq - i < CHUNK ? c->nq - i : CHUNK;
        struct found f = room_for(q.nq, k, n_lists);
        (void)scan_all(f.order, f.order_score, a->centroids,
                       &(struct scan_job){ .queries = q.queries, .nq = q.nq, .k = n_lists });
        for (int32_t j = 0; j < q.nq; j++) {
            const size_t at = (size_t)j * (size_t)n_lists;
            enough[j] =
                pick_lists(c, f.lists + at, f.order + at, n_lists, c->allow ? 1 : n_lists,
                           c->allow ? rows_to_see(a, width, c->k) : 0);
        }
        q.lists = f.lists;
        if (annf_search_lists(f.ids, f.scores, a->index, &q, msg, sizeof msg) < 0)
            return failed(e, msg);
        for (int32_t j = 0; j < q.nq; j++) {
            const int32_t got = take(c, i + j, f.ids + (size_t)j * (size_t)k, k);
            rescue_if_short(c, i + j, enough[j] ? got : -1);
        }
    }
    return 0;
}

/* ---- plans ---- */

struct plan {
    enum { BY_FLAT, BY_SCAN, BY_LIST, BY_GRAPH, BY_LISTS } way; /* the exact ones first */
    int32_t width;                                              /* of the graph */
    int32_t n_lists;                                            /* at most */
    double us;
};

static int32_t passes_of(int32_t nq) { return (nq + CHUNK - 1) / CHUNK; }

static double cost_of_rows(struct ann_rate r, int64_t rows, int32_t nq)
{
    return (double)rows * (r.fixed * passes_of(nq) + r.query * nq);
}

static double cost_of_width(const struct ann *a, double w, int32_t nq)
{
    return nq * (a->cost.width * w + a->cost.width2 * w * w);
}

static struct plan exact_plan(const struct ann *a, int32_t nq, const struct ann_params *p)
{
    struct plan scan = { .way = BY_SCAN }, list = { .way = BY_LIST };
    if (!p->allow) return scan;
    const double rank = nq * a->cost.ranking;
    const int32_t panels = scan_panels(p->allow, a->V),
                  all = (a->V + SCAN_PANEL - 1) / SCAN_PANEL;
    const double gaps = panels * (1 - (double)panels / all); /* were they drawn */
    scan.us = rank + cost_of_rows(a->cost.row, (int64_t)panels * SCAN_PANEL, nq) +
              passes_of(nq) * gaps * a->cost.gap;
    list.us = rank + cost_of_rows(a->cost.listed, p->n_allow, nq);
    return list.us < scan.us ? list : scan;
}

static struct plan own_plan(const struct ann *a, int32_t k, int32_t width)
{
    if (a->kind == ANN_FLAT) return (struct plan){ .way = BY_FLAT };
    if (a->kind == ANN_HNSW) return (struct plan){ .way = BY_GRAPH, .width = width };
    const double deep = ceil(rows_to_see(a, width, k) * a->n / a->V);
    return (struct plan){ .way = BY_LISTS, .n_lists = deep < a->n ? (int32_t)deep : a->n };
}

/* Rows that must be fetched for k of them to be allowed: three deviations more than the
 * mean, were they drawn. */
static struct plan filtered_plan(const struct ann *a, int32_t nq, int32_t k, int32_t width,
                                 int32_t n_allow)
{
    const double kept = (double)n_allow / a->V;
    if (a->kind == ANN_HNSW) {
        const double w = ceil(1.25 * fmax(k + 3 * sqrt(k) + 4, width) / kept);
        struct plan p = { .way = BY_GRAPH, .us = cost_of_width(a, w, nq) };
        p.width = w < a->V ? (int32_t)w : a->V;
        return p;
    }
    const double w = rows_to_see(a, width, k) * a->n / a->V / kept;
    struct plan p = { .way = BY_LISTS, .us = cost_of_width(a, w, nq) };
    p.n_lists = 2 * w + 8 < a->n ? (int32_t)(2 * w + 8) : a->n;
    return p;
}

static struct plan choose(const struct ann *a, int32_t nq, int32_t k, int32_t width,
                          const struct ann_params *p)
{
    if (!p->exact && !p->allow && a->kind != ANN_SCAN) return own_plan(a, k, width);
    const struct plan exact = exact_plan(a, nq, p);
    if (p->exact || a->kind == ANN_SCAN || a->kind == ANN_FLAT) return exact;
    if (p->n_allow < k) return exact;
    const struct plan other = filtered_plan(a, nq, k, width, p->n_allow);
    return other.us < exact.us ? other : exact;
}

static int carry_out(struct call *c, const struct plan *p, int32_t width, struct err *e)
{
    switch (p->way) {
    case BY_FLAT: return by_flat(c, e);
    case BY_GRAPH: return by_graph(c, p->width, e);
    case BY_LISTS: return by_lists(c, width, p->n_lists, e);
    case BY_LIST: by_list(c); return 0;
    default: by_scan(c, 0, c->nq); return 0;
    }
}

static const char *mode_of(const struct plan *p, bool filtered)
{
    static const char *const mode[] = { [BY_FLAT] = "flat",
                                        [BY_SCAN] = "scan",
                                        [BY_LIST] = "allowed",
                                        [BY_GRAPH] = "graph",
                                        [BY_LISTS] = "lists" };
    return p->way == BY_GRAPH && filtered ? "over_fetch" : mode[p->way];
}

/* ---- the call ---- */

static bool is_zero(const float *query, int32_t D)
{
    for (int32_t d = 0; d < D; d++)
        if (query[d] != 0) return false;
    return true;
}

/* Every score of an all-zero query is 0. */
static void first_rows(int32_t *ids, float *scores, int32_t k, int32_t V, const uint64_t *allow)
{
    int32_t n = 0;
    for (int32_t row = 0; row < V && n < k; row++) {
        if (allow && !(allow[row / 64] >> (row % 64) & 1)) continue;
        ids[n] = row;
        scores[n++] = 0;
    }
    rank_out(ids + n, scores + n, NULL, 0, k - n);
}

static int check_finite(const struct ann *a, const float *queries, int32_t nq, struct err *e)
{
    for (size_t i = 0; i < (size_t)nq * (size_t)a->D; i++)
        if (!isfinite(queries[i]))
            return err_set(e, ERR_INVALID, "query %zu is not finite", i / (size_t)a->D);
    return 0;
}

static int run(struct call *all, const struct plan *p, int32_t width, struct err *e)
{
    const int32_t D = all->a->D, k = all->k;
    for (int32_t i = 0, n; i < all->nq; i += n) {
        struct call c = *all;
        const size_t to = (size_t)i * (size_t)k;
        c.ids += to;
        c.scores += to;
        c.queries = query_of(all, i);
        if (is_zero(c.queries, D)) {
            n = 1;
            first_rows(c.ids, c.scores, k, c.a->V, c.allow);
            continue;
        }
        for (n = 1; i + n < all->nq && !is_zero(query_of(all, i + n), D);) n++;
        c.nq = n;
        TRY(carry_out(&c, p, width, e));
        all->scored = c.scored;
        all->rescued = c.rescued;
    }
    return 0;
}

int ann_search(int32_t *ids, float *scores, const struct ann *a, const float *queries,
               int32_t nq, int32_t k, const struct ann_params *params, struct err *e)
{
    const struct ann_params p = params ? *params : (struct ann_params){ 0 };
    REQUIRE(nq >= 0 && k > 0, "nq=%d k=%d", nq, k);
    REQUIRE(!p.allow || (p.n_allow >= 0 && p.n_allow <= a->V), "%d of %d rows allowed",
            p.n_allow, a->V);
    TRY(check_finite(a, queries, nq, e));
    const int32_t asked = p.width > 0 ? p.width : a->width,
                  most = a->kind == ANN_IVF ? a->n : ANN_MAX_EF,
                  width = asked < most ? asked : most;
    const struct plan plan = choose(a, nq, k, width, &p);
    struct call c = { .ids = ids,
                      .scores = scores,
                      .a = a,
                      .queries = queries,
                      .nq = nq,
                      .k = k,
                      .allow = p.allow,
                      .n_allow = p.allow ? p.n_allow : a->V };
    TRY(run(&c, &plan, width, e));
    if (p.plan)
        *p.plan = (struct ann_plan){ .mode = mode_of(&plan, p.allow != NULL),
                                     .exact = plan.way <= BY_LIST,
                                     .scored = c.scored,
                                     .rescued = c.rescued };
    return 0;
}

int ann_recall(double *recall, const struct ann *a, const float *queries, int32_t nq, int32_t k,
               int32_t width, struct err *e)
{
    REQUIRE(nq > 0 && k > 0, "nq=%d k=%d", nq, k);
    if (k > a->V) k = a->V;
    const size_t n = (size_t)k * (size_t)nq;
    int32_t *ids = xmalloc(n * sizeof *ids);
    float *found = xmalloc(n * sizeof *found), *truth = xmalloc(n * sizeof *truth);
    int64_t hits = 0;
    int rc =
        ann_search(ids, truth, a, queries, nq, k, &(struct ann_params){ .exact = true }, e);
    if (rc == 0)
        rc = ann_search(ids, found, a, queries, nq, k, &(struct ann_params){ .width = width },
                        e);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const size_t last = (i / (size_t)k + 1) * (size_t)k - 1;
        hits += found[i] >= truth[last];
    }
    *recall = rc < 0 ? 0 : (double)hits / (double)n;
    free(truth);
    free(found);
    free(ids);
    return rc;
}
