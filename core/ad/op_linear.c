/* op_linear.c — y = act(x w + b).  A block of rows goes through product, bias and activation while it
 * is in cache; so does its gradient on the way back: dh = dy act', dx += dh w^T, dw += x^T dh.
 * Saved: act' for gelu (relu reads it off y); with bf16 products x and w rounded.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/reduce.h"
#include "core/ad/rows.h"
#include "core/num/num.h"

enum { ROWS = 128, CHUNKS = 16 };

struct linear {
    struct ten *y, *x, *w, *b;
    enum act act;
    float *slope;                /* [N,O] gelu' or NULL */
    const struct bf16_ops *half; /* NULL: fp32 */
    bf16 *x16, *w16;             /* [N,I], [I,O] with half */
    /* backward only */
    bool first;        /* dx is written, not added to */
    bool learns;       /* dw or db is wanted */
    int32_t chunk;     /* rows whose share of dw, db is summed by one block */
    float *wt;         /* [O,I]; fp32 */
    float *dh;         /* [workers,ROWS,O] */
    bf16 *dh16;        /* the same with half */
    struct reduce sum; /* of dw [I,O], db [O] */
};

static void forward_block(void *ctx, int block, int worker)
{
    const struct linear *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int32_t I = c->w->rows, O = c->w->cols;
    float *y = c->y->x + s.first * O;
    const float *x = c->x->x + s.first * I, *bias = c->b ? c->b->x : NULL;
    if (c->half) {
        bf16 *x16 = c->x16 + s.first * I;
        num->vec->to_bf16(x16, x, (int64_t)s.n * I);
        c->half->product(
            c->half->mm, worker,
            &(struct mm16_shape){ .M = s.n, .N = O, .K = I, .lda = I, .ldb = O, .ldc = O }, y,
            x16, c->w16);
        for (int32_t i = 0; bias && i < s.n; i++)
            num->vec->add(y + (int64_t)i * O, y + (int64_t)i * O, bias, O);
    } else {
        num->mm->nn(y, O, x, I, c->w->x, O, bias, s.n, O, I, false);
    }
    if (c->act == ACT_GELU)
        num->act->gelu(y, c->slope ? c->slope + s.first * O : NULL, y, (int64_t)s.n * O);
    else if (c->act == ACT_RELU)
        num->act->relu(y, y, (int64_t)s.n * O);
}

/* The gradient before the activation; dy itself where there is none. */
static const float *before_act(const struct linear *c, float *dh, int64_t row, int32_t n)
{
    const int32_t O = c->w->cols;
    const float *dy = c->y->g + row * O;
    if (c->act == ACT_NONE) return dy;
    if (c->act == ACT_GELU)
        num->vec->mul(dh, dy, c->slope + row * O, (int64_t)n * O);
    else
        num->act->relu_bwd(dh, dy, c->y->x + row * O, (int64_t)n * O);
    return dh;
}

/* dx and dw of n rows, given dh. */
static void products(const struct linear *c, int worker, float *dw, const float *dh,
                     int64_t row, int32_t n, bool add)
{
    const int32_t I = c->w->rows, O = c->w->cols;
    float *dx = c->x->g ? c->x->g + row * I : NULL;
    if (!c->half) {
        if (dx) num->mm->nn(dx, I, dh, O, c->wt, I, NULL, n, I, O, !c->first);
        if (dw) num->mm->tn(dw, O, c->x->x + row * I, I, dh, O, I, O, n, add);
        return;
    }
    bf16 *dh16 = c->dh16 + (int64_t)worker * ROWS * O;
    num->vec->to_bf16(dh16, dh, (int64_t)n * O);
    const struct mm16_shape to_x = {
        .M = n, .N = I, .K = O, .lda = O, .ldb = O, .ldc = I, .tb = true, .add = !c->first
    };
    const struct mm16_shape to_w = {
        .M = I, .N = O, .K = n, .lda = I, .ldb = O, .ldc = O, .ta = true, .add = add
    };
    if (dx) c->half->product(c->half->mm, worker, &to_x, dx, dh16, c->w16);
    if (dw) c->half->product(c->half->mm, worker, &to_w, dw, c->x16 + row * I, dh16);
}

