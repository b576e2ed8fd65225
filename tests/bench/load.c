/* bench_load — drives an HTTP/1.1 server from one thread, as cheaply as it can, and times it.
 *   bench_load --url http://127.0.0.1:8080/v1/recommend --bodies FILE --connections 64 --seconds 5
 *
 * Closed loop (no --rate): every connection sends its next request when its answer is there; a request's
 * latency begins when it is sent.  Open loop (--rate R): requests are due at times that do not depend on the server,
 * R a second; latency begins when a request is due, so one that had to wait for a free connection has waited in the
 * figures too (no coordinated omission).  A latency counts when its request was due between the end of the warm-up and
 * the end of the run, also when the answer comes up to --timeout seconds after that; those still unsent or unanswered then
 * count with the time they waited in vain.  The throughput is of answers that came between the two.
 *
 * FILE: a JSON body a line, sent as POST in their order from a place that --seed chooses; without it: GET. */
#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/conf.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct cfg {
    char *url, *bodies, *header;
    int32_t connections, arrivals;
    float seconds, warmup, rate, timeout;
    int64_t seed;
    bool json;
};

static const struct opt opts[] = {
    OPT_STR(struct cfg, url, NULL, "http://HOST:PORT/PATH"),
    OPT_STR(struct cfg, bodies, NULL, "file of bodies, one a line; none: GET"),
    OPT_STR(struct cfg, header, NULL, "one more header line, \"Name: value\""),
    OPT_INT(struct cfg, connections, "64", 1, 16384, "connections kept open"),
    OPT_FLOAT(struct cfg, seconds, "5", 0.01, 86400, "seconds that count"),
    OPT_FLOAT(struct cfg, warmup, "1", 0, 3600, "seconds before them"),
    OPT_FLOAT(struct cfg, rate, "0", 0, 1e7, "requests a second, open loop; 0: closed loop"),
    OPT_CHOICE(struct cfg, arrivals, "poisson", "poisson|fixed", "gaps between requests due"),
    OPT_FLOAT(struct cfg, timeout, "10", 0.1, 3600, "seconds to wait for answers at the end"),
    OPT_I64(struct cfg, seed, "1", 0, 1e15, "of gaps and of the first body"),
    OPT_BOOL(struct cfg, json, "false", "print JSON"),
    OPT_END
};

/* ---- latencies: log-linear buckets of .8 % ---------------------------------------------------- */

enum { SUB_BITS = 7, SUB = 1 << SUB_BITS, BUCKETS = (64 - SUB_BITS) * SUB };

struct hist {
    uint64_t n, max;
    double sum;
    uint64_t bucket[BUCKETS];
};

static void hist_add(struct hist *h, uint64_t ns)
{
    uint64_t v = ns | SUB;
    int high = 63 - __builtin_clzll(v);
    size_t at = (size_t)(high - SUB_BITS) * SUB + (size_t)(v >> (high - SUB_BITS) & (SUB - 1));
    h->bucket[at]++;
    h->n++;
    h->sum += (double)ns;
    if (ns > h->max) h->max = ns;
}

/* us; the upper end of the bucket that holds it, 0 without any */
static double hist_us(const struct hist *h, double share)
{
    uint64_t want = (uint64_t)ceil(share * (double)h->n), seen = 0;
    for (size_t i = 0; i < BUCKETS && h->n; i++) {
        seen += h->bucket[i];
        if (seen < want) continue;
        double end = ldexp((double)(SUB + i % SUB + 1), (int)(i / SUB));
        return (end < (double)h->max ? end : (double)h->max) * 1e-3;
    }
    return 0;
}

/* ---- requests ------------------------------------------------------------------------------- */

struct requests {
    struct buf text;
    size_t *begin; /* [n+1] */
    size_t n, next;
};

static void put_request(struct requests *r, const char *host, const char *path,
                        const char *header, const char *body, size_t nb)
{
    r->begin = xrealloc(r->begin, r->n + 2, sizeof *r->begin);
    r->begin[r->n++] = r->text.len;
    buf_printf(&r->text, "%s %s HTTP/1.1\r\nHost: %s\r\n", body ? "POST" : "GET", path, host);
    if (header) buf_printf(&r->text, "%s\r\n", header);
    if (body)
        buf_printf(&r->text, "Content-Type: application/json\r\nContent-Length: %zu\r\n", nb);
    buf_puts(&r->text, "\r\n");
    buf_put(&r->text, body, body ? nb : 0);
    r->begin[r->n] = r->text.len;
}

