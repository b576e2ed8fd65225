/* op_xent.c — full softmax cross-entropy against a table of all items, maximum over K vectors.
 *
 * Rows of q are taken in blocks of up to ROWS, items in chunks of CHUNK.  Chunk by chunk the pool computes a tile of
 * logits, one row an item and one column a sequence: table times q turned, strip by strip, so that the maxima of the
 * columns are taken while a strip is in the first-level cache.  The tile becomes exp(logit - chunk's maximum) and, strip
 * by strip again, is multiplied with the chunk of the table: a part of dq.  When the chunks are through, the log-sum-exp
 * of each sequence is known, and with it one factor per sequence and chunk that turns exponentials into probabilities.
 * The factor never touches a tile: it goes into the sum of the parts of dq, and into a copy of q which the kept tiles
 * are multiplied with for dtable.
 *
 * Three products and one exp, and all that is large is read in the order it lies in memory.  With K > 1 only one of K
 * logits has a gradient: tiles then hold the best one and which it was, and two of the products do 1/K of the work
 * (k_loss.h).  Scratch does not grow with B but for a copy of q.  Every chunk writes its own rows of dtable and block
 * follows block, so the bits do not depend on the number of threads.  The gradient for upstream 1 is ready when forward
 * returns; backward scales and adds it.
 *
 * Label smoothing needs mean_v logit, whose gradient is that of a tile of ones: with one vector the mean of the
 * table serves all rows, with K > 1 the winners are summed up a second time.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"
#include <math.h>

enum {
    CHUNK = 1024,    /* with ROWS: logits of a quarter megabyte */
    STRIP = 64,      /* items whose logits are in the first level */
    ROWS = 64,       /* rows of q at once: enough for the products to run at full speed */
    MIN_ROWS = 32,   /* fewer for large tables: the tiles of a block should fit TILES */
    TILES = 1 << 20, /* floats */
    LANES = 16,      /* columns of a tile come in so many */
};

struct xent {
    const struct ten *y;
    struct ten *q, *table;
    const int32_t *target;
    struct xent_opts o;
    double weights; /* their sum */
    int32_t B, K, V, D;
    int32_t n_b, ld; /* sequences of a block; columns of its tile, n_b rounded up to LANES */
    float *
        qt; /* [blocks, D, K*ld] q turned: column k*ld + b is vector k of sequence b, or zeros */
    float *dq, *dtable;          /* gradients for upstream 1; NULL: not wanted */
    const struct bf16_ops *half; /* NULL: fp32 */
    bf16 *qt16, *table16;        /* with half */
};

/* What one block of rows needs; arrays are sized for the largest block. */
struct pass {
    struct xent *op;
    int32_t b0, n_b, n_r; /* sequences [b0, b0+n_b), n_r = n_b K rows of q from b0 K on */
    int32_t n_chunks;
    int32_t strip; /* items of a strip: oneDNN takes the whole chunk */
    bool keep; /* all tiles stay for dtable, otherwise one per worker; with tile16 that stays */
    bf16 *tile16;   /* [n_chunks, CHUNK, ld] tiles rounded, with half and K = 1 */
    bf16 *scaled16; /* [workers, n_r, D] */
    float *tile;    /* [n_chunks or workers, CHUNK, ld] exponentials */
    int32_t *win;   /* the same shape: which of the K it was; NULL: K = 1 */
    float *logits;  /* [workers, strip, K*ld]; NULL: K = 1, where they are made in the tile */
    float *turned; /* [workers, ld, strip] exponentials of a strip the other way round; K > 1 */
    int32_t *turned_win; /* and its winners */
    float *part;         /* [n_chunks, n_r, D] tile times table */
    float *
        flat; /* [n_chunks, n_r, D] the same of a tile of ones: label smoothing; NULL: without */
    float *max, *sum; /* [n_b, n_chunks] of each tile's columns */
    float *share;     /* [n_b] w / W: what a sequence counts in the mean */
    float *factor;    /* [n_b, n_chunks] exp(max - lse) w / W */
    float *logit;     /* [n_b] of the target */
    int32_t *best;    /* [n_b] the row of q that gave it */
    float *scaled;    /* [workers, n_r, D] q times factor */
    float *ones;      /* [CHUNK, ld] with flat */
};

