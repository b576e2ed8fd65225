#include "server/http.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "server/lane.h"
#include "server/writer.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <microhttpd.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    ROUND_MS = 100, /* a thread looks at least so often whether it is to stop */
    /* The library reads headers into half of it, and clears all of it after every request: where much is refused nothing
     * costs more. */
    CONNECTION_BYTES = 12 << 10,
    HEADER_BYTES = 64,  /* of it for each header beside its text */
    REPLY_BYTES = 1024, /* of it for a reply's head */
};

struct loop { /* a thread, its connections and what waits on them */
    struct http *http;
    struct app *app;
    struct MHD_Daemon *mhd;
    struct lane *lane;
    pthread_t thread;
    int epoll_fd; /* the library's */
    int wake_fd;  /* readable when the inbox is not empty */
    pthread_mutex_t mu;
    struct newcomers {
        int *fd;
        int n, cap;
    } inbox;            /* GUARDED_BY(mu): connections that others took in for it */
    atomic_int n_conns; /* its own, and those of the inbox */
    int writing;        /* owner: requests that are with the writer */
    bool quiet;         /* owner: takes no more connections */
    bool full;          /* owner: could take none for want of a descriptor */
};

struct http {
    struct app *app;
    int listen_fd;
    struct writer *writer;
    struct loop *loop; /* [n_loops] */
    int n_loops;
    atomic_bool quiesce, stop;
    atomic_int n_quiet; /* loops that have quiesced */
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
    add(r, "Server-Timing", c->timing.len ? c->timing.data : NULL);
    add(r, "Allow", c->allow);
    if (c->retry_after_s) add(r, "Retry-After", seconds);
    if (call_closes(c)) add(r, "Connection", "close");
    enum MHD_Result queued = MHD_queue_response(mc, (unsigned)c->status, r);
    c->replied = queued == MHD_YES;
    MHD_destroy_response(r);
    return queued;
}

/* Replies at once, or lets the request wait for its batch. */
static enum MHD_Result run(struct loop *l, struct call *c, struct MHD_Connection *mc)
{
    if (c->route->stores && !c->fail.code && c->method != METHOD_GET &&
        c->method != METHOD_HEAD) {
        c->connection = mc;
        c->loop = l;
        c->writing = true;
        l->writing++;
        MHD_suspend_connection(mc);
        writer_add(l->http->writer, c);
        return MHD_YES;
    }
    /* Refused before the body is looked at: under load a refusal has to be cheap. */
    if (!c->fail.code && c->route->finish) (void)lane_admit(l->lane, c, 0);
    if (!call_run(c)) return send_reply(c, mc);
    if (!lane_admit(l->lane, c, c->n_jobs)) {
        call_finish(c);
        return send_reply(c, mc);
    }
    c->connection = mc;
    MHD_suspend_connection(mc);
    lane_add(l->lane, c);
    return MHD_YES;
}

/* The library closes a connection in silence when the request's head left no room for the reply's. */
static bool leaves_room(struct MHD_Connection *mc)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mc, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    const int n = MHD_get_connection_values(mc, MHD_HEADER_KIND, NULL, NULL) +
                  MHD_get_connection_values(mc, MHD_GET_ARGUMENT_KIND, NULL, NULL);
    return info &&
           info->header_size + (size_t)n * HEADER_BYTES + REPLY_BYTES <= CONNECTION_BYTES;
}

static enum MHD_Result refuse_head(struct call *c)
{
    struct buf b = { .cap_max = CONNECTION_BYTES };
    call_write_whole(&b, c, ERR_HEADERS, "the request line and the headers are too large");
    conns_last_word(c->conn, &b);
    buf_free(&b);
    c->status = err_http(ERR_HEADERS);
    c->replied = true;
    return MHD_NO;
}

