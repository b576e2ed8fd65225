#include "server/call.h"
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "server/header.h"
#include "server/problem.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ARENA_FIRST = 32 << 10,
    ARENA_CAP = 16 << 20,     /* a body of 2 MiB, all ids, unpacked, fits */
    KEEP_BYTES = 64 << 10,    /* a pooled call holds no buffer larger than this */
    BODIES_BYTES = 256 << 20, /* of all requests together */
    BODY_DROPPED = 16 << 20 /* of a refused body this much is read, for a reply that is seen */
};

struct calls {
    pthread_mutex_t mu;
    struct call *idle; /* GUARDED_BY(mu) */
    int out;           /* GUARDED_BY(mu): taken */
};

struct calls *calls_new(void)
{
    struct calls *pool = xcalloc(1, sizeof *pool);
    pthread_mutex_init(&pool->mu, NULL);
    return pool;
}

static void call_free(struct call *c)
{
    arena_free(c->arena);
    buf_free(&c->body);
    buf_free(&c->timing);
    buf_free(&c->out);
    free(c);
}

void calls_free(struct calls *pool)
{
    REQUIRE(pool->out == 0, "%d requests never ended", pool->out);
    for (struct call *c = pool->idle, *next; c; c = next) {
        next = c->next;
        call_free(c);
    }
    pthread_mutex_destroy(&pool->mu);
    free(pool);
}

static struct call *call_new(void)
{
    struct call *c = xcalloc(1, sizeof *c);
    c->arena = arena_new("request", ARENA_FIRST, ARENA_CAP);
    c->body.cap_max = LIMIT_BODY_BYTES + 1;
    c->timing.cap_max = 512;
    c->out.cap_max = LIMIT_REPLY_BYTES;
    return c;
}

struct call *call_take(struct app *app, struct conn *conn)
{
    struct calls *pool = app->calls;
    pthread_mutex_lock(&pool->mu);
    struct call *c = pool->idle;
    if (c) pool->idle = c->next;
    pool->out++;
    pthread_mutex_unlock(&pool->mu);
    if (!c) c = call_new();
    c->app = app;
    c->conn = conn;
    c->start_ns = clock_ns();
    atomic_store(&c->holders, 1);
    return c;
}

/* Ready for the next request; memory that one large request needed is given back. */
static void clear(struct call *c)
{
    struct arena *arena = c->arena;
    struct buf body = c->body, timing = c->timing, out = c->out;
    live_drop(c->view);
    gen_unref(c->gen);
    if (arena_peak(arena) > KEEP_BYTES) {
        arena_free(arena);
        arena = arena_new("request", ARENA_FIRST, ARENA_CAP);
    }
    arena_reset(arena);
    atomic_fetch_sub(&c->app->body_bytes, c->nb_counted);
    if (body.cap > KEEP_BYTES) buf_free(&body);
    if (out.cap > KEEP_BYTES) buf_free(&out);
    buf_clear(&body);
    buf_clear(&timing);
    buf_clear(&out);
    memset(c, 0, sizeof *c);
    c->arena = arena;
    c->body = body;
    c->timing = timing;
    c->out = out;
}

void call_hold(struct call *c) { atomic_fetch_add(&c->holders, 1); }

void call_drop(struct call *c)
{
    if (atomic_fetch_sub(&c->holders, 1) > 1) return;
    struct calls *pool = c->app->calls;
    clear(c);
    pthread_mutex_lock(&pool->mu);
    c->next = pool->idle;
    pool->idle = c;
    pool->out--;
    pthread_mutex_unlock(&pool->mu);
}

void call_fail(struct call *c, int code, const char *fmt, ...)
{
    if (c->fail.code) return;
    c->fail.code = code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->fail.msg, sizeof c->fail.msg, fmt, ap);
    va_end(ap);
}

/* ---- from the headers ------------------------------------------------------------------------ */

