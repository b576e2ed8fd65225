#include "core/serve/recommend.h"
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/merge.h"
#include "core/serve/rowset.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_LIMIT = 20, DEFAULT_CANDIDATES = 100, MOST_EVENTS = 10 };

/* Two lifetimes, both end with the worker's next request: what the encoder makes lives in the
 * tape's arena, the rest in the request's.  Both keep their memory, so that after warm-up
 * nothing is allocated. */
struct rec_worker {
    struct arena *step, *req;
    struct tape *tape;
};

struct rec_worker *rec_worker_new(void)
{
    struct rec_worker *w = xcalloc(1, sizeof *w);
    w->step = arena_new("encode", 1 << 20, 0);
    w->req = arena_new("request", 1 << 18, 0);
    w->tape = tape_new(w->step, NULL);
    return w;
}

void rec_worker_free(struct rec_worker *w)
{
    if (!w) return;
    tape_free(w->tape);
    arena_free(w->step);
    arena_free(w->req);
    free(w);
}

struct tape *rec_worker_tape(struct rec_worker *w) { return w->tape; }

static int check_kind(const struct gen *g, struct err *e)
{
    if (gen_info(g)->kind == GEN_RETRIEVAL) return 0;
    return err_set(e, ERR_INVALID, "model \"%s\" ranks candidates: use /v1/rank",
                   gen_info(g)->name);
}

void rec_request_defaults(struct rec_request *r)
{
    *r = (struct rec_request){ .limit = DEFAULT_LIMIT, .exclude_seen = true };
}

/* ---- history ---- */

struct history {
    const int32_t *row; /* known events, oldest first */
    int32_t n, used;    /* the newest `used` of n are encoded */
    int32_t received, unknown, truncated;
    const char *why_empty; /* reason when used = 0 */
};

static int unknown_error(const struct str *id, struct err *e)
{
    return err_set(e, ERR_UNKNOWN_ITEMS, "history: no item \"%.*s\"",
                   id->len < 64 ? id->len : 64, id->p);
}

static int read_history(struct history *h, struct arena *a, const struct gen *g,
                        const struct rec_request *r, struct err *e)
{
    const struct items *items = gen_items(g);
    int32_t skip = r->n_history > LIMIT_HISTORY ? r->n_history - LIMIT_HISTORY : 0;
    int32_t *row = ARENA_NEW(a, int32_t, r->n_history - skip + 1), L = gen_info(g)->L;
    *h = (struct history){ .row = row, .received = r->n_history };
    for (int32_t i = skip; i < r->n_history; i++) {
        const struct str *id = &r->history[i];
        row[h->n] = items_find(items, id->p, (size_t)id->len);
        if (row[h->n] >= 0)
            h->n++;
        else if (r->unknown == REC_UNKNOWN_ERROR)
            return unknown_error(id, e);
        else
            h->unknown++;
    }
    h->used = h->n < L ? h->n : L;
    h->truncated = skip + h->n - h->used;
    if (h->used == 0) h->why_empty = h->received ? "all_items_unknown" : "empty_history";
    return 0;
}

/* ---- encoder ---- */

struct vectors {
    struct encoded enc;
    const float *phi;     /* [K,D] */
    float *share;         /* [K] */
    const int32_t *event; /* rows that were encoded */
    int32_t n, K, D;
};

static int encode(struct vectors *v, struct rec_worker *w, const struct gen *g,
                  const struct history *h, struct err *e)
{
    const struct model *m = gen_model(g);
    const struct model_cfg *cfg = model_config(m);
    int32_t N = h->used, *cu = ARENA_NEW(w->req, int32_t, 2),
            *pos = ARENA_NEW(w->req, int32_t, N);
    cu[0] = 0;
    cu[1] = N;
    seqpack_positions(pos, cu, 1, cfg->max_len, cfg->positions);
    struct seqpack sp = { .B = 1, .N = N, .cu = cu, .pos = pos };
    tape_begin(w->tape, 0, 0, false);
    *v = (struct vectors){
        .event = h->row + (h->n - N), .n = N, .K = model_interests(m), .D = cfg->width
    };
    v->enc = model_encode(m, w->tape, &sp, v->event, BETA_IN);
    v->phi = v->enc.phi->x;
    v->share = ARENA_NEW(w->req, float, v->K);
    model_shares(v->share, m, &v->enc, &sp);
    for (int32_t i = 0; i < v->K * v->D; i++)
        if (!isfinite(v->phi[i]))
            return err_set(e, ERR_INTERNAL, "the encoder computed a vector that is not finite");
    return 0;
}

