/* Search by catalogue size and batch, one thread: us of a query and recall@100 of FAISS
 * flat, our scan of fp32 and of rounded rows, IVF and HNSW; then filters: for each type and
 * share of rows kept (drawn at random) the plan chosen, its us, the best plan's us among
 * those that reach a recall of .99, and the recall of the one chosen.
 *   bench_ann [V...]      default 12000 100000; 1000000 takes minutes, most of them for the graph
 * Rows and queries are a mixture with few directions, as trained vectors are: 200 centres of
 * N(0,1) in 16 dimensions, .6 N(0,1) around them, turned into 64 by a matrix of N(0,1)/4, .1
 * N(0,1) in each of the 64, length 1 + .1 N(0,1). */
#include "core/ann/ann_impl.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/num/num.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    D = 64,
    DEPTH = 100,
    N_QUERIES = 512,
    N_CENTRES = 200,
    INNER = 16,
    TUNE = 256,
    WIDEST = 2048,
    MOST_FETCHED = 5000
};

static float *queries;
static int32_t *ids;
static float *scores, *truth;

static void mixture(float *rows, int32_t n, uint64_t stream)
{
    struct rng fixed = rng_make(1, RNG_TEST), r = rng_make(stream, RNG_TEST);
    static float centre[N_CENTRES][INNER], turn[INNER][D];
    for (int i = 0; i < N_CENTRES; i++)
        for (int j = 0; j < INNER; j++) centre[i][j] = rng_normal(&fixed);
    for (int i = 0; i < INNER; i++)
        for (int d = 0; d < D; d++) turn[i][d] = rng_normal(&fixed) / 4;
    for (int32_t i = 0; i < n; i++) {
        float *x = rows + (size_t)i * D;
        const float *from = centre[rng_below(&r, N_CENTRES)];
        for (int d = 0; d < D; d++) x[d] = 0.1f * rng_normal(&r);
        for (int j = 0; j < INNER; j++)
            num->vec->axpy(x, from[j] + 0.6f * rng_normal(&r), turn[j], D);
        num->vec->scale(x, (1 + 0.1f * rng_normal(&r)) / sqrtf(num->vec->dot(x, x, D)), x, D);
    }
}

static void must(int rc, const struct err *e)
{
    if (rc == 0) return;
    fprintf(stderr, "%s\n", e->msg);
    exit(1);
}

/* Least us of a query in calls of `batch` over at least 30 ms. */
static double us(const struct ann *a, int batch, const struct ann_params *p, bool fp32)
{
    struct err e = { 0 };
    double best = INFINITY;
    const double start = clock_cpu_s();
    for (int round = 0; round < 3 || clock_cpu_s() - start < 0.03; round++) {
        const double began = clock_cpu_s();
        int n = 0;
        for (; n + batch <= N_QUERIES && (n == 0 || clock_cpu_s() - began < 0.02); n += batch) {
            const float *q = queries + (size_t)n * D;
            if (fp32)
                (void)scan_all(
                    ids, scores, a->scan,
                    &(struct scan_job){ .queries = q, .nq = batch, .k = DEPTH, .fp32 = true });
            else
                must(ann_search(ids, scores, a, q, batch, DEPTH, p, &e), &e);
        }
        best = fmin(best, (clock_cpu_s() - began) * 1e6 / n);
    }
    return best;
}

static double recall(const struct ann *a, const struct ann_params *p, int nq)
{
    struct err e = { 0 };
    struct ann_params exact = *p;
    int64_t hits = 0, owed = 0;
    const int32_t k = p->allow && p->n_allow < DEPTH ? p->n_allow : DEPTH;
    exact.exact = true;
    must(ann_search(ids, truth, a, queries, nq, DEPTH, &exact, &e), &e);
    for (int i = 0; i < nq; i += 4)
        must(ann_search(ids + i * DEPTH, scores + i * DEPTH, a, queries + i * D, 4, DEPTH, p,
                        &e),
             &e);
    for (int i = 0; i < nq; i++, owed += k)
        for (int j = 0; j < k; j++) hits += scores[i * DEPTH + j] >= truth[i * DEPTH + k - 1];
    return (double)hits / (double)owed;
}

static void row(const char *name, const struct ann *a, bool fp32)
{
    static const int batch[] = { 1, 4, 32, 256 };
    const struct ann_params p = { 0 };
    printf("%9d %-10s %6d", a->V, name, a->width);
    for (int i = 0; i < 4; i++) printf(" %9.1f", us(a, batch[i], &p, fp32));
    printf(" %8.4f\n", fp32 ? 1 : recall(a, &p, N_QUERIES));
    fflush(stdout);
}

/* ---- filters ---- */