static enum MHD_Result on_headers(struct loop *l, struct MHD_Connection *mc, const char *url,
                                  const char *method, void **con_cls)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (!info || !info->socket_context) return MHD_NO;
    struct call *c = call_take(l->app, info->socket_context);
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
                                       .expect = header(mc, "Expect"),
                                       .timeout_ms = header(mc, "X-Request-Timeout-Ms") });
    if (!leaves_room(mc)) return refuse_head(c);
    if (!conns_set(c->conn, c->early ? CONN_BUSY : CONN_BODY, c)) return MHD_NO;
    /* Even without a body the answer waits for the next call: the library takes a reply from here for a
     * refusal to read on, and closes the connection after it. */
    return c->early ? run(l, c, mc) : MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mc, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *nb_data, void **con_cls)
{
    (void)version;
    struct loop *l = cls;
    struct call *c = *con_cls;
    if (!c) return on_headers(l, mc, url, method, con_cls);
    if (c->writing) { /* resumed by the writer: the reply is there */
        c->writing = false;
        l->writing--;
        return send_reply(c, mc);
    }
    if (c->served) return MHD_NO; /* resumed without a reply: nothing is computed again */
    if (*nb_data) {
        bool more = call_body(c, data, *nb_data);
        *nb_data = 0;
        return more ? MHD_YES : MHD_NO;
    }
    if (!conns_set(c->conn, CONN_BUSY, c)) return MHD_NO;
    return run(l, c, mc);
}

/* The reply is sent, or never will be. */
static void on_completed(void *cls, struct MHD_Connection *mc, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
    (void)mc;
    struct loop *l = cls;
    struct app *app = l->app;
    struct call *c = *con_cls;
    if (!c) return; /* refused by the library: no valid request */
    bool sent = why == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    bool alive = conns_set(c->conn, CONN_WAIT, NULL);
    int status = c->replied ? c->status : 499;
    if (!c->replied && !alive) status = 408;
    uint64_t ns = clock_ns() - c->start_ns;
    if (c->writing) l->writing--; /* its client went away meanwhile */
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
    struct app *app = ((struct loop *)cls)->app;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*context) conns_close(*context);
        *context = NULL;
        atomic_fetch_sub(&((struct loop *)cls)->n_conns, 1);
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
    const unsigned most = (unsigned)cfg->max_connections, own = 64;
    unsigned want = most + most / 4 + 64;
    struct rlimit fds;
    if (getrlimit(RLIMIT_NOFILE, &fds) < 0) return want;
    if (fds.rlim_cur < want + own && fds.rlim_cur < fds.rlim_max) {
        fds.rlim_cur = fds.rlim_max < want + own ? fds.rlim_max : want + own;
        (void)setrlimit(RLIMIT_NOFILE, &fds);
    }
    if (fds.rlim_cur >= want + own) return want;
    log_warn("http.few_descriptors",
             "max_connections=%u descriptors=%lu hint=\"raise ulimit -n\"", most,
             (unsigned long)fds.rlim_cur);
    return fds.rlim_cur > 2 * own ? (unsigned)fds.rlim_cur - own : own;
}

static void wake(struct loop *l)
{
    const uint64_t one = 1;
    (void)!write(l->wake_fd, &one, sizeof one);
}

/* On the writer's thread.  The library wakes its own threads only. */
static void on_written(struct call *c)
{
    struct loop *l = c->loop;
    MHD_resume_connection(c->connection); /* c may be gone from here on */
    wake(l);
}

/* Those whose answers are there go on, in the next round of the library. */
static void serve(struct loop *l)
{
    struct call *next, *c = lane_serve(l->lane);
    for (; c; c = next) {
        struct MHD_Connection *mc = c->connection;
        next = c->next;
        c->served = true;
        if (send_reply(c, mc) != MHD_YES)
            log_error("http.no_reply", "id=%s status=%d", c->id, c->status);
        MHD_resume_connection(mc);
    }
}

/* ---- new connections: whoever sees them takes them in, for the thread that has fewest ---- */

