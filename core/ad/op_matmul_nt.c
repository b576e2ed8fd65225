/* op_matmul_nt.c — y = scale a b^T.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/num/gemm.h"

enum { ROWS = 128 }; /* rows of y, of da, of db that one block makes */

struct matmul {
    struct ten *y, *a, *b;
    float scale;
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
    gemm_nt(c->y->x + r * C, c->a->x + r * D, c->b->x, block_rows(c->a, block), C, D, c->scale, 0);
}

static void da_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct matmul *c = ctx;
    int64_t r = (int64_t)block * ROWS;
    int32_t D = c->a->cols, C = c->b->rows;
    gemm_nn(c->a->g + r * D, c->y->g + r * C, c->b->x, block_rows(c->a, block), D, C, c->scale, 1);
}

static void db_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct matmul *c = ctx;
    int64_t r = (int64_t)block * ROWS;
    int32_t D = c->a->cols, C = c->b->rows;
    gemm_tn_ld(c->b->g + r * D, D, c->y->g + r, C, c->a->x, D, block_rows(c->b, block), D,
               c->a->rows, c->scale, 1);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    (void)y;
    struct matmul *c = saved;
    if (c->a->g) par_for(tape_pool(tp), blocks(c->a), da_block, c);
    if (c->b->g) par_for(tape_pool(tp), blocks(c->b), db_block, c);
}

struct ten *ad_matmul_nt(struct tape *tp, struct ten *a, struct ten *b, float scale)
{
    REQUIRE(a->cols == b->cols, "matmul_nt: a [%d,%d], b [%d,%d]", a->rows, a->cols, b->rows,
            b->cols);
    struct matmul *c = ARENA_NEW(tape_arena(tp), struct matmul, 1);
    *c = (struct matmul){ tape_ten(tp, a->rows, b->rows, a->g || b->g), a, b, scale };
    par_for(tape_pool(tp), blocks(a), forward_block, c);
    tape_push(tp, c->y, backward, c, "matmul_nt");
    return c->y;
}