static int32_t min32(int32_t a, int32_t b) { return a < b ? a : b; }
static float weight_of(const struct xent *op, int32_t b)
{
    return op->o.weight ? op->o.weight[b] : 1.0f;
}
/* What a sequence counts in the mean. */
static float part_of(const struct xent *op, int32_t b)
{
    return (float)((double)weight_of(op, b) / op->weights);
}
static int32_t width(const struct pass *c, int32_t chunk)
{
    return min32(CHUNK, c->op->V - chunk * CHUNK);
}
static int64_t tile_at(const struct pass *c, int32_t chunk, int worker)
{
    return (int64_t)CHUNK * c->op->ld * (c->keep ? chunk : worker);
}
static const float *block_q(const struct pass *c)
{
    return c->op->q->x + (int64_t)c->b0 * c->op->K * c->op->D;
}

/* The targets that lie in this chunk; each sequence has exactly one such chunk.  x: a tile of logits. */
static void take_targets(struct pass *c, const float *x, const int32_t *win, int32_t chunk)
{
    const int32_t w = width(c, chunk), v0 = chunk * CHUNK;
    for (int32_t b = 0; b < c->n_b; b++) {
        const int32_t j = c->op->target[c->b0 + b] - v0;
        if (j < 0 || j >= w) continue;
        const int64_t at = (int64_t)j * c->op->ld + b;
        c->logit[b] = x[at];
        c->best[b] = b * c->op->K + (win ? win[at] : 0);
    }
}

static void product(const struct xent *op, int worker, struct mm16_shape s, float *c,
                    const bf16 *a, const bf16 *b)
{
    op->half->product(op->half->mm, worker, &s, c, a, b);
}

/* x [n,K*ld] = the logits of items v .. v+n-1 */
static void make_logits(const struct pass *c, int worker, float *x, int32_t v, int32_t n)
{
    const struct xent *op = c->op;
    const int32_t D = op->D, cols = op->K * op->ld;
    const int64_t qt = (int64_t)(c->b0 / op->n_b) * D * cols;
    if (op->half)
        product(op, worker,
                (struct mm16_shape){
                    .M = n, .N = cols, .K = D, .lda = D, .ldb = cols, .ldc = cols },
                x, op->table16 + (int64_t)v * D, op->qt16 + qt);
    else
        num->mm->nn(x, cols, op->table->x + (int64_t)v * D, D, op->qt + qt, cols, NULL, n, cols,
                    D, false);
}

/* Makes the logits of a chunk, the best of K each, in e with their winners, and the maxima of the columns. */
static void tile_logits(const struct pass *c, int worker, float *max, float *e, int32_t *win,
                        int32_t chunk)
{
    const struct xent *op = c->op;
    const int32_t w = width(c, chunk), ld = op->ld;
    float *logits = win ? c->logits + (int64_t)worker * c->strip * op->K * ld : NULL;
    num->vec->fill(max, -INFINITY, ld);
    for (int32_t j = 0; j < w; j += c->strip) {
        const int32_t n = min32(c->strip, w - j);
        float *x = e + (int64_t)j * ld;
        make_logits(c, worker, win ? logits : x, chunk * CHUNK + j, n);
        if (win) num->loss->best_cols(x, win + (int64_t)j * ld, logits, op->K, n, ld);
        num->loss->max_cols(max, x, n, ld);
    }
    /* of nothing but -inf: exp(x - 0) gives the zeros that are wanted */
    for (int32_t b = 0; b < ld; b++)
        if (max[b] == -INFINITY) max[b] = 0;
}

