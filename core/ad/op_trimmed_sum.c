/* op_trimmed_sum.c — the sum of the smallest losses of a batch: DSSRec trusts only those
 * (Ma et al. 2020, section 3.3; models/README.md, dssrec).  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include <stdlib.h>
#include <string.h>

struct trimmed {
    struct ten *x;
    float tau; /* the keep-th smallest; ties with it are kept */
};

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static float kth_smallest(struct arena *mem, const float *x, int32_t n, int32_t k)
{
    struct arena_mark m = arena_mark(mem);
    float *t = ARENA_NEW(mem, float, n);
    memcpy(t, x, (size_t)n * sizeof *t);
    qsort(t, (size_t)n, sizeof *t, ascending);
    float tau = t[k - 1];
    arena_release(mem, m);
    return tau;
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    const struct trimmed *c = saved;
    grad_open(tp, c->x);
    for (int32_t r = 0; r < c->x->rows; r++)
        if (c->x->x[r] <= c->tau) c->x->g[r] += y->g[0];
}

struct ten *ad_trimmed_sum(struct tape *tp, struct ten *x, int32_t keep)
{
    REQUIRE(x->cols == 1 && keep >= 1 && keep <= x->rows, "trimmed_sum: keep %d of x [%d,%d]",
            keep, x->rows, x->cols);
    struct trimmed *c = ARENA_NEW(tape_arena(tp), struct trimmed, 1);
    struct ten *y = tape_ten(tp, 1, 1, x->g != NULL);
    *c = (struct trimmed){ x, kth_smallest(tape_arena(tp), x->x, x->rows, keep) };
    double s = 0;
    for (int32_t r = 0; r < x->rows; r++)
        if (x->x[r] <= c->tau) s += (double)x->x[r];
    y->x[0] = (float)s;
    tape_push(tp, y, backward, c, "trimmed_sum");
    return y;
}
