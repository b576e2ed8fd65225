/* op_add.c — sums and multiples, element by element.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/ad/scatter.h"
#include "core/num/num.h"

enum { CHUNK = 16384, ROWS = 128 }; /* elements; rows */

static int64_t size(const struct ten *x) { return (int64_t)x->rows * x->cols; }

/* ---- a + b ---- */

struct add {
    struct ten *y, *a, *b;
};

static void add_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct add *c = ctx;
    const struct row_span s = row_span(size(c->a), CHUNK, block);
    num->vec->add(c->y->x + s.first, c->a->x + s.first, c->b->x + s.first, s.n);
}

static void add_backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct add *c = saved;
    add_scaled(tape_pool(tp), c->a, 1, y->g);
    add_scaled(tape_pool(tp), c->b, 1, y->g);
}

struct ten *ad_add(struct tape *tp, struct ten *a, struct ten *b)
{
    REQUIRE(a->rows == b->rows && a->cols == b->cols, "add: a [%d,%d], b [%d,%d]", a->rows,
            a->cols, b->rows, b->cols);
    struct add *c = ARENA_NEW(tape_arena(tp), struct add, 1);
    *c = (struct add){ tape_ten(tp, a->rows, a->cols, a->g || b->g), a, b };
    par_for(tape_pool(tp), row_blocks(size(a), CHUNK), add_block, c);
    tape_push(tp, c->y, add_backward, c, "add");
    return c->y;
}

/* ---- x + table[row] ---- */

struct add_rows {
    struct ten *y, *x, *table;
    const int32_t *row;
};

static void add_rows_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct add_rows *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t D = c->x->cols;
    for (int64_t i = s.first; i < s.first + s.n; i++) {
        REQUIRE(c->row[i] >= 0 && c->row[i] < c->table->rows, "add_rows: row %d of %d",
                c->row[i], c->table->rows);
        num->vec->add(c->y->x + i * D, c->x->x + i * D, c->table->x + c->row[i] * D, D);
    }
}

static void add_rows_backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct add_rows *c = saved;
    add_scaled(tape_pool(tp), c->x, 1, y->g);
    if (c->table->g) scatter_add(tp, c->table, c->row, y->g, y->rows);
}

struct ten *ad_add_rows(struct tape *tp, struct ten *x, struct ten *table, const int32_t *row)
{
    REQUIRE(x->cols == table->cols, "add_rows: x [%d,%d], table [%d,%d]", x->rows, x->cols,
            table->rows, table->cols);
    struct add_rows *c = ARENA_NEW(tape_arena(tp), struct add_rows, 1);
    *c = (struct add_rows){ tape_ten(tp, x->rows, x->cols, x->g || table->g), x, table, row };
    par_for(tape_pool(tp), row_blocks(x->rows, ROWS), add_rows_block, c);
    tape_push(tp, c->y, add_rows_backward, c, "add_rows");
    return c->y;
}

/* ---- s x ---- */

struct scale {
    struct ten *y, *x;
    float s;
};

static void scale_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct scale *c = ctx;
    const struct row_span s = row_span(size(c->x), CHUNK, block);
    num->vec->scale(c->y->x + s.first, c->s, c->x->x + s.first, s.n);
}

static void scale_backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct scale *c = saved;
    add_scaled(tape_pool(tp), c->x, c->s, y->g);
}

struct ten *ad_scale(struct tape *tp, struct ten *x, float s)
{
    struct scale *c = ARENA_NEW(tape_arena(tp), struct scale, 1);
    *c = (struct scale){ tape_ten(tp, x->rows, x->cols, x->g != NULL), x, s };
    par_for(tape_pool(tp), row_blocks(size(x), CHUNK), scale_block, c);
    tape_push(tp, c->y, scale_backward, c, "scale");
    return c->y;
}