int rec_encode(struct rec_vectors *v, struct rec_worker *w, const struct gen *g,
               const struct rec_request *r, struct err *e)
{
    struct history h;
    struct vectors x = { 0 };
    REQUIRE(r->n_history >= 0, "n_history = %d", r->n_history);
    TRY(check_kind(g, e));
    arena_reset(w->req);
    TRY(read_history(&h, w->req, g, r, e));
    if (h.used > 0) TRY(encode(&x, w, g, &h, e));
    *v = (struct rec_vectors){ .phi = x.phi,
                               .share = x.share,
                               .K = gen_info(g)->K,
                               .D = gen_info(g)->D,
                               .received = h.received,
                               .used = h.used,
                               .unknown = h.unknown,
                               .truncated = h.truncated };
    return 0;
}

/* ---- interests ---- */

/* Which interests are searched: share at the threshold or above, the most important `most` of
 * them (0: all), listed by index.  Returns their number. */
static int32_t choose_active(int32_t *active, const float *share, int32_t K, float threshold,
                             int32_t most)
{
    int32_t n = 0;
    for (int32_t k = 0; k < K; k++) {
        if (share[k] < threshold) continue;
        int32_t larger = 0; /* interests that come before k */
        for (int32_t j = 0; j < K; j++)
            larger += share[j] > share[k] || (j < k && share[j] == share[k]);
        if (most == 0 || larger < most) active[n++] = k;
    }
    return n;
}

static struct rec_interest *describe_interests(struct arena *a, const struct vectors *v,
                                               const int32_t *active, int32_t n_active)
{
    struct rec_interest *out = ARENA_NEW0(a, struct rec_interest, v->K);
    for (int32_t k = 0; k < v->K; k++) {
        const float *phi = v->phi + (size_t)k * (size_t)v->D;
        out[k].index = k;
        out[k].share = v->share[k];
        out[k].norm = sqrtf(num->vec->dot(phi, phi, v->D));
    }
    for (int32_t i = 0; i < n_active; i++) out[active[i]].active = true;
    return out;
}

/* The events an interest listened to most, by p(k|i) p_i over the interest's share; the newer
 * first where equal. */
static void top_events(struct rec_interest *out, struct arena *a, const struct vectors *v,
                       int32_t k)
{
    int32_t most = v->n < MOST_EVENTS ? v->n : MOST_EVENTS, n = 0;
    struct rec_event *top = ARENA_NEW(a, struct rec_event, most + 1);
    for (int32_t i = v->n - 1; i >= 0; i--) {
        float x = v->enc.assign->x[(size_t)i * (size_t)v->K + (size_t)k] * v->enc.weight->x[i];
        int32_t at = n < most ? n++ : most;
        for (; at > 0 && top[at - 1].weight < x; at--) top[at] = top[at - 1];
        if (at < most) top[at] = (struct rec_event){ v->event[i], x };
    }
    for (int32_t i = 0; i < n; i++)
        top[i].weight = v->share[k] > 0 ? top[i].weight / v->share[k] : 0;
    out->event = top;
    out->n_events = n;
}

/* ---- candidates ---- */

struct run { /* one request under way */
    struct rec_worker *w;
    const struct gen *g;
    const struct rec_request *r;
    struct vectors v;
    int32_t *active, n_active;
    const float *query; /* [n_active,D] */
    int32_t *excluded, n_excluded;
    struct rec_interest *interest;
    struct rec_answer *a;
};

/* The rows never to return, each once: history when it is to be left out, and the request's
 * list. */
static struct rowset collect_excluded(struct run *x, const struct history *h)
{
    const struct rec_request *r = x->r;
    struct arena *a = x->w->req;
    int32_t n_seen = r->exclude_seen ? h->n : 0;
    struct rowset set = rowset_new(a, n_seen + r->n_exclude);
    x->excluded = ARENA_NEW(a, int32_t, n_seen + r->n_exclude + 1);
    for (int32_t i = 0; i < n_seen; i++)
        if (rowset_add(&set, h->row[i])) x->excluded[x->n_excluded++] = h->row[i];
    for (int32_t i = 0; i < r->n_exclude; i++) {
        int32_t row = items_find(gen_items(x->g), r->exclude[i].p, (size_t)r->exclude[i].len);
        if (row >= 0 && rowset_add(&set, row)) x->excluded[x->n_excluded++] = row;
    }
    return set;
}

