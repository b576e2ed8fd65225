/* op_act.c — gelu or relu on its own (ad_linear has it built in).  Saved: gelu'.
 * Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"

enum { CHUNK = 16384 }; /* elements */

struct act_op {
    struct ten *y, *x;
    enum act act;
    float *slope; /* gelu' or NULL */
};

static int64_t size(const struct ten *x) { return (int64_t)x->rows * x->cols; }

static void forward_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct act_op *c = ctx;
    const struct row_span s = row_span(size(c->x), CHUNK, block);
    const float *x = c->x->x + s.first;
    if (c->act == ACT_GELU)
        num->act->gelu(c->y->x + s.first, c->slope ? c->slope + s.first : NULL, x, s.n);
    else
        num->act->relu(c->y->x + s.first, x, s.n);
}

static void backward_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct act_op *c = ctx;
    const struct row_span s = row_span(size(c->x), CHUNK, block);
    num->vec->mul_add(c->x->g + s.first, c->y->g + s.first, c->slope + s.first, s.n);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    par_for(tape_pool(tp), row_blocks(size(y), CHUNK), backward_block, saved);
}

/* relu' from y, so that backward is one loop for both */
static void relu_slope(void *ctx, int block, int worker)
{
    (void)worker;
    const struct act_op *c = ctx;
    const struct row_span s = row_span(size(c->x), CHUNK, block);
    float *slope = c->slope + s.first;
    num->vec->fill(slope, 1.0f, s.n);
    num->act->relu_bwd(slope, slope, c->y->x + s.first, s.n);
}

struct ten *ad_act(struct tape *tp, struct ten *x, enum act act)
{
    if (act == ACT_NONE) return x;
    struct act_op *c = ARENA_NEW(tape_arena(tp), struct act_op, 1);
    *c = (struct act_op){ tape_ten(tp, x->rows, x->cols, x->g != NULL), x, act, NULL };
    if (x->g) c->slope = ARENA_NEW(tape_arena(tp), float, (size_t)size(x));
    const int blocks = row_blocks(size(x), CHUNK);
    par_for(tape_pool(tp), blocks, forward_block, c);
    if (x->g && act == ACT_RELU) par_for(tape_pool(tp), blocks, relu_slope, c);
    tape_push(tp, c->y, backward, c, "act");
    return c->y;
}