static struct loop *idlest(const struct http *h)
{
    struct loop *best = &h->loop[0];
    for (struct loop *l = best + 1; l < h->loop + h->n_loops; l++)
        if (atomic_load(&l->n_conns) < atomic_load(&best->n_conns)) best = l;
    return best;
}

static void adopt(struct loop *l, int fd)
{
    struct sockaddr_storage ss = { 0 };
    socklen_t len = sizeof ss;
    (void)getpeername(fd, (struct sockaddr *)&ss, &len);
    if (MHD_add_connection(l->mhd, fd, (struct sockaddr *)&ss, len) == MHD_YES) return;
    atomic_fetch_sub(&l->n_conns, 1);
    log_warn("http.refused", "reason=\"%s\"", strerror(errno));
}

static void hand_over(struct loop *to, int fd)
{
    struct newcomers *in = &to->inbox;
    pthread_mutex_lock(&to->mu);
    if (in->n == in->cap) {
        in->cap = in->cap ? 2 * in->cap : 16;
        in->fd = xrealloc(in->fd, (size_t)in->cap, sizeof *in->fd);
    }
    in->fd[in->n++] = fd;
    pthread_mutex_unlock(&to->mu);
    wake(to);
}

/* Where no descriptor is left the connection stays with the kernel: it is tried again in the next round, and poll is not
 * to wake for it meanwhile. */
static void take_in(struct loop *l)
{
    int fd;
    while ((fd = accept4(l->http->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct loop *to = idlest(l->http);
        atomic_fetch_add(&to->n_conns, 1);
        if (to == l)
            adopt(l, fd);
        else
            hand_over(to, fd);
    }
    const bool full = errno == EMFILE || errno == ENFILE;
    if (full && !l->full) log_warn("http.no_descriptors", "hint=\"raise ulimit -n\"");
    l->full = full;
}

static void empty_inbox(struct loop *l)
{
    uint64_t n;
    (void)!read(l->wake_fd, &n, sizeof n);
    pthread_mutex_lock(&l->mu);
    struct newcomers in = l->inbox;
    l->inbox = (struct newcomers){ 0 };
    pthread_mutex_unlock(&l->mu);
    for (int i = 0; i < in.n; i++) adopt(l, in.fd[i]);
    free(in.fd);
}

/* ---- the threads ---- */

/* Until something has come, at most ms.  Not by MHD_run_wait: given a time, the library's epoll loop sleeps again when it was
 * woken by exactly as many events as it takes at once. */
static void wait_for_clients(struct loop *l, int ms)
{
    MHD_UNSIGNED_LONG_LONG due = ROUND_MS;
    struct pollfd p[] = { { .fd = l->epoll_fd, .events = POLLIN },
                          { .fd = l->wake_fd, .events = POLLIN },
                          { .fd = l->quiet || l->full ? -1 : l->http->listen_fd,
                            .events = POLLIN } };
    if (MHD_get_timeout(l->mhd, &due) == MHD_YES && due < (unsigned)ms) ms = (int)due;
    if (poll(p, 3, ms) < 0) return;
    if (p[2].revents || (l->full && !l->quiet)) take_in(l);
    if (p[1].revents) empty_inbox(l);
}

static void *go_round(void *arg)
{
    struct loop *l = arg;
    struct http *h = l->http;
    bool busy = false;
    while (!atomic_load_explicit(&h->stop, memory_order_relaxed)) {
        wait_for_clients(l, busy ? 0 : ROUND_MS);
        (void)MHD_run(l->mhd);
        if (!l->quiet && atomic_load_explicit(&h->quiesce, memory_order_relaxed)) {
            take_in(l); /* what the kernel had accepted is still served */
            l->quiet = true;
            atomic_fetch_add(&h->n_quiet, 1);
        }
        busy = lane_waits(l->lane);
        if (busy)
            serve(l); /* their replies are sent by the next round, so don't wait before it */
    }
    while (lane_waits(l->lane) || l->writing) {
        serve(l);
        (void)MHD_run(l->mhd);
    }
    (void)MHD_run(l->mhd);
    empty_inbox(l); /* to be closed with the others */
    MHD_stop_daemon(l->mhd);
    return NULL;
}

static int loop_open(struct loop *l, struct http *h, unsigned room, struct err *e)
{
    struct app *app = h->app;
    const int n = h->n_loops;
    l->http = h;
    l->app = app;
    pthread_mutex_init(&l->mu, NULL);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->wake_fd < 0) return err_sys(e, ERR_IO, "eventfd");
    struct MHD_OptionItem options[] = {
        { MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, l },
        { MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, l },
        { MHD_OPTION_CONNECTION_LIMIT, room, NULL },
        /* whoever does not read; suspended connections are exempt */
        { MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)app->cfg.idle_timeout + 1, NULL },
        { MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES, NULL },
        { MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL },
        { MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)on_unescape, NULL },
        { MHD_OPTION_END, 0, NULL },
    };
    l->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME |
                                  MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG,
                              0, NULL, NULL, on_request, l, MHD_OPTION_EXTERNAL_LOGGER, on_log,
                              NULL, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    if (!l->mhd) return err_sys(e, ERR_IO, "the HTTP server did not start with %d threads", n);
    l->epoll_fd = MHD_get_daemon_info(l->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    l->lane = lane_new(app, &(struct lane_cfg){ .queue_rows = (app->cfg.queue_rows + n - 1) / n,
                                                .queue_ms = (double)app->cfg.queue_ms,
                                                .degrade = app->cfg.degrade,
                                                .batch_rows = app->cfg.batch_rows });
    return 0;
}

