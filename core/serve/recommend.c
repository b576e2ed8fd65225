#include "core/serve/recommend.h"
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/popular.h"
#include "core/serve/run.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_LIMIT = 20 };
static const float DEFAULT_RRF_K = 60, DEFAULT_STRENGTH = .5f;

/* What a step has cost of late: by it a request with a deadline knows what it still has time for. */
struct pace {
    double encode_us; /* an event */
    double search_us; /* a query */
    double merge_us;  /* a request */
};

/* Two lifetimes, both end with the worker's next use: what the encoder makes lives in the
 * tape's arena, the rest in the requests'.  Both keep their memory, so that after warm-up
 * nothing is allocated. */
struct rec_worker {
    struct arena *step, *req;
    struct tape *tape;
    struct pace pace;
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

void rec_request_defaults(struct rec_request *r)
{
    *r = (struct rec_request){ .limit = DEFAULT_LIMIT,
                               .exclude_seen = true,
                               .strength = DEFAULT_STRENGTH };
}

/* ---- what may be asked ---- */

static int check_numbers(const struct rec_request *r, struct err *e)
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
    if (!(r->strength >= 0 && r->strength <= 1))
        return err_set(e, ERR_INVALID, "diversity: strength is %g, not in 0..1",
                       (double)r->strength);
    if (r->n_vectors < 0 || r->n_vectors > LIMIT_INTERESTS)
        return err_set(e, ERR_INVALID, "%d vectors, at most %d", r->n_vectors, LIMIT_INTERESTS);
    if (r->source == REC_ITEMS && r->n_history > LIMIT_INTERESTS)
        return err_set(e, ERR_INVALID, "%d items, at most %d", r->n_history, LIMIT_INTERESTS);
    return 0;
}

static int check_weights(const struct rec_request *r, int32_t K, struct err *e)
{
    const bool history = r->source == REC_HISTORY, vectors = r->source == REC_VECTORS;
    const int32_t n = history ? K : vectors ? r->n_vectors : r->n_history;
    const char *what = history ? "interests" : vectors ? "vectors" : "items";
    if (r->n_weights == 0 || r->n_weights == n) return 0;
    return err_set(e, ERR_INVALID, "merge: %d weights for %d %s", r->n_weights, n, what);
}

/* The field that diversity goes by. */
static int find_field(int32_t *field, const struct run *x, struct err *e)
{
    const struct items *items = gen_items(x->c->gen);
    const struct str asked = x->r->diversity_field,
                     name = asked.len ? asked : (struct str){ "category", 8 };
    *field = items_field_find(items, name.p, (size_t)name.len);
    if (*field >= 0 && items_field_kind(items, *field) == FIELD_VALUES) return 0;
    for (int32_t f = 0; f < items_fields(items); f++) {
        struct str other = items_field_name(items, f);
        if (items_field_kind(items, f) == FIELD_VALUES)
            return err_set(
                e, ERR_INVALID,
                "diversity: no attribute \"%.*s\" with values; name one as \"field\", "
                "e.g. \"%.*s\"",
                name.len < 64 ? name.len : 64, name.p, other.len, other.p);
    }
    return err_set(e, ERR_INVALID, "diversity: the items of model \"%s\" have no attributes",
                   gen_info(x->c->gen)->name);
}

/* ---- deadlines ---- */

/* What n of something took.  A step that nobody had time for counts as a quicker one: else an estimate that one slow
 * moment made too large would keep everybody in a hurry from ever trying it again. */
static void learn(double *us, double ms, int32_t n)
{
    *us += .1 * ((n > 0 ? 1e3 * ms / n : 0) - *us);
}

/* Whether us more microseconds would end after the deadline. */
static bool is_late(const struct run *x, double us)
{
    return x->r->deadline_ns && (double)clock_ns() + 1e3 * us > (double)x->r->deadline_ns;
}

static int too_late(struct run *x, const char *before, struct err *e)
{
    if (x->r->whole)
        return err_set(e, ERR_DEADLINE, "the deadline does not leave time to %s", before);
    x->a->degraded.reason = "deadline";
    return 0;
}

