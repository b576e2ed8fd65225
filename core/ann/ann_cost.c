#include "core/ann/ann_impl.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PROBE_QUERIES = 16, PROBE_ROWS = 1 << 17, PROBE_LIST = 1024, ROUNDS = 3 };

struct probe {
    struct ann *a;
    float *queries; /* [PROBE_QUERIES,D]: rows, evenly spaced */
    int32_t *ids, *list;
    float *scores;
    int32_t k;
};

static double scan_us(struct probe *p, int32_t nq)
{
    const int32_t V = p->a->V, n = V < PROBE_ROWS ? V : PROBE_ROWS;
    const struct scan_job job = { .queries = p->queries, .nq = nq, .k = p->k, .to = n };
    double best = INFINITY;
    for (int i = 0; i < ROUNDS; i++) {
        const double start = clock_cpu_s();
        (void)scan_all(p->ids, p->scores, p->a->scan, &job);
        best = fmin(best, (clock_cpu_s() - start) * 1e6 / n);
    }
    return best;
}

/* Other rows each time: those a search wants are seldom in the cache. */
static double list_us(struct probe *p, int32_t nq)
{
    const int32_t V = p->a->V, n = V < PROBE_LIST ? V : PROBE_LIST;
    const struct scan_job job = { .queries = p->queries, .nq = nq, .k = p->k };
    double best = INFINITY;
    for (int i = 0; i < ROUNDS; i++) {
        for (int32_t j = 0; j < n; j++)
            p->list[j] = (int32_t)((int64_t)j * V / n + (V >= 4 * PROBE_LIST ? i : 0));
        const double start = clock_cpu_s();
        (void)scan_list(p->ids, p->scores, p->a->scan, &job, p->list, n);
        best = fmin(best, (clock_cpu_s() - start) * 1e6 / n);
    }
    return best;
}

static struct ann_rate rate_of(double one, double many)
{
    const double query = fmax(many - one, 0) / (PROBE_QUERIES - 1);
    return (struct ann_rate){ .fixed = fmax(one - query, 0), .query = query };
}

static int width_us(double *us, struct probe *p, int32_t width, struct err *e)
{
    enum { QUERIES = 4 };
    *us = INFINITY;
    for (int i = 0; i < ROUNDS; i++) {
        const double start = clock_cpu_s();
        TRY(ann_search(p->ids, p->scores, p->a, p->queries, QUERIES, p->k,
                       &(struct ann_params){ .width = width }, e));
        *us = fmin(*us, (clock_cpu_s() - start) * 1e6 / QUERIES);
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
    p.queries = xmalloc(PROBE_QUERIES * D * sizeof *p.queries);
    p.ids = xmalloc(PROBE_QUERIES * ANN_DEPTH * sizeof *p.ids);
    p.scores = xmalloc(PROBE_QUERIES * ANN_DEPTH * sizeof *p.scores);
    p.list = xmalloc(PROBE_LIST * sizeof *p.list);
    for (int i = 0; i < PROBE_QUERIES; i++)
        memcpy(p.queries + (size_t)i * D,
               a->rows + (size_t)((int64_t)i * a->V / PROBE_QUERIES) * D, D * sizeof(float));
    const double one = scan_us(&p, 1), listed = list_us(&p, 1);
    a->cost.row = rate_of(one, scan_us(&p, PROBE_QUERIES));
    a->cost.listed = rate_of(listed, list_us(&p, PROBE_QUERIES));
    const int rc = a->kind == ANN_HNSW || a->kind == ANN_IVF ? measure_width(&p, e) : 0;
    free(p.list);
    free(p.scores);
    free(p.ids);
    free(p.queries);
    return rc;
}