/* The tile rounded, and part = it times the chunk's rows of the table. */
static void dq_part_half(const struct pass *c, int worker, const float *e, int32_t chunk)
{
    const struct xent *op = c->op;
    const int32_t D = op->D, w = width(c, chunk);
    bf16 *e16 = c->tile16 + (int64_t)chunk * CHUNK * op->ld;
    num->vec->to_bf16(e16, e, (int64_t)w * op->ld);
    if (op->dq)
        product(
            op, worker,
            (struct mm16_shape){
                .M = c->n_r, .N = D, .K = w, .lda = op->ld, .ldb = D, .ldc = D, .ta = true },
            c->part + (int64_t)chunk * c->n_r * D, e16,
            op->table16 + (int64_t)chunk * CHUNK * D);
}

/* part [n_r,D] (+)= a strip of n items times their rows of the table. */
static void dq_part(float *part, const struct pass *c, int worker, const float *e,
                    const int32_t *win, const float *table, int32_t n, bool add)
{
    const int32_t K = c->op->K, D = c->op->D, ld = c->op->ld;
    if (!win) {
        num->mm->tn(part, D, e, ld, table, D, c->n_r, D, n, add);
        return;
    }
    const int64_t scratch = (int64_t)worker * ld * c->strip;
    float *et = c->turned + scratch;
    int32_t *wt = c->turned_win + scratch;
    num->vec->transpose(et, e, n, ld);
    num->vec->transpose((void *)wt, (const void *)win, n, ld); /* lanes are only moved */
    if (!add) num->vec->fill(part, 0, (int64_t)c->n_r * D);
    for (int32_t b = 0; b < c->n_b; b++)
        num->loss->win_rows(part + (int64_t)b * K * D, et + (int64_t)b * n, wt + (int64_t)b * n,
                            table, K, n, D);
}

static void logits_chunk(void *ctx, int chunk, int worker)
{
    struct pass *c = ctx;
    const struct xent *op = c->op;
    const int32_t w = width(c, chunk), ld = op->ld;
    const int64_t at = tile_at(c, chunk, worker), part = (int64_t)chunk * c->n_r * op->D;
    float *e = c->tile + at, max[ROWS], sum[ROWS] = { 0 };
    int32_t *win = c->win ? c->win + at : NULL;
    tile_logits(c, worker, max, e, win, chunk);
    take_targets(c, e, win, chunk);
    for (int32_t j = 0; j < w; j += c->strip) {
        const int32_t n = min32(c->strip, w - j);
        const int64_t from = (int64_t)j * ld;
        const float *table = op->table->x + ((int64_t)chunk * CHUNK + j) * op->D;
        num->loss->exp_cols(e + from, sum, max, n, ld);
        if (op->dq && !c->tile16)
            dq_part(c->part + part, c, worker, e + from, win ? win + from : NULL, table, n,
                    j > 0);
        if (c->flat) dq_part(c->flat + part, c, worker, c->ones, win + from, table, n, j > 0);
    }
    if (c->tile16) dq_part_half(c, worker, e, chunk);
    for (int32_t b = 0; b < c->n_b; b++) {
        c->max[(int64_t)b * c->n_chunks + chunk] = max[b];
        c->sum[(int64_t)b * c->n_chunks + chunk] = sum[b];
    }
}

/* sum_v of the logits of sequence b0 + b, K > 1 */
static double sum_logits(const struct pass *c, int32_t b)
{
    int32_t K = c->op->K, D = c->op->D;
    double sum = 0;
    for (int32_t chunk = 0; chunk < c->n_chunks; chunk++)
        for (int32_t k = 0; k < K; k++) {
            int64_t r = (int64_t)b * K + k;
            sum += (double)num->vec->dot(block_q(c) + r * D,
                                         c->flat + ((int64_t)chunk * c->n_r + r) * D, D);
        }
    return sum;
}

/* Puts the chunks' sums together: the loss of the block, and the factors. */
static double close_rows(struct pass *c)
{
    const struct xent *op = c->op;
    double smoothing = (double)op->o.smoothing;
    double loss = 0;
    int64_t n = c->n_chunks;
    for (int32_t b = 0; b < c->n_b; b++) {
        float *f = c->factor + b * n;
        float m = num->vec->max(c->max + b * n, n);
        (void)num->vec->exp_sum(f, c->max + b * n, m, n);
        float s = num->vec->dot(f, c->sum + b * n, n);
        num->vec->scale(f, c->share[b] / s, f, n);
        double l = (double)m + log((double)s) - (1 - smoothing) * (double)c->logit[b];
        if (c->flat) l -= smoothing * sum_logits(c, b) / op->V;
        loss += (double)weight_of(op, c->b0 + b) * l;
    }
    return loss;
}

