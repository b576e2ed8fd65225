/* Flat against HNSW by number of items: us of one query (of a call of four), recall@100, with 50 rows excluded that
 * lie nearest to the first query.  Rows and queries are Gaussian clusters; real embeddings may differ. */
#include "core/ann/ann.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { D = 64, K = 4, DEPTH = 100, N_QUERIES = 400, N_CLUSTERS = 200, N_EXCLUDED = 50 };

static float gauss(void)
{
    double u = drand48() + 1e-12, v = drand48();
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static void cluster(float *rows, int n, const float *centre)
{
    for (int i = 0; i < n; i++) {
        const float *c = centre + (lrand48() % N_CLUSTERS) * D;
        for (int d = 0; d < D; d++) rows[i * D + d] = c[d] + 0.7f * gauss();
    }
}

static void die(const struct err *e)
{
    fprintf(stderr, "%s\n", e->msg);
    exit(1);
}

static double us_per_query(const struct ann *a, const float *queries,
                           const struct ann_params *p)
{
    static int32_t ids[K * DEPTH];
    static float scores[K * DEPTH];
    struct err e = { 0 };
    double best = 1e9;
    for (int round = 0; round < 3; round++) {
        double started = clock_s();
        for (int i = 0; i < N_QUERIES; i += K)
            if (ann_search(ids, scores, a, queries + i * D, K, DEPTH, p, &e) < 0) die(&e);
        double us = (clock_s() - started) * 1e6 / N_QUERIES;
        if (us < best) best = us;
    }
    return best;
}

int main(void)
{
    static const int sizes[] = { 3000, 6000, 12000, 25000, 50000, 100000 };
    float *centre = xmalloc(sizeof(float) * N_CLUSTERS * D);
    float *queries = xmalloc(sizeof(float) * N_QUERIES * D);
    for (int i = 0; i < N_CLUSTERS * D; i++) centre[i] = gauss();
    cluster(queries, N_QUERIES, centre);
    printf("ann: us per query, top 100 of [V,64], one thread\n");
    printf("%8s %8s %8s %8s %8s %8s %8s %8s\n", "V", "flat", "flat-50", "ef", "hnsw", "hnsw-50",
           "recall", "build s");
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int V = sizes[s];
        float *rows = xmalloc(sizeof(float) * (size_t)V * D);
        struct ann *flat, *hnsw;
        struct ann_report r;
        struct err e = { 0 };
        struct ann_auto always = { .flat_below = 1 };
        cluster(rows, V, centre);
        if (ann_build_flat(&flat, rows, V, D, &e) < 0) die(&e);
        if (ann_build_auto(&hnsw, &r, rows, V, D, queries, 200, &always, &e) < 0) die(&e);
        int32_t seen[N_EXCLUDED];
        float scores[N_EXCLUDED];
        if (ann_search(seen, scores, flat, queries, 1, N_EXCLUDED, NULL, &e) < 0) die(&e);
        struct ann_params p = { .exclude = seen, .n_exclude = N_EXCLUDED };
        printf("%8d %8.0f %8.0f %8d %8.0f %8.0f %8.4f %8.2f\n", V,
               us_per_query(flat, queries, NULL), us_per_query(flat, queries, &p), r.ef_search,
               us_per_query(hnsw, queries, NULL), us_per_query(hnsw, queries, &p), r.recall,
               r.build_ms / 1e3);
        fflush(stdout);
        ann_free(flat);
        ann_free(hnsw);
        free(rows);
    }
    free(queries);
    free(centre);
    return 0;
}