static int read_requests(struct requests *r, const struct cfg *c, const char *host,
                         const char *path, struct err *e)
{
    char *text;
    size_t nb;
    r->text.cap_max = (size_t)4 << 30;
    if (!c->bodies) {
        put_request(r, host, path, c->header, NULL, 0);
        return 0;
    }
    TRY(io_read_all(&text, &nb, c->bodies, (size_t)2 << 30, e));
    for (char *line = text, *end = text + nb; line < end;) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        if (stop > line) put_request(r, host, path, c->header, line, (size_t)(stop - line));
        line = stop + 1;
    }
    free(text);
    if (r->n == 0) return err_set(e, ERR_EMPTY, "%s has no bodies", c->bodies);
    struct rng rng = rng_make((uint64_t)c->seed, RNG_SAMPLE);
    r->next = rng_below(&rng, (uint32_t)r->n);
    return r->text.failed ? err_set(e, ERR_LIMIT, "%s is too large", c->bodies) : 0;
}

/* ---- one run ---------------------------------------------------------------------------------- */

enum { HEAD_MAX = 8192, EVENTS = 256, STATUSES = 600 };

struct conn {
    int fd;
    bool connected, closing; /* closing: this reply is the connection's last */
    bool busy, retry_after, headed;
    int status;
    const char *out; /* what is left to send */
    size_t n_out;
    uint64_t due_ns; /* when the request in flight was due */
    size_t n_in;     /* bytes in `in` while the head is incomplete */
    size_t body_left;
    char in[HEAD_MAX];
};

struct run {
    const struct cfg *cfg;
    struct addrinfo *addr;
    struct requests requests;
    struct conn *conn;
    struct conn **idle; /* a stack: connections that were used last are warm */
    int32_t n_idle, n_busy;
    int epoll;
    struct rng rng;
    uint64_t begin_ns, end_ns; /* requests due in between count */
    uint64_t due_ns;           /* open loop: when the next request is due */
    struct hist all, ok, refused;
    uint64_t status[STATUSES];
    uint64_t n_replies;           /* of the warm-up too */
    uint64_t in_time, ok_in_time; /* replies between begin and end: the throughput */
    uint64_t broken, reconnects, no_retry_after, unsent, unanswered;
};

static bool open_loop(const struct run *r) { return r->cfg->rate > 0; }

static void die(const char *what)
{
    fprintf(stderr, "bench_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void connect_again(struct run *r, struct conn *c)
{
    if (c->fd >= 0) close(c->fd);
    c->connected = c->closing = c->busy = c->headed = false;
    c->n_in = c->body_left = c->n_out = 0;
    c->fd = socket(r->addr->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    int on = 1;
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, r->addr->ai_addr, r->addr->ai_addrlen) < 0 && errno != EINPROGRESS)
        die("connect");
    /* Edges of both kinds, registered once: no call to change them while requests go through. */
    struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                              .data.ptr = c };
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, c->fd, &ev) < 0) die("epoll_ctl");
}

/* The request in flight is lost. */
static void lose(struct run *r, struct conn *c)
{
    if (c->busy) {
        r->n_busy--;
        r->broken += c->due_ns >= r->begin_ns;
    }
    r->reconnects++;
    connect_again(r, c);
}

static void send_rest(struct run *r, struct conn *c)
{
    ssize_t n = send(c->fd, c->out, c->n_out, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        lose(r, c);
        return;
    }
    if (n < 0) n = 0;
    c->out += n;
    c->n_out -= (size_t)n;
}

static void start(struct run *r, struct conn *c, uint64_t due_ns)
{
    struct requests *q = &r->requests;
    c->out = q->text.data + q->begin[q->next];
    c->n_out = q->begin[q->next + 1] - q->begin[q->next];
    if (++q->next == q->n) q->next = 0;
    c->busy = true;
    c->due_ns = due_ns;
    r->n_busy++;
    send_rest(r, c);
}

static void schedule(struct run *r)
{
    double gap = 1e9 / (double)r->cfg->rate;
    if (r->cfg->arrivals == 0) gap *= -log1p(-rng_f64(&r->rng));
    r->due_ns += (uint64_t)gap;
}

