/* op_seg_last.c — the last row of every sequence.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/num/num.h"
#include <string.h>

struct seg_last {
    struct ten *x;
    const int32_t *cu;
};

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct seg_last *c = saved;
    grad_open(tp, c->x);
    const int64_t D = y->cols;
    for (int32_t b = 0; b < y->rows; b++)
        num->vec->axpy(c->x->g + (c->cu[b + 1] - 1) * D, 1.0f, y->g + b * D, D);
}

struct ten *ad_seg_last(struct tape *tp, struct ten *x, const struct seqpack *sp)
{
    REQUIRE(x->rows == sp->N, "seg_last: x [%d,%d], %d tokens", x->rows, x->cols, sp->N);
    struct ten *y = tape_ten(tp, sp->B, x->cols, x->g != NULL);
    const int64_t D = x->cols;
    for (int32_t b = 0; b < sp->B; b++) {
        REQUIRE(sp->cu[b + 1] > sp->cu[b], "seg_last: sequence %d is empty", b);
        memcpy(y->x + b * D, x->x + (sp->cu[b + 1] - 1) * D, (size_t)D * sizeof *y->x);
    }
    struct seg_last *c = ARENA_NEW(tape_arena(tp), struct seg_last, 1);
    *c = (struct seg_last){ x, sp->cu };
    tape_push(tp, y, backward, c, "seg_last");
    return y;
}
