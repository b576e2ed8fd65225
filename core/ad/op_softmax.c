/* op_softmax.c — softmax over each row.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/num/num.h"

enum { ROWS = 256 };

struct softmax {
    struct ten *y, *x;
};

static int32_t block_end(const struct ten *x, int block)
{
    int32_t hi = (block + 1) * ROWS;
    return hi < x->rows ? hi : x->rows;
}

static void forward_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct softmax *c = ctx;
    int64_t n = c->x->cols;
    for (int32_t r = block * ROWS; r < block_end(c->x, block); r++)
        (void)num->vec->softmax_row(c->y->x + r * n, c->x->x + r * n, n);
}

static void backward_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct softmax *c = ctx;
    int64_t n = c->x->cols;
    for (int32_t r = block * ROWS; r < block_end(c->x, block); r++)
        num->vec->softmax_row_bwd(c->x->g + r * n, c->y->x + r * n, c->y->g + r * n, n);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct softmax *c = saved;
    grad_open(tp, c->x);
    par_for(tape_pool(tp), (y->rows + ROWS - 1) / ROWS, backward_block, c);
}

struct ten *ad_softmax(struct tape *tp, struct ten *x)
{
    struct softmax *c = ARENA_NEW(tape_arena(tp), struct softmax, 1);
    *c = (struct softmax){ tape_ten(tp, x->rows, x->cols, x->g != NULL), x };
    par_for(tape_pool(tp), (x->rows + ROWS - 1) / ROWS, forward_block, c);
    tape_push(tp, c->y, backward, c, "softmax");
    return c->y;
}