static enum metrics_method method_of(const char *s)
{
    unsigned m = METHOD_GET;
    while (m < METHOD_OTHER && strcmp(s, metrics_method_name(m)) != 0) m++;
    return (enum metrics_method)m;
}

/* Text for as long as the request lives; "" when it is too long. */
static const char *keep(struct call *c, const char *text)
{
    const size_t n = strlen(text) + 1;
    char *copy = arena_try(c->arena, n);
    return copy ? memcpy(copy, text, n) : "";
}

static void check_method(struct call *c, const struct call_head *h)
{
    if (c->route->methods >> c->method & 1) return;
    struct buf allow = { .cap_max = 64 };
    routes_allow(&allow, c->route);
    c->allow = keep(c, allow.data);
    call_fail(c, ERR_METHOD, "%.20s is not allowed here; use %s", h->method, allow.data);
    buf_free(&allow);
}

static void check_body_headers(struct call *c, const struct call_head *h)
{
    if (!header_is_json(h->content_type))
        call_fail(c, ERR_MEDIA_TYPE, "Content-Type is %.80s; send application/json",
                  h->content_type);
    if (h->content_encoding && strcasecmp(h->content_encoding, "identity") != 0)
        call_fail(c, ERR_MEDIA_TYPE, "Content-Encoding %.40s is not understood",
                  h->content_encoding);
    if (h->content_length && strtoull(h->content_length, NULL, 10) > LIMIT_BODY_BYTES)
        call_fail(c, ERR_LIMIT, "the body has %.20s bytes, the limit is %d", h->content_length,
                  LIMIT_BODY_BYTES);
}

static void check_api(struct call *c, const struct call_head *h)
{
    if (conn_over(c->conn)) {
        metrics_shed(&c->app->metrics, SHED_CONNECTIONS);
        call_fail(c, ERR_OVERLOADED, "more than %d connections", c->app->cfg.max_connections);
    }
    if (!header_accepts_json(h->accept))
        call_fail(c, ERR_NOT_ACCEPTABLE,
                  "the reply is application/json, which Accept: %.80s excludes", h->accept);
    if (c->method == METHOD_POST || c->method == METHOD_PUT) check_body_headers(c, h);
    if (!atomic_load(&c->app->catalog))
        call_fail(c, ERR_NOT_READY, "the models are being loaded");
}

static bool is_true(const char *query_value, bool absent)
{
    if (!query_value) return absent;
    return strcmp(query_value, "false") != 0 && strcmp(query_value, "0") != 0;
}

void call_begin(struct call *c, const struct call_head *h)
{
    if (header_good_id(h->request_id))
        snprintf(c->id, sizeof c->id, "%s", h->request_id);
    else
        app_new_id(c->app, c->id);
    c->method = method_of(h->method);
    c->path = keep(c, h->path);
    c->model = h->model ? keep(c, h->model) : NULL;
    c->route = routes_find(c->path, c->method, &c->tail);
    c->strict = is_true(h->strict, true);
    c->verbose = is_true(h->verbose, false);
    c->has_body =
        h->transfer_encoding || (h->content_length && strtoull(h->content_length, NULL, 10));

    if (!c->route->run)
        call_fail(c, ERR_NOT_FOUND, "no such path: %.200s", c->path);
    else
        check_method(c, h);
    if (!c->fail.code && c->route->kind == ROUTE_API) check_api(c, h);
    /* A client that waits for "100 Continue", or has too much to send, hears of its failure at once. */
    bool large = h->content_length && strtoull(h->content_length, NULL, 10) > LIMIT_BODY_BYTES;
    c->early = c->fail.code && c->has_body && (h->expect || large);
    int ms = c->route->finish ? header_timeout_ms(h->timeout_ms) : 0;
    if (ms < 0)
        call_fail(c, ERR_INVALID, "X-Request-Timeout-Ms is %.40s, not 1 to 3600000",
                  h->timeout_ms);
    if (ms > 0) c->deadline_ns = c->start_ns + (uint64_t)ms * 1000000;
}

