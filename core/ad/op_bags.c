/* op_bags.c — losses whose rows have any number of right answers: attributes of items, or one item.  sigmoid, bce_bags,
 * xent_bags.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"
#include <math.h>
#include <string.h>

enum { CHUNK = 8192, ROWS = 16 };

/* ---- 1 / (1 + exp -x) ---- */

struct sigmoid {
    struct ten *y, *x;
};

static int64_t size(const struct ten *x) { return (int64_t)x->rows * x->cols; }

static void sigmoid_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct sigmoid *c = ctx;
    const struct row_span s = row_span(size(c->x), CHUNK, block);
    memcpy(c->y->x + s.first, c->x->x + s.first, (size_t)s.n * sizeof(float));
    (void)num->loss->softplus_sum(c->y->x + s.first,
                                  s.n); /* its derivative is what is wanted */
}

static void sigmoid_block_bwd(void *ctx, int block, int worker)
{
    (void)worker;
    const struct sigmoid *c = ctx;
    const struct row_span s = row_span(size(c->x), CHUNK, block);
    const float *y = c->y->x + s.first, *dy = c->y->g + s.first;
    float *dx = c->x->g + s.first;
    for (int32_t i = 0; i < s.n; i++) dx[i] += dy[i] * y[i] * (1 - y[i]);
}

static void sigmoid_backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct sigmoid *c = saved;
    grad_open(tp, c->x);
    par_for(tape_pool(tp), row_blocks(size(y), CHUNK), sigmoid_block_bwd, c);
}

struct ten *ad_sigmoid(struct tape *tp, struct ten *x)
{
    struct sigmoid *c = ARENA_NEW(tape_arena(tp), struct sigmoid, 1);
    *c = (struct sigmoid){ tape_ten(tp, x->rows, x->cols, x->g != NULL), x };
    par_for(tape_pool(tp), row_blocks(size(x), CHUNK), sigmoid_block, c);
    tape_push(tp, c->y, sigmoid_backward, c, "sigmoid");
    return c->y;
}

/* ---- both losses ---- */

struct bags {
    struct ten *y, *x;
    const struct bag_list *bag;
    float scale;
    float *d;    /* [R,C] derivative of the loss, before scale */
    double *sum; /* [R] */
};

static void backward_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct bags *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t C = c->x->cols;
    num->vec->axpy(c->x->g + s.first * C, c->scale * c->y->g[0], c->d + s.first * C, s.n * C);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    (void)y;
    struct bags *c = saved;
    grad_open(tp, c->x);
    par_for(tape_pool(tp), row_blocks(c->x->rows, ROWS), backward_block, c);
}

static struct ten *run(struct tape *tp, struct ten *x, const struct bag_list *bag, float scale,
                       par_fn *forward, const char *op)
{
    for (int32_t i = 0; bag && i < bag->cu[x->rows]; i++)
        REQUIRE(bag->id[i] >= 0 && bag->id[i] < x->cols, "%s: answer %d of %d", op, bag->id[i],
                x->cols);
    struct arena *mem = tape_arena(tp);
    struct bags *c = ARENA_NEW(mem, struct bags, 1);
    *c = (struct bags){ .y = tape_ten(tp, 1, 1, x->g != NULL),
                        .x = x,
                        .bag = bag,
                        .scale = scale,
                        .d = ARENA_NEW(mem, float, size(x)),
                        .sum = ARENA_NEW(mem, double, x->rows) };
    par_for(tape_pool(tp), row_blocks(x->rows, ROWS), forward, c);
    double sum = 0;
    for (int32_t r = 0; r < x->rows; r++) sum += c->sum[r];
    c->y->x[0] = (float)((double)scale * sum);
    tape_push(tp, c->y, backward, c, op);
    return c->y;
}

static void bce_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct bags *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int64_t C = c->x->cols;
    for (int64_t r = s.first; r < s.first + s.n; r++) {
        const float *x = c->x->x + r * C;
        float *d = c->d + r * C;
        memcpy(d, x, (size_t)C * sizeof *d);
        c->sum[r] = (double)num->loss->softplus_sum(d, (int32_t)C);
        for (int32_t i = c->bag ? c->bag->cu[r] : 0; c->bag && i < c->bag->cu[r + 1]; i++) {
            d[c->bag->id[i]] -= 1;
            c->sum[r] -= (double)x[c->bag->id[i]];
        }
    }
}

struct ten *ad_bce_bags(struct tape *tp, struct ten *x, const struct bag_list *bag, float scale)
{
    return run(tp, x, bag, scale, bce_block, "bce_bags");
}

/* One row: d holds exp(x - top) of the wrong answers first. */
static double xent_row(float *d, const float *x, const int32_t *id, int32_t n, int32_t C)
{
    const float top = num->vec->max(x, C);
    double sum = 0, share = 0;
    (void)num->vec->exp_sum(d, x, top, C);
    for (int32_t i = 0; i < n; i++) d[id[i]] = 0;
    const double wrong = (double)num->vec->sum(d, C);
    for (int32_t i = 0; i < n; i++) {
        const double right = exp((double)x[id[i]] - (double)top), all = right + wrong;
        sum += log(all) - ((double)x[id[i]] - (double)top);
        share += 1 / all;
    }
    num->vec->scale(d, (float)share, d, C);
    for (int32_t i = 0; i < n; i++) {
        const double right = exp((double)x[id[i]] - (double)top);
        d[id[i]] = (float)(-wrong / (right + wrong));
    }
    return sum;
}

static void xent_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct bags *c = ctx;
    const struct row_span s = row_span(c->x->rows, ROWS, block);
    const int32_t C = c->x->cols;
    for (int64_t r = s.first; r < s.first + s.n; r++) {
        const int32_t at = c->bag->cu[r];
        c->sum[r] =
            xent_row(c->d + r * C, c->x->x + r * C, c->bag->id + at, c->bag->cu[r + 1] - at, C);
    }
}

struct ten *ad_xent_bags(struct tape *tp, struct ten *x, const struct bag_list *bag,
                         float scale)
{
    return run(tp, x, bag, scale, xent_block, "xent_bags");
}