static void backward_chunk(void *ctx, int block, int worker)
{
    struct linear *c = ctx;
    const int32_t I = c->w->rows, O = c->w->cols;
    const struct row_span s = row_span(c->x->rows, c->chunk, block);
    float *scratch = c->dh + (int64_t)worker * ROWS * O;
    float *dw = c->learns ? reduce_take(&c->sum) : NULL, *db = dw ? dw + (int64_t)I * O : NULL;
    if (db) num->vec->fill(db, 0.0f, O);
    const int32_t pieces = row_blocks(s.n, ROWS), piece = row_blocks(s.n, pieces);
    for (int32_t r = 0; r < s.n; r += piece) {
        const int32_t n = s.n - r < piece ? s.n - r : piece;
        const int64_t row = s.first + r;
        const float *dh = before_act(c, scratch, row, n);
        products(c, worker, dw, dh, row, n, r > 0);
        if (db) num->vec->sum_rows(db, dh, n, O, O);
    }
    if (dw) reduce_put(&c->sum, block, dw);
}

/* CHUNKS equal parts for as many threads; fewer of a few rows. */
static int32_t chunk_rows(int32_t N)
{
    int32_t chunk = row_blocks(N, CHUNKS);
    return chunk < ROWS ? ROWS : chunk;
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    (void)y;
    struct linear *c = saved;
    struct arena *mem = tape_arena(tp);
    struct par *pool = tape_pool(tp);
    const int32_t I = c->w->rows, O = c->w->cols, N = c->x->rows;
    c->chunk = chunk_rows(N);
    const int chunks = row_blocks(N, c->chunk);

    struct arena_mark m = arena_mark(mem);
    c->dh = ARENA_NEW(mem, float, (size_t)par_threads(pool) * ROWS * (size_t)O);
    float *db = c->b ? c->b->g : NULL;
    c->learns = c->w->g || db;
    if (c->learns) reduce_open(&c->sum, mem, chunks, c->w->g, (int64_t)I * O, db, O);
    c->first = grad_first(c->x);
    if (c->half) c->dh16 = ARENA_NEW(mem, bf16, (size_t)par_threads(pool) * ROWS * (size_t)O);
    if (c->x->g && !c->half) {
        c->wt = ARENA_NEW(mem, float, (size_t)I *(size_t)O);
        num->vec->transpose(c->wt, c->w->x, I, O);
    }
    par_for(pool, chunks, backward_chunk, c);
    arena_release(mem, m);
}

struct ten *ad_linear(struct tape *tp, struct ten *x, struct ten *w, struct ten *b,
                      enum act act)
{
    REQUIRE(x->cols == w->rows, "linear: x [%d,%d], w [%d,%d]", x->rows, x->cols, w->rows,
            w->cols);
    REQUIRE(!b || (b->rows == 1 && b->cols == w->cols), "linear: b [%d,%d], w [%d,%d]", b->rows,
            b->cols, w->rows, w->cols);
    struct linear *c = ARENA_NEW0(tape_arena(tp), struct linear, 1);
    bool wants = x->g || w->g || (b && b->g);
    *c = (struct linear){ .y = tape_ten(tp, x->rows, w->cols, wants),
                          .x = x,
                          .w = w,
                          .b = b,
                          .act = act,
                          .half = tape_bf16(tp) };
    if (wants && act == ACT_GELU)
        c->slope = ARENA_NEW(tape_arena(tp), float, (size_t)x->rows *(size_t)w->cols);
    if (c->half) {
        c->x16 = ARENA_NEW(tape_arena(tp), bf16, (size_t)x->rows * (size_t)x->cols);
        c->w16 = ARENA_NEW(tape_arena(tp), bf16, (size_t)w->rows * (size_t)w->cols);
        num->vec->to_bf16(c->w16, w->x, (int64_t)w->rows * w->cols);
    }
    par_for(tape_pool(tp), row_blocks(x->rows, ROWS), forward_block, c);
    const double N = x->rows, I = w->rows, O = w->cols, product = 2 * N * I * O;
    const double slope = c->slope ? N * O : 0;
    tape_cost(tp,
              (struct cost){ .rows = x->rows,
                             .in = w->rows,
                             .out = w->cols,
                             .flop = { product, (x->g ? product : 0) + (w->g ? product : 0) },
                             .floats = { N * I + I * O + N * O + slope,
                                         2 * N * I + 3 * I * O + N * O + slope } });
    tape_push(tp, c->y, backward, c, "linear");
    return c->y;
}