bool call_body(struct call *c, const char *data, size_t n)
{
    c->nb_body += n;
    if (c->nb_body > LIMIT_BODY_BYTES)
        call_fail(c, ERR_LIMIT, "the body has more than %d bytes", LIMIT_BODY_BYTES);
    if (!c->fail.code) {
        c->nb_counted += n;
        if (atomic_fetch_add(&c->app->body_bytes, n) + n > BODIES_BYTES) {
            metrics_shed(&c->app->metrics, SHED_BODIES);
            call_fail(c, ERR_OVERLOADED, "too many large requests at once");
        }
    }
    if (c->fail.code)
        buf_free(&c->body);
    else
        buf_put(&c->body, data, n);
    return c->nb_body <= BODY_DROPPED;
}

/* ---- to the reply ---------------------------------------------------------------------------- */

static int status_of(const struct call *c)
{
    if (c->fail.code == ERR_OVERLOADED && c->app->cfg.overload_status == CFG_503) return 503;
    return err_http(c->fail.code);
}

static void write_problem(struct call *c)
{
    c->status = status_of(c);
    if (c->status == 429 || c->status == 503)
        c->retry_after_s = 1 + (c->retry_after_ms > 0 ? (c->retry_after_ms - 1) / 1000 : 0);
    c->type = PROBLEM_TYPE;
    c->model_version[0] = '\0';
    buf_clear(&c->timing);
    buf_clear(&c->out);
    problem_write(&c->out, &(struct problem){ .code = c->fail.code,
                                              .status = c->status,
                                              .detail = c->fail.msg,
                                              .instance = c->path,
                                              .request_id = c->id,
                                              .faults = &c->faults,
                                              .retry_after_s = c->retry_after_s,
                                              .retry_after_ms = c->retry_after_ms });
}

/* What the reply is, now that the work is done or failed. */
static void end(struct call *c)
{
    if (!c->fail.code && c->out.failed)
        call_fail(c, ERR_LIMIT, "the reply has more than %d bytes; ask for less at once",
                  LIMIT_REPLY_BYTES);
    if (!c->fail.code) return;
    char why[LOG_VALUE];
    write_problem(c);
    if (c->status >= 500 && c->fail.code != ERR_OVERLOADED && c->fail.code != ERR_NOT_READY &&
        c->fail.code != ERR_DEADLINE)
        log_error("http.failed", "id=%s route=%s status=%d reason=%s", c->id, c->route->name,
                  c->status, log_value(why, sizeof why, c->fail.msg));
}

bool call_run(struct call *c)
{
    c->status = 200;
    c->type = "application/json";
    if (!c->fail.code) c->route->run(c);
    if (!c->fail.code && c->route->finish) return true;
    end(c);
    return false;
}

void call_finish(struct call *c)
{
    if (!c->fail.code) c->route->finish(c);
    end(c);
}

void call_write_whole(struct buf *out, const struct call *c, int code, const char *detail)
{
    struct buf body = { .cap_max = 4096 };
    problem_write(
        &body, &(struct problem){
                   .code = code, .detail = detail, .instance = c->path, .request_id = c->id });
    buf_printf(out,
               "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: " PROBLEM_TYPE
               "\r\nX-Request-Id: %s\r\nCache-Control: no-store\r\nContent-Length: %zu\r\n\r\n",
               err_http(code), err_title(code), c->id, body.len);
    buf_put(out, body.data, body.len);
    buf_free(&body);
}

void call_write_late(struct buf *out, void *arg)
{
    const struct call *c = arg;
    char detail[80];
    snprintf(detail, sizeof detail, "the body did not arrive within %g s",
             (double)c->app->cfg.request_timeout);
    call_write_whole(out, c, ERR_BODY_TIMEOUT, detail);
}

bool call_closes(const struct call *c)
{
    return c->early || conn_over(c->conn) || atomic_load(&c->app->state) == APP_DRAINING;
}
