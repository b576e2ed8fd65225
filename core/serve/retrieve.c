/* retrieve.c — the index is asked for all waiting requests at once.
 * Requests that search the same rows by the same means share a call.  Of each query more is asked for than it needs, by
 * as much as the request drops (seen items, exclusions); where that is a lot, the dropped rows leave the bitmap of allowed
 * rows instead, and the request searches alone. */
#include "core/base/limits.h"
#include "core/serve/run.h"
#include <string.h>

enum { DEFAULT_CANDIDATES = 100 };

/* The answer is the best `limit` by the largest product, of which nothing else is told. */
static bool best_only(const struct rec_request *r)
{
    return r->merge == MERGE_MAX && r->min_per_interest == 0 && !r->explain &&
           (r->diversity == DIVERSITY_NONE || r->strength == 0);
}

/* Candidates of an interest.  Of the best ones none is beyond its best list's first `limit`. */
static int32_t depth_of(const struct rec_request *r)
{
    const int32_t depth = r->candidates  ? r->candidates
                          : best_only(r) ? r->limit
                                         : DEFAULT_CANDIDATES;
    return depth < r->limit ? r->limit : depth;
}

struct ask { /* a request's part of a call */
    struct run *x;
    int32_t depth,
        k; /* wanted, asked for: depth + dropped, rounded up so that calls can be shared */
};

static int32_t round_up(int32_t k)
{
    int32_t step = 32;
    while (step * 8 < k) step *= 2;
    return (k + step - 1) / step * step;
}

/* How a filtered search of a graph or lists is done hangs on how many queries come together: such a request goes alone, so
 * that its answer does not hang on its company. */
static bool shares_call(const struct ask *p, const struct ask *q)
{
    const struct rec_request *a = p->x->r, *b = q->x->r;
    if (p != q && p->x->allow && ann_width(gen_index(p->x->c->gen)) > 0) return false;
    return p->k == q->k && p->x->allow == q->x->allow && a->exact == b->exact &&
           a->ef == b->ef && a->nprobe == b->nprobe;
}

/* The request's own width of search, where the index has one. */
static int32_t width_of(const struct run *x)
{
    const char *type = gen_info(x->c->gen)->index_type;
    if (strncmp(type, "hnsw", 4) == 0) return x->r->ef;
    return strncmp(type, "ivf", 3) == 0 ? x->r->nprobe : 0;
}

/* The dropped rows leave the bitmap. */
static void drop_from_allowed(struct run *x)
{
    const int32_t V = corpus_base(x->c);
    run_own_allow(x);
    for (uint32_t i = 0; i <= x->drop.mask; i++)
        if (x->drop.slot[i] >= 0 && x->drop.slot[i] < V) run_disallow(x, x->drop.slot[i]);
}

static struct ask make_ask(struct run *x)
{
    struct ask q = { .x = x, .depth = depth_of(x->r) };
    const bool over_ask = x->n_drop <= q.depth;
    if (!over_ask) drop_from_allowed(x);
    q.k = round_up(q.depth + (over_ask ? x->n_drop : 0));
    return q;
}

/* The best of two answers to a query [k] each, without what is dropped. */
static struct list take_list(const struct run *x, const struct list *base,
                             const struct list *delta, int32_t depth)
{
    int32_t *row = ARENA_NEW(x->mem, int32_t, depth), n = 0;
    float *s = ARENA_NEW(x->mem, float, depth);
    for (int32_t i = 0, j = 0; n < depth;) {
        const bool more = i < base->n && base->row[i] >= 0;
        const bool more_delta = j < delta->n && delta->row[j] >= 0;
        if (!more && !more_delta) break;
        /* on ties the base comes first: its rows are the smaller ones */
        const bool from_base = more && (!more_delta || base->score[i] >= delta->score[j]);
        const int32_t at = from_base ? base->row[i] : delta->row[j];
        const float score = from_base ? base->score[i++] : delta->score[j++];
        if (rowset_has(&x->drop, at)) continue;
        row[n] = at;
        s[n++] = score;
    }
    return (struct list){ row, s, n };
}