/* scaled = q of the block, each sequence times its own number */
static void scale_block(float *scaled, const struct pass *c, const float *factor,
                        int64_t stride, float times)
{
    int32_t D = c->op->D;
    for (int32_t r = 0; r < c->n_r; r++)
        num->vec->scale(scaled + (int64_t)r * D, times * factor[r / c->op->K * stride],
                        block_q(c) + (int64_t)r * D, D);
}

static void dtable_half(const struct pass *c, int worker, float *dtable, const float *scaled,
                        int32_t chunk, int32_t w, bool add)
{
    const int32_t D = c->op->D, ld = c->op->ld;
    bf16 *scaled16 = c->scaled16 + (int64_t)worker * c->n_r * D;
    num->vec->to_bf16(scaled16, scaled, (int64_t)c->n_r * D);
    product(c->op, worker,
            (struct mm16_shape){
                .M = w, .N = D, .K = c->n_r, .lda = ld, .ldb = D, .ldc = D, .add = add },
            dtable, c->tile16 + (int64_t)chunk * CHUNK * ld, scaled16);
}

static void dtable_chunk(void *ctx, int chunk, int worker)
{
    struct pass *c = ctx;
    const struct xent *op = c->op;
    const int32_t D = op->D, ld = op->ld, w = width(c, chunk);
    float *scaled = c->scaled + (int64_t)worker * c->n_r * D;
    scale_block(scaled, c, c->factor + chunk, c->n_chunks, 1);
    float *dtable = op->dtable + (int64_t)chunk * CHUNK * D;
    const int64_t at = tile_at(c, chunk, worker);
    const bool add = c->b0 > 0;
    if (c->win)
        num->loss->win_cols(dtable, c->tile + at, c->win + at, scaled, c->n_b, op->K, w, 1, ld,
                            D, add);
    else if (c->tile16)
        dtable_half(c, worker, dtable, scaled, chunk, w, add);
    else
        num->mm->nn(dtable, D, c->tile + at, ld, scaled, D, NULL, w, D, c->n_r, add);
    if (!c->flat) return;
    scale_block(scaled, c, c->share, 1, -op->o.smoothing / (float)op->V);
    num->loss->win_cols(dtable, c->ones, c->win + at, scaled, c->n_b, op->K, w, 1, ld, D, true);
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
        float each = -op->o.smoothing / (float)op->V * c->share[r / op->K];
        for (int32_t chunk = 0; c->flat && chunk < c->n_chunks; chunk++)
            num->vec->axpy(dq, each, c->flat + ((int64_t)chunk * c->n_r + r) * D, D);
    }
}

/* - (1 - smoothing) logit[target]: the one entry of each row that is not a softmax. */
static void subtract_targets(struct pass *c)
{
    const struct xent *op = c->op;
    int32_t D = op->D;
    for (int32_t b = 0; b < c->n_b; b++) {
        float s = -(1 - op->o.smoothing) * c->share[b];
        int64_t r = (int64_t)c->b0 * op->K + c->best[b], v = op->target[c->b0 + b];
        if (op->dq) num->vec->axpy(op->dq + r * D, s, op->table->x + v * D, D);
        if (op->dtable) num->vec->axpy(op->dtable + v * D, s, op->q->x + r * D, D);
    }
}

static double run_block(struct pass *c, struct par *pool)
{
    for (int32_t b = 0; b < c->n_b; b++) c->share[b] = part_of(c->op, c->b0 + b);
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
    int32_t most = ROWS / op->K, least = MIN_ROWS / op->K, n = TILES / op->V;
    n = n > most ? most : n < least ? least : n;
    n = n / LANES * LANES;
    return min32(n < LANES ? LANES : n, op->B);
}

