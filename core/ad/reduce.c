#include "core/ad/reduce.h"
#include "core/num/num.h"

enum { ALIGN = 16 }; /* floats: a cache line */

void reduce_open(struct reduce *r, struct arena *mem, int n_parts, float *y0, int64_t n0,
                 float *y1, int64_t n1)
{
    const int64_t stride = (n0 + n1 + ALIGN - 1) / ALIGN * ALIGN;
    float *buf = ARENA_NEW(mem, float, n_parts *stride);
    *r = (struct reduce){ .mu = PTHREAD_MUTEX_INITIALIZER,
                          .n_parts = n_parts,
                          .n_free = n_parts,
                          .free = ARENA_NEW(mem, float *, n_parts),
                          .waiting = ARENA_NEW0(mem, float *, n_parts),
                          .y = { y0, y1 },
                          .n = { n0, n1 } };
    for (int i = 0; i < n_parts; i++) r->free[i] = buf + i * stride;
}

float *reduce_take(struct reduce *r)
{
    pthread_mutex_lock(&r->mu);
    float *p = r->free[--r->n_free];
    pthread_mutex_unlock(&r->mu);
    return p;
}

/* What waits at this meeting of two neighbours; if nothing does, p waits. */
static float *meet(struct reduce *r, int at, float *p)
{
    pthread_mutex_lock(&r->mu);
    float *q = r->waiting[at];
    if (!q) r->waiting[at] = p;
    pthread_mutex_unlock(&r->mu);
    return q;
}

static void give_back(struct reduce *r, float *p)
{
    pthread_mutex_lock(&r->mu);
    r->free[r->n_free++] = p;
    pthread_mutex_unlock(&r->mu);
}

void reduce_put(struct reduce *r, int part, float *p)
{
    const int64_t n = r->n[0] + r->n[1];
    int i = part; /* where the sum in p starts */
    for (int step = 1; step < r->n_parts; step *= 2) {
        const int second = i | step;
        if (second >= r->n_parts) continue; /* no neighbour */
        float *q = meet(r, second, p);
        if (!q) return;
        num->vec->add(p, p, q, n); /* the same whichever is the first of the two */
        give_back(r, q);
        i &= ~step;
    }
    if (r->y[0]) num->vec->add(r->y[0], r->y[0], p, r->n[0]);
    if (r->y[1]) num->vec->add(r->y[1], r->y[1], p + r->n[0], r->n[1]);
}
