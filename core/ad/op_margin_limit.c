/* op_margin_limit.c — MCLRec's contrastive regulariser over a matrix of similarities.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include <math.h>

enum { ROWS = 16 };

struct margin {
    struct ten *y, *x;
    const int32_t *target;
    int32_t *hardest; /* [R] column of the largest negative */
    double *sum;      /* [R] of the row's share in y */
};

/* The columns of row r that are no negatives. */
static bool negative(const struct margin *c, int64_t r, int64_t j)
{
    return j != r && j != c->target[r];
}

/* What a row's first and its second term are divided by. */
static double rows_of(const struct margin *c) { return c->x->rows; }
static double pairs_of(const struct margin *c) { return rows_of(c) * (c->x->rows - 2); }

static void forward_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct margin *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t C = c->x->cols;
    for (int64_t r = s.first; r < s.first + s.n; r++) {
        const float *x = c->x->x + r * C;
        int32_t best = -1;
        double sum = 0; /* of all negatives: none is above hi */
        for (int32_t j = 0; j < C; j++) {
            if (!negative(c, r, j)) continue;
            if (best < 0 || x[j] > x[best]) best = j;
            sum += (double)x[j];
        }
        const double p = (double)x[c->target[r]], m = (double)x[best];
        c->hardest[r] = best;
        c->sum[r] =
            fmax(0, p - m) / rows_of(c) + (fmax(p, m) * (double)(C - 2) - sum) / pairs_of(c);
    }
}

/* With p above m the row is (p - m) / R + sum_j (p - n_j) / pairs, else sum_j (m - n_j) / pairs. */
static void backward_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct margin *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t C = c->x->cols;
    const float g = c->y->g[0], each = (float)(1 / pairs_of(c)), row = (float)(1 / rows_of(c));
    for (int64_t r = s.first; r < s.first + s.n; r++) {
        const float *x = c->x->x + r * C;
        float *dx = c->x->g + r * C;
        const int32_t p = c->target[r], m = c->hardest[r];
        const bool above = x[p] > x[m];
        for (int64_t j = 0; j < C; j++)
            if (negative(c, r, j)) dx[j] -= g * each;
        dx[above ? p : m] += g * row; /* (C - 2) / pairs */
        if (above) {
            dx[p] += g * row;
            dx[m] -= g * row;
        }
    }
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    (void)y;
    struct margin *c = saved;
    grad_open(tp, c->x);
    par_for(tape_pool(tp), row_blocks(c->x->rows, ROWS), backward_block, c);
}

struct ten *ad_margin_limit(struct tape *tp, struct ten *x, const int32_t *target)
{
    REQUIRE(x->rows == x->cols && x->rows > 2, "margin_limit: x [%d,%d]", x->rows, x->cols);
    for (int32_t r = 0; r < x->rows; r++)
        REQUIRE(target[r] >= 0 && target[r] < x->cols && target[r] != r,
                "margin_limit: target %d of row %d", target[r], r);
    struct arena *mem = tape_arena(tp);
    struct margin *c = ARENA_NEW(mem, struct margin, 1);
    *c = (struct margin){ .y = tape_ten(tp, 1, 1, x->g != NULL),
                          .x = x,
                          .target = target,
                          .hardest = ARENA_NEW(mem, int32_t, x->rows),
                          .sum = ARENA_NEW(mem, double, x->rows) };
    par_for(tape_pool(tp), row_blocks(x->rows, ROWS), forward_block, c);
    double sum = 0;
    for (int32_t r = 0; r < x->rows; r++) sum += c->sum[r];
    c->y->x[0] = (float)sum;
    tape_push(tp, c->y, backward, c, "margin_limit");
    return c->y;
}