/* What a connection does that has nothing to do. */
static void next(struct run *r, struct conn *c, uint64_t now)
{
    if (!open_loop(r)) {
        if (now < r->end_ns) start(r, c, now);
    } else if (r->due_ns <= now && r->due_ns < r->end_ns) {
        start(r, c, r->due_ns);
        schedule(r);
    } else {
        r->idle[r->n_idle++] = c;
    }
}

static void count(struct run *r, const struct conn *c, uint64_t now)
{
    if (c->due_ns < r->begin_ns) return;
    uint64_t ns = now - c->due_ns;
    hist_add(&r->all, ns);
    r->status[c->status]++;
    if (c->status == 200) hist_add(&r->ok, ns);
    if (c->status != 429 && c->status != 503) return;
    hist_add(&r->refused, ns);
    r->no_retry_after += !c->retry_after;
}

static void finish(struct run *r, struct conn *c)
{
    uint64_t now = clock_ns();
    r->n_replies++;
    if (now >= r->begin_ns && now < r->end_ns) {
        r->in_time++;
        r->ok_in_time += c->status == 200;
    }
    count(r, c, now);
    r->n_busy--;
    c->busy = c->headed = c->retry_after = false;
    c->n_in = 0;
    if (c->closing) {
        r->reconnects++;
        connect_again(r, c); /* goes on when it is connected */
    } else {
        next(r, c, now);
    }
}

static bool field(const char *line, const char *name, size_t nb_name)
{
    return strncasecmp(line, name, nb_name) == 0;
}

/* A head of n bytes, its blank line included; false: not one that this program understands. */
static bool read_head(struct conn *c, const char *p, size_t n)
{
    if (n < 15 || memcmp(p, "HTTP/1.", 7) != 0) return false;
    c->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
    if (c->status < 100 || c->status >= STATUSES) return false;
    bool length = false;
    for (const char *line = p, *end = p + n - 2; line < end;) {
        int letter = *line | 32;
        if (letter == 'c' && field(line, "content-length:", 15)) {
            c->body_left = strtoul(line + 15, NULL, 10);
            length = true;
        } else if (letter == 'c' && field(line, "connection: close", 17)) {
            c->closing = true;
        } else if (letter == 'r' && field(line, "retry-after:", 12)) {
            c->retry_after = true;
        }
        line = memchr(line, '\n', (size_t)(end - line));
        if (!line) break;
        line++;
    }
    return length;
}

/* n more bytes of a head and perhaps of its body; false: the reply is no good */
static bool take_head(struct conn *c, size_t n)
{
    size_t from = c->n_in > 3 ? c->n_in - 3 : 0;
    c->n_in += n;
    const char *end = memmem(c->in + from, c->n_in - from, "\r\n\r\n", 4);
    if (!end) return c->n_in < sizeof c->in;
    size_t nb_head = (size_t)(end - c->in) + 4, nb_body = c->n_in - nb_head;
    if (!read_head(c, c->in, nb_head) || nb_body > c->body_left) return false;
    c->body_left -= nb_body;
    c->headed = true;
    return true;
}

static void receive(struct run *r, struct conn *c)
{
    static char scratch[1 << 16];
    for (;;) {
        char *at = c->headed ? scratch : c->in + c->n_in;
        size_t room = c->headed ? sizeof scratch : sizeof c->in - c->n_in;
        ssize_t n = recv(c->fd, at, room, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        bool good = n > 0 && c->busy; /* nobody asked: not HTTP */
        if (good && c->headed) {
            good = (size_t)n <= c->body_left;
            c->body_left -= good ? (size_t)n : 0;
        } else if (good) {
            good = take_head(c, (size_t)n);
        }
        if (!good) {
            lose(r, c);
            return;
        }
        if (c->headed && c->body_left == 0) {
            finish(r, c);
            return;
        }
        if ((size_t)n < room) return; /* the next edge comes with more */
    }
}

static void remove_idle(struct run *r, const struct conn *c)
{
    for (int32_t i = 0; i < r->n_idle; i++)
        if (r->idle[i] == c) r->idle[i] = r->idle[--r->n_idle];
}

static void on_connected(struct run *r, struct conn *c)
{
    int error = 0;
    socklen_t nb = sizeof error;
    (void)getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &nb);
    errno = error;
    if (error) die("connect");
    c->connected = true;
    next(r, c, clock_ns());
}

