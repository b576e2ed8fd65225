/* op_xent_rows.c — cross-entropy over logits that are held: in-batch negatives, K interests of a
 * user sharing one denominator, samples that are no negatives of themselves.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/num/num.h"
#include <math.h>

enum { GROUPS = 16 }; /* outputs a block */

/* xent_rows is xent_group with K = 1. */
struct xent_group {
    struct ten *y, *x;
    const int32_t *target;
    int32_t K;
    bool but_self; /* K = 1: x[r,r] does not count */
    float *lse;    /* [B] */
    int32_t *best; /* [B] the row of x whose logit at the target is largest */
};

static int blocks(const struct ten *y) { return (y->rows + GROUPS - 1) / GROUPS; }

static int32_t block_end(const struct ten *y, int block)
{
    int32_t hi = (block + 1) * GROUPS;
    return hi < y->rows ? hi : y->rows;
}

/* log sum exp of row r of a square x without its own column */
static float lse_but_self(const struct ten *x, int32_t r)
{
    const float *row = x->x + (int64_t)r * x->cols;
    const float a = num->vec->lse(row, r), b = num->vec->lse(row + r + 1, x->cols - r - 1);
    const float m = fmaxf(a, b);
    return m + log1pf(expf(fminf(a, b) - m));
}

static void forward_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct xent_group *c = ctx;
    int64_t C = c->x->cols;
    for (int32_t b = block * GROUPS; b < block_end(c->y, block); b++) {
        int32_t best = b * c->K, end = best + c->K;
        const float *at = c->x->x + c->target[b]; /* the target's column */
        for (int32_t r = best + 1; r < end; r++)
            if (at[r * C] > at[best * C]) best = r;
        c->best[b] = best;
        c->lse[b] = c->but_self ? lse_but_self(c->x, b)
                                : num->vec->lse(c->x->x + b * c->K * C, c->K * C);
        c->y->x[b] = c->lse[b] - at[best * C];
    }
}

static void backward_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct xent_group *c = ctx;
    int64_t C = c->x->cols;
    for (int32_t b = block * GROUPS; b < block_end(c->y, block); b++) {
        float g = c->y->g[b];
        int64_t at = b * c->K * C;
        const float self = c->but_self ? c->x->g[at + b] : 0;
        num->loss->lse_bwd(c->x->g + at, c->x->x + at, c->lse[b], g, c->K * C);
        if (c->but_self) c->x->g[at + b] = self;
        c->x->g[c->best[b] * C + c->target[b]] -= g;
    }
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct xent_group *c = saved;
    grad_open(tp, c->x);
    par_for(tape_pool(tp), blocks(y), backward_block, c);
}

static struct ten *xent_group(struct tape *tp, struct ten *x, const int32_t *target, int32_t K,
                              bool but_self, const char *op)
{
    REQUIRE(K > 0 && x->rows % K == 0, "%s: x [%d,%d] in groups of %d", op, x->rows, x->cols,
            K);
    struct arena *mem = tape_arena(tp);
    int32_t B = x->rows / K;
    for (int32_t b = 0; b < B; b++)
        REQUIRE(target[b] >= 0 && target[b] < x->cols, "%s: target %d of %d", op, target[b],
                x->cols);
    struct xent_group *c = ARENA_NEW(mem, struct xent_group, 1);
    *c = (struct xent_group){ .y = tape_ten(tp, B, 1, x->g != NULL),
                              .x = x,
                              .target = target,
                              .K = K,
                              .but_self = but_self,
                              .lse = ARENA_NEW(mem, float, B),
                              .best = ARENA_NEW(mem, int32_t, B) };
    par_for(tape_pool(tp), blocks(c->y), forward_block, c);
    tape_push(tp, c->y, backward, c, op);
    return c->y;
}

struct ten *ad_xent_rows(struct tape *tp, struct ten *x, const int32_t *target, bool but_self)
{
    REQUIRE(!but_self || (x->rows == x->cols && x->rows > 1), "xent_rows: x [%d,%d] of pairs",
            x->rows, x->cols);
    for (int32_t r = 0; but_self && r < x->rows; r++)
        REQUIRE(target[r] != r, "xent_rows: row %d is its own target", r);
    return xent_group(tp, x, target, 1, but_self, "xent_rows");
}

struct ten *ad_xent_group(struct tape *tp, struct ten *x, const int32_t *target, int32_t K)
{
    return xent_group(tp, x, target, K, false, "xent_group");
}
