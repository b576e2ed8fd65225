/* op_xent.c — full softmax cross-entropy against a table of all items, maximum over K vectors.
 *
 * Rows of q are taken in blocks of up to ROWS, columns in chunks of CHUNK items.  Chunk by chunk the
 * pool computes a tile of logits, replaces it by exp(logit - chunk's maximum) while it is in the
 * second-level cache, and multiplies it with the chunk of the table: the part of dq.  When the
 * chunks are through, the log-sum-exp of each row is known, and with it one factor per row and
 * chunk that turns tiles into probabilities.  The factor never touches a tile: it goes into the
 * sum of the parts of dq, and into a copy of q that the kept tiles are multiplied with for dtable.
 *
 * Three products, one exp, TILES floats of scratch whatever B is.  Every chunk writes its own
 * rows of dtable and block follows block, so the bits do not depend on the number of threads.
 * The gradient for upstream 1 is ready when forward returns; backward scales and adds it.
 * Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/num/gemm.h"
#include "core/num/num.h"
#include <math.h>
#include <string.h>

enum {
    CHUNK = 512,
    ROWS = 256,     /* rows of q at once: enough for the products to run at full speed */
    MIN_ROWS = 32,  /* for large tables fewer, to keep the tiles of a block within TILES */
    TILES = 4 << 20,
    RUN = 1 << 15   /* floats per block of the final addition */
};

struct xent {
    const struct ten *y;
    struct ten *q, *table;
    const int32_t *target;
    int32_t B, K, V, D;
    float *dq, *dtable; /* gradients for upstream 1; NULL: not wanted */
};

/* What one block of rows needs; arrays are sized for the largest block. */
struct pass {
    struct xent *op;
    int32_t b0, n_b, n_r; /* sequences [b0, b0+n_b), n_r = n_b K rows of q from b0 K on */
    int32_t n_chunks;
    bool keep;   /* all tiles stay for dtable, otherwise one per worker */
    float *tile; /* [n_r, width] per chunk, dense */
    float *part; /* [n_chunks, n_r, D] tile times table */
    float *max, *sum; /* [n_b, n_chunks] of each tile's rows */
    float *factor;    /* [n_b, n_chunks] exp(max - lse) / B */
    float *logit;     /* [n_b] of the target */
    int32_t *best;    /* [n_b] the row of q that gave it */
    float *scaled;    /* [workers, n_r, D] q times factor */
};

