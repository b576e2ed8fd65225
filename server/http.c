#include "server/http.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "server/call.h"
#include <errno.h>
#include <linux/filter.h>
#include <microhttpd.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct http {
    struct app *app;
    struct MHD_Daemon *mhd;
    int listen_fd;
    bool quiet; /* the library has let go of listen_fd */
};

static const char *header(struct MHD_Connection *mc, const char *name)
{
    return MHD_lookup_connection_value(mc, MHD_HEADER_KIND, name);
}

/* A query argument; "" when it has no value, NULL when it is absent. */
static const char *argument(struct MHD_Connection *mc, const char *name)
{
    const char *v = NULL;
    if (MHD_lookup_connection_value_n(mc, MHD_GET_ARGUMENT_KIND, name, strlen(name), &v,
                                      NULL) != MHD_YES)
        return NULL;
    return v ? v : "";
}

static void on_response_free(void *cls) { call_drop(cls); }

static void add(struct MHD_Response *r, const char *name, const char *value)
{
    if (value && value[0]) (void)MHD_add_response_header(r, name, value);
}

static enum MHD_Result send_reply(struct call *c, struct MHD_Connection *mc)
{
    char seconds[16];
    struct MHD_Response *r = MHD_create_response_from_buffer_with_free_callback_cls(
        c->out.len, c->out.data, on_response_free, c);
    if (!r) return MHD_NO;
    call_hold(c);
    snprintf(seconds, sizeof seconds, "%d", c->retry_after_s);
    add(r, "Content-Type", c->type);
    add(r, "X-Request-Id", c->id);
    add(r, "Cache-Control", "no-store");
    add(r, "X-Model-Version", c->model_version);
    add(r, "Server-Timing", c->timing);
    add(r, "Allow", c->allow);
    if (c->retry_after_s) add(r, "Retry-After", seconds);
    if (call_closes(c)) add(r, "Connection", "close");
    enum MHD_Result queued = MHD_queue_response(mc, (unsigned)c->status, r);
    c->replied = queued == MHD_YES;
    MHD_destroy_response(r);
    return queued;
}

static enum MHD_Result run(struct call *c, struct MHD_Connection *mc)
{
    atomic_fetch_add_explicit(&c->app->metrics.inflight, 1, memory_order_relaxed);
    call_run(c);
    atomic_fetch_sub_explicit(&c->app->metrics.inflight, 1, memory_order_relaxed);
    return send_reply(c, mc);
}

static enum MHD_Result on_headers(struct app *app, struct MHD_Connection *mc, const char *url,
                                  const char *method, void **con_cls)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (!info || !info->socket_context) return MHD_NO;
    struct call *c = call_take(app, info->socket_context);
    *con_cls = c;
    call_begin(c, &(struct call_head){ .method = method,
                                       .path = url,
                                       .strict = argument(mc, "strict"),
                                       .verbose = argument(mc, "verbose"),
                                       .model = argument(mc, "model"),
                                       .request_id = header(mc, "X-Request-Id"),
                                       .accept = header(mc, "Accept"),
                                       .content_type = header(mc, "Content-Type"),
                                       .content_encoding = header(mc, "Content-Encoding"),
                                       .content_length = header(mc, "Content-Length"),
                                       .transfer_encoding = header(mc, "Transfer-Encoding"),
                                       .expect = header(mc, "Expect") });
    if (!conns_set(c->conn, c->early ? CONN_BUSY : CONN_BODY, c)) return MHD_NO;
    /* Even without a body the answer waits for the next call: the library takes a reply from here for a
     * refusal to read on, and closes the connection after it. */
    return c->early ? run(c, mc) : MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mc, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *nb_data, void **con_cls)
{
    (void)version;
    struct call *c = *con_cls;
    if (!c) return on_headers(cls, mc, url, method, con_cls);
    if (*nb_data) {
        bool more = call_body(c, data, *nb_data);
        *nb_data = 0;
        return more ? MHD_YES : MHD_NO;
    }
    if (!conns_set(c->conn, CONN_BUSY, c)) return MHD_NO;
    return run(c, mc);
}

/* The reply is sent, or never will be. */
static void on_completed(void *cls, struct MHD_Connection *mc, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
    (void)mc;
    struct app *app = cls;
    struct call *c = *con_cls;
    if (!c) return; /* refused by the library: no valid request */
    bool sent = why == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    bool alive = conns_set(c->conn, CONN_WAIT, NULL);
    int status = c->replied ? c->status : 499;
    if (!c->replied && !alive) status = 408;
    uint64_t ns = clock_ns() - c->start_ns;
    if (c->early && sent) conns_linger(c->conn);
    metrics_request(&app->metrics, routes_index(c->route), c->method, status,
                    c->route->kind == ROUTE_API, ns);
    if (c->route->kind != ROUTE_HEALTH)
        log_debug("http.request", "id=%s route=%s status=%d ms=%.3f", c->id, c->route->name,
                  status, (double)ns * 1e-6);
    *con_cls = NULL;
    call_drop(c);
}