static void answer_popular(struct run *x, const struct rowset *excluded, const char *why)
{
    const struct items *items = gen_items(x->g);
    const int32_t *row = items_by_popularity(items);
    int32_t V = items_count(items), n = 0;
    double most = (double)items_popularity(items, row[0]);
    struct rec_item *out = ARENA_NEW0(x->w->req, struct rec_item, x->r->limit);
    for (int32_t i = 0; i < V && n < x->r->limit && x->r->fallback == REC_FALLBACK_POPULAR;
         i++) {
        if (rowset_has(excluded, row[i])) continue;
        double count = (double)items_popularity(items, row[i]);
        out[n++] = (struct rec_item){ .row = row[i],
                                      .score = most > 0 ? (float)(count / most) : 0,
                                      .interest = -1 };
    }
    x->a->item = out;
    x->a->n_items = n;
    x->a->fallback = why;
    x->a->fallback_used = x->r->fallback;
}

static void gather_queries(struct run *x)
{
    size_t D = (size_t)x->v.D;
    x->query = x->v.phi;
    if (x->n_active == x->v.K) return;
    float *q = ARENA_NEW(x->w->req, float, D *(size_t)x->n_active);
    for (int32_t i = 0; i < x->n_active; i++)
        num->vec->scale(q + (size_t)i * D, 1, x->v.phi + (size_t)x->active[i] * D, (int64_t)D);
    x->query = q;
}

/* Places of the returned items of active interest a among all candidates.  out is in order (score
 * descending, then row), so a candidate that comes before one of them comes before all that follow. */
static void rank_items(struct run *x, struct rec_item *out, int32_t n, int32_t a,
                       const struct cand *c, int32_t n_cand)
{
    const float *item = model_items(gen_model(x->g))->t.x;
    int32_t D = x->v.D, n_own = 0;
    int32_t *own = ARENA_NEW(x->w->req, int32_t, n + 1); /* places in out */
    int32_t *first = ARENA_NEW0(x->w->req, int32_t, n + 1);
    for (int32_t i = 0; i < n; i++)
        if (out[i].interest == x->active[a]) own[n_own++] = i;
    for (int32_t j = 0; j < n_cand && n_own > 0; j++) {
        float s = num->vec->dot(x->query + (size_t)a * (size_t)D,
                                item + (size_t)c[j].row * (size_t)D, D);
        int32_t lo = 0, hi = n_own; /* the first of own that c[j] comes before */
        while (lo < hi) {
            int32_t mid = lo + (hi - lo) / 2;
            const struct rec_item *o = &out[own[mid]];
            if (s > o->score || (s == o->score && c[j].row < o->row))
                hi = mid;
            else
                lo = mid + 1;
        }
        first[lo]++;
    }
    for (int32_t i = 0, before = 0; i < n_own; i++) {
        before += first[i];
        out[own[i]].rank_in_interest = before + 1;
    }
}

/* Exact scores of the returned items against every interest, and their place in their own. */
static void explain_items(struct run *x, struct rec_item *out, int32_t n, const struct cand *c,
                          int32_t n_cand)
{
    const float *item = model_items(gen_model(x->g))->t.x;
    int32_t K = x->v.K, D = x->v.D;
    for (int32_t i = 0; i < n; i++) {
        float *by = ARENA_NEW(x->w->req, float, K);
        for (int32_t k = 0; k < K; k++)
            by[k] = num->vec->dot(x->v.phi + (size_t)k * (size_t)D,
                                  item + (size_t)out[i].row * (size_t)D, D);
        out[i].by_interest = by;
    }
    for (int32_t a = 0; a < x->n_active; a++) rank_items(x, out, n, a, c, n_cand);
    for (int32_t k = 0; k < K && x->v.enc.assign; k++)
        top_events(&x->interest[k], x->w->req, &x->v, k);
}

/* All rows but the excluded ones. */
static void allow_rest(struct ann_params *p, const struct run *x)
{
    const int32_t V = gen_info(x->g)->n_items, n_words = (V + 63) / 64;
    uint64_t *allow = ARENA_NEW(x->w->req, uint64_t, n_words);
    memset(allow, 0xff, (size_t)n_words * sizeof *allow);
    for (int32_t i = 0; i < x->n_excluded; i++)
        allow[x->excluded[i] / 64] &= ~((uint64_t)1 << (x->excluded[i] % 64));
    p->allow = allow;
    p->n_allow = V - x->n_excluded;
}