static int32_t min32(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t width(const struct pass *c, int32_t chunk)
{
    return min32(CHUNK, c->op->V - chunk * CHUNK);
}
static float *tile_of(const struct pass *c, int32_t chunk, int worker)
{
    if (c->keep) return c->tile + (int64_t)c->n_r * chunk * CHUNK;
    return c->tile + (int64_t)c->n_r * CHUNK * worker;
}
static const float *block_q(const struct pass *c)
{
    return c->op->q->x + (int64_t)c->b0 * c->op->K * c->op->D;
}

/* The targets that lie in this chunk; each sequence has exactly one such chunk. */
static void take_targets(struct pass *c, const float *tile, int32_t chunk)
{
    int32_t K = c->op->K, w = width(c, chunk), v0 = chunk * CHUNK;
    for (int32_t b = 0; b < c->n_b; b++) {
        int32_t j = c->op->target[c->b0 + b] - v0, best = b * K;
        if (j < 0 || j >= w) continue;
        for (int32_t r = best + 1; r < (b + 1) * K; r++)
            if (tile[(int64_t)r * w + j] > tile[(int64_t)best * w + j]) best = r;
        c->logit[b] = tile[(int64_t)best * w + j];
        c->best[b] = best;
    }
}

static void logits_chunk(void *ctx, int chunk, int worker)
{
    struct pass *c = ctx;
    const struct xent *op = c->op;
    int32_t w = width(c, chunk), K = op->K, D = op->D;
    const float *table = op->table->x + (int64_t)chunk * CHUNK * D;
    float *tile = tile_of(c, chunk, worker);
    gemm_nt(tile, block_q(c), table, c->n_r, w, D, 1, 0);
    take_targets(c, tile, chunk);
    for (int32_t b = 0; b < c->n_b; b++) {
        int64_t at = (int64_t)b * c->n_chunks + chunk;
        float *x = tile + (int64_t)b * K * w;
        if (op->y->g)
            num->loss->tile_exp(c->max + at, c->sum + at, x, K, w, w);
        else
            num->loss->tile_sum(c->max + at, c->sum + at, x, K, w, w);
    }
    if (op->dq) gemm_nn(c->part + (int64_t)chunk * c->n_r * D, tile, table, c->n_r, D, w, 1, 0);
}

/* Puts the chunks' sums together: the loss of the block, and the factors. */
static double close_rows(struct pass *c)
{
    double loss = 0;
    int64_t n = c->n_chunks;
    for (int32_t b = 0; b < c->n_b; b++) {
        float *f = c->factor + b * n;
        float m = num->vec->max(c->max + b * n, n);
        (void)num->vec->exp_sum(f, c->max + b * n, m, n);
        float s = num->vec->dot(f, c->sum + b * n, n);
        num->vec->scale(f, 1.0f / (s * (float)c->op->B), f, n);
        loss += (double)m + log((double)s) - (double)c->logit[b];
    }
    return loss;
}

static void dtable_chunk(void *ctx, int chunk, int worker)
{
    struct pass *c = ctx;
    const struct xent *op = c->op;
    int32_t D = op->D;
    float *scaled = c->scaled + (int64_t)worker * c->n_r * D;
    for (int32_t r = 0; r < c->n_r; r++)
        num->vec->scale(scaled + (int64_t)r * D, c->factor[r / op->K * c->n_chunks + chunk],
                        block_q(c) + (int64_t)r * D, D);
    gemm_tn(op->dtable + (int64_t)chunk * CHUNK * D, tile_of(c, chunk, worker), scaled,
            width(c, chunk), D, c->n_r, 1, c->b0 == 0 ? 0.0f : 1.0f);
}

static void dq_rows(void *ctx, int block, int worker)
{
    (void)worker;
    struct pass *c = ctx;
    const struct xent *op = c->op;
    int32_t D = op->D, end = min32((block + 1) * MIN_ROWS, c->n_r);
    for (int32_t r = block * MIN_ROWS; r < end; r++) {
        const float *f = c->factor + r / op->K * c->n_chunks;
        float *dq = op->dq + ((int64_t)c->b0 * op->K + r) * D;
        const float *part = c->part + (int64_t)r * D;
        num->vec->scale(dq, f[0], part, D);
        for (int32_t chunk = 1; chunk < c->n_chunks; chunk++)
            num->vec->axpy(dq, f[chunk], part + (int64_t)chunk * c->n_r * D, D);
    }
}

/* - logit[target] / B: the one entry of each row that is not a softmax. */
static void subtract_targets(struct pass *c)
{
    const struct xent *op = c->op;
    int32_t D = op->D;
    float s = -1.0f / (float)op->B;
    for (int32_t b = 0; b < c->n_b; b++) {
        int64_t r = (int64_t)c->b0 * op->K + c->best[b], v = op->target[c->b0 + b];
        if (op->dq) num->vec->axpy(op->dq + r * D, s, op->table->x + v * D, D);
        if (op->dtable) num->vec->axpy(op->dtable + v * D, s, op->q->x + r * D, D);
    }
}

static double run_block(struct pass *c, struct par *pool)
{
    par_for(pool, c->n_chunks, logits_chunk, c);
    double loss = close_rows(c);
    if (c->op->dtable) par_for(pool, c->n_chunks, dtable_chunk, c);
    if (c->op->dq) par_for(pool, (c->n_r + MIN_ROWS - 1) / MIN_ROWS, dq_rows, c);
    if (c->op->y->g) subtract_targets(c);
    return loss;
}

/* Sequences per block: a function of the shapes alone. */
static int32_t block_seqs(const struct xent *op)
{
    int32_t rows = TILES / op->V;
    rows = rows < MIN_ROWS ? MIN_ROWS : rows > ROWS ? ROWS : rows;
    rows = rows / op->K;
    return min32(rows < 1 ? 1 : rows, op->B);
}

static struct pass pass_new(struct xent *op, struct arena *mem, int workers)
{
    int32_t n_b = block_seqs(op);
    int64_t rows = (int64_t)n_b * op->K, chunks = (op->V + CHUNK - 1) / CHUNK, cells = n_b * chunks;
    struct pass c = { .op = op, .n_chunks = (int32_t)chunks, .keep = op->dtable != NULL };
    c.tile = ARENA_NEW(mem, float, rows * (c.keep ? op->V : (int64_t)CHUNK * workers));
    if (op->dq) c.part = ARENA_NEW(mem, float, rows * op->D * chunks);
    if (op->dtable) c.scaled = ARENA_NEW(mem, float, rows * op->D * workers);
    c.max = ARENA_NEW(mem, float, cells);
    c.sum = ARENA_NEW(mem, float, cells);
    c.factor = ARENA_NEW(mem, float, cells);
    c.logit = ARENA_NEW(mem, float, n_b);
    c.best = ARENA_NEW(mem, int32_t, n_b);
    return c;
}

static float forward(struct xent *op, struct tape *tp)
{
    struct arena *mem = tape_arena(tp);
    struct arena_mark mark = arena_mark(mem);
    struct pass c = pass_new(op, mem, par_threads(tape_pool(tp)));
    int32_t step = block_seqs(op);
    double loss = 0;
    for (c.b0 = 0; c.b0 < op->B; c.b0 += step) {
        c.n_b = min32(step, op->B - c.b0);
        c.n_r = c.n_b * op->K;
        loss += run_block(&c, tape_pool(tp));
    }
    arena_release(mem, mark);
    return (float)(loss / op->B);
}

struct add {
    float *y;
    const float *x;
    float s;
    int64_t n;
};

static void add_run(void *ctx, int block, int worker)
{
    (void)worker;
    const struct add *a = ctx;
    int64_t at = (int64_t)block * RUN, n = a->n - at < RUN ? a->n - at : RUN;
    num->vec->axpy(a->y + at, a->s, a->x + at, n);
}

static void add_scaled(struct par *pool, float *y, const float *x, float s, int64_t n)
{
    struct add a = { y, x, s, n };
    if (x) par_for(pool, (int)((n + RUN - 1) / RUN), add_run, &a);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct xent *op = saved;
    add_scaled(tape_pool(tp), op->q->g, op->dq, y->g[0], (int64_t)op->B * op->K * op->D);
    add_scaled(tape_pool(tp), op->table->g, op->dtable, y->g[0], (int64_t)op->V * op->D);
}

struct ten *ad_xent(struct tape *tp, struct ten *q, struct ten *table, const int32_t *target,
                    int32_t K)
{
    REQUIRE(K > 0 && q->rows > 0 && q->rows % K == 0 && q->cols == table->cols,
            "xent: q [%d,%d], table [%d,%d], K %d", q->rows, q->cols, table->rows, table->cols, K);
    struct arena *mem = tape_arena(tp);
    struct ten *y = tape_ten(tp, 1, 1, q->g || table->g);
    struct xent *op = ARENA_NEW(mem, struct xent, 1);
    *op = (struct xent){ y, q, table, target, q->rows / K, K, table->rows, q->cols, NULL, NULL };
    for (int32_t b = 0; b < op->B; b++)
        REQUIRE(target[b] >= 0 && target[b] < op->V, "xent: target %d of %d", target[b], op->V);
    if (q->g) op->dq = ARENA_NEW(mem, float, (int64_t)q->rows * q->cols);
    if (table->g) op->dtable = ARENA_NEW(mem, float, (int64_t)table->rows * table->cols);
    y->x[0] = forward(op, tp);
    tape_push(tp, y, backward, op, "xent");
    return y;
}
