/* op_embed.c — y[i] = item[id[i]] + pos[pos_id[i]], the mask token in the place of items that are hidden.  Thread: the
 * tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/ad/scatter.h"
#include "core/num/num.h"
#include <string.h>

enum { ROWS = 128 };

struct embed {
    struct ten *y, *item, *mask, *pos; /* mask, pos may be NULL */
    const int32_t *id, *pos_id;
};

static const float *table_row(const struct ten *t, int32_t i, const char *what)
{
    REQUIRE(i >= 0 && i < t->rows, "embed: %s %d of %d", what, i, t->rows);
    return t->x + (int64_t)i * t->cols;
}

static void forward_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct embed *c = ctx;
    const struct row_span s = row_span(c->y->rows, ROWS, block);
    const int64_t D = c->y->cols;
    for (int64_t i = s.first; i < s.first + s.n; i++) {
        float *y = c->y->x + i * D;
        const float *item = c->mask && c->id[i] == EMBED_MASK
                                ? c->mask->x
                                : table_row(c->item, c->id[i], "item");
        if (c->pos)
            num->vec->add(y, item, table_row(c->pos, c->pos_id[i], "position"), D);
        else
            memcpy(y, item, (size_t)D * sizeof *y);
    }
}

/* In the order of the tokens. */
static void mask_backward(struct tape *tp, const struct embed *c)
{
    const int64_t D = c->y->cols;
    grad_open(tp, c->mask);
    for (int32_t i = 0; i < c->y->rows; i++)
        if (c->id[i] == EMBED_MASK) num->vec->axpy(c->mask->g, 1, c->y->g + i * D, D);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct embed *c = saved;
    if (c->item->g) scatter_add(tp, c->item, c->id, y->g, y->rows);
    if (c->mask && c->mask->g) mask_backward(tp, c);
    if (c->pos && c->pos->g) scatter_add(tp, c->pos, c->pos_id, y->g, y->rows);
}

struct ten *ad_embed(struct tape *tp, struct ten *item, const int32_t *id, struct ten *mask,
                     struct ten *pos, const int32_t *pos_id, int32_t N)
{
    REQUIRE(!pos || pos->cols == item->cols, "embed: items %d wide, positions %d", item->cols,
            pos->cols);
    REQUIRE(!mask || (mask->rows == 1 && mask->cols == item->cols), "embed: mask [%d,%d]",
            mask->rows, mask->cols);
    bool learns = item->g || (mask && mask->g) || (pos && pos->g);
    struct embed *c = ARENA_NEW(tape_arena(tp), struct embed, 1);
    *c = (struct embed){ tape_ten(tp, N, item->cols, learns), item, mask, pos, id, pos_id };
    par_for(tape_pool(tp), row_blocks(N, ROWS), forward_block, c);
    const double n = (double)N * item->cols;
    tape_cost(tp, (struct cost){ .floats = { 3 * n, 5 * n } });
    tape_push(tp, c->y, backward, c, "embed");
    return c->y;
}