/* Every active interest in one call; *ids is [n_active, depth]. */
static int search(int32_t **ids, struct run *x, int32_t depth, struct err *e)
{
    uint64_t start = clock_ns();
    size_t n = (size_t)x->n_active * (size_t)depth;
    float *scores = ARENA_NEW(x->w->req, float, n); /* not kept: merge computes exact ones */
    struct ann_params p = { 0 };
    if (x->n_excluded > 0) allow_rest(&p, x);
    *ids = ARENA_NEW(x->w->req, int32_t, n);
    gather_queries(x);
    TRY(ann_search(*ids, scores, gen_index(x->g), x->query, x->n_active, depth, &p, e));
    x->a->search_ms = clock_ms_since(start);
    return 0;
}

static void merge(struct run *x, const int32_t *ids, int32_t depth)
{
    uint64_t start = clock_ns();
    struct rec_answer *ans = x->a;
    struct cand *c;
    int32_t *fetched = ARENA_NEW(x->w->req, int32_t, x->n_active);
    int32_t n = merge_union(&c, fetched, x->w->req, ids, x->n_active, depth);
    merge_score(c, n, x->query, x->n_active, x->v.D, model_items(gen_model(x->g))->t.x);
    ans->n_items = merge_top(c, n, x->r->limit);
    ans->after_dedup = n;
    for (int32_t i = 0; i < x->n_active; i++) {
        x->interest[x->active[i]].fetched = fetched[i];
        ans->fetched += fetched[i];
    }
    struct rec_item *out = ARENA_NEW0(x->w->req, struct rec_item, ans->n_items + 1);
    for (int32_t i = 0; i < ans->n_items; i++)
        out[i] = (struct rec_item){ .row = c[i].row,
                                    .score = c[i].score,
                                    .interest = x->active[c[i].best] };
    if (x->r->explain) explain_items(x, out, ans->n_items, c, n);
    ans->item = out;
    ans->merge_ms = clock_ms_since(start);
}

static int answer_search(struct run *x, struct err *e)
{
    int32_t depth = x->r->candidates ? x->r->candidates : DEFAULT_CANDIDATES, *ids;
    if (depth < x->r->limit) depth = x->r->limit;
    TRY(search(&ids, x, depth, e));
    merge(x, ids, depth);
    return 0;
}

static int check_request(const struct rec_request *r, struct err *e)
{
    if (r->limit < 1 || r->limit > LIMIT_RESULTS)
        return err_set(e, ERR_INVALID, "limit is %d, not in 1..%d", r->limit, LIMIT_RESULTS);
    if (r->candidates < 0 || r->candidates > LIMIT_CANDIDATES)
        return err_set(e, ERR_INVALID, "candidates per interest: %d, not in 0..%d",
                       r->candidates, LIMIT_CANDIDATES);
    if (r->interests < 0) return err_set(e, ERR_INVALID, "interests is %d", r->interests);
    if (r->n_exclude > LIMIT_EXCLUDE)
        return err_set(e, ERR_INVALID, "%d items to exclude, at most %d", r->n_exclude,
                       LIMIT_EXCLUDE);
    return 0;
}

static int encode_interests(struct run *x, const struct history *h, struct err *e)
{
    uint64_t start = clock_ns();
    TRY(encode(&x->v, x->w, x->g, h, e));
    float threshold = x->v.enc.assign ? model_config(gen_model(x->g))->active_share : 0;
    x->active = ARENA_NEW(x->w->req, int32_t, x->v.K);
    x->n_active = choose_active(x->active, x->v.share, x->v.K, threshold, x->r->interests);
    x->interest = describe_interests(x->w->req, &x->v, x->active, x->n_active);
    x->a->interest = x->interest;
    x->a->n_interests = x->v.K;
    x->a->encode_ms = clock_ms_since(start);
    return 0;
}

int recommend(struct rec_answer *a, struct rec_worker *w, const struct gen *g,
              const struct rec_request *r, struct err *e)
{
    struct history h;
    struct run x = { .w = w, .g = g, .r = r, .a = a };
    *a = (struct rec_answer){ 0 };
    TRY(check_kind(g, e));
    TRY(check_request(r, e));
    arena_reset(w->req);
    TRY(read_history(&h, w->req, g, r, e));
    a->received = h.received;
    a->used = h.used;
    a->unknown = h.unknown;
    a->truncated = h.truncated;
    struct rowset excluded = collect_excluded(&x, &h);
    if (h.used > 0) TRY(encode_interests(&x, &h, e));
    if (x.n_active > 0) return answer_search(&x, e);
    answer_popular(&x, &excluded, h.why_empty ? h.why_empty : "no_active_interest");
    return 0;
}