/* As many interests as there is time for, the most important ones. */
static int fit_interests(struct run *x, const struct pace *p, struct err *e)
{
    int32_t n = x->n_active;
    if (x->r->hurry > 1 && !x->r->whole && n > 1) {
        n = (n + x->r->hurry - 1) / x->r->hurry;
        run_use_fewer(x, n);
        x->a->degraded.reason = "load";
    }
    while (n > 0 && is_late(x, n * p->search_us + p->merge_us)) n--;
    if (n == x->n_active) return 0;
    TRY(too_late(x, "search every interest", e));
    run_use_fewer(x, n);
    if (n == 0) x->a->fallback = "deadline";
    return 0;
}

/* ---- the answer ---- */

static int32_t find_popular(int32_t *row, float *score, const struct run *x)
{
    const struct rec_request *r = x->r;
    return popular_items(row, score, x->c,
                         &(struct popular_cfg){ .limit = r->limit,
                                                .drop = &x->drop,
                                                .allow = x->allow,
                                                .delta_allow = x->delta_allow,
                                                .seed = r->has_seed ? &r->seed : NULL },
                         x->mem);
}

static void answer_popular(struct run *x)
{
    const struct rec_request *r = x->r;
    struct rec_answer *a = x->a;
    a->fallback_used = "none";
    if (r->fallback == REC_FALLBACK_NONE) return;
    a->fallback_used = r->filter ? "popular_within_filter" : "popular";
    int32_t *row = ARENA_NEW(x->mem, int32_t, r->limit);
    float *score = ARENA_NEW(x->mem, float, r->limit);
    a->n_items = find_popular(row, score, x);
    if (a->n_items == 0 && r->filter && r->fallback == REC_FALLBACK_POPULAR) {
        a->fallback_used = "popular";
        run_lift_filter(x);
        a->n_items = find_popular(row, score, x);
    }
    struct rec_item *out = ARENA_NEW0(x->mem, struct rec_item, a->n_items + 1);
    for (int32_t i = 0; i < a->n_items; i++)
        out[i] = (struct rec_item){ .row = row[i], .score = score[i], .interest = -1 };
    a->item = out;
}

/* Places of the returned items of active interest a among all candidates: how many have a larger product with it. */
static void rank_items(struct run *x, struct rec_item *out, int32_t n, int32_t a,
                       const struct cand *c, int32_t n_cand)
{
    const float *query = x->query + (size_t)a * (size_t)x->D;
    float *own = ARENA_NEW(x->mem, float, n_cand);
    for (int32_t j = 0; j < n_cand; j++)
        own[j] = num->vec->dot(query, corpus_vector(x->c, c[j].row), x->D);
    for (int32_t i = 0; i < n; i++) {
        if (out[i].interest != x->active[a]) continue;
        const float mine = out[i].by_interest[x->active[a]];
        out[i].rank_in_interest = 1;
        for (int32_t j = 0; j < n_cand; j++)
            out[i].rank_in_interest +=
                own[j] > mine || (own[j] == mine && c[j].row < out[i].row);
    }
}

/* Exact scores of the returned items against every interest, and their place in their own. */
static void explain_items(struct run *x, struct rec_item *out, int32_t n, const struct cand *c,
                          int32_t n_cand)
{
    for (int32_t i = 0; i < n; i++) {
        float *by = ARENA_NEW(x->mem, float, x->K);
        for (int32_t k = 0; k < x->K; k++)
            by[k] = num->vec->dot(x->phi + (size_t)k * (size_t)x->D,
                                  corpus_vector(x->c, out[i].row), x->D);
        out[i].by_interest = by;
    }
    for (int32_t a = 0; a < x->n_active; a++) rank_items(x, out, n, a, c, n_cand);
    run_explain_events(x);
}

