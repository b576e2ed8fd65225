/* op_bag.c — y[i] = the sum of a bag of a table's rows.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"
#include <string.h>

enum { ROWS = 128 };

struct bag {
    struct ten *y, *table;
    const int32_t *id, *cu;
};

static void forward_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct bag *c = ctx;
    const struct row_span s = row_span(c->y->rows, ROWS, block);
    const int64_t D = c->y->cols;
    for (int64_t i = s.first; i < s.first + s.n; i++) {
        float *y = c->y->x + i * D;
        memset(y, 0, (size_t)D * sizeof *y);
        for (int32_t j = c->cu[i]; j < c->cu[i + 1]; j++) {
            REQUIRE(c->id[j] >= 0 && c->id[j] < c->table->rows, "bag: row %d of %d", c->id[j],
                    c->table->rows);
            num->vec->add(y, y, c->table->x + c->id[j] * D, D);
        }
    }
}

/* In the order of the bags, by one thread: their rows repeat. */
static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct bag *c = saved;
    const int64_t D = y->cols;
    grad_open(tp, c->table);
    for (int64_t i = 0; i < y->rows; i++)
        for (int32_t j = c->cu[i]; j < c->cu[i + 1]; j++) {
            float *g = c->table->g + c->id[j] * D;
            num->vec->add(g, g, y->g + i * D, D);
        }
}

struct ten *ad_bag(struct tape *tp, struct ten *table, const int32_t *id, const int32_t *cu,
                   int32_t B)
{
    struct bag *c = ARENA_NEW(tape_arena(tp), struct bag, 1);
    *c = (struct bag){ tape_ten(tp, B, table->cols, table->g != NULL), table, id, cu };
    par_for(tape_pool(tp), row_blocks(B, ROWS), forward_block, c);
    const double n = (double)cu[B] * table->cols;
    tape_cost(tp, (struct cost){ .floats = { 2 * n, 3 * n } });
    tape_push(tp, c->y, backward, c, "bag");
    return c->y;
}