static struct ann_params drawn(uint64_t *allow, int32_t V, int32_t n)
{
    struct rng r = rng_make(3, RNG_TEST);
    memset(allow, 0, (size_t)(V + 63) / 64 * sizeof *allow);
    for (int32_t left = n; left > 0;) {
        const uint32_t v = rng_below(&r, (uint32_t)V);
        left -= !(allow[v / 64] >> (v % 64) & 1);
        allow[v / 64] |= (uint64_t)1 << (v % 64);
    }
    return (struct ann_params){ .allow = allow, .n_allow = n };
}

/* The index with costs that leave one plan. */
static struct ann only(const struct ann *a, int way)
{
    const struct ann_rate dear = { .query = 1e9 }, free_ = { 0 };
    struct ann x = *a;
    x.cost = (struct ann_cost){ .row = way == 0 ? free_ : dear,
                                .listed = way == 1 ? free_ : dear,
                                .width = way == 2 ? 0 : 1e15 };
    return x;
}

static void filter_row(const struct ann *a, uint64_t *allow, double kept, int batch)
{
    struct ann_plan plan;
    struct ann_params p = drawn(allow, a->V, (int32_t)(a->V * kept + 0.5));
    double best = INFINITY, of[3];
    for (int way = 0; way < 3; way++) {
        const struct ann x = only(a, way);
        of[way] = NAN;
        if (way == 2 && a->width == 0) continue;
        if (way == 2 && (p.n_allow < DEPTH || DEPTH / kept > MOST_FETCHED)) continue;
        of[way] = us(&x, batch, &p, false);
        if (recall(&x, &p, 64) >= 0.99) best = fmin(best, of[way]);
    }
    p.plan = &plan;
    const double chosen = us(a, batch, &p, false);
    p.plan = NULL;
    const double found = recall(a, &p, 128);
    printf("%9d %-8s %6.1f%% %5d %-10s %9.1f %9.1f %6.2f %8.4f   %9.1f %9.1f %9.1f\n", a->V,
           a->type, kept * 100, batch, plan.mode, chosen, best, chosen / best, found, of[0],
           of[1], of[2]);
    fflush(stdout);
}

/* ---- ---- */

static void build(struct ann **a, int t, const float *rows, int32_t V)
{
    struct err e = { 0 };
    double got;
    must(t == 0   ? ann_build_flat(a, rows, V, D, &e)
         : t == 1 ? ann_build_scan(a, rows, V, D, &e)
         : t == 2 ? ann_build_ivf(a, rows, V, D, 0, 0, &e)
                  : ann_build_hnsw(a, rows, V, D, 0, 0, 0, &e),
         &e);
    if (t >= 2) must(ann_tune(&got, *a, queries, TUNE, DEPTH, 0.99, WIDEST, &e), &e);
}

static void filters(const struct ann *a)
{
    uint64_t *allow = xmalloc((size_t)(a->V + 63) / 64 * sizeof *allow);
    printf("%9s %-8s %7s %5s %-10s %9s %9s %6s %8s   %9s %9s %9s\n", "", "", "kept", "batch",
           "plan", "us", "best us", "ratio", "recall", "scan", "allowed", "own");
    for (int batch = 1; batch <= 4; batch += 3)
        for (double kept = 0.5; kept > 0.0005; kept = kept > 0.4 ? 0.1 : kept / 10)
            filter_row(a, allow, kept, batch);
    free(allow);
}

static void bench(int32_t V)
{
    float *rows = xmalloc(sizeof(float) * (size_t)V * D);
    mixture(rows, V, 2);
    for (int t = 0; t < 4; t++) {
        struct ann *a;
        build(&a, t, rows, V);
        printf("\n%9s %-10s %6s %9s %9s %9s %9s %8s\n", "V", "type", "width", "1", "4", "32",
               "256", "recall");
        if (t == 1) row("scan fp32", a, true);
        row(t == 1 ? "scan rounded" : a->type, a, false);
        if (t > 0) filters(a); /* a flat index's are the scan's */
        ann_free(a);
    }
    free(rows);
}

int main(int argc, char **argv)
{
    num_init();
    queries = xmalloc(sizeof(float) * N_QUERIES * D);
    ids = xmalloc(sizeof(int32_t) * N_QUERIES * DEPTH);
    scores = xmalloc(sizeof(float) * N_QUERIES * DEPTH);
    truth = xmalloc(sizeof(float) * N_QUERIES * DEPTH);
    mixture(queries, N_QUERIES, 4);
    printf(
        "ann: us per query in calls of 1, 4, 32 and 256, top 100 of [V,64], one thread, %s\n",
        num->isa);
    for (int i = 1; i < argc; i++) bench(atoi(argv[i]));
    if (argc == 1) {
        bench(12000);
        bench(100000);
    }
    free(truth);
    free(scores);
    free(ids);
    free(queries);
    return 0;
}
