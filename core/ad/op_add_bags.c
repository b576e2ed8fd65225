/* op_add_bags.c — features of any number of values, already multiplied with their part of a linear layer, on top of what
 * the rest of the layer gives.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"
#include <string.h>

enum { ROWS = 64, COLS = 32 };

/* A feature's bags as one list of (row of the table, row of x, 1 / size of the bag). */
struct list {
    struct ten *table;
    int32_t *cu, *id, *row; /* [R+1], [cu[R]] */
    float *share;           /* [cu[R]] */
};

struct add_bags {
    struct ten *y, *x;
    struct list *list;
    int32_t n;
    enum act act;
    float *d; /* [R,M] gradient before the activation */
};

static struct list list_of(struct arena *mem, const struct bag_table *b, int32_t R)
{
    const int32_t none = b->table->rows - 1, n = b->cu[R] - b->cu[0] + R;
    struct list l = { b->table, ARENA_NEW(mem, int32_t, R + 1), ARENA_NEW(mem, int32_t, n),
                      ARENA_NEW(mem, int32_t, n), ARENA_NEW(mem, float, n) };
    int32_t at = 0;
    for (int32_t r = 0; r < R; r++) {
        const int32_t size = b->cu[r + 1] - b->cu[r];
        l.cu[r] = at;
        for (int32_t i = 0; i < size || (size == 0 && i == 0); i++, at++) {
            l.id[at] = size ? b->id[b->cu[r] + i] : none;
            l.row[at] = r;
            l.share[at] = size ? 1.0f / (float)size : 1;
            REQUIRE(l.id[at] >= 0 && l.id[at] <= none - (size > 0), "add_bags: value %d of %d",
                    l.id[at], none);
        }
    }
    l.cu[R] = at;
    return l;
}

static void forward_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct add_bags *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t M = c->x->cols;
    for (int64_t r = s.first; r < s.first + s.n; r++) {
        float *y = c->y->x + r * M;
        memcpy(y, c->x->x + r * M, (size_t)M * sizeof *y);
        for (int32_t j = 0; j < c->n; j++) {
            const struct list *l = &c->list[j];
            for (int32_t i = l->cu[r]; i < l->cu[r + 1]; i++)
                num->vec->axpy(y, l->share[i], l->table->x + l->id[i] * M, M);
        }
        for (int64_t k = 0; c->act == ACT_RELU && k < M; k++) y[k] = y[k] > 0 ? y[k] : 0;
    }
}

static void gate_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct add_bags *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t first = s.first * c->x->cols, n = (int64_t)s.n * c->x->cols;
    for (int64_t i = first; i < first + n; i++)
        c->d[i] = c->act == ACT_RELU && c->y->x[i] <= 0 ? 0 : c->y->g[i];
}

/* Split over columns: each sum is made in the order of the list. */
static void table_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct add_bags *c = ctx;
    const int64_t M = c->x->cols;
    const struct row_span s = row_span(M, COLS, block);
    for (int32_t j = 0; j < c->n; j++) {
        const struct list *l = &c->list[j];
        if (l->table->g)
            num->vec->scatter_axpy(l->table->g + s.first, M, l->id, 1, l->share, c->d + s.first,
                                   M, l->row, l->cu[c->x->rows], s.n);
    }
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct add_bags *c = saved;
    for (int32_t j = 0; j < c->n; j++)
        if (c->list[j].table->g) grad_open(tp, c->list[j].table);
    par_for(tape_pool(tp), row_blocks(y->rows, ROWS), gate_block, c);
    par_for(tape_pool(tp), row_blocks(y->cols, COLS), table_block, c);
    add_scaled(tape_pool(tp), c->x, 1, c->d);
}

struct ten *ad_add_bags(struct tape *tp, struct ten *x, const struct bag_table *bag, int32_t n,
                        enum act act)
{
    REQUIRE(act != ACT_GELU, "add_bags: no activation or relu");
    struct arena *mem = tape_arena(tp);
    struct add_bags *c = ARENA_NEW(mem, struct add_bags, 1);
    bool learns = x->g != NULL;
    struct list *list = ARENA_NEW(mem, struct list, n + 1);
    for (int32_t j = 0; j < n; j++) {
        REQUIRE(bag[j].table->cols == x->cols, "add_bags: table [%d,%d], x [%d,%d]",
                bag[j].table->rows, bag[j].table->cols, x->rows, x->cols);
        list[j] = list_of(mem, &bag[j], x->rows);
        learns |= bag[j].table->g != NULL;
    }
    *c = (struct add_bags){ tape_ten(tp, x->rows, x->cols, learns), x, list, n, act, NULL };
    if (learns) c->d = ARENA_NEW(mem, float, (int64_t)x->rows * x->cols);
    par_for(tape_pool(tp), row_blocks(x->rows, ROWS), forward_block, c);
    tape_push(tp, c->y, backward, c, "add_bags");
    return c->y;
}
