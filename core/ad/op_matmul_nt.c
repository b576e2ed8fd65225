/* op_matmul_nt.c — y = scale a b^T.  The factor goes into copies of a and b, which are small beside
 * y.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/num/num.h"

enum { ROWS = 128 }; /* rows of y, of da, of db that one block makes */

struct matmul {
    struct ten *y, *a, *b;
    bool first_a, first_b; /* backward: to add to the gradients */
    const float *sa, *sb;  /* scale a; scale b (NULL: no gradient of a is wanted) */
};

static int blocks(const struct ten *x) { return (x->rows + ROWS - 1) / ROWS; }

static int32_t block_rows(const struct ten *x, int block)
{
    int32_t left = x->rows - block * ROWS;
    return left < ROWS ? left : ROWS;
}

static void forward_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct matmul *c = ctx;
    int64_t r = (int64_t)block * ROWS;
    int32_t D = c->a->cols, C = c->b->rows;
    num->mm->nt(c->y->x + r * C, C, c->sa + r * D, D, c->b->x, D, block_rows(c->a, block), C, D,
                false);
}

static void da_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct matmul *c = ctx;
    int64_t r = (int64_t)block * ROWS;
    int32_t D = c->a->cols, C = c->b->rows;
    num->mm->nn(c->a->g + r * D, D, c->y->g + r * C, C, c->sb, D, NULL, block_rows(c->a, block),
                D, C, !c->first_a);
}

static void db_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct matmul *c = ctx;
    int64_t r = (int64_t)block * ROWS;
    int32_t D = c->a->cols, C = c->b->rows;
    num->mm->tn(c->b->g + r * D, D, c->y->g + r, C, c->sa, D, block_rows(c->b, block), D,
                c->a->rows, !c->first_b);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    (void)y;
    struct matmul *c = saved;
    c->first_a = grad_first(c->a);
    if (c->a->g) par_for(tape_pool(tp), blocks(c->a), da_block, c);
    c->first_b = grad_first(c->b); /* may be a */
    if (c->b->g) par_for(tape_pool(tp), blocks(c->b), db_block, c);
}

static const float *scaled(struct arena *mem, const struct ten *t, float scale)
{
    if (scale == 1.0f) return t->x;
    int64_t n = (int64_t)t->rows * t->cols;
    float *s = ARENA_NEW(mem, float, n);
    num->vec->scale(s, scale, t->x, n);
    return s;
}

struct ten *ad_matmul_nt(struct tape *tp, struct ten *a, struct ten *b, float scale)
{
    REQUIRE(a->cols == b->cols, "matmul_nt: a [%d,%d], b [%d,%d]", a->rows, a->cols, b->rows,
            b->cols);
    struct arena *mem = tape_arena(tp);
    struct matmul *c = ARENA_NEW(mem, struct matmul, 1);
    struct ten *y = tape_ten(tp, a->rows, b->rows, a->g || b->g);
    *c = (struct matmul){ .y = y,
                          .a = a,
                          .b = b,
                          .sa = scaled(mem, a, scale),
                          .sb = a->g ? scaled(mem, b, scale) : NULL };
    par_for(tape_pool(tp), blocks(a), forward_block, c);
    const double M = a->rows, C = b->rows, D = a->cols, product = 2 * M * C * D;
    tape_cost(tp, (struct cost){
                      .rows = a->rows,
                      .in = a->cols,
                      .out = b->rows,
                      .flop = { product, (a->g ? product : 0) + (b->g ? product : 0) },
                      .floats = { M * D + C * D + M * C, 3 * M * D + 3 * C * D + M * C } });
    tape_push(tp, y, backward, c, "matmul_nt");
    return y;
}
