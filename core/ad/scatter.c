#include "core/ad/scatter.h"
#include "core/ad/rows.h"
#include "core/num/num.h"

enum { COLS = 32 }; /* two cache lines */

struct scatter {
    struct ten *table;
    const int32_t *row;
    const float *g;
    int32_t n;
};

static void columns(void *ctx, int block, int worker)
{
    (void)worker;
    const struct scatter *c = ctx;
    const int64_t D = c->table->cols;
    const struct row_span s = row_span(D, COLS, block);
    num->vec->scatter_add(c->table->g + s.first, D, c->g + s.first, D, c->row, c->n, s.n);
}

void scatter_add(struct tape *tp, struct ten *table, const int32_t *row, const float *g,
                 int32_t n)
{
    struct scatter c = { table, row, g, n };
    grad_open(tp, table);
    par_for(tape_pool(tp), row_blocks(table->cols, COLS), columns, &c);
}
