/* /v1: recommendations, vectors, scores, models. */
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/serve/recommend.h"
#include "core/serve/reply.h"
#include "server/call.h"
#include "server/problem.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- from the body to what is to be computed ------------------------------------------------- */

typedef int parse_fn(struct req_recommend *out, const char *body, size_t n, bool strict,
                     struct arena *a, struct faults *f);

static void fail_at_fault(struct call *c)
{
    const struct fault *first = &c->faults.at[0];
    call_fail(c, first->code, "%s", first->detail);
    if (first->code == ERR_BAD_JSON) c->faults.n = 0; /* no place to point at */
}

/* The generation that answers; its reference goes with the call. */
static void take_generation(struct call *c, const struct str *model, enum gen_kind kind)
{
    struct err e = { 0 };
    c->gen = catalog_take_kind(atomic_load(&c->app->catalog), kind, model->p,
                               (size_t)model->len, &e);
    if (!c->gen) {
        call_fail(c, e.code, "%s", e.msg);
        return;
    }
    const struct gen_info *i = gen_info(c->gen);
    struct live *l =
        i->kind == GEN_RETRIEVAL ? lives_find(c->app->lives, i->name, strlen(i->name)) : NULL;
    c->view = l ? live_take(l) : NULL;
    c->corpus = (struct corpus){ c->gen, c->view };
    snprintf(c->model_version, sizeof c->model_version, "%s@%" PRId64, i->name, i->version);
}

/* A job for each of the call's requests. */
static void make_jobs(struct call *c, int32_t n)
{
    c->job = arena_try(c->arena, (size_t)n * sizeof *c->job);
    if (!c->job) {
        call_fail(c, ERR_LIMIT, "the request needs more memory than one may have");
        return;
    }
    c->n_jobs = n;
    for (int32_t i = 0; i < n; i++) {
        c->req[i].rec.deadline_ns = c->deadline_ns;
        c->job[i].request = &c->req[i].rec;
    }
}

/* One request. */
static void begin(struct call *c, parse_fn *parse, enum gen_kind kind)
{
    const uint64_t start = clock_ns();
    c->req = arena_try(c->arena, sizeof *c->req);
    if (!c->req) {
        call_fail(c, ERR_LIMIT, "the request needs more memory than one may have");
        return;
    }
    if (parse(c->req, c->body.data, c->body.len, c->strict, c->arena, &c->faults) < 0)
        fail_at_fault(c);
    else
        take_generation(c, &c->req->model, kind);
    if (!c->fail.code && kind == GEN_RETRIEVAL) make_jobs(c, 1);
    c->parse_ms = clock_ms_since(start);
}

void api_recommend(struct call *c) { begin(c, req_parse_recommend, GEN_RETRIEVAL); }
void api_encode(struct call *c) { begin(c, req_parse_encode, GEN_RETRIEVAL); }
void api_similar(struct call *c) { begin(c, req_parse_similar, GEN_RETRIEVAL); }

static void check_width(struct call *c)
{
    const struct rec_request *r = &c->req->rec;
    const int32_t D = gen_info(c->gen)->D;
    if (r->n_vectors * D == c->req->n_floats) return;
    call_fail(c, ERR_INVALID, "vectors: model \"%s\" has vectors of %d numbers, not of %d",
              gen_info(c->gen)->name, D, c->req->n_floats / r->n_vectors);
    fault_add(&c->faults, ERR_INVALID, "/vectors", "%s", c->fail.msg);
}

void api_search(struct call *c)
{
    begin(c, req_parse_search, GEN_RETRIEVAL);
    if (!c->fail.code && gen_info(c->gen)->kind == GEN_RETRIEVAL) check_width(c);
}

void api_recommend_batch(struct call *c)
{
    const uint64_t start = clock_ns();
    int32_t n = 0;
    struct str model;
    if (req_parse_batch(&c->req, &n, &model, c->body.data, c->body.len, c->strict, c->arena,
                        &c->faults) < 0)
        fail_at_fault(c);
    else
        take_generation(c, &model, GEN_RETRIEVAL);
    if (!c->fail.code) make_jobs(c, n);
    c->parse_ms = clock_ms_since(start);
}