static void on_connection(void *cls, struct MHD_Connection *mc, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct app *app = cls;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*context) conns_close(*context);
        *context = NULL;
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info) *context = conns_open(app->conns, info->connect_fd);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *fmt, va_list ap)
{
    (void)cls;
    char text[512], value[LOG_VALUE];
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    log_debug("http.library", "text=%s", log_value(value, sizeof value, text));
}

/* A path is a C string from here on: "i1%00x" must not become "i1".  0xff is in no UTF-8, and so in no name. */
static size_t on_unescape(void *cls, struct MHD_Connection *mc, char *s)
{
    (void)cls;
    (void)mc;
    const size_t n = MHD_http_unescape(s);
    for (char *nul; (nul = memchr(s, '\0', n));) *nul = (char)0xff;
    return n;
}

/* Beyond max_connections there is room for those who are told to come back, and for health checks. */
static unsigned connection_room(const struct cfg *cfg)
{
    unsigned most = (unsigned)cfg->max_connections, want = most + most / 4 + 64;
    struct rlimit fds;
    if (getrlimit(RLIMIT_NOFILE, &fds) < 0) return want;
    if (fds.rlim_cur < want + 64u && fds.rlim_cur < fds.rlim_max) {
        fds.rlim_cur = fds.rlim_max < want + 64u ? fds.rlim_max : want + 64u;
        (void)setrlimit(RLIMIT_NOFILE, &fds);
    }
    if (fds.rlim_cur >= want + 64u) return want;
    log_warn("http.few_descriptors",
             "max_connections=%u descriptors=%lu hint=\"raise ulimit -n\"", most,
             (unsigned long)fds.rlim_cur);
    return want;
}

int http_start(struct http **out, struct app *app, int listen_fd, struct err *e)
{
    struct http *h = xcalloc(1, sizeof *h);
    h->app = app;
    h->listen_fd = listen_fd;
    struct MHD_OptionItem options[] = {
        { MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL },
        { MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, app },
        { MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, app },
        { MHD_OPTION_CONNECTION_LIMIT, connection_room(&app->cfg), NULL },
        { MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)app->cfg.idle_timeout + 1, NULL },
        { MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL },
        { MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)on_unescape, NULL },
        { app->threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, app->threads, NULL },
        { MHD_OPTION_END, 0, NULL },
    };
    /* poll, not epoll: with 128 connections ready at once the library's epoll loop sleeps on them. */
    h->mhd = MHD_start_daemon(MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_ERROR_LOG, 0,
                              NULL, NULL, on_request, app, MHD_OPTION_EXTERNAL_LOGGER, on_log,
                              NULL, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    if (!h->mhd) {
        free(h);
        return err_sys(e, ERR_IO, "the HTTP server did not start with %d threads",
                       app->threads);
    }
    *out = h;
    return 0;
}

void http_refuse(struct http *h)
{
    /* Closing a listening socket resets connections that it has accepted and nobody has taken yet, whose
     * clients may have sent a request.  So that none is there, the socket first stops hearing SYNs (byte
     * 13 of a TCP header: flags).  A client that repeats its SYN a second later finds the port closed. */
    static struct sock_filter deaf[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TH_SYN | TH_ACK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TH_SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = { sizeof deaf / sizeof *deaf, deaf };
    if (setsockopt(h->listen_fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0)
        log_warn("http.no_filter", "reason=\"%s\"", strerror(errno));
}

void http_quiesce(struct http *h)
{
    if (MHD_quiesce_daemon(h->mhd) == MHD_INVALID_SOCKET) return;
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    int fd;
    while ((fd = accept4(h->listen_fd, (struct sockaddr *)&ss, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (MHD_add_connection(h->mhd, fd, (struct sockaddr *)&ss, len) != MHD_YES)
            log_warn("http.refused", "reason=\"%s\"", strerror(errno));
        len = sizeof ss;
    }
    h->quiet = true;
    /* Not close: a thread of the library may still hold the number. */
    shutdown(h->listen_fd, SHUT_RDWR);
}

void http_stop(struct http *h)
{
    if (!h) return;
    MHD_stop_daemon(h->mhd); /* closes the listening socket unless it was quiesced */
    if (h->quiet) close(h->listen_fd);
    free(h);
}
