/* cases_pairs.c — rows of the ops that compare samples with each other. */
#include "tests/core/ad/ops_cases.h"
#include <math.h>
#include <string.h>

static const int32_t *dim(const struct op_run *r) { return r->c->dim; }

/* ---- concat_rows: dim = { Ra, Rb, C };  reshape: dim = { R, C, rows, cols };  normalize: dim = { R, C } ---- */

static void two_setup(struct op_run *r)
{
    op_input(r, dim(r)[0], dim(r)[2], 1);
    op_input(r, dim(r)[1], dim(r)[2], 1);
}
static struct ten *concat_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    (void)r;
    return ad_concat_rows(tp, in[0], in[1]);
}
static void concat_ref(const struct op_run *r, double *y, double *const *in)
{
    size_t a = (size_t)dim(r)[0] * (size_t)dim(r)[2], b = (size_t)dim(r)[1] * (size_t)dim(r)[2];
    memcpy(y, in[0], a * sizeof *y);
    memcpy(y + a, in[1], b * sizeof *y);
}

static void one_setup(struct op_run *r) { op_input(r, dim(r)[0], dim(r)[1], 1); }
static struct ten *reshape_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_reshape(tp, in[0], dim(r)[2], dim(r)[3]);
}
static void reshape_ref(const struct op_run *r, double *y, double *const *in)
{
    memcpy(y, in[0], (size_t)dim(r)[0] * (size_t)dim(r)[1] * sizeof *y);
}

static struct ten *normalize_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    (void)r;
    return ad_normalize(tp, in[0]);
}
static void normalize_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t C = dim(r)[1];
    for (int32_t i = 0; i < dim(r)[0]; i++) {
        double s = 0;
        for (int32_t j = 0; j < C; j++) s += in[0][i * C + j] * in[0][i * C + j];
        for (int32_t j = 0; j < C; j++) y[i * C + j] = in[0][i * C + j] / sqrt(s);
    }
}

/* ---- xent_rows, margin_limit of pairs: dim = { B }, x [2B,2B], row r's target is r +- B ---- */

static void pairs_setup(struct op_run *r)
{
    int32_t R = 2 * dim(r)[0];
    op_input(r, R, R, 2);
    r->target = op_index(r, R, R);
    for (int32_t i = 0; i < R; i++) r->target[i] = (i + R / 2) % R;
}
static struct ten *pairs_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_xent_rows(tp, in[0], r->target, true);
}
static void pairs_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t R = 2 * dim(r)[0];
    for (int32_t i = 0; i < R; i++) {
        double s = 0;
        for (int32_t j = 0; j < R; j++) s += j == i ? 0 : exp(in[0][i * R + j]);
        y[i] = log(s) - in[0][i * R + r->target[i]];
    }
}

static struct ten *margin_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_margin_limit(tp, in[0], r->target);
}
static void margin_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t R = 2 * dim(r)[0];
    y[0] = 0;
    for (int32_t i = 0; i < R; i++) {
        const double *x = in[0] + i * R, p = x[r->target[i]];
        double m = -HUGE_VAL;
        for (int32_t j = 0; j < R; j++)
            if (j != i && j != r->target[i]) m = fmax(m, x[j]);
        y[0] += fmax(0, p - fmin(p, m)) / R;
        for (int32_t j = 0; j < R; j++)
            if (j != i && j != r->target[i])
                y[0] += fmax(0, fmax(p, m) - x[j]) / ((double)R * (R - 2));
    }
}

/* ---- sigmoid, bce_bags, xent_bags: dim = { R, C, most right answers of a row } ---- */

