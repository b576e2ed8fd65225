/* The exact scan by itself: us of a query, one thread, in calls of 1, 4, 32 and 128, for the 32 and
 * the 100 best, with rows as bytes and as bf16; scan_new takes the one marked.
 *   bench_scan [ROWS QUERIES]     fp32 files [V,64] and [n,64], n >= 4096: a model's own
 * Without files rows and queries are bench_ann's mixture, 12101 and 100000 rows of it. */
#include "core/ann/ann_scan.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/num/num.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { D = 64, N_QUERIES = 4096, CALL = 128, MOST_K = 100, N_CENTRES = 200 };

static int32_t ids[CALL * MOST_K];
static float scores[CALL * MOST_K];

static void mixture(float *rows, int32_t n, uint64_t stream)
{
    struct rng centre = rng_make(1, RNG_TEST), r = rng_make(stream, RNG_TEST);
    float *c = xmalloc(sizeof(float) * N_CENTRES * D);
    for (int i = 0; i < N_CENTRES * D; i++) c[i] = rng_normal(&centre);
    for (int32_t i = 0; i < n; i++) {
        const float *from = c + rng_below(&r, N_CENTRES) * D;
        for (int d = 0; d < D; d++) rows[(size_t)i * D + d] = from[d] + 0.7f * rng_normal(&r);
    }
    free(c);
}

/* Least us of a query in rounds of 1024; the next round has other queries, lest branches be learned
 * by heart. */
static double us(const struct scan *s, const float *queries, int batch, int k)
{
    enum { ROUND = 1024, ROUNDS = 12 };
    double best = INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        const float *q = queries + (size_t)(round * ROUND % N_QUERIES) * D;
        const double began = clock_cpu_s();
        for (int n = 0; n < ROUND; n += batch, q += batch * D)
            (void)scan_all(ids, scores, s,
                           &(struct scan_job){ .queries = q, .nq = batch, .k = k });
        best = fmin(best, (clock_cpu_s() - began) * 1e6 / ROUND);
    }
    return best;
}

static void bench(const float *rows, int32_t V, const float *queries)
{
    struct scan *own = scan_new(rows, V, D);
    for (int bytes = 1; bytes >= 0; bytes--) {
        struct scan *s = scan_new_as(rows, V, D, bytes);
        for (int k = 32; k <= 100; k += 68) {
            printf("%9d %c %-5s %5d", V, scan_has_bytes(own) == bytes ? '*' : ' ',
                   bytes ? "bytes" : "bf16", k);
            for (int i = 0; i < 4; i++)
                printf(" %9.2f", us(s, queries, (int[]){ 1, 4, 32, 128 }[i], k));
            printf("\n");
        }
        scan_free(s);
    }
    scan_free(own);
}

static float *read_file(int32_t *n, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(1);
    }
    fseek(f, 0, SEEK_END);
    const size_t nb = (size_t)ftell(f);
    float *x = xmalloc(nb);
    rewind(f);
    *n = (int32_t)(fread(x, 1, nb, f) / (D * sizeof *x));
    fclose(f);
    return x;
}

int main(int argc, char **argv)
{
    num_init();
    printf("%9s %7s %5s %9s %9s %9s %9s   us a query, %s\n", "V", "rows", "k", "1", "4", "32",
           "128", num->isa);
    if (argc == 3) {
        int32_t V, n;
        float *rows = read_file(&V, argv[1]), *queries = read_file(&n, argv[2]);
        if (n < N_QUERIES) return 1;
        bench(rows, V, queries);
        free(queries);
        free(rows);
        return 0;
    }
    float *queries = xmalloc(sizeof(float) * N_QUERIES * D);
    mixture(queries, N_QUERIES, 4);
    for (int32_t V = 12101; V <= 100000; V += 87899) {
        float *rows = xmalloc(sizeof(float) * (size_t)V * D);
        mixture(rows, V, 2);
        bench(rows, V, queries);
        free(rows);
    }
    free(queries);
    return 0;
}
