/* op_sum.c — y = scale * sum of all entries, accumulated in double.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/num/num.h"

enum { RUN = 1024 }; /* floats added in single precision before they join the double sum */

struct sum {
    struct ten *x;
    float scale;
};

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct sum *c = saved;
    grad_open(tp, c->x);
    float g = c->scale * y->g[0];
    for (int64_t i = 0; i < (int64_t)c->x->rows * c->x->cols; i++) c->x->g[i] += g;
}

struct ten *ad_sum(struct tape *tp, struct ten *x, float scale)
{
    struct sum *c = ARENA_NEW(tape_arena(tp), struct sum, 1);
    *c = (struct sum){ x, scale };
    struct ten *y = tape_ten(tp, 1, 1, x->g != NULL);
    double s = 0;
    int64_t n = (int64_t)x->rows * x->cols;
    for (int64_t i = 0; i < n; i += RUN)
        s += (double)num->vec->sum(x->x + i, n - i < RUN ? n - i : RUN);
    y->x[0] = (float)((double)scale * s);
    tape_push(tp, y, backward, c, "sum");
    return y;
}