void api_rank(struct call *c)
{
    begin(c, req_parse_rank, GEN_RANK);
    struct score_request *s = c->fail.code ? NULL : arena_try(c->arena, sizeof *s);
    if (!s) {
        call_fail(c, ERR_LIMIT, "the request needs more memory than one may have");
        return;
    }
    *s = (struct score_request){ .value = c->req->rank.value,
                                 .n_values = c->req->rank.n_values,
                                 .history = c->req->rec.history,
                                 .n_history = c->req->rec.n_history,
                                 .candidate = c->req->rank.candidate,
                                 .n_candidates = c->req->rank.n_candidates,
                                 .strict = c->strict };
    c->score = s;
}

/* ---- candidates ------------------------------------------------------------------------------ */

/* 16 characters of Crockford's base 32: 10 of milliseconds since 1970, so that ids sort by time as ULIDs
 * do, and 6 of the call's own number. */
static void recommendation_id(struct app *app, char out[17])
{
    static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    struct timespec t;
    char hex[17];
    clock_gettime(CLOCK_REALTIME, &t);
    app_new_id(app, hex);
    uint64_t ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000, x = 0;
    for (int i = 0; i < 8; i++)
        x = x << 4 | (uint64_t)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
    for (int i = 9; i >= 0; i--, ms >>= 5) out[i] = alphabet[ms & 31];
    for (int i = 15; i >= 10; i--, x >>= 5) out[i] = alphabet[x & 31];
    out[16] = '\0';
}

static void count_answer(struct server_metrics *m, const struct rec_answer *a)
{
    metrics_history(m, a->used, a->unknown, a->truncated);
    metrics_candidates(m, CANDIDATES_RETURNED, a->n_items);
    if (a->degraded.reason) metrics_degraded(m, a->degraded.reason);
    if (a->fallback) {
        metrics_fallback(m, a->fallback);
        return;
    }
    metrics_candidates(m, CANDIDATES_FETCHED, a->plan.fetched);
    if (a->plan.after_dedup >= 0) metrics_candidates(m, CANDIDATES_MERGED, a->plan.after_dedup);
}

/* What went wrong with a job, with the place in the body: prefix is that of its request. */
static void find_fault(struct faults *f, const struct rec_job *job, const char *prefix)
{
    const struct filter_fault *w = &job->where;
    char at[80];
    if (!job->in_filter && !job->member) return;
    if (job->in_filter)
        snprintf(at, sizeof at, "%s/filter/%s/%d%s", prefix, w->must_not ? "must_not" : "must",
                 w->clause, w->key ? "/key" : "");
    else
        snprintf(at, sizeof at, "%s%s", prefix, job->member);
    fault_add(f, job->err.code, at, "%s", job->err.msg);
}

/* The only job's failure is the call's. */
static bool failed(struct call *c, const struct rec_job *job)
{
    if (!job->err.code) return false;
    call_fail(c, job->err.code, "%s", job->err.msg);
    find_fault(&c->faults, job, "");
    return true;
}

static void write_answer(struct call *c, int32_t i, bool vectors)
{
    const struct rec_job *job = &c->job[i];
    char id[17];
    recommendation_id(c->app, id);
    reply_recommend(&c->out, &job->answer, &c->corpus,
                    &(struct reply_opts){ .explain = job->request->explain,
                                          .vectors = vectors,
                                          .recommendation_id = vectors ? NULL : id,
                                          .took_ms = clock_ms_since(c->start_ns) });
    count_answer(&c->app->metrics, &job->answer);
}

/* Server-Timing.  By hand: printf would take longer than the reply. */
static void add_timing(struct buf *b, const char *stage, double ms)
{
    if (b->len) buf_puts(b, ", ");
    buf_puts(b, stage);
    buf_puts(b, ";dur=");
    reply_num(b, ms > 0 ? ms : 0, 3);
}

static void write_timing(struct call *c, const struct rec_answer *a, uint64_t write_ns)
{
    struct server_metrics *m = &c->app->metrics;
    const double write_ms = clock_ms_since(write_ns), waited = clock_ms_since(c->queued_ns);
    metrics_stage(m, STAGE_HISTORY, c->parse_ms);
    metrics_stage(m, STAGE_SERIALIZE, write_ms);
    add_timing(&c->timing, "history", c->parse_ms);
    add_timing(&c->timing, "queue",
               waited - a->encode_ms - a->search_ms - a->merge_ms - write_ms);
    add_timing(&c->timing, "encode", a->encode_ms);
    add_timing(&c->timing, "search", a->search_ms);
    add_timing(&c->timing, "merge", a->merge_ms);
    add_timing(&c->timing, "serialize", write_ms);
    add_timing(&c->timing, "total", clock_ms_since(c->start_ns));
}