static void on_event(struct run *r, struct conn *c, uint32_t events)
{
    if (!c->connected) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) on_connected(r, c);
        return;
    }
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) c->closing = true;
    if (!c->busy && c->closing) { /* the server let go of a connection that waited */
        remove_idle(r, c);
        lose(r, c);
        return;
    }
    if (c->n_out && (events & EPOLLOUT)) send_rest(r, c);
    if (c->busy && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) receive(r, c);
}

/* Handles what happens until until_ns, or the first time that something does. */
static void wait_events(struct run *r, uint64_t until_ns)
{
    struct epoll_event ev[EVENTS];
    uint64_t now = clock_ns(), ns = until_ns > now ? until_ns - now : 0;
    struct timespec most = { .tv_sec = (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u) };
    int n = epoll_pwait2(r->epoll, ev, EVENTS, &most, NULL);
    if (n < 0 && errno != EINTR) die("epoll_pwait2");
    for (int i = 0; i < n; i++) on_event(r, ev[i].data.ptr, ev[i].events);
}

static void send_due(struct run *r)
{
    uint64_t now = clock_ns();
    while (r->n_idle && r->due_ns <= now && r->due_ns < r->end_ns) {
        start(r, r->idle[--r->n_idle], r->due_ns);
        schedule(r);
    }
}

static double cpu_us(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Requests that are due but have neither gone out nor come back: they waited, and that shows. */
static void count_waiting(struct run *r)
{
    uint64_t now = clock_ns();
    for (int32_t i = 0; i < r->cfg->connections; i++) {
        struct conn *c = &r->conn[i];
        if (!c->busy || c->due_ns < r->begin_ns) continue;
        hist_add(&r->all, now - c->due_ns);
        r->unanswered++;
    }
    while (open_loop(r) && r->due_ns < r->end_ns) {
        if (r->due_ns >= r->begin_ns) {
            hist_add(&r->all, now - r->due_ns);
            r->unsent++;
        }
        schedule(r);
    }
}

static void run(struct run *r)
{
    const struct cfg *c = r->cfg;
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll < 0) die("epoll_create1");
    (void)prctl(PR_SET_TIMERSLACK, 1);
    r->rng = rng_make((uint64_t)c->seed, RNG_TEST);
    uint64_t now = clock_ns();
    r->begin_ns = now + (uint64_t)((double)c->warmup * 1e9);
    r->end_ns = r->begin_ns + (uint64_t)((double)c->seconds * 1e9);
    r->due_ns = now;
    for (int32_t i = 0; i < c->connections; i++) {
        r->conn[i].fd = -1;
        connect_again(r, &r->conn[i]);
    }
    while (clock_ns() < r->end_ns) {
        if (open_loop(r)) send_due(r);
        bool idle = open_loop(r) && r->n_idle && r->due_ns < r->end_ns;
        wait_events(r, idle ? r->due_ns : r->end_ns);
    }
    if (open_loop(r)) send_due(r); /* what came due in the last moment */
    uint64_t last = clock_ns() + (uint64_t)((double)c->timeout * 1e9);
    while (r->n_busy && clock_ns() < last) wait_events(r, last);
    count_waiting(r);
}

/* ---- the report ------------------------------------------------------------------------------- */

static void json_hist(const char *name, const struct hist *h)
{
    printf("\"%s\":{\"n\":%" PRIu64 ",\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,"
           "\"p99.9\":%.1f,\"max\":%.1f},",
           name, h->n, h->n ? h->sum / (double)h->n * 1e-3 : 0, hist_us(h, .5), hist_us(h, .9),
           hist_us(h, .99), hist_us(h, .999), (double)h->max * 1e-3);
}

static void print_json(const struct run *r, double own_us)
{
    const struct cfg *c = r->cfg;
    const char *comma = "";
    printf("{\"connections\":%d,\"seconds\":%g,\"rate\":%g,\"replies\":%" PRIu64
           ",\"requests\":%" PRIu64 ",\"rps\":%.1f,\"ok_rps\":%.1f,",
           c->connections, (double)c->seconds, (double)c->rate, r->n_replies, r->all.n,
           (double)r->in_time / (double)c->seconds, (double)r->ok_in_time / (double)c->seconds);
    json_hist("latency_us", &r->all);
    json_hist("ok_us", &r->ok);
    json_hist("refused_us", &r->refused);
    printf("\"status\":{");
    for (int s = 0; s < STATUSES; s++) {
        if (!r->status[s]) continue;
        printf("%s\"%d\":%" PRIu64, comma, s, r->status[s]);
        comma = ",";
    }
    printf("},\"refused_without_retry_after\":%" PRIu64 ",\"broken\":%" PRIu64
           ",\"reconnects\":%" PRIu64 ",\"unsent\":%" PRIu64 ",\"unanswered\":%" PRIu64
           ",\"own_cpu_us\":%.2f}\n",
           r->no_retry_after, r->broken, r->reconnects, r->unsent, r->unanswered, own_us);
}

