/* op_linear.c — y = act(x w + b), and two of them one after the other.  A block of rows goes through product, bias and
 * activation while it is in cache; so does its gradient on the way back: dh = dy act', dx += dh w^T, dw += x^T dh.  In a
 * feed-forward layer the gradient of the hidden rows never leaves the cache.
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
    bool set;          /* dx is written, not added to */
    bool learns;       /* dw or db is wanted */
    float *wt;         /* [O,I]; fp32 */
    float *dh;         /* [workers,ROWS,O] */
    bf16 *dh16;        /* the same with half */
    struct reduce sum; /* of dw [I,O], db [O] */
};

static void forward_rows(const struct linear *c, struct row_span s, int worker)
{
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
static const float *before_act(const struct linear *c, float *dh, const float *dy, int64_t row,
                               int32_t n)
{
    const int32_t O = c->w->cols;
    if (c->act == ACT_NONE) return dy;
    if (c->act == ACT_GELU)
        num->vec->mul(dh, dy, c->slope + row * O, (int64_t)n * O);
    else
        num->act->relu_bwd(dh, dy, c->y->x + row * O, (int64_t)n * O);
    return dh;
}

/* dx (unless NULL; written where set) and dw (unless NULL) of n rows, given dh. */
static void products(const struct linear *c, int worker, float *dx, bool set, float *dw,
                     bool add, const float *dh, int64_t row, int32_t n)
{
    const int32_t I = c->w->rows, O = c->w->cols;
    if (!c->half) {
        if (dx) num->mm->nn(dx, I, dh, O, c->wt, I, NULL, n, I, O, !set);
        if (dw) num->mm->tn(dw, O, c->x->x + row * I, I, dh, O, I, O, n, add);
        return;
    }
    bf16 *dh16 = c->dh16 + (int64_t)worker * ROWS * O;
    num->vec->to_bf16(dh16, dh, (int64_t)n * O);
    const struct mm16_shape to_x = {
        .M = n, .N = I, .K = O, .lda = O, .ldb = O, .ldc = I, .tb = true, .add = !set
    };
    const struct mm16_shape to_w = {
        .M = I, .N = O, .K = n, .lda = I, .ldb = O, .ldc = O, .ta = true, .add = add
    };
    if (dx) c->half->product(c->half->mm, worker, &to_x, dx, dh16, c->w16);
    if (dw) c->half->product(c->half->mm, worker, &to_w, dw, c->x16 + row * I, dh16);
}

/* n <= ROWS rows, dy their gradient.  sums: of dw and then db, from a reduce, or NULL; first: nothing is in them yet. */
static void backward_rows(const struct linear *c, int worker, const float *dy, float *dx,
                          bool set, float *sums, bool first, int64_t row, int32_t n)
{
    const int32_t O = c->w->cols;
    float *db = sums ? sums + (int64_t)c->w->rows * O : NULL;
    const float *dh = before_act(c, c->dh + (int64_t)worker * ROWS * O, dy, row, n);
    products(c, worker, dx, set, sums, !first, dh, row, n);
    if (!db) return;
    if (first) num->vec->fill(db, 0.0f, O);
    num->vec->sum_rows(db, dh, n, O, O);
}

static float *sums_take(struct linear *c) { return c->learns ? reduce_take(&c->sum) : NULL; }
static void sums_put(struct linear *c, int chunk, float *sums)
{
    if (sums) reduce_put(&c->sum, chunk, sums);
}

/* Pieces of at most ROWS rows, equal but for the last. */
static int32_t piece_rows(int32_t n) { return row_blocks(n, row_blocks(n, ROWS)); }

/* CHUNKS equal parts for as many threads; fewer of a few rows. */
static int32_t chunk_rows(int32_t N)
{
    int32_t chunk = row_blocks(N, CHUNKS);
    return chunk < ROWS ? ROWS : chunk;
}

/* What backward needs, in the arena; dx is wanted or not. */
static void backward_open(struct tape *tp, struct linear *c, bool dx)
{
    struct arena *mem = tape_arena(tp);
    const size_t scratch = (size_t)par_threads(tape_pool(tp)) * ROWS * (size_t)c->w->cols;
    const int32_t I = c->w->rows, O = c->w->cols, N = c->x->rows;
    float *db = c->b ? c->b->g : NULL;
    c->dh = ARENA_NEW(mem, float, scratch);
    c->learns = c->w->g || db;
    if (c->learns)
        reduce_open(&c->sum, mem, row_blocks(N, chunk_rows(N)), c->w->g, (int64_t)I * O, db, O);
    if (c->half) c->dh16 = ARENA_NEW(mem, bf16, scratch);
    if (!dx || c->half) return;
    c->wt = ARENA_NEW(mem, float, (size_t)I *(size_t)O);
    num->vec->transpose(c->wt, c->w->x, I, O);
}

static struct linear linear_make(struct tape *tp, struct ten *y, struct ten *x, struct ten *w,
                                 struct ten *b, enum act act, bool wants)
{
    REQUIRE(x->cols == w->rows, "linear: x [%d,%d], w [%d,%d]", x->rows, x->cols, w->rows,
            w->cols);
    REQUIRE(!b || (b->rows == 1 && b->cols == w->cols), "linear: b [%d,%d], w [%d,%d]", b->rows,
            b->cols, w->rows, w->cols);
    struct arena *mem = tape_arena(tp);
    struct linear c = { .y = y, .x = x, .w = w, .b = b, .act = act, .half = tape_bf16(tp) };
    if (wants && act == ACT_GELU)
        c.slope = ARENA_NEW(mem, float, (size_t)x->rows *(size_t)w->cols);
    if (c.half) {
        c.x16 = ARENA_NEW(mem, bf16, (size_t)x->rows * (size_t)x->cols);
        c.w16 = ARENA_NEW(mem, bf16, (size_t)w->rows * (size_t)w->cols);
        num->vec->to_bf16(c.w16, w->x, (int64_t)w->rows * w->cols);
    }
    return c;
}

static bool learns(const struct ten *w, const struct ten *b) { return w->g || (b && b->g); }

static double product_flop(const struct linear *c)
{
    return 2.0 * c->x->rows * c->w->rows * c->w->cols;
}

/* ---- one layer ---- */

static void forward_block(void *ctx, int block, int worker)
{
    const struct linear *c = ctx;
    forward_rows(c, row_span(c->x->rows, ROWS, block), worker);
}

static void backward_chunk(void *ctx, int chunk, int worker)
{
    struct linear *c = ctx;
    const struct row_span s = row_span(c->x->rows, chunk_rows(c->x->rows), chunk);
    const int32_t piece = piece_rows(s.n);
    float *sums = sums_take(c);
    for (int32_t r = 0; r < s.n; r += piece) {
        const int64_t row = s.first + r;
        float *dx = c->x->g ? c->x->g + row * c->w->rows : NULL;
        backward_rows(c, worker, c->y->g + row * c->w->cols, dx, c->set, sums, r == 0, row,
                      s.n - r < piece ? s.n - r : piece);
    }
    sums_put(c, chunk, sums);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct linear *c = saved;
    struct arena_mark m = arena_mark(tape_arena(tp));
    c->set = grad_first(c->x);
    backward_open(tp, c, c->x->g);
    par_for(tape_pool(tp), row_blocks(y->rows, chunk_rows(y->rows)), backward_chunk, c);
    arena_release(tape_arena(tp), m);
}

struct ten *ad_linear(struct tape *tp, struct ten *x, struct ten *w, struct ten *b,
                      enum act act)
{
    const bool wants = x->g || learns(w, b);
    struct linear *c = ARENA_NEW(tape_arena(tp), struct linear, 1);
    struct ten *y = tape_ten(tp, x->rows, w->cols, wants);
    *c = linear_make(tp, y, x, w, b, act, wants);
    par_for(tape_pool(tp), row_blocks(x->rows, ROWS), forward_block, c);
    const double N = x->rows, I = w->rows, O = w->cols, product = product_flop(c);
    const double slope = c->slope ? N * O : 0;
    tape_cost(tp,
              (struct cost){ .rows = x->rows,
                             .in = w->rows,
                             .out = w->cols,
                             .flop = { product, (x->g ? product : 0) + (w->g ? product : 0) },
                             .floats = { N * I + I * O + N * O + slope,
                                         2 * N * I + 3 * I * O + N * O + slope } });
    tape_push(tp, y, backward, c, "linear");
    return y;
}

/* ---- a feed-forward layer ---- */

struct ffn {
    struct linear up, down;
    struct ten hidden; /* rows of up, columns of down; its gradient only lives in dhidden */
    float *dhidden;    /* [workers, ROWS, H] in backward */
};

static void ffn_forward_block(void *ctx, int block, int worker)
{
    const struct ffn *f = ctx;
    const struct row_span s = row_span(f->hidden.rows, ROWS, block);
    forward_rows(&f->up, s, worker);
    forward_rows(&f->down, s, worker);
}

static void ffn_backward_chunk(void *ctx, int chunk, int worker)
{
    struct ffn *f = ctx;
    const struct ten *x = f->up.x, *y = f->down.y;
    const struct row_span s = row_span(x->rows, chunk_rows(x->rows), chunk);
    const int32_t piece = piece_rows(s.n);
    float *dhidden = f->dhidden + (int64_t)worker * ROWS * f->hidden.cols;
    float *up = sums_take(&f->up), *down = sums_take(&f->down);
    for (int32_t r = 0; r < s.n; r += piece) {
        const int64_t row = s.first + r;
        const int32_t n = s.n - r < piece ? s.n - r : piece;
        backward_rows(&f->down, worker, y->g + row * y->cols, dhidden, true, down, r == 0, row,
                      n);
        backward_rows(&f->up, worker, dhidden, x->g ? x->g + row * x->cols : NULL, f->up.set,
                      up, r == 0, row, n);
    }
    sums_put(&f->up, chunk, up);
    sums_put(&f->down, chunk, down);
}

static void ffn_backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct ffn *f = saved;
    struct arena *mem = tape_arena(tp);
    struct arena_mark m = arena_mark(mem);
    f->up.set = grad_first(f->up.x);
    f->dhidden = ARENA_NEW(mem, float,
                           (size_t)par_threads(tape_pool(tp)) * ROWS * (size_t)f->hidden.cols);
    backward_open(tp, &f->up, f->up.x->g);
    backward_open(tp, &f->down, true);
    par_for(tape_pool(tp), row_blocks(y->rows, chunk_rows(y->rows)), ffn_backward_chunk, f);
    arena_release(mem, m);
}

