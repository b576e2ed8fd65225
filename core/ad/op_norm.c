/* op_norm.c — layer normalisation, alone and as the residual step LN(x + dropout(r)).
 * Saved: xhat [N,D] and 1/std [N]; the dropout mask is made again.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"

enum { ROWS = 128 };

struct norm {
    struct ten *y, *x, *r, *gain, *bias; /* r: NULL for ad_norm */
    struct drop drop;
    float *xhat, *rstd; /* NULL when nothing learns */
    unsigned set;       /* backward: which of dx and dr are written, not added to (k_norm.h) */
    float *partial;     /* backward: [blocks, 2D] shares of dgain, dbias */
};

static void forward_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct norm *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t D = c->x->cols, o = s.first * D;
    num->norm->fwd(c->y->x + o, c->xhat ? c->xhat + o : NULL,
                   c->rstd ? c->rstd + s.first : NULL, c->x->x + o, c->r ? c->r->x + o : NULL,
                   c->gain->x, c->bias->x, s.n, D, s.first, &c->drop);
}

static void backward_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct norm *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t D = c->x->cols, o = s.first * D;
    float *dgain = c->partial + block * 2 * D;
    num->vec->fill(dgain, 0.0f, 2 * D);
    num->norm->bwd(c->x->g ? c->x->g + o : NULL, c->r && c->r->g ? c->r->g + o : NULL, dgain,
                   dgain + D, c->y->g + o, c->xhat + o, c->rstd + s.first, c->gain->x, s.n, D,
                   s.first, &c->drop, c->set);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct norm *c = saved;
    struct arena *mem = tape_arena(tp);
    const int blocks = row_blocks(y->rows, ROWS);
    const int64_t D = y->cols;
    struct arena_mark m = arena_mark(mem);
    c->partial = ARENA_NEW(mem, float, (size_t)blocks * 2 * (size_t)D);
    c->set = grad_first(c->x) ? NORM_SET_X : 0;
    if (c->r && grad_first(c->r)) c->set |= NORM_SET_R;
    par_for(tape_pool(tp), blocks, backward_block, c);
    if (c->gain->g) num->vec->sum_rows(c->gain->g, c->partial, blocks, D, 2 * D);
    if (c->bias->g) num->vec->sum_rows(c->bias->g, c->partial + D, blocks, D, 2 * D);
    arena_release(mem, m);
}

static struct ten *norm_op(struct tape *tp, struct ten *x, struct ten *r, struct drop drop,
                           struct ten *gain, struct ten *bias, const char *op)
{
    REQUIRE(gain->rows == 1 && gain->cols == x->cols && bias->rows == 1 &&
                bias->cols == x->cols,
            "%s: x [%d,%d], gain [%d,%d], bias [%d,%d]", op, x->rows, x->cols, gain->rows,
            gain->cols, bias->rows, bias->cols);
    struct norm *c = ARENA_NEW0(tape_arena(tp), struct norm, 1);
    bool wants = x->g || (r && r->g) || gain->g || bias->g;
    *c = (struct norm){ .y = tape_ten(tp, x->rows, x->cols, wants),
                        .x = x,
                        .r = r,
                        .gain = gain,
                        .bias = bias,
                        .drop = drop };
    if (wants) {
        c->xhat = ARENA_NEW(tape_arena(tp), float, (size_t)x->rows *(size_t)x->cols);
        c->rstd = ARENA_NEW(tape_arena(tp), float, (size_t)x->rows);
    }
    par_for(tape_pool(tp), row_blocks(x->rows, ROWS), forward_block, c);
    const double n = (double)x->rows * x->cols;
    tape_cost(tp, (struct cost){ .floats = { r ? 4 * n : 3 * n, r ? 5 * n : 4 * n } });
    tape_push(tp, c->y, backward, c, op);
    return c->y;
}

struct ten *ad_norm(struct tape *tp, struct ten *x, struct ten *gain, struct ten *bias)
{
    return norm_op(tp, x, NULL, drop_none(), gain, bias, "norm");
}

struct ten *ad_add_norm(struct tape *tp, struct ten *x, struct ten *r, float p_drop,
                        struct ten *gain, struct ten *bias)
{
    REQUIRE(x->rows == r->rows && x->cols == r->cols, "add_norm: x [%d,%d], r [%d,%d]", x->rows,
            x->cols, r->rows, r->cols);
    bool dropping = tape_training(tp) && p_drop > 0;
    return norm_op(tp, x, r, dropping ? drop_make(tape_drop_key(tp), p_drop) : drop_none(),
                   gain, bias, "add_norm");
}
