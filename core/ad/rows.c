#include "core/ad/rows.h"
#include "core/num/num.h"

enum { RUN = 1 << 15 }; /* floats of a block */

struct add {
    float *y;
    const float *x;
    float s;
    int64_t n;
    bool first;
};

static void add_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct add *a = ctx;
    const struct row_span run = row_span(a->n, RUN, block);
    if (a->first)
        num->vec->scale(a->y + run.first, a->s, a->x + run.first, run.n);
    else
        num->vec->axpy(a->y + run.first, a->s, a->x + run.first, run.n);
}

void add_scaled(struct par *pool, struct ten *t, float s, const float *x)
{
    if (!t->g) return;
    struct add a = { t->g, x, s, (int64_t)t->rows * t->cols, grad_first(t) };
    par_for(pool, row_blocks(a.n, RUN), add_block, &a);
}

struct rounding {
    bf16 *y;
    const float *x;
    int64_t n;
};

static void round_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct rounding *c = ctx;
    const struct row_span s = row_span(c->n, RUN, block);
    num->vec->to_bf16(c->y + s.first, c->x + s.first, s.n);
}

void round_all(struct par *pool, bf16 *y, const float *x, int64_t n)
{
    struct rounding c = { y, x, n };
    par_for(pool, row_blocks(n, RUN), round_block, &c);
}
