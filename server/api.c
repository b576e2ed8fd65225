/* /v1: recommendations, vectors, scores, models. */
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/serve/recommend.h"
#include "core/serve/reply.h"
#include "server/call.h"
#include "server/req.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef int parse_fn(struct req_recommend *out, const char *body, size_t n, bool strict,
                     struct arena *a, struct faults *f);

/* The request and the generation that answers it; false: c->fail says why not. */
static bool begin(struct call *c, struct req_recommend *r, struct gen **g, parse_fn *parse,
                  enum gen_kind kind)
{
    if (parse(r, c->body.data, c->body.len, c->strict, c->arena, &c->faults) < 0) {
        const struct fault *first = &c->faults.at[0];
        call_fail(c, first->code, "%s", first->detail);
        if (first->code == ERR_BAD_JSON) c->faults.n = 0; /* no place to point at */
        return false;
    }
    struct err e = { 0 };
    *g = catalog_take_kind(atomic_load(&c->app->catalog), kind, r->model.p,
                           (size_t)r->model.len, &e);
    if (!*g) {
        call_fail(c, e.code, "%s", e.msg);
        return false;
    }
    const struct gen_info *i = gen_info(*g);
    snprintf(c->model_version, sizeof c->model_version, "%s@%" PRId64, i->name, i->version);
    return true;
}

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

static void count_answer(struct server_metrics *m, const struct rec_answer *a, double parse_ms)
{
    metrics_stage(m, STAGE_HISTORY, parse_ms);
    metrics_history(m, a->used, a->unknown, a->truncated);
    metrics_candidates(m, CANDIDATES_RETURNED, a->n_items);
    if (a->fallback) {
        metrics_fallback(m, a->fallback);
        return;
    }
    metrics_stage(m, STAGE_ENCODE, a->encode_ms);
    metrics_stage(m, STAGE_SEARCH, a->search_ms);
    metrics_stage(m, STAGE_MERGE, a->merge_ms);
    metrics_candidates(m, CANDIDATES_FETCHED, a->fetched);
    metrics_candidates(m, CANDIDATES_MERGED, a->after_dedup);
}

/* The answer lives in the worker: it is written out before that goes back. */
static void answer(struct call *c, const struct req_recommend *r, struct gen *g,
                   struct rec_worker *w, double parse_ms)
{
    struct rec_answer a;
    struct err e = { 0 };
    char id[17];
    if (recommend(&a, w, g, &r->rec, &e) < 0) {
        call_fail(c, e.code, "%s", e.msg);
        return;
    }
    recommendation_id(c->app, id);
    uint64_t write_ns = clock_ns();
    reply_recommend(&c->out, &a, g,
                    &(struct reply_opts){ .explain = r->rec.explain,
                                          .recommendation_id = id,
                                          .took_ms = clock_ms_since(c->start_ns) });
    buf_putc(&c->out, '\n');
    double write_ms = clock_ms_since(write_ns);
    metrics_stage(&c->app->metrics, STAGE_SERIALIZE, write_ms);
    count_answer(&c->app->metrics, &a, parse_ms);
    snprintf(c->timing, sizeof c->timing,
             "history;dur=%.3f, encode;dur=%.3f, search;dur=%.3f, merge;dur=%.3f, "
             "serialize;dur=%.3f, "
             "total;dur=%.3f",
             parse_ms, a.encode_ms, a.search_ms, a.merge_ms, write_ms,
             clock_ms_since(c->start_ns));
}

