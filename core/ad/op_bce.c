/* op_bce.c — binary cross-entropy of logits, and the sum of squares that regularises.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"
#include <math.h>

struct bce {
    struct ten *x;
    const float *label;
};

static void bce_backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct bce *c = saved;
    const float part = y->g[0] / (float)c->x->rows;
    grad_open(tp, c->x);
    for (int32_t i = 0; i < c->x->rows; i++)
        c->x->g[i] += part * (1 / (1 + expf(-c->x->x[i])) - c->label[i]);
}

struct ten *ad_bce_logits(struct tape *tp, struct ten *x, const float *label)
{
    REQUIRE(x->cols == 1 && x->rows > 0, "bce_logits: x [%d,%d]", x->rows, x->cols);
    struct bce *c = ARENA_NEW(tape_arena(tp), struct bce, 1);
    *c = (struct bce){ x, label };
    struct ten *y = tape_ten(tp, 1, 1, x->g != NULL);
    double sum = 0;
    for (int32_t i = 0; i < x->rows; i++) {
        const double s = (double)x->x[i];
        sum += fmax(s, 0) - s * (double)label[i] + log1p(exp(-fabs(s)));
    }
    y->x[0] = (float)(sum / x->rows);
    tape_cost(tp, (struct cost){ .floats = { 2.0 * x->rows, 4.0 * x->rows } });
    tape_push(tp, y, bce_backward, c, "bce_logits");
    return y;
}

struct squares {
    struct ten *x;
    float scale;
};

static void squares_backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct squares *c = saved;
    add_scaled(tape_pool(tp), c->x, 2 * c->scale * y->g[0], c->x->x);
}

struct ten *ad_squares(struct tape *tp, struct ten *x, float scale)
{
    struct squares *c = ARENA_NEW(tape_arena(tp), struct squares, 1);
    *c = (struct squares){ x, scale };
    struct ten *y = tape_ten(tp, 1, 1, x->g != NULL);
    double sum = 0;
    for (int64_t i = 0; i < x->rows; i++) {
        const float *row = x->x + i * x->cols;
        sum += (double)num->vec->dot(row, row, x->cols);
    }
    y->x[0] = (float)((double)scale * sum);
    const double n = (double)x->rows * x->cols;
    tape_cost(tp, (struct cost){ .floats = { n, 3 * n } });
    tape_push(tp, y, squares_backward, c, "squares");
    return y;
}