struct ten *ad_ffn(struct tape *tp, struct ten *x, struct ten *w1, struct ten *b1, enum act act,
                   struct ten *w2, struct ten *b2)
{
    struct arena *mem = tape_arena(tp);
    const bool wants = x->g || learns(w1, b1) || learns(w2, b2);
    struct ffn *f = ARENA_NEW(mem, struct ffn, 1);
    struct ten *y = tape_ten(tp, x->rows, w2->cols, wants);
    f->hidden = *tape_ten(tp, x->rows, w1->cols, false);
    f->up = linear_make(tp, &f->hidden, x, w1, b1, act, wants);
    f->down = linear_make(tp, y, &f->hidden, w2, b2, ACT_NONE, wants);
    par_for(tape_pool(tp), row_blocks(x->rows, ROWS), ffn_forward_block, f);
    const double product = product_flop(&f->up) + product_flop(&f->down);
    const double nx = (double)x->rows * x->cols, nh = (double)x->rows * w1->cols,
                 nw = (double)w1->cols * (x->cols + y->cols);
    tape_cost(tp, (struct cost){ .rows = x->rows,
                                 .in = w1->rows,
                                 .out = w1->cols,
                                 .flop = { product, 2 * product },
                                 .floats = { 2 * nx + (f->up.slope ? 2 : 1) * nh + nw,
                                             3 * nx + (f->up.slope ? 2 : 1) * nh + 4 * nw } });
    tape_push(tp, y, ffn_backward, f, "ffn");
    return y;
}