static void text_hist(const char *name, const struct hist *h)
{
    if (h->n)
        printf("%-9s %9" PRIu64 " p50 %9.1f  p90 %9.1f  p99 %9.1f  p99.9 %9.1f  max %9.1f us\n",
               name, h->n, hist_us(h, .5), hist_us(h, .9), hist_us(h, .99), hist_us(h, .999),
               (double)h->max * 1e-3);
}

static void print_text(const struct run *r, double own_us)
{
    printf("%.1f requests/s, %.1f with 200\n", (double)r->in_time / (double)r->cfg->seconds,
           (double)r->ok_in_time / (double)r->cfg->seconds);
    text_hist("all", &r->all);
    text_hist("200", &r->ok);
    text_hist("429, 503", &r->refused);
    for (int s = 0; s < STATUSES; s++)
        if (r->status[s]) printf("status %d: %" PRIu64 "\n", s, r->status[s]);
    printf("refused without Retry-After %" PRIu64 ", broken %" PRIu64 ", reconnects %" PRIu64
           ", unsent %" PRIu64 ", unanswered %" PRIu64 "; own cost %.2f us a request\n",
           r->no_retry_after, r->broken, r->reconnects, r->unsent, r->unanswered, own_us);
}

/* "http://host:port/path" in its parts; *host and *path are to be freed. */
static int read_url(struct addrinfo **addr, char **host, char **path, const char *url,
                    struct err *e)
{
    const char *p = url && strncmp(url, "http://", 7) == 0 ? url + 7 : NULL;
    if (!p) return err_set(e, ERR_USAGE, "--url http://HOST:PORT/PATH is needed");
    size_t n = strcspn(p, "/");
    *host = xstrndup(p, n);
    *path = xstrdup(p[n] ? p + n : "/");
    char *name = xstrndup(p, n), *colon = strrchr(name, ':');
    if (colon) *colon = '\0';
    struct addrinfo want = { .ai_socktype = SOCK_STREAM };
    int rc = getaddrinfo(name, colon ? colon + 1 : "80", &want, addr);
    free(name);
    return rc ? err_set(e, ERR_USAGE, "%s: %s", *host, gai_strerror(rc)) : 0;
}

static int drive(const struct cfg *c, struct err *e)
{
    struct run *r = xcalloc(1, sizeof *r);
    char *host = NULL, *path = NULL;
    r->cfg = c;
    int rc = read_url(&r->addr, &host, &path, c->url, e);
    if (rc == 0) rc = read_requests(&r->requests, c, host, path, e);
    if (rc == 0) {
        r->conn = xcalloc((size_t)c->connections, sizeof *r->conn);
        r->idle = xcalloc((size_t)c->connections, sizeof(struct conn *));
        double before = cpu_us();
        run(r);
        double own_us = (cpu_us() - before) / (double)(r->n_replies ? r->n_replies : 1);
        (c->json ? print_json : print_text)(r, own_us);
    }
    if (r->addr) freeaddrinfo(r->addr);
    free(r->conn);
    free(r->idle);
    free(r->requests.begin);
    buf_free(&r->requests.text);
    free(r);
    free(host);
    free(path);
    return rc;
}

int main(int argc, char **argv)
{
    struct cfg c = { 0 };
    struct err e = { 0 };
    int n_pos = 0;
    conf_defaults(opts, &c);
    int rc = conf_args(opts, &c, argc, argv, argv, &n_pos, &e);
    if (rc == 0 && n_pos) rc = err_set(&e, ERR_USAGE, "what is %s?", argv[0]);
    if (rc == 1) {
        puts("usage: bench_load --url http://HOST:PORT/PATH [option]...\n");
        conf_help(opts, stdout);
    } else if (rc == 0) {
        rc = drive(&c, &e);
    }
    conf_free(opts, &c);
    if (rc >= 0) return 0;
    fprintf(stderr, "bench_load: %s\n", e.msg);
    return rc == ERR_USAGE ? 2 : 1;
}
