#include "core/num/rate.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double seconds_each = 0.03;
enum { COPY_FLOATS = 1 << 24 };

struct rate {
    float *a, *b, *c;
    int32_t M, K, N;
    int parts;
};

static float *values(int64_t n)
{
    float *x = xaligned((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(i % 7) - 3;
    return x;
}

/* Seconds of the fastest run. */
static double best_of(struct par *pool, par_fn *fn, struct rate *r)
{
    double best = HUGE_VAL, end = clock_s() + seconds_each;
    while (clock_s() < end || best == HUGE_VAL) {
        double start = clock_s();
        par_for(pool, r->parts, fn, r);
        best = fmin(best, clock_s() - start);
    }
    return best;
}

static void sgemm_part(void *ctx, int block, int worker)
{
    (void)worker;
    const struct rate *r = ctx;
    int64_t from = (int64_t)r->M * block / r->parts;
    int32_t M = (int32_t)((int64_t)r->M * (block + 1) / r->parts - from);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, M, r->N, r->K, 1, r->a + from * r->K,
                r->K, r->b, r->N, 0, r->c + from * r->N, r->N);
}

double rate_sgemm(struct par *pool, int32_t M, int32_t K, int32_t N)
{
    int64_t m = M;
    struct rate r = { values(m * K),
                      values((int64_t)K * N),
                      values(m * N),
                      M,
                      K,
                      N,
                      par_threads(pool) < M ? par_threads(pool) : M };
    double s = best_of(pool, sgemm_part, &r);
    free(r.a);
    free(r.b);
    free(r.c);
    return 2.0 * M * N * K / s;
}

static void copy_part(void *ctx, int block, int worker)
{
    (void)worker;
    const struct rate *r = ctx;
    int64_t from = (int64_t)COPY_FLOATS * block / r->parts;
    int64_t to = (int64_t)COPY_FLOATS * (block + 1) / r->parts;
    memcpy(r->c + from, r->a + from, (size_t)(to - from) * sizeof *r->c);
}

double rate_copy(struct par *pool)
{
    struct rate r = { .a = values(COPY_FLOATS),
                      .c = values(COPY_FLOATS),
                      .parts = par_threads(pool) };
    double s = best_of(pool, copy_part, &r);
    free(r.a);
    free(r.c);
    return 2.0 * COPY_FLOATS * sizeof(float) / s;
}
