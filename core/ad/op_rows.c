/* op_rows.c — matrices put together of others' columns and rows.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"
#include <string.h>

enum { ROWS = 128 };

/* ---- columns side by side ---- */

struct concat {
    struct ten *y, **x;
    int32_t n;
    const bool *first; /* backward: dx is written, not added to */
};

static void concat_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct concat *c = ctx;
    const struct row_span s = row_span(c->y->rows, ROWS, block);
    float *y = c->y->x + s.first * c->y->cols;
    for (int64_t i = s.first; i < s.first + s.n; i++)
        for (int32_t k = 0; k < c->n; k++) {
            const int64_t D = c->x[k]->cols;
            memcpy(y, c->x[k]->x + i * D, (size_t)D * sizeof *y);
            y += D;
        }
}

static void concat_block_bwd(void *ctx, int block, int worker)
{
    (void)worker;
    const struct concat *c = ctx;
    const struct row_span s = row_span(c->y->rows, ROWS, block);
    const float *dy = c->y->g + s.first * c->y->cols;
    for (int64_t i = s.first; i < s.first + s.n; i++)
        for (int32_t k = 0; k < c->n; k++) {
            const int64_t D = c->x[k]->cols;
            float *dx = c->x[k]->g ? c->x[k]->g + i * D : NULL;
            if (dx && c->first[k])
                memcpy(dx, dy, (size_t)D * sizeof *dx);
            else if (dx)
                num->vec->add(dx, dx, dy, D);
            dy += D;
        }
}

static void concat_backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct concat *c = saved;
    bool *first = ARENA_NEW(tape_arena(tp), bool, c->n);
    for (int32_t k = 0; k < c->n; k++) first[k] = grad_first(c->x[k]);
    c->first = first;
    par_for(tape_pool(tp), row_blocks(y->rows, ROWS), concat_block_bwd, c);
}

struct ten *ad_concat_cols(struct tape *tp, struct ten *const *x, int32_t n)
{
    REQUIRE(n > 0, "concat_cols of %d", n);
    struct arena *mem = tape_arena(tp);
    struct concat *c = ARENA_NEW(mem, struct concat, 1);
    int32_t cols = 0;
    bool wants = false;
    *c = (struct concat){ .x = ARENA_NEW(mem, struct ten *, n), .n = n };
    for (int32_t k = 0; k < n; k++) {
        REQUIRE(x[k]->rows == x[0]->rows, "concat_cols: [%d,%d] beside [%d,%d]", x[k]->rows,
                x[k]->cols, x[0]->rows, x[0]->cols);
        c->x[k] = x[k];
        cols += x[k]->cols;
        wants |= x[k]->g != NULL;
    }
    c->y = tape_ten(tp, x[0]->rows, cols, wants);
    par_for(tape_pool(tp), row_blocks(c->y->rows, ROWS), concat_block, c);
    const double size = (double)c->y->rows * cols;
    tape_cost(tp, (struct cost){ .floats = { 2 * size, 2 * size } });
    tape_push(tp, c->y, concat_backward, c, "concat_cols");
    return c->y;
}

/* ---- rows of two ---- */

struct pick {
    struct ten *y, *a, *b;
    const int32_t *row;
};

static void pick_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct pick *c = ctx;
    const struct row_span s = row_span(c->y->rows, ROWS, block);
    const int64_t D = c->y->cols;
    for (int64_t i = s.first; i < s.first + s.n; i++) {
        const struct ten *t = c->row[i] >= 0 ? c->a : c->b;
        const int64_t r = c->row[i] >= 0 ? c->row[i] : -1 - (int64_t)c->row[i];
        REQUIRE(r < t->rows, "pick_rows: row %d of %d and %d", c->row[i], c->a->rows,
                c->b->rows);
        memcpy(c->y->x + i * D, t->x + r * D, (size_t)D * sizeof(float));
    }
}

/* Rows may be picked more than once: one thread, in order. */
static void pick_backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct pick *c = saved;
    const int64_t D = y->cols;
    grad_open(tp, c->a);
    grad_open(tp, c->b);
    for (int64_t i = 0; i < y->rows; i++) {
        const struct ten *t = c->row[i] >= 0 ? c->a : c->b;
        if (!t->g) continue;
        float *g = t->g + (c->row[i] >= 0 ? c->row[i] : -1 - (int64_t)c->row[i]) * D;
        num->vec->add(g, g, y->g + i * D, D);
    }
}

struct ten *ad_pick_rows(struct tape *tp, struct ten *a, struct ten *b, const int32_t *row,
                         int32_t n)
{
    REQUIRE(a->cols == b->cols, "pick_rows: of [%d,%d] and [%d,%d]", a->rows, a->cols, b->rows,
            b->cols);
    struct pick *c = ARENA_NEW(tape_arena(tp), struct pick, 1);
    *c = (struct pick){ tape_ten(tp, n, a->cols, a->g || b->g), a, b, row };
    par_for(tape_pool(tp), row_blocks(n, ROWS), pick_block, c);
    const double size = (double)n * a->cols;
    tape_cost(tp, (struct cost){ .floats = { 2 * size, 3 * size } });
    tape_push(tp, c->y, pick_backward, c, "pick_rows");
    return c->y;
}
