#include "server/conns.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const uint64_t LINGER_NS = 2000000000;
enum { LINGER_BYTES = 32 << 20, LINGER_READS = 8, LATE_BYTES = 8192 };

struct conn {
    struct conns *t;          /* immutable */
    struct conn *prev, *next; /* GUARDED_BY(mu) */
    int fd;                   /* immutable */
    bool over;                /* immutable */
    enum conn_state state;    /* GUARDED_BY(mu) */
    uint64_t since_ns;        /* GUARDED_BY(mu): of the state */
    void *arg;                /* GUARDED_BY(mu) */
};

struct lingering {
    int fd;
    uint64_t until_ns;
    size_t left;
};

struct conns {
    struct conns_cfg cfg; /* immutable */
    pthread_mutex_t mu;
    struct conn head;                      /* GUARDED_BY(mu): ring */
    int n;                                 /* GUARDED_BY(mu) */
    struct lingering linger[CONNS_LINGER]; /* GUARDED_BY(mu) */
    int n_linger;                          /* GUARDED_BY(mu) */
};

struct conns *conns_new(const struct conns_cfg *cfg)
{
    struct conns *t = xcalloc(1, sizeof *t);
    t->cfg = *cfg;
    pthread_mutex_init(&t->mu, NULL);
    t->head.prev = t->head.next = &t->head;
    return t;
}

void conns_free(struct conns *t)
{
    if (!t) return;
    for (int i = 0; i < t->n_linger; i++) close(t->linger[i].fd);
    pthread_mutex_destroy(&t->mu);
    free(t);
}

struct conn *conns_open(struct conns *t, int fd)
{
    struct conn *c = xcalloc(1, sizeof *c);
    c->t = t;
    c->fd = fd;
    c->since_ns = clock_ns();
    pthread_mutex_lock(&t->mu);
    c->over = ++t->n > t->cfg.most;
    c->next = &t->head;
    c->prev = t->head.prev;
    c->prev->next = c->next->prev = c;
    pthread_mutex_unlock(&t->mu);
    return c;
}

void conns_close(struct conn *c)
{
    struct conns *t = c->t;
    pthread_mutex_lock(&t->mu);
    c->prev->next = c->next;
    c->next->prev = c->prev;
    t->n--;
    pthread_mutex_unlock(&t->mu);
    free(c);
}

bool conns_set(struct conn *c, enum conn_state state, void *arg)
{
    pthread_mutex_lock(&c->t->mu);
    bool alive = c->state != CONN_DEAD;
    if (alive) {
        c->state = state;
        c->since_ns = clock_ns();
        c->arg = arg;
    }
    pthread_mutex_unlock(&c->t->mu);
    return alive;
}

bool conn_gone(const struct conn *c)
{
    char byte;
    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

bool conn_over(const struct conn *c) { return c->over; }

void conns_linger(struct conn *c)
{
    struct conns *t = c->t;
    pthread_mutex_lock(&t->mu);
    int fd = t->n_linger < CONNS_LINGER ? fcntl(c->fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (fd >= 0)
        t->linger[t->n_linger++] = (struct lingering){ .fd = fd,
                                                       .until_ns = clock_ns() + LINGER_NS,
                                                       .left = LINGER_BYTES };
    pthread_mutex_unlock(&t->mu);
}

/* True when there is nothing more to wait for.  Few reads at a time: every request waits for the mutex. */
static bool read_away(struct lingering *l, uint64_t now_ns)
{
    char bin[16384];
    if (now_ns > l->until_ns) return true;
    for (int i = 0; i < LINGER_READS; i++) {
        ssize_t n = recv(l->fd, bin, sizeof bin, MSG_DONTWAIT);
        if (n <= 0) return n == 0;
        if ((size_t)n >= l->left) return true;
        l->left -= (size_t)n;
    }
    return false;
}

/* The caller has the lock. */
static void last_word(struct conn *c, const struct buf *b)
{
    if (b->len && !b->failed) (void)!send(c->fd, b->data, b->len, MSG_DONTWAIT | MSG_NOSIGNAL);
    c->state = CONN_DEAD;
}

void conns_last_word(struct conn *c, const struct buf *reply)
{
    struct conns *t = c->t;
    pthread_mutex_lock(&t->mu);
    last_word(c, reply);
    pthread_mutex_unlock(&t->mu);
    conns_linger(c);
}

static void end_late(struct conns *t, struct conn *c)
{
    struct buf b = { .cap_max = LATE_BYTES };
    if (c->state == CONN_BODY && t->cfg.late) t->cfg.late(&b, c->arg);
    last_word(c, &b);
    buf_free(&b);
    shutdown(c->fd, SHUT_RDWR); /* wakes the library, which closes it */
}

void conns_tick(struct conns *t, uint64_t now_ns)
{
    pthread_mutex_lock(&t->mu);
    for (struct conn *c = t->head.next; c != &t->head; c = c->next) {
        uint64_t age = now_ns > c->since_ns ? now_ns - c->since_ns : 0;
        if ((c->state == CONN_WAIT && age > t->cfg.idle_ns) ||
            (c->state == CONN_BODY && age > t->cfg.body_ns))
            end_late(t, c);
    }
    for (int i = t->n_linger - 1; i >= 0; i--) {
        if (!read_away(&t->linger[i], now_ns)) continue;
        close(t->linger[i].fd);
        t->linger[i] = t->linger[--t->n_linger];
    }
    pthread_mutex_unlock(&t->mu);
}

int conns_pollfds(struct conns *t, struct pollfd *out, int n)
{
    int k = 0;
    pthread_mutex_lock(&t->mu);
    for (; k < t->n_linger && k < n; k++)
        out[k] = (struct pollfd){ .fd = t->linger[k].fd, .events = POLLIN };
    pthread_mutex_unlock(&t->mu);
    return k;
}

int conns_count(struct conns *t)
{
    pthread_mutex_lock(&t->mu);
    int n = t->n;
    pthread_mutex_unlock(&t->mu);
    return n;
}

int conns_busy(struct conns *t, uint64_t now_ns, uint64_t grace_ns)
{
    int n = 0;
    pthread_mutex_lock(&t->mu);
    for (struct conn *c = t->head.next; c != &t->head; c = c->next) {
        bool fresh = now_ns < c->since_ns || now_ns - c->since_ns < grace_ns;
        n += c->state == CONN_BODY || c->state == CONN_BUSY || (c->state == CONN_WAIT && fresh);
    }
    pthread_mutex_unlock(&t->mu);
    return n;
}
