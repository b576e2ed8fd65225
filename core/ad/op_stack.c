/* op_stack.c — rows put together, cut anew, scaled to length 1: concat_rows, reshape, normalize.  Thread: the tape's
 * owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"
#include <math.h>
#include <string.h>

enum { ROWS = 128 };

static int64_t size(const struct ten *x) { return (int64_t)x->rows * x->cols; }

/* ---- a over b ---- */

struct concat {
    struct ten *a, *b;
};

static void concat_backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct concat *c = saved;
    add_scaled(tape_pool(tp), c->a, 1, y->g);
    add_scaled(tape_pool(tp), c->b, 1, y->g + size(c->a));
}

struct ten *ad_concat_rows(struct tape *tp, struct ten *a, struct ten *b)
{
    REQUIRE(a->cols == b->cols, "concat_rows: a [%d,%d], b [%d,%d]", a->rows, a->cols, b->rows,
            b->cols);
    struct concat *c = ARENA_NEW(tape_arena(tp), struct concat, 1);
    *c = (struct concat){ a, b };
    struct ten *y = tape_ten(tp, a->rows + b->rows, a->cols, a->g || b->g);
    memcpy(y->x, a->x, (size_t)size(a) * sizeof *y->x);
    memcpy(y->x + size(a), b->x, (size_t)size(b) * sizeof *y->x);
    tape_push(tp, y, concat_backward, c, "concat_rows");
    return y;
}

/* ---- the same numbers in other rows ---- */

static void reshape_backward(struct tape *tp, const struct ten *y, void *saved)
{
    add_scaled(tape_pool(tp), saved, 1, y->g);
}

struct ten *ad_reshape(struct tape *tp, struct ten *x, int32_t rows, int32_t cols)
{
    REQUIRE((int64_t)rows * cols == size(x), "reshape: [%d,%d] to [%d,%d]", x->rows, x->cols,
            rows, cols);
    struct ten *y = tape_ten(tp, rows, cols, x->g != NULL);
    memcpy(y->x, x->x, (size_t)size(x) * sizeof *y->x);
    tape_push(tp, y, reshape_backward, x, "reshape");
    return y;
}

/* ---- x / ||x|| ---- */

struct normalize {
    struct ten *y, *x;
    float *inverse; /* [R] of the norm */
};

static void normalize_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct normalize *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t D = c->x->cols;
    for (int64_t r = s.first; r < s.first + s.n; r++) {
        const float *x = c->x->x + r * D;
        c->inverse[r] = 1 / fmaxf(sqrtf(num->vec->dot(x, x, D)), 1e-12f);
        num->vec->scale(c->y->x + r * D, c->inverse[r], x, D);
    }
}

/* dx += (dy - (dy.y) y) / ||x|| */
static void normalize_block_bwd(void *ctx, int block, int worker)
{
    (void)worker;
    const struct normalize *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t D = c->x->cols;
    for (int64_t r = s.first; r < s.first + s.n; r++) {
        const float *y = c->y->x + r * D, *dy = c->y->g + r * D;
        num->vec->axpy(c->x->g + r * D, c->inverse[r], dy, D);
        num->vec->axpy(c->x->g + r * D, -c->inverse[r] * num->vec->dot(dy, y, D), y, D);
    }
}

static void normalize_backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct normalize *c = saved;
    grad_open(tp, c->x);
    par_for(tape_pool(tp), row_blocks(y->rows, ROWS), normalize_block_bwd, c);
}

struct ten *ad_normalize(struct tape *tp, struct ten *x)
{
    struct normalize *c = ARENA_NEW(tape_arena(tp), struct normalize, 1);
    *c = (struct normalize){ tape_ten(tp, x->rows, x->cols, x->g != NULL), x,
                             ARENA_NEW(tape_arena(tp), float, x->rows) };
    par_for(tape_pool(tp), row_blocks(x->rows, ROWS), normalize_block, c);
    tape_push(tp, c->y, normalize_backward, c, "normalize");
    return c->y;
}