/* The columns of one block's q turned. */
static void turn_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct xent *op = ctx;
    const struct row_span s = row_span(op->B, op->n_b, block);
    const int64_t D = op->D, K = op->K, cols = K * op->ld;
    float *qt = op->qt + block * D * cols;
    const float *q = op->q->x + s.first * K * D;
    num->vec->fill(qt, 0, D * cols);
    for (int64_t d = 0; d < D; d++)
        for (int64_t k = 0; k < K; k++)
            for (int64_t b = 0; b < s.n; b++)
                qt[d * cols + k * op->ld + b] = q[(b * K + k) * D + d];
}

static struct pass pass_new(struct xent *op, struct arena *mem, int workers)
{
    const int64_t n_b = op->n_b, ld = op->ld, K = op->K, rows = n_b * K,
                  chunks = row_blocks(op->V, CHUNK), tile = CHUNK * ld;
    const bool half = op->half && op->K == 1 && op->y->g;
    struct pass c = { .op = op,
                      .n_chunks = (int32_t)chunks,
                      .strip = op->half ? CHUNK : STRIP,
                      .keep = op->dtable && !half };
    const int64_t tiles = tile * (c.keep ? chunks : workers);
    c.tile = ARENA_NEW(mem, float, tiles);
    if (half) c.tile16 = ARENA_NEW(mem, bf16, tile * chunks);
    if (half) c.scaled16 = ARENA_NEW(mem, bf16, rows * op->D * workers);
    if (K > 1) {
        c.win = ARENA_NEW(mem, int32_t, tiles);
        c.logits = ARENA_NEW(mem, float, c.strip *K *ld *workers);
        c.turned = ARENA_NEW(mem, float, c.strip *ld *workers);
        c.turned_win = ARENA_NEW(mem, int32_t, c.strip * ld * workers);
    }
    if (op->dq) c.part = ARENA_NEW(mem, float, rows * op->D * chunks);
    if (op->dtable) c.scaled = ARENA_NEW(mem, float, rows * op->D * workers);
    if (op->o.smoothing > 0 && K > 1) {
        c.flat = ARENA_NEW(mem, float, rows * op->D * chunks);
        c.ones = ARENA_NEW(mem, float, tile);
        num->vec->fill(c.ones, 1, tile);
    }
    c.share = ARENA_NEW(mem, float, n_b);
    c.max = ARENA_NEW(mem, float, n_b *chunks);
    c.sum = ARENA_NEW(mem, float, n_b *chunks);
    c.factor = ARENA_NEW(mem, float, n_b *chunks);
    c.logit = ARENA_NEW(mem, float, n_b);
    c.best = ARENA_NEW(mem, int32_t, n_b);
    return c;
}

/* The means of the table and of q, weighted: label smoothing with one vector. */
struct smooth {
    struct xent *op;
    const float *q_mean;
};

static void smooth_chunk(void *ctx, int chunk, int worker)
{
    (void)worker;
    const struct smooth *c = ctx;
    const struct xent *op = c->op;
    int32_t end = min32((chunk + 1) * CHUNK, op->V);
    for (int32_t v = chunk * CHUNK; v < end; v++)
        num->vec->axpy(op->dtable + (int64_t)v * op->D, -op->o.smoothing / (float)op->V,
                       c->q_mean, op->D);
}

/* - smoothing mean_v logit for K = 1, where the mean is q . mean_v table; returns its part of the loss. */
static double smooth_single(struct xent *op, struct tape *tp)
{
    struct arena *mem = tape_arena(tp);
    float *mean = ARENA_NEW0(mem, float, op->D), *q_mean = ARENA_NEW0(mem, float, op->D);
    num->vec->sum_rows(mean, op->table->x, op->V, op->D, op->D);
    num->vec->scale(mean, 1.0f / (float)op->V, mean, op->D);
    for (int32_t b = 0; b < op->B; b++) {
        float share = part_of(op, b);
        num->vec->axpy(q_mean, share, op->q->x + (int64_t)b * op->D, op->D);
        if (op->dq)
            num->vec->axpy(op->dq + (int64_t)b * op->D, -op->o.smoothing * share, mean, op->D);
    }
    struct smooth c = { op, q_mean };
    if (op->dtable) par_for(tape_pool(tp), (op->V + CHUNK - 1) / CHUNK, smooth_chunk, &c);
    return -(double)op->o.smoothing * (double)num->vec->dot(q_mean, mean, op->D);
}