static void reply_one(struct call *c, bool vectors)
{
    const uint64_t start = clock_ns();
    const struct rec_job *job = &c->job[0];
    if (failed(c, job)) return;
    write_answer(c, 0, vectors);
    buf_putc(&c->out, '\n');
    write_timing(c, &job->answer, start);
}

void api_recommend_reply(struct call *c) { reply_one(c, false); }
void api_search_reply(struct call *c) { reply_one(c, true); }

static void write_failed(struct call *c, int32_t i)
{
    const struct rec_job *job = &c->job[i];
    struct faults f = { 0 };
    char prefix[32];
    snprintf(prefix, sizeof prefix, "/requests/%d", i);
    find_fault(&f, job, prefix);
    buf_printf(&c->out, "{\"status\":%d,\"error\":", err_http(job->err.code));
    problem_write(&c->out, &(struct problem){ .code = job->err.code,
                                              .detail = job->err.msg,
                                              .instance = c->path,
                                              .request_id = c->id,
                                              .faults = &f });
    buf_putc(&c->out, '}');
}

void api_batch_reply(struct call *c)
{
    const uint64_t start = clock_ns();
    buf_puts(&c->out, "{\"results\":[");
    for (int32_t i = 0; i < c->n_jobs; i++) {
        if (i) buf_putc(&c->out, ',');
        if (c->job[i].err.code) {
            write_failed(c, i);
            continue;
        }
        buf_puts(&c->out, "{\"status\":200,\"result\":");
        write_answer(c, i, false);
        buf_putc(&c->out, '}');
    }
    buf_puts(&c->out, "],\"took_ms\":");
    reply_num(&c->out, clock_ms_since(c->start_ns), 4);
    buf_puts(&c->out, "}\n");
    write_timing(c, &c->job[0].answer, start);
}

/* ---- vectors --------------------------------------------------------------------------------- */

static void write_base64(struct buf *b, const void *data, size_t n)
{
    static const char digit[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *s = data;
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        unsigned x = (unsigned)s[i] << 16;
        if (left > 1) x |= (unsigned)s[i + 1] << 8;
        if (left > 2) x |= s[i + 2];
        char four[4] = { digit[x >> 18], digit[x >> 12 & 63],
                         left > 1 ? digit[x >> 6 & 63] : '=', left > 2 ? digit[x & 63] : '=' };
        buf_put(b, four, 4);
    }
}

static void write_vector(struct buf *b, const float *v, int32_t n, enum req_format format)
{
    if (format ==
        REQ_BASE64) { /* little-endian float32, as every supported machine stores it */
        buf_putc(b, '"');
        write_base64(b, v, (size_t)n * sizeof *v);
        buf_putc(b, '"');
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        buf_putc(b, i ? ',' : '[');
        reply_num(b, (double)v[i], 9);
    }
    buf_putc(b, ']');
}

static void write_vectors(struct buf *b, const struct rec_answer *a, const struct gen *g,
                          enum req_format format)
{
    const struct gen_info *i = gen_info(g);
    float active = model_config(gen_model(g))->active_share;
    buf_puts(b, "{\"model\":{\"name\":");
    buf_json_str(b, i->name, strlen(i->name));
    buf_printf(b, ",\"version\":\"%" PRId64 "\"},\"dim\":%d,\"interests\":[", i->version, i->D);
    for (int32_t k = 0; k < a->n_interests; k++) {
        const double share = (double)a->interest[k].share;
        buf_printf(b, "%s{\"index\":%d,\"active\":%s,\"share\":", k ? "," : "", k,
                   share >= (double)active ? "true" : "false");
        reply_num(b, share, 9);
        buf_puts(b, ",\"vector\":");
        write_vector(b, a->phi + (size_t)k * (size_t)i->D, i->D, format);
        buf_putc(b, '}');
    }
    buf_printf(b, "],\"history\":{\"received\":%d,\"used\":%d,\"unknown\":%d,\"truncated\":%d}",
               a->received, a->used, a->unknown, a->truncated);
}

void api_encode_reply(struct call *c)
{
    const uint64_t start = clock_ns();
    const struct rec_job *job = &c->job[0];
    if (failed(c, job)) return;
    write_vectors(&c->out, &job->answer, c->gen, c->req->format);
    buf_puts(&c->out, ",\"took_ms\":");
    reply_num(&c->out, clock_ms_since(c->start_ns), 4);
    buf_puts(&c->out, "}\n");
    metrics_history(&c->app->metrics, job->answer.used, job->answer.unknown,
                    job->answer.truncated);
    write_timing(c, &job->answer, start);
}