void api_recommend(struct call *c)
{
    struct req_recommend r;
    struct gen *g;
    uint64_t parse_ns = clock_ns();
    if (!begin(c, &r, &g, req_parse_recommend, GEN_RETRIEVAL)) return;
    double parse_ms = clock_ms_since(parse_ns);
    struct rec_worker *w = app_worker_take(c->app);
    answer(c, &r, g, w, parse_ms);
    app_worker_give(c->app, w);
    gen_unref(g);
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

static void write_vectors(struct buf *b, const struct rec_vectors *v, const struct gen *g,
                          enum req_format format)
{
    const struct gen_info *i = gen_info(g);
    float active = model_config(gen_model(g))->active_share;
    buf_puts(b, "{\"model\":{\"name\":");
    buf_json_str(b, i->name, strlen(i->name));
    buf_printf(b, ",\"version\":\"%" PRId64 "\"},\"dim\":%d,\"interests\":[", i->version, i->D);
    for (int32_t k = 0; v->phi && k < v->K; k++) {
        buf_printf(b, "%s{\"index\":%d,\"active\":%s,\"share\":", k ? "," : "", k,
                   v->share[k] >= active ? "true" : "false");
        reply_num(b, (double)v->share[k], 9);
        buf_puts(b, ",\"vector\":");
        write_vector(b, v->phi + (size_t)k * (size_t)v->D, v->D, format);
        buf_putc(b, '}');
    }
    buf_printf(b, "],\"history\":{\"received\":%d,\"used\":%d,\"unknown\":%d,\"truncated\":%d}",
               v->received, v->used, v->unknown, v->truncated);
}

static void encode(struct call *c, const struct req_recommend *r, struct gen *g,
                   struct rec_worker *w, double parse_ms)
{
    struct rec_vectors v;
    struct err e = { 0 };
    uint64_t encode_ns = clock_ns();
    if (rec_encode(&v, w, g, &r->rec, &e) < 0) {
        call_fail(c, e.code, "%s", e.msg);
        return;
    }
    double encode_ms = clock_ms_since(encode_ns);
    write_vectors(&c->out, &v, g, r->format);
    buf_puts(&c->out, ",\"took_ms\":");
    reply_num(&c->out, clock_ms_since(c->start_ns), 4);
    buf_puts(&c->out, "}\n");
    metrics_stage(&c->app->metrics, STAGE_HISTORY, parse_ms);
    metrics_stage(&c->app->metrics, STAGE_ENCODE, encode_ms);
    metrics_history(&c->app->metrics, v.used, v.unknown, v.truncated);
    snprintf(c->timing, sizeof c->timing, "history;dur=%.3f, encode;dur=%.3f, total;dur=%.3f",
             parse_ms, encode_ms, clock_ms_since(c->start_ns));
}

void api_encode(struct call *c)
{
    struct req_recommend r;
    struct gen *g;
    uint64_t parse_ns = clock_ns();
    if (!begin(c, &r, &g, req_parse_encode, GEN_RETRIEVAL)) return;
    double parse_ms = clock_ms_since(parse_ns);
    struct rec_worker *w = app_worker_take(c->app);
    encode(c, &r, g, w, parse_ms);
    app_worker_give(c->app, w);
    gen_unref(g);
}

/* ---- scores ---------------------------------------------------------------------------------- */

static void rank(struct call *c, const struct score_request *r, struct gen *g,
                 struct rec_worker *w, double parse_ms)
{
    struct score_answer a;
    struct err e = { 0 };
    if (score_candidates(&a, rec_worker_tape(w), g, r, &e) < 0) {
        call_fail(c, e.code, "%s", e.msg);
        return;
    }
    score_reply(&c->out, &a, g, r, clock_ms_since(c->start_ns));
    buf_putc(&c->out, '\n');
    metrics_stage(&c->app->metrics, STAGE_HISTORY, parse_ms);
    metrics_stage(&c->app->metrics, STAGE_ENCODE, a.rank_ms);
    metrics_history(&c->app->metrics, a.used, a.missing, a.truncated);
    snprintf(c->timing, sizeof c->timing, "history;dur=%.3f, rank;dur=%.3f, total;dur=%.3f",
             parse_ms, a.rank_ms, clock_ms_since(c->start_ns));
}

void api_rank(struct call *c)
{
    struct req_recommend r;
    struct gen *g;
    uint64_t parse_ns = clock_ns();
    if (!begin(c, &r, &g, req_parse_rank, GEN_RANK)) return;
    const struct score_request s = { .value = r.rank.value,
                                     .n_values = r.rank.n_values,
                                     .history = r.rec.history,
                                     .n_history = r.rec.n_history,
                                     .candidate = r.rank.candidate,
                                     .n_candidates = r.rank.n_candidates,
                                     .strict = c->strict };
    double parse_ms = clock_ms_since(parse_ns);
    struct rec_worker *w = app_worker_take(c->app);
    rank(c, &s, g, w, parse_ms);
    app_worker_give(c->app, w);
    gen_unref(g);
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
