/* op_batch_norm.c — batch normalisation with its activation: training by the batch's statistics, which also move the
 * running ones; otherwise by the running ones.  Blocks are columns, so that every sum is made in the order of the rows.
 * Saved: xhat [N,D] and 1/std [D].  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include <math.h>

enum { COLS = 32 }; /* two cache lines */

struct batch_norm {
    struct ten *y, *x, *gain, *bias;
    struct batch_stats st;
    float *xhat, *rstd;
    enum act act;
    bool train, first; /* first: dx is written, not added to */
};

/* The mean and the biased variance of n columns from column c on. */
static void statistics(const struct batch_norm *s, int64_t c, int32_t n, float *mean,
                       float *var)
{
    const int64_t D = s->x->cols, N = s->x->rows;
    for (int32_t j = 0; j < n; j++) mean[j] = var[j] = 0;
    for (int64_t i = 0; i < N; i++)
        for (int32_t j = 0; j < n; j++) mean[j] += s->x->x[i * D + c + j];
    for (int32_t j = 0; j < n; j++) mean[j] /= (float)N;
    for (int64_t i = 0; i < N; i++)
        for (int32_t j = 0; j < n; j++) {
            const float d = s->x->x[i * D + c + j] - mean[j];
            var[j] += d * d;
        }
    for (int32_t j = 0; j < n; j++) var[j] /= (float)N;
}

/* What normalises these columns; in training the running averages move towards it. */
static void choose(const struct batch_norm *s, int64_t c, int32_t n, float *mean, float *var)
{
    const struct batch_stats *st = &s->st;
    if (s->train) statistics(s, c, n, mean, var);
    for (int32_t j = 0; j < n; j++) {
        if (s->train) {
            st->mean[c + j] += (1 - st->momentum) * (mean[j] - st->mean[c + j]);
            st->var[c + j] += (1 - st->momentum) * (var[j] - st->var[c + j]);
        } else {
            mean[j] = st->mean[c + j];
            var[j] = st->var[c + j];
        }
    }
}

static void forward_columns(void *ctx, int block, int worker)
{
    (void)worker;
    const struct batch_norm *s = ctx;
    const int64_t D = s->x->cols;
    const struct row_span cols = row_span(D, COLS, block);
    const int64_t c = cols.first;
    float mean[COLS], var[COLS];
    choose(s, c, cols.n, mean, var);
    for (int32_t j = 0; j < cols.n; j++) s->rstd[c + j] = 1 / sqrtf(var[j] + s->st.eps);
    for (int64_t i = 0; i < s->x->rows; i++)
        for (int32_t j = 0; j < cols.n; j++) {
            const int64_t at = i * D + c + j;
            const float xhat = (s->x->x[at] - mean[j]) * s->rstd[c + j];
            const float y = xhat * s->gain->x[c + j] + s->bias->x[c + j];
            s->xhat[at] = xhat;
            s->y->x[at] = s->act == ACT_RELU && y < 0 ? 0 : y; /* a NaN stays one */
        }
}

/* dy before the activation */
static float slope(const struct batch_norm *s, int64_t at)
{
    return s->act == ACT_RELU && s->y->x[at] <= 0 ? 0 : s->y->g[at];
}

/* dx = gain rstd (dy - mean dy - xhat mean(dy xhat)); the means are zero where the statistics are constants */
static void backward_columns(void *ctx, int block, int worker)
{
    (void)worker;
    const struct batch_norm *s = ctx;
    const int64_t D = s->x->cols, N = s->x->rows;
    const struct row_span cols = row_span(D, COLS, block);
    const int64_t c = cols.first;
    float dbias[COLS] = { 0 }, dgain[COLS] = { 0 };
    for (int64_t i = 0; i < N; i++)
        for (int32_t j = 0; j < cols.n; j++) {
            const float dy = slope(s, i * D + c + j);
            dbias[j] += dy;
            dgain[j] += dy * s->xhat[i * D + c + j];
        }
    for (int32_t j = 0; j < cols.n; j++) {
        if (s->bias->g) s->bias->g[c + j] += dbias[j];
        if (s->gain->g) s->gain->g[c + j] += dgain[j];
    }
    const float part = s->train ? 1 / (float)N : 0;
    for (int64_t i = 0; s->x->g && i < N; i++)
        for (int32_t j = 0; j < cols.n; j++) {
            const int64_t at = i * D + c + j;
            const float dx = s->gain->x[c + j] * s->rstd[c + j] *
                             (slope(s, at) - part * (dbias[j] + s->xhat[at] * dgain[j]));
            s->x->g[at] = s->first ? dx : s->x->g[at] + dx;
        }
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct batch_norm *s = saved;
    s->first = grad_first(s->x);
    par_for(tape_pool(tp), row_blocks(y->cols, COLS), backward_columns, s);
}

struct ten *ad_batch_norm(struct tape *tp, struct ten *x, struct ten *gain, struct ten *bias,
                          const struct batch_stats *st, enum act act)
{
    REQUIRE(gain->rows == 1 && gain->cols == x->cols && bias->rows == 1 &&
                bias->cols == x->cols,
            "batch_norm: x [%d,%d], gain [%d,%d], bias [%d,%d]", x->rows, x->cols, gain->rows,
            gain->cols, bias->rows, bias->cols);
    REQUIRE(act != ACT_GELU && x->rows > 0, "batch_norm: %d rows, activation %d", x->rows, act);
    struct arena *mem = tape_arena(tp);
    struct batch_norm *s = ARENA_NEW(mem, struct batch_norm, 1);
    const bool wants = x->g || gain->g || bias->g;
    *s = (struct batch_norm){ .y = tape_ten(tp, x->rows, x->cols, wants),
                              .x = x,
                              .gain = gain,
                              .bias = bias,
                              .st = *st,
                              .act = act,
                              .train = tape_training(tp) };
    s->xhat = ARENA_NEW(mem, float, (size_t)x->rows *(size_t)x->cols);
    s->rstd = ARENA_NEW(mem, float, (size_t)x->cols);
    par_for(tape_pool(tp), row_blocks(x->cols, COLS), forward_columns, s);
    const double n = (double)x->rows * x->cols;
    tape_cost(tp, (struct cost){ .floats = { 4 * n, 5 * n } });
    tape_push(tp, s->y, backward, s, "batch_norm");
    return s->y;
}
