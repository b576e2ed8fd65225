#include "core/ann/ann_impl.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EXACT_BELOW = 20000,
    BATCH = 32,
    SAMPLE = 256, /* queries, where none are given */
    MOST_WIDTH_HNSW = 2048,
    LEAST_TIME_US = 2000, /* a round of timing lasts at least this long */
    ROUNDS = 3,
};

struct bench { /* what every candidate is measured with */
    const float *rows, *queries;
    int32_t V, D, nq, k;
    double want;
    const struct ann_auto *o;
    int32_t *ids; /* [BATCH,k] */
    float *scores;
};

/* Least us of a query in calls of `batch`, going round the queries. */
static int time_us(double *us, const struct bench *b, const struct ann *a, int32_t batch,
                   struct err *e)
{
    int32_t at = 0;
    if (batch > b->nq) batch = b->nq;
    *us = HUGE_VAL;
    for (int r = 0; r < ROUNDS; r++) {
        const double start = clock_cpu_s();
        double took = 0;
        int32_t n = 0;
        for (; took < LEAST_TIME_US; took = (clock_cpu_s() - start) * 1e6, n += batch) {
            if (at + batch > b->nq) at = 0;
            TRY(ann_search(b->ids, b->scores, a, b->queries + (size_t)at * (size_t)b->D, batch,
                           b->k, NULL, e));
            at += batch;
        }
        *us = fmin(*us, took / n);
    }
    return 0;
}

typedef int (*build_fn)(struct ann **out, double *recall, const struct bench *b, struct err *e);

static int build_flat(struct ann **out, double *recall, const struct bench *b, struct err *e)
{
    *recall = 1;
    return ann_build_flat(out, b->rows, b->V, b->D, e);
}

static int build_scan(struct ann **out, double *recall, const struct bench *b, struct err *e)
{
    *recall = 1;
    return ann_build_scan(out, b->rows, b->V, b->D, e);
}

static int build_ivf(struct ann **out, double *recall, const struct bench *b, struct err *e)
{
    TRY(ann_build_ivf(out, b->rows, b->V, b->D, 0, 0, e));
    return ann_tune(recall, *out, b->queries, b->nq, b->k, b->want, 0, e);
}

static int build_hnsw(struct ann **out, double *recall, const struct bench *b, struct err *e)
{
    TRY(ann_build_hnsw(out, b->rows, b->V, b->D, b->o->M, b->o->ef_construction, 0, e));
    return ann_tune(recall, *out, b->queries, b->nq, b->k, b->want, MOST_WIDTH_HNSW, e);
}

static double weigh(const struct ann_candidate *c)
{
    return 0.75 * c->us_batch + 0.25 * c->us_one;
}

/* Builds and measures one more; takes the place of *best where it is clearly better. */
static int try_one(struct ann **best, struct ann_report *r, const struct bench *b,
                   build_fn build, struct err *e)
{
    struct ann_candidate *c = &r->of[r->n];
    struct ann *a = NULL;
    double start = clock_s();
    int rc = build(&a, &c->recall, b, e);
    c->build_ms = (clock_s() - start) * 1e3;
    if (rc == 0) rc = time_us(&c->us_one, b, a, 1, e);
    if (rc == 0) rc = time_us(&c->us_batch, b, a, BATCH, e);
    if (rc < 0) {
        ann_free(a);
        return rc;
    }
    snprintf(c->type, sizeof c->type, "%s", ann_type(a));
    c->width = ann_width(a);
    if (!*best || (c->recall >= b->want && weigh(c) < 0.9 * weigh(&r->of[r->chosen]))) {
        ann_free(*best);
        *best = a;
        r->chosen = r->n;
    } else {
        ann_free(a);
    }
    r->n++;
    return 0;
}

static int try_all(struct ann **best, struct ann_report *r, const struct bench *b, bool many,
                   struct err *e)
{
    static const build_fn build[ANN_CANDIDATES] = { build_flat, build_scan, build_ivf,
                                                    build_hnsw };
    for (int i = 0; i < (many ? ANN_CANDIDATES : 2); i++) {
        int rc = try_one(best, r, b, build[i], e);
        if (rc < 0) {
            ann_free(*best);
            *best = NULL;
            return rc;
        }
    }
    return 0;
}

static float *sample_rows(const float *rows, int32_t V, int32_t D, int32_t n)
{
    float *sample = xmalloc((size_t)n * (size_t)D * sizeof *sample);
    for (int32_t i = 0; i < n; i++)
        memcpy(sample + (size_t)i * (size_t)D, rows + (size_t)((int64_t)i * V / n) * (size_t)D,
               (size_t)D * sizeof *sample);
    return sample;
}

int ann_build_auto(struct ann **out, struct ann_report *report, const float *rows, int32_t V,
                   int32_t D, const float *queries, int32_t nq, const struct ann_auto *opts,
                   struct err *e)
{
    const struct ann_auto o = opts ? *opts : (struct ann_auto){ 0 };
    struct ann_report ignored = { 0 }, *r = report ? report : &ignored;
    struct bench b = { .rows = rows, .queries = queries, .V = V, .D = D, .nq = nq, .o = &o };
    float *sample = NULL;
    *r = (struct ann_report){ 0 };
    *out = NULL;
    if (V == 0) return err_set(e, ERR_EMPTY, "no rows to index");
    const double start = clock_s();
    b.want = o.want_recall > 0 ? o.want_recall : 0.99;
    b.k = o.recall_k > 0 ? o.recall_k : ANN_DEPTH;
    if (!queries || nq < 1) {
        b.nq = V < SAMPLE ? V : SAMPLE;
        b.queries = sample = sample_rows(rows, V, D, b.nq);
    }
    b.ids = xmalloc(BATCH * (size_t)b.k * sizeof *b.ids);
    b.scores = xmalloc(BATCH * (size_t)b.k * sizeof *b.scores);
    int rc = try_all(out, r, &b, V >= (o.exact_below > 0 ? o.exact_below : EXACT_BELOW), e);
    free(b.scores);
    free(b.ids);
    free(sample);
    r->width = r->of[r->chosen].width;
    r->recall = r->of[r->chosen].recall;
    r->build_ms = (clock_s() - start) * 1e3;
    return rc;
}