static void bags_setup(struct op_run *r)
{
    int32_t R = dim(r)[0], C = dim(r)[1], most = dim(r)[2];
    op_input(r, R, C, 2);
    r->target = op_index(r, R + 1, 1); /* cu */
    r->id = op_index(r, R * (most ? most : 1), C);
    r->target[0] = 0;
    for (int32_t i = 0; i < R; i++) { /* a row's answers: a run of columns */
        int32_t n = (int32_t)rng_below(&r->rng, (uint32_t)most + 1);
        int32_t first = (int32_t)rng_below(&r->rng, (uint32_t)(C - n + 1));
        for (int32_t j = 0; j < n; j++) r->id[r->target[i] + j] = first + j;
        r->target[i + 1] = r->target[i] + n;
    }
}
static const struct bag_list *bags(struct op_run *r)
{
    struct bag_list *b = ARENA_NEW(r->mem, struct bag_list, 1);
    *b = (struct bag_list){ r->target, r->id };
    return b;
}
static struct ten *sigmoid_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    (void)r;
    return ad_sigmoid(tp, in[0]);
}
static void sigmoid_ref(const struct op_run *r, double *y, double *const *in)
{
    for (int32_t i = 0; i < dim(r)[0] * dim(r)[1]; i++) y[i] = 1 / (1 + exp(-in[0][i]));
}
static struct ten *bce_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_bce_bags(tp, in[0], dim(r)[2] ? bags(r) : NULL, 0.5f);
}
static bool right(const struct op_run *r, int32_t row, int32_t c)
{
    for (int32_t i = r->target[row]; i < r->target[row + 1]; i++)
        if (r->id[i] == c) return true;
    return false;
}
static void bce_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t C = dim(r)[1];
    y[0] = 0;
    for (int32_t i = 0; i < dim(r)[0]; i++)
        for (int32_t c = 0; c < C; c++) {
            double p = 1 / (1 + exp(-in[0][i * C + c]));
            y[0] -= 0.5 * (right(r, i, c) ? log(p) : log(1 - p));
        }
}
static struct ten *xent_bags_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_xent_bags(tp, in[0], bags(r), 0.5f);
}
static void xent_bags_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t C = dim(r)[1];
    y[0] = 0;
    for (int32_t i = 0; i < dim(r)[0]; i++) {
        double wrong = 0;
        for (int32_t c = 0; c < C; c++) wrong += right(r, i, c) ? 0 : exp(in[0][i * C + c]);
        for (int32_t k = r->target[i]; k < r->target[i + 1]; k++) {
            double x = exp(in[0][i * C + r->id[k]]);
            y[0] -= 0.5 * log(x / (x + wrong));
        }
    }
}

/* ---- add_bags: dim = { R, M, values, most values of a bag, act }, two features of the same size ---- */

static void add_bags_setup(struct op_run *r)
{
    int32_t R = dim(r)[0], n = dim(r)[2], most = dim(r)[3];
    op_input(r, R, dim(r)[1], 1);
    op_input(r, n + 1, dim(r)[1], 1);
    op_input(r, n + 1, dim(r)[1], 1);
    r->target = op_index(r, R + 1, 1);
    r->id = op_index(r, R * most, n);
    for (int32_t i = 0; i < R; i++)
        r->target[i + 1] = r->target[i] + (int32_t)rng_below(&r->rng, (uint32_t)most + 1);
}
static struct ten *add_bags_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    const struct bag_table bag[] = { { in[1], r->target, r->id }, { in[2], r->target, r->id } };
    return ad_add_bags(tp, in[0], bag, 2, (enum act)dim(r)[4]);
}
static void add_bags_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t M = dim(r)[1], none = dim(r)[2];
    for (int32_t i = 0; i < dim(r)[0]; i++)
        for (int32_t c = 0; c < M; c++) {
            int32_t from = r->target[i], n = r->target[i + 1] - from;
            double s = in[0][i * M + c];
            for (int32_t k = 0; k < n; k++)
                s += (in[1][r->id[from + k] * M + c] + in[2][r->id[from + k] * M + c]) / n;
            if (n == 0) s += in[1][none * M + c] + in[2][none * M + c];
            y[i * M + c] = dim(r)[4] == ACT_RELU ? fmax(s, 0) : s;
        }
}

#define ADD_BAGS                                                                               \
    .op = "add_bags", .setup = add_bags_setup, .build = add_bags_build, .ref = add_bags_ref
