/* bench_encoder.c — microseconds per sequence of the encoder's forward pass on one thread, of an event that is
 * appended to what was kept of its history beside encoding that anew, and milliseconds of an encoder's training
 * step; tests/bench/torch_encoder.py measures the same forward in PyTorch.
 * 2 layers, 2 heads, D=64, feed-forward 256 with gelu, causal.
 *   build/release/bench_encoder [forward|append|users|train1|train2] */
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/encode.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { V = 12101, L = 50, TRIALS = 31 };

struct times {
    double median_us, best_us;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef void work_fn(void *ctx);

/* Each trial repeats the work for about 3 ms. */
static struct times measure(work_fn *fn, void *ctx)
{
    double us[TRIALS];
    int64_t reps = 1;
    for (;; reps *= 2) {
        uint64_t start = clock_ns();
        for (int64_t i = 0; i < reps; i++) fn(ctx);
        if (clock_ns() - start > 3000000) break;
    }
    for (int t = 0; t < TRIALS; t++) {
        uint64_t start = clock_ns();
        for (int64_t i = 0; i < reps; i++) fn(ctx);
        us[t] = (double)(clock_ns() - start) * 1e-3 / (double)reps;
    }
    qsort(us, TRIALS, sizeof *us, by_value);
    return (struct times){ us[TRIALS / 2], us[0] };
}

struct bench {
    struct model *m;
    struct tape *tp;
    struct seqpack sp;
    int32_t *ids, *cu, *pos;
};

static void bench_batch(struct bench *b, const int32_t *len, int32_t B)
{
    struct rng r = rng_make(7, RNG_TEST);
    b->cu = xcalloc((size_t)B + 1, sizeof *b->cu);
    for (int32_t i = 0; i < B; i++) b->cu[i + 1] = b->cu[i] + len[i];
    const int32_t N = b->cu[B];
    b->pos = xcalloc((size_t)N, sizeof *b->pos);
    b->ids = xcalloc((size_t)N, sizeof *b->ids);
    seqpack_positions(b->pos, b->cu, B, L, POS_FIRST);
    for (int32_t i = 0; i < N; i++) b->ids[i] = (int32_t)rng_below(&r, V);
    b->sp = (struct seqpack){ .B = B, .N = N, .cu = b->cu, .pos = b->pos };
}

static void bench_batch_free(struct bench *b)
{
    free(b->cu);
    free(b->pos);
    free(b->ids);
}

static void forward(void *ctx)
{
    struct bench *b = ctx;
    tape_begin(b->tp, 0, 0, false);
    (void)model_encode(b->m, b->tp, &b->sp, b->ids, BETA_IN);
}

static void train(void *ctx)
{
    struct bench *b = ctx;
    tape_begin(b->tp, GROUPS_ALL, 1, true);
    struct encoded e = model_encode(b->m, b->tp, &b->sp, b->ids, BETA_IN);
    tape_backward(b->tp, ad_sum(b->tp, e.phi, 1.0f));
}

static void forward_row(struct bench *b, int32_t len, int32_t B)
{
    int32_t lens[64];
    for (int32_t i = 0; i < B; i++) lens[i] = len;
    bench_batch(b, lens, B);
    struct times t = measure(forward, b);
    printf("encoder forward, 1 thread   length %2d  B %2d   %8.2f us/sequence   (best %.2f)\n",
           len, B, t.median_us / B, t.best_us / B);
    bench_batch_free(b);
}

/* ---- appended events ---- */

struct append {
    struct bench b; /* the whole histories, appended event included */
    struct extend *x;
    float **page;
};

static void append(void *ctx)
{
    struct append *a = ctx;
    struct seqpack sp;
    tape_begin(a->b.tp, 0, 0, false);
    (void)model_extend(a->b.m, a->b.tp, &sp, a->x, a->b.sp.B);
}

static void append_make(struct append *a, const struct bench *b, int32_t len, int32_t B)
{
    const size_t pages = ((size_t)len + EXTEND_PAGE - 1) / EXTEND_PAGE;
    int32_t lens[64];
    for (int32_t i = 0; i < B; i++) lens[i] = len;
    a->b = *b;
    bench_batch(&a->b, lens, B);
    a->x = xcalloc((size_t)B, sizeof *a->x);
    a->page = xcalloc((size_t)B * pages, sizeof *a->page);
    for (size_t i = 0; i < (size_t)B * pages; i++)
        a->page[i] = xaligned(extend_page_bytes(model_config(b->m)));
    for (int32_t i = 0; i < B; i++)
        a->x[i] = (struct extend){ a->page + (size_t)i * pages, a->b.ids + a->b.cu[i], 0, len };
}

static void append_free(struct append *a, int32_t len)
{
    const size_t pages = ((size_t)len + EXTEND_PAGE - 1) / EXTEND_PAGE;
    for (size_t i = 0; i < (size_t)a->b.sp.B * pages; i++) free(a->page[i]);
    free(a->page);
    free(a->x);
    bench_batch_free(&a->b);
}

/* The last of len events, anew and appended; and what keeping adds to the first encoding. */
static void append_row(const struct bench *b, int32_t len, int32_t B)
{
    struct append a;
    append_make(&a, b, len, B);
    const double anew = measure(forward, &a.b).best_us / B,
                 kept = measure(append, &a).best_us / B;
    for (int32_t i = 0; i < B; i++)
        a.x[i] = (struct extend){ a.x[i].page, a.x[i].ids + len - 1, len - 1, 1 };
    const struct times t = measure(append, &a);
    printf("event %2d appended, 1 thread   K %d  B %2d   %8.2f us/sequence   (best %.2f)   all "
           "events %.2f, %.1f times that; and kept %.2f\n",
           len, model_config(b->m)->interests, B, t.median_us / B, t.best_us / B, anew,
           anew * B / t.best_us, kept);
    append_free(&a, len);
}

static void append_rows(struct bench b, const struct model_cfg *cfg)
{
    static const int32_t length[] = { 4, 8, 16, 50 };
    for (int32_t K = 0; K <= 4; K += 4) {
        struct model_cfg c = *cfg;
        c.interests = K;
        b.m = model_new(&c, false);
        params_init(model_params(b.m), 1);
        for (int i = 0; i < 4; i++)
            for (int32_t B = 1; B <= 64; B *= B == 1 ? 16 : 4) append_row(&b, length[i], B);
        model_free(b.m);
    }
}

/* ---- users who come again ---- */

static const int32_t typical[8] = { 2, 3, 4, 5, 6, 8, 12, 32 }; /* mean 9 */

struct users {
    const struct model *m;
    struct states *states;
    struct tape *tp;
    struct arena *a;
    const int32_t *row; /* [USERS,L] */
};
enum { USERS = 4096, PASSES = 11 };

/* Of this thread: a pass is too long to be undisturbed on a machine that others use. */
static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* Every user once, B to a batch, his first typical[] + more events; microseconds a history. */
static double pass(const struct users *u, int32_t more, int32_t B)
{
    struct encode_in in[64];
    struct encode_out o;
    const double start = cpu_us();
    for (int32_t i = 0; i < USERS; i += B) {
        for (int32_t b = 0; b < B; b++)
            in[b] =
                (struct encode_in){ u->row + (size_t)(i + b) * L, typical[(i + b) % 8] + more };
        arena_reset(u->a);
        encode_histories(&o, u->states, u->m, u->tp, u->a, in, B);
    }
    return (cpu_us() - start) / USERS;
}

static double smaller(double a, double b) { return a < b ? a : b; }

/* The cache is full of others when they come first, and more than the processor's caches hold. */
static void users_row(struct users *u, int32_t B)
{
    const int32_t *row = u->row;
    double none = 1e9, first = 1e9, again = 1e9;
    struct states *s =
        states_new(u->m, (size_t)USERS * 7 / 4 * extend_page_bytes(model_config(u->m)));
    for (int trial = 0; trial < PASSES; trial++) { /* histories of its own each time */
        u->row = row + trial;
        u->states = NULL;
        none = smaller(none, pass(u, 3, B));
        u->states = s;
        (void)pass(u, 1, B); /* who comes once is not kept */
        const double t = pass(u, 2, B);
        if (trial > 1) first = smaller(first, t);
        again = smaller(again, pass(u, 3, B));
    }
    u->row = row;
    states_free(s);
    printf("histories of 4 to 35 events   K %d  B %2d   %8.2f us/sequence   whole and kept %.2f"
           "   then an event more %.2f\n",
           model_config(u->m)->interests, B, none, first, again);
}

static void users_rows(struct tape *tp, const struct model_cfg *cfg)
{
    struct rng r = rng_make(8, RNG_TEST);
    int32_t *row = xcalloc((size_t)USERS * L + PASSES, sizeof *row);
    for (int32_t i = 0; i < USERS * L + PASSES; i++) row[i] = (int32_t)rng_below(&r, V);
    for (int32_t K = 0; K <= 4; K += 4) {
        struct model_cfg c = *cfg;
        c.interests = K;
        struct model *m = model_new(&c, false);
        params_init(model_params(m), 1);
        struct users u = { .m = m, .tp = tp, .a = arena_new("users", 1 << 18, 0), .row = row };
        for (int32_t B = 1; B <= 64; B *= 8) users_row(&u, B);
        arena_free(u.a);
        model_free(m);
    }
    free(row);
}

/* ---- training ---- */

static void train_row(struct bench *b, int threads)
{
    enum { B = 256 };
    int32_t lens[B];
    for (int32_t i = 0; i < B; i++) lens[i] = typical[i % 8];
    bench_batch(b, lens, B);
    struct times t = measure(train, b);
    printf("encoder forward + backward  %d thread%s  %d sequences, %d tokens, dropout .5"
           "   %.2f ms   (best %.2f)\n",
           threads, threads > 1 ? "s" : " ", B, b->sp.N, t.median_us * 1e-3, t.best_us * 1e-3);
    bench_batch_free(b);
}

int main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : NULL;
    num_init();
    struct model_cfg cfg = { .n_items = V };
    conf_defaults(model_opts, &cfg);
    cfg.width = 64;
    cfg.layers = 2;
    cfg.heads = 2;
    cfg.max_len = L;
    cfg.interests = 0;
    cfg.causal = 1;
    cfg.dropout = cfg.attn_dropout = .5f;

    struct bench b = { .m = model_new(&cfg, true) };
    params_init(model_params(b.m), 1);
    for (int threads = 1; threads <= 2; threads++) {
        struct arena *mem = arena_new("bench", 1 << 24, 0);
        struct par *pool = par_new(threads);
        b.tp = tape_new(mem, pool);
        if (threads == 1 && (!only || strcmp(only, "forward") == 0))
            for (int i = 0; i < 4; i++) forward_row(&b, i < 2 ? 10 : 50, i % 2 ? 32 : 1);
        if (threads == 1 && (!only || strcmp(only, "append") == 0)) append_rows(b, &cfg);
        if (threads == 1 && (!only || strcmp(only, "users") == 0)) users_rows(b.tp, &cfg);
        if (!only || strcmp(only, threads == 1 ? "train1" : "train2") == 0)
            train_row(&b, threads);
        tape_free(b.tp);
        par_free(pool);
        arena_free(mem);
    }
    model_free(b.m);
    return 0;
}