static float forward(struct xent *op, struct tape *tp)
{
    struct arena *mem = tape_arena(tp);
    struct arena_mark mark = arena_mark(mem);
    const int blocks = row_blocks(op->B, op->n_b);
    const int64_t n_qt = (int64_t)blocks * op->D * op->K * op->ld;
    op->qt = ARENA_NEW(mem, float, n_qt);
    par_for(tape_pool(tp), blocks, turn_block, op);
    if (op->half) {
        const int64_t n_table = (int64_t)op->V * op->D;
        op->qt16 = ARENA_NEW(mem, bf16, n_qt);
        op->table16 = ARENA_NEW(mem, bf16, n_table);
        round_all(tape_pool(tp), op->qt16, op->qt, n_qt);
        round_all(tape_pool(tp), op->table16, op->table->x, n_table);
    }
    struct pass c = pass_new(op, mem, par_threads(tape_pool(tp)));
    double loss = 0;
    for (c.b0 = 0; c.b0 < op->B; c.b0 += op->n_b) {
        c.n_b = min32(op->n_b, op->B - c.b0);
        c.n_r = c.n_b * op->K;
        loss += run_block(&c, tape_pool(tp));
    }
    loss /= op->weights;
    if (op->o.smoothing > 0 && op->K == 1) loss += smooth_single(op, tp);
    arena_release(mem, mark);
    return (float)loss;
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct xent *op = saved;
    struct par *pool = tape_pool(tp);
    add_scaled(pool, op->q, y->g[0], op->dq);
    add_scaled(pool, op->table, y->g[0], op->dtable);
}

struct ten *ad_xent(struct tape *tp, struct ten *q, struct ten *table, const int32_t *target,
                    int32_t K, const struct xent_opts *o)
{
    REQUIRE(K > 0 && q->rows > 0 && q->rows % K == 0 && q->cols == table->cols,
            "xent: q [%d,%d], table [%d,%d], K %d", q->rows, q->cols, table->rows, table->cols,
            K);
    struct arena *mem = tape_arena(tp);
    struct ten *y = tape_ten(tp, 1, 1, q->g || table->g);
    struct xent *op = ARENA_NEW(mem, struct xent, 1);
    *op = (struct xent){ .y = y,
                         .q = q,
                         .table = table,
                         .target = target,
                         .B = q->rows / K,
                         .K = K,
                         .V = table->rows,
                         .D = q->cols };
    if (o) op->o = *o;
    for (int32_t b = 0; b < op->B; b++) op->weights += (double)weight_of(op, b);
    for (int32_t b = 0; b < op->B; b++)
        REQUIRE(target[b] >= 0 && target[b] < op->V, "xent: target %d of %d", target[b], op->V);
    if (q->g) op->dq = ARENA_NEW(mem, float, (int64_t)q->rows * q->cols);
    if (table->g) op->dtable = ARENA_NEW(mem, float, (int64_t)table->rows * table->cols);
    op->half = tape_bf16(tp);
    op->n_b = block_seqs(op);
    op->ld = (op->n_b + LANES - 1) / LANES * LANES;
    y->x[0] = forward(op, tp);
    const double product = 2.0 * q->rows * op->V * op->D;
    const double nq = (double)q->rows * op->D, nt = (double)op->V * op->D;
    const int gradients = (q->g != NULL) + (table->g != NULL);
    tape_cost(tp,
              (struct cost){ .rows = q->rows,
                             .in = op->D,
                             .out = op->V,
                             .flop = { product * (1 + gradients) },
                             .floats = { gradients * (nq + nt) + nq + nt, 3 * (nq + nt) } });
    tape_push(tp, y, backward, op, "xent");
    return y;
}