#define SIGMOID .op = "sigmoid", .setup = one_setup, .build = sigmoid_build, .ref = sigmoid_ref
#define BCE     .op = "bce_bags", .setup = bags_setup, .build = bce_build, .ref = bce_ref
#define XENT_BAGS                                                                              \
    .op = "xent_bags", .setup = bags_setup, .build = xent_bags_build, .ref = xent_bags_ref
#define CONCAT  .op = "concat_rows", .setup = two_setup, .build = concat_build, .ref = concat_ref
#define RESHAPE .op = "reshape", .setup = one_setup, .build = reshape_build, .ref = reshape_ref
#define NORMALIZE                                                                              \
    .op = "normalize", .setup = one_setup, .build = normalize_build, .ref = normalize_ref
#define PAIRS .op = "xent_rows", .setup = pairs_setup, .build = pairs_build, .ref = pairs_ref
#define MARGIN                                                                                 \
    .op = "margin_limit", .setup = pairs_setup, .build = margin_build, .ref = margin_ref

static const struct op_case cases[] = {
    { CONCAT, .what = "1 over 1", .dim = { 1, 1, 1 } },
    { CONCAT, .what = "5 over 9, D=17", .dim = { 5, 9, 17 } },
    { RESHAPE, .what = "6x4 to 2x12", .dim = { 6, 4, 2, 12 } },
    { NORMALIZE, .what = "1x3", .dim = { 1, 3 } },
    { NORMALIZE, .what = "300x19", .dim = { 300, 19 } },
    { PAIRS, .what = "one pair", .dim = { 1 } },
    { PAIRS, .what = "19 pairs", .dim = { 19 } },
    { MARGIN, .what = "two pairs", .dim = { 2 } },
    { MARGIN, .what = "19 pairs", .dim = { 19 } },

    { ADD_BAGS, .what = "one row", .dim = { 1, 3, 2, 1 } },
    { ADD_BAGS, .what = "70x37, up to 3 of 5 values", .dim = { 70, 37, 5, 3 } },
    { ADD_BAGS, .what = "relu", .dim = { 21, 16, 9, 2, ACT_RELU } },
    { SIGMOID, .what = "1x1", .dim = { 1, 1 } },
    { SIGMOID, .what = "90x131", .dim = { 90, 131 } },
    { BCE, .what = "1x1", .dim = { 1, 1, 1 } },
    { BCE, .what = "37x19, up to 5 answers", .dim = { 37, 19, 5 } },
    { BCE, .what = "no answers", .dim = { 37, 19, 0 } },
    { XENT_BAGS, .what = "1x2", .dim = { 1, 2, 1 } },
    { XENT_BAGS, .what = "37x19, up to 5 answers", .dim = { 37, 19, 5 } },
    { XENT_BAGS, .what = "3x4, all may be right", .dim = { 3, 4, 4 } },

    { CONCAT, .what = "256 over 256, D=64", .dim = { 256, 256, 64 }, .bench = true },
    { RESHAPE, .what = "1024x64 to 256x256", .dim = { 1024, 64, 256, 256 }, .bench = true },
    { NORMALIZE, .what = "512x64", .dim = { 512, 64 }, .bench = true },
    { PAIRS, .what = "256 pairs", .dim = { 256 }, .bench = true },
    { MARGIN, .what = "256 pairs", .dim = { 256 }, .bench = true },
    { ADD_BAGS, .what = "12101x128, relu", .dim = { 12101, 128, 600, 2, ACT_RELU },
      .bench = true },
    { SIGMOID, .what = "180x12101", .dim = { 180, 12101 }, .bench = true },
    { BCE, .what = "720x1221", .dim = { 720, 1221, 5 }, .bench = true },
    { XENT_BAGS, .what = "720x1221", .dim = { 720, 1221, 5 }, .bench = true },
};
extern const struct op_table cases_pairs;
const struct op_table cases_pairs = { cases, sizeof cases / sizeof *cases };
