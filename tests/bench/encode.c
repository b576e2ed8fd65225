/* bench_encode — the encoder alone, one history a call, one thread: what serving pays before the search.
 *   echo "1 5 50" | build/release/bench_encode BUNDLE
 * Standard input: lengths of histories, a line a case.  For each line: us a history, the best of ROUNDS rounds over the
 * line's lengths.  tests/bench/stack/encode.py does the same with PyTorch and onnxruntime. */
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/load.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 15, LEAST_US = 20000, MOST_CASE = 4096 };

struct bench {
    const struct model *m;
    struct tape *tp;
    const int32_t *ids; /* [L], any */
};

static void encode(const struct bench *b, int32_t len)
{
    int32_t cu[2] = { 0, len }, pos[LIMIT_SEQ_LEN];
    const struct model_cfg *c = model_config(b->m);
    seqpack_positions(pos, cu, 1, c->max_len, (enum pos_from)c->positions);
    struct seqpack sp = { .B = 1, .N = len, .cu = cu, .pos = pos };
    tape_begin(b->tp, 0, 0, false);
    (void)model_encode(b->m, b->tp, &sp, b->ids, BETA_IN);
}

static double once_us(const struct bench *b, const int32_t *len, int32_t n)
{
    uint64_t start = clock_ns(), ns;
    int64_t done = 0;
    do {
        for (int32_t i = 0; i < n; i++) encode(b, len[i]);
        done += n;
        ns = clock_ns() - start;
    } while (ns < LEAST_US * 1000u);
    return (double)ns * 1e-3 / (double)done;
}

static int32_t read_lengths(int32_t *len, char *line, int32_t L)
{
    int32_t n = 0;
    for (char *word = strtok(line, " \n"); word && n < MOST_CASE; word = strtok(NULL, " \n")) {
        long x = strtol(word, NULL, 10);
        len[n++] = (int32_t)(x < 1 ? 1 : x > L ? L : x);
    }
    return n;
}

static void bench(const struct model *m)
{
    static char line[MOST_CASE * 8];
    int32_t L = model_config(m)->max_len, len[MOST_CASE];
    int32_t *ids = xmalloc(sizeof *ids * (size_t)L);
    struct rng rng = rng_make(7, RNG_TEST);
    for (int32_t i = 0; i < L; i++)
        ids[i] = (int32_t)rng_below(&rng, (uint32_t)model_config(m)->n_items);
    struct arena *mem = arena_new("encode", 1 << 20, 0);
    struct bench b = { .m = m, .tp = tape_new(mem, NULL), .ids = ids };
    while (fgets(line, sizeof line, stdin)) {
        int32_t n = read_lengths(len, line, L);
        if (n == 0) continue;
        double best = once_us(&b, len, n);
        for (int i = 1; i < ROUNDS; i++) {
            double us = once_us(&b, len, n);
            if (us < best) best = us;
        }
        printf("%.2f\n", best);
    }
    tape_free(b.tp);
    arena_free(mem);
    free(ids);
}

static int load_and_bench(const char *path, struct err *e)
{
    struct bundle bundle;
    struct model *m = NULL;
    struct items *items = NULL;
    TRY(bundle_open(&bundle, path, false, e));
    int rc = load_model(&m, &items, &bundle, false, e);
    if (rc == 0) bench(m);
    model_free(m);
    if (items) items_close(items);
    bundle_close(&bundle);
    return rc;
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    if (argc != 2) {
        fputs("usage: bench_encode BUNDLE < LENGTHS\n", stderr);
        return 2;
    }
    num_init();
    if (load_and_bench(argv[1], &e) == 0) return 0;
    fprintf(stderr, "bench_encode: %s\n", e.msg);
    return 1;
}
