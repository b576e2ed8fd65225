#include "core/ann/ann_impl.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERIES = 16,
    ROWS = 1 << 17, /* scanned, at most */
    SHORT_LIST = 64,
    LONG_LIST = 1 << 14, /* an eighth of the rows, at most this many */
    ROUNDS = 15, /* the best of them counts: whoever shares the caches is not always there */
    APART = 16,  /* panels from one to the next where a filter keeps few */
};

struct probe {
    struct ann *a;
    float *queries; /* [QUERIES,D]: rows, evenly spaced */
    int32_t *ids, *list;
    uint64_t *allow; /* [V] bits */
    float *scores;
    int32_t k;
};

/* Which rows round i looks at.  Where all are more than the caches hold each round has its own, to be read from memory as
 * they are when it counts. */
static int turn(const struct probe *p, int i) { return p->a->V > ROWS ? i : 0; }

/* One scan of all the job's rows, or of the n listed. */
static double once_us(struct probe *p, const struct scan_job *job, int32_t n)
{
    const double start = clock_cpu_s();
    if (n > 0)
        (void)scan_list(p->ids, p->scores, p->a->scan, job, p->list, n);
    else
        (void)scan_all(p->ids, p->scores, p->a->scan, job);
    return (clock_cpu_s() - start) * 1e6;
}

static double scan_us(struct probe *p, int32_t nq, int32_t n)
{
    struct scan_job job = { .queries = p->queries, .nq = nq, .k = p->k };
    double best = HUGE_VAL;
    for (int i = 0; i < ROUNDS; i++) {
        job.from = (int32_t)((int64_t)(p->a->V - n) * turn(p, i) / (ROUNDS - 1)) / SCAN_PANEL *
                   SCAN_PANEL;
        job.to = job.from + n;
        best = fmin(best, once_us(p, &job, 0));
    }
    return best;
}

static double list_us(struct probe *p, int32_t nq, int32_t n)
{
    const struct scan_job job = { .queries = p->queries, .nq = nq, .k = p->k };
    double best = HUGE_VAL;
    for (int i = 0; i < ROUNDS; i++) {
        for (int32_t j = 0; j < n; j++)
            p->list[j] = (int32_t)(((int64_t)j * ROUNDS + turn(p, i)) * p->a->V / n / ROUNDS);
        best = fmin(best, once_us(p, &job, n));
    }
    return best;
}

/* A row in each of n panels, APART of each other or more. */
static double gaps_us(struct probe *p, int32_t n)
{
    const struct scan_job job = {
        .queries = p->queries, .nq = 1, .k = p->k, .allow = p->allow
    };
    const int32_t V = p->a->V, places = V / SCAN_PANEL / APART;
    double best = HUGE_VAL;
    for (int i = 0; i < ROUNDS; i++) {
        memset(p->allow, 0, (size_t)(V + 63) / 64 * sizeof *p->allow);
        for (int32_t j = 0; j < n; j++) {
            const int32_t v = (int32_t)((int64_t)j * places / n) * APART * SCAN_PANEL +
                              turn(p, i) * SCAN_PANEL;
            p->allow[v / 64] |= (uint64_t)1 << v % 64;
        }
        best = fmin(best, once_us(p, &job, 0));
    }
    return best;
}

/* Of the us a row takes in calls of one and of QUERIES. */
static struct ann_rate rate_of(double one, double many)
{
    const double query = fmax(many - one, 0) / (QUERIES - 1);
    return (struct ann_rate){ .fixed = fmax(one - query, 0), .query = query };
}

/* A query beside its rows takes as long after a short list as after a long one. */
static void measure_rows(struct probe *p)
{
    struct ann_cost *c = &p->a->cost;
    const int32_t V = p->a->V, n = V < ROWS ? V : ROWS,
                  most = V / 8 < LONG_LIST ? V / 8 : LONG_LIST, len = most > 0 ? most : 1,
                  few = len < SHORT_LIST ? len : SHORT_LIST;
    const double one = list_us(p, 1, len), one_few = list_us(p, 1, few);
    const double many = list_us(p, QUERIES, len), many_few = list_us(p, QUERIES, few);
    const double more = len > few ? len - few : len;
    c->listed = rate_of((one - one_few) / more, (many - many_few) / more);
    c->ranking = fmax(one_few - few * (c->listed.fixed + c->listed.query), 0);
    c->row = rate_of(fmax(scan_us(p, 1, n) - c->ranking, 0) / n,
                     fmax(scan_us(p, QUERIES, n) - QUERIES * c->ranking, 0) / n);
    const int32_t places = V / SCAN_PANEL / APART, enough = LONG_LIST / SCAN_PANEL,
                  panels = places < enough ? places : enough;
    const double each = SCAN_PANEL * (c->row.fixed + c->row.query);
    if (panels > 0) c->gap = fmax((gaps_us(p, panels) - c->ranking) / panels - each, 0);
}

static int width_us(double *us, struct probe *p, int32_t width, struct err *e)
{
    enum { FEW = 4, TIMES = 3 };
    *us = HUGE_VAL;
    for (int i = 0; i < TIMES; i++) {
        const double start = clock_cpu_s();
        TRY(ann_search(p->ids, p->scores, p->a, p->queries, FEW, p->k,
                       &(struct ann_params){ .width = width }, e));
        *us = fmin(*us, (clock_cpu_s() - start) * 1e6 / FEW);
    }
    return 0;
}

static int measure_width(struct probe *p, struct err *e)
{
    struct ann *a = p->a;
    const int32_t most = a->kind == ANN_IVF ? a->n : a->V, w1 = a->width,
                  w2 = 4 * w1 < most ? 4 * w1 : most;
    double t1, t2;
    TRY(width_us(&t1, p, w1, e));
    a->cost.width = t1 / w1;
    if (w2 <= w1) return 0;
    TRY(width_us(&t2, p, w2, e));
    a->cost.width2 = fmax((t2 / w2 - t1 / w1) / (w2 - w1), 0);
    a->cost.width = fmax(t1 / w1 - a->cost.width2 * w1, 0);
    return 0;
}

int ann_measure(struct ann *a, struct err *e)
{
    const size_t D = (size_t)a->D;
    struct probe p = { .a = a, .k = a->V < ANN_DEPTH ? a->V : ANN_DEPTH };
    p.queries = xmalloc(QUERIES * D * sizeof *p.queries);
    p.ids = xmalloc(QUERIES * ANN_DEPTH * sizeof *p.ids);
    p.scores = xmalloc(QUERIES * ANN_DEPTH * sizeof *p.scores);
    p.list = xmalloc(LONG_LIST * sizeof *p.list);
    p.allow = xmalloc((size_t)(a->V + 63) / 64 * sizeof *p.allow);
    for (int i = 0; i < QUERIES; i++)
        memcpy(p.queries + (size_t)i * D, a->rows + (size_t)((int64_t)i * a->V / QUERIES) * D,
               D * sizeof(float));
    measure_rows(&p);
    const int rc = a->kind == ANN_HNSW || a->kind == ANN_IVF ? measure_width(&p, e) : 0;
    free(p.allow);
    free(p.list);
    free(p.scores);
    free(p.ids);
    free(p.queries);
    return rc;
}