/* The delta's best of each query; lists [n_active], empty where there is no delta. */
static struct list *search_delta(const struct ask *q)
{
    const struct run *x = q->x;
    struct list *list = ARENA_NEW0(x->mem, struct list, x->n_active);
    const int32_t most = q->depth + x->n_drop;
    const int32_t k = x->n_delta_allow < most ? x->n_delta_allow : most;
    if (k == 0) return list;
    int32_t *row = ARENA_NEW(x->mem, int32_t, (size_t)x->n_active * (size_t)k);
    float *score = ARENA_NEW(x->mem, float, (size_t)x->n_active *(size_t)k);
    live_search(row, score, x->c->live, x->query, x->n_active, k, x->delta_allow);
    for (int32_t i = 0; i < x->n_active; i++)
        list[i] =
            (struct list){ row + (size_t)i * (size_t)k, score + (size_t)i * (size_t)k, k };
    return list;
}

static void take_lists(const struct ask *q, const int32_t *ids, const float *scores)
{
    struct run *x = q->x;
    const struct list *delta = search_delta(q);
    x->list = ARENA_NEW(x->mem, struct list, x->n_active);
    for (int32_t i = 0; i < x->n_active; i++) {
        const size_t at = (size_t)i * (size_t)q->k;
        const struct list base = { ids + at, scores + at, q->k };
        x->list[i] = take_list(x, &base, &delta[i], q->depth);
        x->interest[x->active[i]].fetched = x->list[i].n;
        x->a->plan.fetched += x->list[i].n;
    }
}

/* One call for the n requests of q, all of which share it. */
static int search(const struct ask *const *q, int32_t n, struct err *e)
{
    const struct run *first = q[0]->x;
    const size_t D = (size_t)first->D, k = (size_t)q[0]->k;
    struct arena *mem = first->mem;
    int32_t nq = 0, V = corpus_base(first->c);
    for (int32_t i = 0; i < n; i++) nq += q[i]->x->n_active;
    const float *query = first->query;
    if (n > 1) {
        float *all = ARENA_NEW(mem, float, (size_t)nq *D), *to = all;
        for (int32_t i = 0; i < n; i++) {
            const size_t m = (size_t)q[i]->x->n_active * D;
            memcpy(to, q[i]->x->query, m * sizeof *to);
            to += m;
        }
        query = all;
    }
    int32_t *ids = ARENA_NEW(mem, int32_t, (size_t)nq * k);
    float *scores = ARENA_NEW(mem, float, (size_t)nq *k);
    struct ann_plan plan = { 0 };
    const struct ann_params p = { .allow = first->allow,
                                  .n_allow = first->n_allow,
                                  .exact = first->r->exact,
                                  .width = width_of(first),
                                  .plan = &plan };
    TRY(ann_search(ids, scores, gen_index(first->c->gen), query, nq, q[0]->k, &p, e));
    for (int32_t i = 0, at = 0; i < n; i++) {
        struct run *x = q[i]->x;
        take_lists(q[i], ids + (size_t)at * k, scores + (size_t)at * k);
        at += x->n_active;
        x->a->plan.mode = plan.mode;
        x->heads = plan.exact && best_only(x->r);
        x->a->plan.selectivity = (double)x->n_allow / V;
    }
    return 0;
}

int run_retrieve(struct run *x, int32_t n, struct err *e)
{
    struct arena *mem = x->mem;
    struct ask *ask = ARENA_NEW(mem, struct ask, n);
    const struct ask **call = ARENA_NEW(mem, const struct ask *, n);
    bool *asked = ARENA_NEW0(mem, bool, n);
    int32_t m = 0;
    for (int32_t i = 0; i < n; i++)
        if (!x[i].done && x[i].n_active > 0) ask[m++] = make_ask(&x[i]);
    for (int32_t i = 0; i < m; i++) {
        int32_t in = 0;
        if (asked[i]) continue;
        for (int32_t j = i; j < m; j++) {
            if (asked[j] || !shares_call(&ask[i], &ask[j])) continue;
            asked[j] = true;
            call[in++] = &ask[j];
        }
        TRY(search(call, in, e));
    }
    return 0;
}