static void loops_free(struct http *h)
{
    writer_free(h->writer);
    for (int i = 0; i < h->n_loops; i++) {
        struct loop *l = &h->loop[i];
        if (!l->http) continue; /* not opened */
        lane_free(l->lane);
        if (l->wake_fd >= 0) close(l->wake_fd);
        pthread_mutex_destroy(&l->mu);
    }
    close(h->listen_fd);
    free(h->loop);
    free(h);
}

int http_start(struct http **out, struct app *app, int listen_fd, struct err *e)
{
    struct http *h = xcalloc(1, sizeof *h);
    *h = (struct http){ .app = app, .listen_fd = listen_fd, .n_loops = app->threads };
    h->writer = writer_new(on_written);
    h->loop = xcalloc((size_t)h->n_loops, sizeof *h->loop);
    int rc = 0, n = 0;
    /* each new one goes to the thread that has fewest */
    const unsigned threads = (unsigned)h->n_loops, room = connection_room(&app->cfg);
    for (; n < h->n_loops && rc == 0; n++) {
        rc = loop_open(&h->loop[n], h, (room + threads - 1) / threads, e);
        if (rc == 0 && pthread_create(&h->loop[n].thread, NULL, go_round, &h->loop[n]) != 0) {
            MHD_stop_daemon(h->loop[n].mhd);
            rc = err_sys(e, ERR_IO, "starting serving thread %d of %d", n + 1, h->n_loops);
        }
    }
    if (rc == 0) {
        *out = h;
        return 0;
    }
    atomic_store(&h->stop, true);
    for (int i = 0; i < n - 1; i++) pthread_join(h->loop[i].thread, NULL);
    loops_free(h);
    return rc;
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
    const struct timespec pause = { .tv_nsec = 1000000 };
    atomic_store(&h->quiesce, true);
    while (atomic_load(&h->n_quiet) < h->n_loops) nanosleep(&pause, NULL);
    /* Not close: a thread of the library may still hold the number. */
    shutdown(h->listen_fd, SHUT_RDWR);
}

void http_stop(struct http *h)
{
    if (!h) return;
    atomic_store(&h->stop, true);
    for (int i = 0; i < h->n_loops; i++) pthread_join(h->loop[i].thread, NULL);
    loops_free(h);
}