/* Active interests by share, the larger first. */
static int32_t *by_share(const struct run *x)
{
    int32_t *order = ARENA_NEW(x->mem, int32_t, x->n_active + 1);
    for (int32_t i = 0; i < x->n_active; i++) {
        int32_t at = i;
        for (; at > 0 && x->share[x->active[order[at - 1]]] < x->share[x->active[i]]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    return order;
}

static float *of_active(const struct run *x, const float *by_interest)
{
    float *out = ARENA_NEW(x->mem, float, x->n_active + 1);
    for (int32_t i = 0; i < x->n_active; i++) out[i] = by_interest[x->active[i]];
    return out;
}

static int32_t merge_candidates(struct cand **c, const struct run *x)
{
    const struct rec_request *r = x->r;
    const struct merge_cfg cfg = { .how = r->merge,
                                   .rrf_k = r->rrf_k > 0 ? r->rrf_k : DEFAULT_RRF_K,
                                   .weight = r->n_weights ? of_active(x, r->weights) : NULL,
                                   .order = by_share(x),
                                   .best = x->heads ? r->limit : 0 };
    return merge_lists(c, x->mem, x->list, x->n_active, &cfg, x->query, x->c);
}

static const int32_t *owed_places(const struct run *x)
{
    const struct rec_request *r = x->r;
    const bool quota = r->merge == MERGE_QUOTA;
    const int32_t most = r->limit / x->n_active;
    if (!quota && r->min_per_interest == 0) return NULL;
    int32_t *owed = ARENA_NEW(x->mem, int32_t, x->n_active);
    if (quota)
        pick_quota(owed, x->n_active, of_active(x, x->share), r->min_per_interest, r->limit);
    for (int32_t i = 0; !quota && i < x->n_active; i++)
        owed[i] = r->min_per_interest < most ? r->min_per_interest : most;
    return owed;
}

static int answer_merged(struct run *x, const struct pace *p, struct err *e)
{
    const struct rec_request *r = x->r;
    struct rec_answer *a = x->a;
    struct pick_cfg cfg = { .limit = r->limit,
                            .owed = owed_places(x),
                            .n_lists = x->n_active,
                            .method = r->strength > 0 ? r->diversity : DIVERSITY_NONE,
                            .strength = r->strength,
                            .field = x->field };
    if (cfg.method != DIVERSITY_NONE && is_late(x, p->merge_us)) {
        TRY(too_late(x, "diversify", e));
        a->degraded.diversity = true;
        cfg.method = DIVERSITY_NONE;
    }
    struct cand *c;
    const int32_t n = merge_candidates(&c, x);
    const bool all_in_order = cfg.owed || cfg.method != DIVERSITY_NONE;
    int32_t ordered = n;
    if (r->merge != MERGE_ROUND_ROBIN && !x->heads)
        ordered = merge_top(c, n, all_in_order || n < r->limit ? n : r->limit);
    float *penalty = ARENA_NEW(x->mem, float, r->limit);
    a->plan.after_dedup = x->heads ? -1 : n;
    a->n_items = pick(c, ordered, &cfg, x->c, x->mem, penalty);
    struct rec_item *out = ARENA_NEW0(x->mem, struct rec_item, a->n_items + 1);
    for (int32_t i = 0; i < a->n_items; i++)
        out[i] = (struct rec_item){ .row = c[i].row,
                                    .score = c[i].score,
                                    .interest = x->active[c[i].best],
                                    .penalty = penalty[i] };
    if (r->explain) explain_items(x, out, a->n_items, c, n);
    a->item = out;
    if (a->n_items == 0) a->fallback = "filtered_out";
    return 0;
}

/* ---- a batch ---- */

static int prepare(struct run *x, struct rec_job *job)
{
    const struct gen_info *i = gen_info(x->c->gen);
    struct err *e = &job->err;
    if (i->kind != GEN_RETRIEVAL)
        return err_set(e, ERR_INVALID, "model \"%s\" ranks candidates: use /v1/rank", i->name);
    x->K = i->K;
    x->D = i->D;
    TRY(check_numbers(x->r, e));
    job->member = "/merge/weights";
    TRY(check_weights(x->r, i->K, e));
    job->member = "/diversity/field";
    if (x->r->diversity == DIVERSITY_CATEGORY) TRY(find_field(&x->field, x, e));
    job->member = x->r->source == REC_ITEMS ? "/items" : "/history";
    TRY(run_read_history(x, e));
    job->member = NULL;
    TRY(run_allow(x, &job->where, &job->in_filter, e));
    run_collect_dropped(x);
    if (x->n_allow + x->n_delta_allow == 0 && !x->a->fallback && !x->r->encode_only)
        x->a->fallback = "filtered_out";
    return 0;
}

struct batch {
    struct rec_worker *w;
    struct run *run;
    struct rec_job *const *job;
    int32_t n;
};

static void fail(struct batch *b, int32_t i) { b->run[i].done = true; }

/* Whoever has no time left for the encoder, or nothing to encode or find, is out of the steps that follow. */
static void encode(struct batch *b)
{
    const uint64_t start = clock_ns();
    struct pace *p = &b->w->pace;
    int32_t waiting = 0, events = 0;
    for (int32_t i = 0; i < b->n; i++)
        waiting += run_is_encoded(&b->run[i]) ? b->run[i].used : 0;
    for (int32_t i = 0; i < b->n; i++) {
        struct run *x = &b->run[i];
        if (!run_is_encoded(x)) continue;
        if (!is_late(x, waiting * p->encode_us + p->search_us)) {
            events += x->used;
            continue;
        }
        x->a->degraded.encode = true;
        x->a->fallback = "deadline";
        if (too_late(x, "encode the history", &b->job[i]->err) < 0) fail(b, i);
    }
    run_encode(b->run, b->n, b->w->tape);
    for (int32_t i = 0; i < b->n; i++) {
        struct run *x = &b->run[i];
        if (x->done || (x->a->fallback && !x->phi)) continue;
        if (run_choose_interests(x, &b->job[i]->err) < 0) fail(b, i);
    }
    const double ms = clock_ms_since(start);
    for (int32_t i = 0; i < b->n; i++) b->job[i]->answer.encode_ms = ms;
    if (waiting > 0) learn(&p->encode_us, ms, events);
}

static void search(struct batch *b)
{
    const uint64_t start = clock_ns();
    struct err e = { 0 };
    int32_t wanted = 0, queries = 0;
    for (int32_t i = 0; i < b->n; i++) {
        struct run *x = &b->run[i];
        wanted += x->a->degraded.encode; /* for fear of the search too */
        if (x->done || x->n_active == 0) continue;
        wanted += !x->a->fallback && !x->r->encode_only;
        if (x->a->fallback || x->r->encode_only)
            x->n_active = 0;
        else if (fit_interests(x, &b->w->pace, &b->job[i]->err) < 0)
            fail(b, i);
        queries += x->done ? 0 : x->n_active;
    }
    const int rc = run_retrieve(b->run, b->n, &e);
    for (int32_t i = 0; i < b->n && rc < 0; i++) {
        if (b->run[i].done || b->run[i].n_active == 0) continue;
        b->job[i]->err = e;
        fail(b, i);
    }
    const double ms = clock_ms_since(start);
    for (int32_t i = 0; i < b->n; i++) b->job[i]->answer.search_ms = ms;
    if (wanted > 0) learn(&b->w->pace.search_us, ms, queries);
}

static void answer(struct batch *b)
{
    const uint64_t start = clock_ns();
    for (int32_t i = 0; i < b->n; i++) {
        struct run *x = &b->run[i];
        if (x->done) continue;
        if (x->n_active > 0 && answer_merged(x, &b->w->pace, &b->job[i]->err) < 0) fail(b, i);
        if (!x->done && x->a->fallback && !x->r->encode_only) answer_popular(x);
        if (x->n_active > 0 && x->a->degraded.n_interests == 0) x->a->degraded.coverage = 1;
    }
    const double ms = clock_ms_since(start);
    for (int32_t i = 0; i < b->n; i++) b->job[i]->answer.merge_ms = ms;
    b->w->pace.merge_us += .1 * (1e3 * ms / b->n - b->w->pace.merge_us);
}

void rec_run(struct rec_worker *w, const struct corpus *c, struct rec_job *const *job,
             int32_t n)
{
    REQUIRE(n > 0, "%d jobs", n);
    arena_reset(w->req);
    struct batch b = { w, ARENA_NEW0(w->req, struct run, n), job, n };
    for (int32_t i = 0; i < n; i++) {
        job[i]->answer = (struct rec_answer){ .batch = n };
        job[i]->err.code = 0;
        job[i]->in_filter = false;
        job[i]->member = NULL;
        b.run[i] =
            (struct run){ .c = c, .r = job[i]->request, .a = &job[i]->answer, .mem = w->req };
        if (prepare(&b.run[i], job[i]) < 0) fail(&b, i);
    }
    encode(&b);
    search(&b);
    answer(&b);
    for (int32_t i = 0; i < n; i++) run_release(&b.run[i]);
}

int recommend(struct rec_answer *a, struct rec_worker *w, const struct corpus *c,
              const struct rec_request *r, struct err *e)
{
    struct rec_job job = { .request = r }, *jobs[] = { &job };
    rec_run(w, c, jobs, 1);
    *a = job.answer;
    if (job.err.code && e && !e->code) *e = job.err;
    return job.err.code;
}
