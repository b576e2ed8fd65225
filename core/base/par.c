#include "core/base/par.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/base/mem.h"
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A job is a generation number.  The caller publishes fn, ctx and the blocks, and bumps gen; every thread
 * works through its own share of the blocks from the front, then helps others from the back of theirs; the
 * caller waits until every worker has left the job (`inside` is 0), so that fn's context may go out of scope.
 * Shares make rows come back to the core that has them in its cache: the same block of the next op, mostly. */
/* Longer than the owner has work of its own within a step: a thread on a VM takes as long to wake. */
static const uint64_t SPIN_NS = 200000;

/* Blocks [first, end) that are left of a thread's share, in one word. */
struct share {
    _Alignas(64) _Atomic uint64_t left;
};
static uint64_t range(uint32_t first, uint32_t end) { return (uint64_t)end << 32 | first; }

struct par {
    int n; /* immutable: threads, the caller included */
    pthread_t *thread;
    struct share *share; /* [n] */
    par_fn *fn;
    void *ctx;
    atomic_int inside;
    atomic_uint gen; /* futex word */
    atomic_int sleepers;
    atomic_bool quit;
    bool busy; /* caller only: catches nesting */
};

struct start {
    struct par *p;
    int worker;
};

/* A few hundred ns of waiting that leave the core's other thread its units. */
static inline void relax(void)
{
#ifdef __x86_64__
    for (int i = 0; i < 8; i++) __builtin_ia32_pause();
#endif
}

/* A block of the share, -1 when it has none left. */
static int take(struct share *s, bool own)
{
    uint64_t left = atomic_load(&s->left);
    for (;;) {
        uint32_t first = (uint32_t)left, end = (uint32_t)(left >> 32);
        if (first >= end) return -1;
        uint64_t rest = own ? range(first + 1, end) : range(first, end - 1);
        if (atomic_compare_exchange_weak(&s->left, &left, rest))
            return (int)(own ? first : end - 1);
    }
}

static void drain(struct par *p, int worker)
{
    for (int i = 0, b; i < p->n; i++)
        while ((b = take(&p->share[(worker + i) % p->n], i == 0)) >= 0)
            p->fn(p->ctx, b, worker);
}

static unsigned await(struct par *p, unsigned seen)
{
    unsigned gen;
    for (uint64_t end = clock_ns() + SPIN_NS; clock_ns() < end; relax())
        if ((gen = atomic_load(&p->gen)) != seen) return gen;
    atomic_fetch_add(&p->sleepers, 1);
    while ((gen = atomic_load(&p->gen)) == seen)
        syscall(SYS_futex, &p->gen, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&p->sleepers, 1);
    return gen;
}

static void *work(void *arg)
{
    struct start s = *(struct start *)arg;
    free(arg);
    unsigned seen = 0;
    for (;;) {
        seen = await(s.p, seen);
        if (atomic_load(&s.p->quit)) return NULL;
        drain(s.p, s.worker);
        atomic_fetch_sub(&s.p->inside, 1);
    }
}

static void publish(struct par *p)
{
    atomic_fetch_add(&p->gen, 1);
    if (atomic_load(&p->sleepers) > 0)
        syscall(SYS_futex, &p->gen, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

struct par *par_new(int n_threads)
{
    REQUIRE(n_threads >= 1, "%d threads", n_threads);
    struct par *p = xcalloc(1, sizeof *p);
    p->n = n_threads;
    p->thread = xcalloc((size_t)n_threads, sizeof *p->thread);
    p->share = xaligned((size_t)n_threads * sizeof *p->share);
    for (int i = 0; i < n_threads; i++) atomic_init(&p->share[i].left, 0);
    sigset_t all, old; /* workers take no signals: main reads them */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 1; i < n_threads; i++) {
        struct start *s = xmalloc(sizeof *s);
        *s = (struct start){ p, i };
        REQUIRE(pthread_create(&p->thread[i], NULL, work, s) == 0, "no thread %d", i);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return p;
}

void par_free(struct par *p)
{
    if (!p) return;
    atomic_store(&p->quit, true);
    publish(p);
    for (int i = 1; i < p->n; i++) pthread_join(p->thread[i], NULL);
    free(p->thread);
    free(p->share);
    free(p);
}

int par_threads(const struct par *p) { return p ? p->n : 1; }

void par_for(struct par *p, int n_blocks, par_fn *fn, void *ctx)
{
    if (!p || p->n == 1 || n_blocks <= 1) {
        for (int b = 0; b < n_blocks; b++) fn(ctx, b, 0);
        return;
    }
    REQUIRE(!p->busy, "par_for inside par_for");
    p->busy = true;
    p->fn = fn;
    p->ctx = ctx;
    for (int64_t i = 0; i < p->n; i++)
        atomic_store(&p->share[i].left, range((uint32_t)(n_blocks * i / p->n),
                                              (uint32_t)(n_blocks * (i + 1) / p->n)));
    atomic_store(&p->inside, p->n - 1);
    publish(p);
    drain(p, 0);
    for (uint64_t end = clock_ns() + SPIN_NS; atomic_load(&p->inside) > 0;) {
        if (clock_ns() < end)
            relax();
        else
            sched_yield();
    }
    p->busy = false;
}

/* Cores granted by the cgroup's CPU quota, or INT_MAX. */
static int quota_cores(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!f) return INT_MAX;
    long long quota, period;
    int n = fscanf(f, "%lld %lld", &quota, &period);
    fclose(f);
    if (n != 2 || period <= 0 || quota <= 0) return INT_MAX; /* "max" is no number */
    long long c = (quota + period - 1) / period;
    return c < INT_MAX ? (int)c : INT_MAX;
}

int par_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int q = quota_cores();
    return n < q ? n : q;
}
