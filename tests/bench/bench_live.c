/* Items that change: what a write costs beside items in the delta, what a search of the delta
 * takes, and a request beside it, without and with a filter.  Weights are random, sizes those of
 * Beauty (12,101 items, D 64, K 4); the store lies in memory where there is /dev/shm, so that a
 * disk's fsync is not in the figures.  Medians. */
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/live.h"
#include "core/serve/recommend.h"
#include "tests/fixture_bundle.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { V = 12101, D = 64, K = 4, TOP = 100, TIMES = 101, PART = 10000 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x)
{
    qsort(x, TIMES, sizeof *x, by_value);
    return x[TIMES / 2];
}

static void must(int rc, const struct err *e)
{
    if (rc < 0) err_bug(__FILE__, __LINE__, "bench", "%s", e->msg);
}

static float vector[D];

static void add(struct lives *all, struct live *l, int32_t from, int32_t to)
{
    struct err e = { 0 };
    static struct item_change c[PART];
    static char id[PART][16];
    static const struct str kind[2] = { { "c1", 2 }, { "c2", 2 } };
    static const struct attr category[2] = {
        { .name = { "category", 8 }, .value = &kind[0], .n_values = 1 },
        { .name = { "category", 8 }, .value = &kind[1], .n_values = 1 }
    };
    for (int32_t first = from; first < to; first += PART) {
        int32_t n = to - first < PART ? to - first : PART;
        for (int32_t i = 0; i < n; i++) {
            int len = snprintf(id[i], sizeof id[i], "n%d", first + i);
            c[i] = (struct item_change){ .id = { id[i], len },
                                         .vector = vector,
                                         .dim = D,
                                         .has_attrs = true,
                                         .attrs = { &category[i % 2], 1 } };
        }
        must(live_write(all, l, c, n, NULL, &e), &e);
    }
}

/* Microseconds of a request that brings its vectors. */
static double ask(const struct gen *g, struct live *l, struct rec_worker *w, const float *query,
                  const struct filter *f)
{
    double us[TIMES];
    for (int i = 0; i < TIMES; i++) {
        struct rec_answer a;
        struct rec_request r;
        struct err e = { 0 };
        rec_request_defaults(&r);
        r.source = REC_VECTORS;
        r.vectors = query;
        r.n_vectors = K;
        r.filter = f;
        uint64_t t = clock_ns();
        struct live_view *v = live_take(l);
        must(recommend(&a, w, &(struct corpus){ .gen = g, .live = v }, &r, &e), &e);
        live_drop(v);
        us[i] = (double)(clock_ns() - t) * 1e-3;
    }
    return median(us);
}

static void measure(struct lives *all, struct live *l, const struct gen *g,
                    struct rec_worker *w)
{
    static const struct filter_value value = { { "c1", 2 }, NAN };
    static const struct filter_clause clause = {
        { "category", 8 }, FILTER_ANY, .value = &value, .n_values = 1
    };
    static const struct filter filter = { &clause, NULL, 1, 0 };
    static int32_t ids[K * TOP];
    static float scores[K * TOP], query[K * D];
    double write[TIMES], search[TIMES], find[TIMES];
    struct err e = { 0 };
    for (int i = 0; i < K * D; i++) query[i] = (float)(i % 7) - 3;
    for (int i = 0; i < TIMES; i++) {
        char id[16];
        int len = snprintf(id, sizeof id, "n%d", i);
        struct item_change c = { .id = { id, len }, .vector = vector, .dim = D };
        uint64_t t = clock_ns();
        must(live_write(all, l, &c, 1, NULL, &e), &e);
        write[i] = (double)(clock_ns() - t) * 1e-3;
    }
    for (int i = 0; i < TIMES; i++) {
        uint64_t t = clock_ns();
        struct live_view *v = live_take(l);
        live_search(ids, scores, v, query, K, TOP, NULL);
        search[i] = (double)(clock_ns() - t) * 1e-3;
        t = clock_ns();
        for (int j = 0; j < 100; j++) (void)live_find(v, "n5000", 5);
        find[i] = (double)(clock_ns() - t) * 1e-2;
        live_drop(v);
    }
    struct live_view *v = live_take(l);
    printf("%8d items  write %7.1f us  search %8.1f us  find %5.0f ns  request %8.1f us, "
           "filtered %8.1f\n",
           v->n_alive, median(write), median(search), median(find), ask(g, l, w, query, NULL),
           ask(g, l, w, query, &filter));
    live_drop(v);
}

int main(void)
{
    static const int32_t sizes[] = { 200, 1000, 10000, 100000, 190000 };
    struct fixture fx = fixture_defaults();
    struct err e = { 0 };
    struct lives *all;
    struct gen *g;
    struct rec_worker *w = rec_worker_new();
    num_init();
    fx.V = V;
    fx.D = D;
    fx.attributes = true;
    char *dir = fixture_tmpdir(), *store = xasprintf("%s/store", dir),
         *path = xasprintf("%s/toy/1", dir);
    fixture_bundle(&fx, dir);
    must(gen_open(&g, path, &e), &e);
    must(lives_open(&all, store, &e), &e);
    must(lives_add(all, g, &e), &e);
    struct live *l = lives_find(all, "toy", 3);
    for (int i = 0, n = 0; i < (int)(sizeof sizes / sizeof *sizes); n = sizes[i++]) {
        for (int d = 0; d < D; d++) vector[d] = (float)(d % 5) - 2 + (float)i;
        add(all, l, n, sizes[i]);
        measure(all, l, g, w);
    }
    uint64_t t = clock_ns();
    must(lives_add(all, g, &e), &e);
    printf("read again from the store: %.0f ms\n", (double)(clock_ns() - t) * 1e-6);
    rec_worker_free(w);
    lives_close(all);
    gen_unref(g);
    fixture_rmdir(dir);
    free(dir);
    free(store);
    free(path);
    return 0;
}
