#include "core/ad/rows.h"
#include "core/num/num.h"

enum { RUN = 1 << 15 }; /* floats of a block */

struct add {
    float *y;
    const float *x;
    float s;
    int64_t n;
};

static void add_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct add *a = ctx;
    const struct row_span run = row_span(a->n, RUN, block);
    num->vec->axpy(a->y + run.first, a->s, a->x + run.first, run.n);
}

void add_scaled(struct par *pool, float *y, float s, const float *x, int64_t n)
{
    struct add a = { y, x, s, n };
    par_for(pool, row_blocks(n, RUN), add_block, &a);
}