/* ---- scores ---------------------------------------------------------------------------------- */

void api_rank_reply(struct call *c)
{
    const struct score_answer *a = &c->scores;
    score_reply(&c->out, a, c->gen, c->score, clock_ms_since(c->start_ns));
    buf_putc(&c->out, '\n');
    metrics_stage(&c->app->metrics, STAGE_HISTORY, c->parse_ms);
    metrics_stage(&c->app->metrics, STAGE_ENCODE, a->rank_ms);
    metrics_history(&c->app->metrics, a->used, a->missing, a->truncated);
    add_timing(&c->timing, "history", c->parse_ms);
    add_timing(&c->timing, "rank", a->rank_ms);
    add_timing(&c->timing, "total", clock_ms_since(c->start_ns));
}

/* ---- models ---------------------------------------------------------------------------------- */

static void text_member(struct buf *b, const char *name, const char *value)
{
    buf_printf(b, ",\"%s\":", name);
    if (value)
        buf_json_str(b, value, strlen(value));
    else
        buf_puts(b, "null");
}

/* What changed beside the index. */
static void delta_member(struct buf *b, const struct lives *lives, const char *name)
{
    struct live *l = lives_find(lives, name, strlen(name));
    if (!l) return; /* a rank model */
    struct live_view *v = live_take(l);
    buf_printf(b, ",\"delta\":{\"items\":%d,\"tombstones\":%d,\"other_space\":%d}", v->n_alive,
               v->n_deleted, v->n_other);
    live_drop(v);
}

static void write_model(struct buf *b, const struct gen *g, const char *default_name,
                        const struct lives *lives)
{
    const struct gen_info *i = gen_info(g);
    buf_puts(b, "{\"name\":");
    buf_json_str(b, i->name, strlen(i->name));
    buf_printf(b, ",\"version\":\"%" PRId64 "\",\"state\":\"ready\",\"default\":%s", i->version,
               default_name && strcmp(default_name, i->name) == 0 ? "true" : "false");
    buf_printf(b, ",\"items\":%d,\"dim\":%d,\"interests\":%d,\"max_history\":%d", i->n_items,
               i->D, i->K, i->L);
    text_member(b, "kind", i->kind == GEN_RANK ? "rank" : "retrieval");
    text_member(b, "index", i->kind == GEN_RANK ? NULL : i->index_type);
    text_member(b, "recipe", i->recipe);
    text_member(b, "created", i->created);
    text_member(b, "sha256", i->sha256);
    delta_member(b, lives, i->name);
    buf_puts(b, ",\"self_test_recall\":");
    reply_num(b, i->recall, 6);
    buf_puts(b, ",\"load_ms\":");
    reply_num(b, i->load_ms, 6);
    buf_putc(b, '}');
}

void api_models(struct call *c)
{
    struct catalog *cat = atomic_load(&c->app->catalog);
    struct buf *b = &c->out;
    const char *name = catalog_default(cat);
    buf_puts(b, "{\"models\":[");
    for (int i = 0; i < catalog_count(cat); i++) {
        if (i) buf_putc(b, ',');
        write_model(b, catalog_at(cat, i), name, c->app->lives);
    }
    buf_puts(b, "]");
    text_member(b, "default", name);
    buf_puts(b, ",\"refused\":[");
    for (int i = 0; i < catalog_failed(cat); i++) {
        buf_puts(b, i ? ",{\"name\":" : "{\"name\":");
        buf_json_str(b, catalog_failed_name(cat, i), strlen(catalog_failed_name(cat, i)));
        buf_printf(b, ",\"version\":\"%" PRId64 "\"", catalog_failed_version(cat, i));
        text_member(b, "reason", catalog_failed_reason(cat, i));
        buf_putc(b, '}');
    }
    buf_puts(b, "]}\n");
}

void api_model(struct call *c)
{
    struct catalog *cat = atomic_load(&c->app->catalog);
    struct err e = { 0 };
    struct gen *g = catalog_take(cat, c->tail, strlen(c->tail), &e);
    if (!g) {
        call_fail(c, e.code, "%s", e.msg);
        return;
    }
    write_model(&c->out, g, catalog_default(cat), c->app->lives);
    buf_putc(&c->out, '\n');
    gen_unref(g);
}
