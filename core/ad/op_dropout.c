/* op_dropout.c — y = x keep / (1 - p); the mask is a hash and is made again on the way back.
 * Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"

enum { ROWS = 128 };

struct dropout {
    struct ten *y, *x;
    struct drop drop;
    bool first; /* backward: to add to dx */
};

static void forward_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct dropout *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t D = c->x->cols, o = s.first * D;
    num->act->drop(c->y->x + o, c->x->x + o, s.n, D, s.first, &c->drop, false);
}

static void backward_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct dropout *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t D = c->x->cols, o = s.first * D;
    num->act->drop(c->x->g + o, c->y->g + o, s.n, D, s.first, &c->drop, !c->first);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct dropout *c = saved;
    c->first = grad_first(c->x);
    par_for(tape_pool(tp), row_blocks(y->rows, ROWS), backward_block, c);
}

struct ten *ad_dropout(struct tape *tp, struct ten *x, float p)
{
    REQUIRE(p >= 0 && p < 1, "dropout of %g", (double)p);
    if (!tape_training(tp) || p == 0) return x;
    struct dropout *c = ARENA_NEW(tape_arena(tp), struct dropout, 1);
    *c = (struct dropout){ tape_ten(tp, x->rows, x->cols, x->g != NULL), x,
                           drop_make(tape_drop_key(tp), p), false };
    par_for(tape_pool(tp), row_blocks(x->rows, ROWS), forward_block, c);
    const double n = (double)x->rows * x->cols;
    tape_cost(tp, (struct cost){ .floats = { 2 * n, 2 * n } });
    tape_push(tp, c->y, backward, c, "dropout");
    return c->y;
}
