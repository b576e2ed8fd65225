/* One request on one thread, stage by stage: encode, search, merge, print.  Weights are random,
 * sizes those of Beauty (12,101 items, D 64, L 50, two blocks); medians of many requests. */
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/num/num.h"
#include "core/serve/reply.h"
#include "tests/fixture_bundle.h"
#include <stdio.h>
#include <stdlib.h>

enum { REQUESTS = 400, STAGES = 5, V = 12101 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x)
{
    qsort(x, REQUESTS, sizeof *x, by_value);
    return x[REQUESTS / 2];
}

static void ask(double stage_us[STAGES], struct rec_worker *w, struct gen *g, struct buf *b,
                const struct rec_request *r)
{
    struct rec_answer a;
    struct err e = { 0 };
    uint64_t start = clock_ns();
    if (recommend(&a, w, &(struct corpus){ .gen = g }, r, &e) < 0)
        err_bug(__FILE__, __LINE__, "recommend", "%s", e.msg);
    uint64_t answered = clock_ns();
    buf_clear(b);
    reply_recommend(b, &a, &(struct corpus){ .gen = g }, &(struct reply_opts){ .took_ms = -1 });
    stage_us[0] = a.encode_ms * 1e3;
    stage_us[1] = a.search_ms * 1e3;
    stage_us[2] = a.merge_ms * 1e3;
    stage_us[3] = (double)(clock_ns() - answered) * 1e-3;
    stage_us[4] = (double)(clock_ns() - start) * 1e-3;
}

static void measure(struct rec_worker *w, struct gen *g, struct buf *b, int32_t len)
{
    static double us[STAGES][REQUESTS];
    static char text[LIMIT_HISTORY][16];
    struct str id[LIMIT_HISTORY];
    struct rng rng = rng_make(1, RNG_TEST);
    struct rec_request r;
    rec_request_defaults(&r);
    r.history = id;
    r.n_history = len;
    for (int i = 0; i < REQUESTS; i++) {
        double one[STAGES];
        for (int32_t j = 0; j < len; j++)
            id[j] = (struct str){ text[j], snprintf(text[j], sizeof text[j], "i%u",
                                                    rng_below(&rng, V)) };
        ask(one, w, g, b, &r);
        for (int s = 0; s < STAGES; s++) us[s][i] = one[s];
    }
    printf("%-6s K=%d history %4d: encode %6.1f  search %6.1f  merge %6.1f  print %5.1f  all "
           "%6.1f us\n",
           gen_info(g)->index_type, gen_info(g)->K, len, median(us[0]), median(us[1]),
           median(us[2]), median(us[3]), median(us[4]));
}

static void bench(const char *dir, int32_t K, bool hnsw)
{
    static const int32_t len[] = { 1, 10, 50, 1000 };
    struct fixture fx = fixture_defaults();
    struct err e = { 0 };
    struct gen *g;
    char path[512];
    fx.name = hnsw ? "hnsw" : "flat";
    fx.version = K + 1;
    fx.V = V;
    fx.D = 64;
    fx.L = 50;
    fx.layers = 2;
    fx.K = K;
    fx.hnsw = hnsw;
    fixture_bundle(&fx, dir);
    snprintf(path, sizeof path, "%s/%s", dir, fx.name);
    if (gen_open(&g, path, &e) < 0) err_bug(__FILE__, __LINE__, "gen_open", "%s", e.msg);
    struct rec_worker *w = rec_worker_new();
    struct buf b = { .cap_max = LIMIT_REPLY_BYTES };
    for (int i = 0; i < 4; i++) measure(w, g, &b, len[i]);
    printf("       loaded in %.1f ms\n", gen_info(g)->load_ms);
    buf_free(&b);
    rec_worker_free(w);
    gen_unref(g);
}

int main(void)
{
    num_init();
    char *dir = fixture_tmpdir();
    bench(dir, 0, false);
    bench(dir, 4, false);
    bench(dir, 4, true);
    fixture_rmdir(dir);
    free(dir);
    return 0;
}
