/* cases_rank.c — rows of the rank model's ops. */
#include "tests/core/ad/ops_cases.h"
#include <math.h>

static const int32_t *dim(const struct op_run *r) { return r->c->dim; }

/* ---- batch_norm: dim = { N, D, 1: relu } ---- */

static void norm_setup(struct op_run *r)
{
    op_input(r, dim(r)[0], dim(r)[1], 2);
    op_input(r, 1, dim(r)[1], 1);
    op_input(r, 1, dim(r)[1], 1);
}
/* Running averages of column j: what an evaluation normalises by. */
static float running_mean(int32_t j) { return 0.1f * (float)(j % 7) - 0.2f; }
static float running_var(int32_t j) { return 0.5f + 0.25f * (float)(j % 3); }

static struct ten *norm_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    const int32_t D = dim(r)[1];
    struct batch_stats st = { .mean = ARENA_NEW(tape_arena(tp), float, D),
                              .var = ARENA_NEW(tape_arena(tp), float, D),
                              .momentum = 0.9f,
                              .eps = 1e-3f };
    for (int32_t j = 0; j < D; j++) {
        st.mean[j] = running_mean(j);
        st.var[j] = running_var(j);
    }
    return ad_batch_norm(tp, in[0], in[1], in[2], &st, dim(r)[2] ? ACT_RELU : ACT_NONE);
}
static void norm_ref(const struct op_run *r, double *y, double *const *in)
{
    const int32_t N = dim(r)[0], D = dim(r)[1];
    for (int32_t j = 0; j < D; j++) {
        double mean = 0, var = 0;
        for (int32_t i = 0; i < N; i++) mean += in[0][i * D + j] / N;
        for (int32_t i = 0; i < N; i++) var += pow(in[0][i * D + j] - mean, 2) / N;
        if (r->c->eval) {
            mean = (double)running_mean(j);
            var = (double)running_var(j);
        }
        for (int32_t i = 0; i < N; i++) {
            const double x = (in[0][i * D + j] - mean) / sqrt(var + (double)1e-3f);
            y[i * D + j] = x * in[1][j] + in[2][j];
            if (dim(r)[2]) y[i * D + j] = fmax(y[i * D + j], 0);
        }
    }
}

/* ---- concat_cols: dim = { N, three widths } ---- */

static void concat_setup(struct op_run *r)
{
    for (int k = 1; k <= 3; k++) op_input(r, dim(r)[0], dim(r)[k], 1);
}
/* The first one stands at both ends: its gradients add up. */
static struct ten *concat_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    (void)r;
    return ad_concat_cols(tp, (struct ten *[]){ in[0], in[1], in[2], in[0] }, 4);
}
static void concat_ref(const struct op_run *r, double *y, double *const *in)
{
    for (int32_t i = 0; i < dim(r)[0]; i++)
        for (int k = 0; k < 4; k++)
            for (int32_t j = 0, D = dim(r)[1 + k % 3]; j < D; j++) *y++ = in[k % 3][i * D + j];
}

/* ---- pick_rows: dim = { rows of a, rows of b, D, n } ---- */

static void pick_setup(struct op_run *r)
{
    op_input(r, dim(r)[0], dim(r)[2], 1);
    op_input(r, dim(r)[1], dim(r)[2], 1);
    r->id = op_index(r, dim(r)[3], dim(r)[0] + dim(r)[1]);
    for (int32_t i = 0; i < dim(r)[3]; i++) r->id[i] -= dim(r)[1];
}
static struct ten *pick_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_pick_rows(tp, in[0], in[1], r->id, dim(r)[3]);
}
static void pick_ref(const struct op_run *r, double *y, double *const *in)
{
    for (int32_t i = 0, D = dim(r)[2]; i < dim(r)[3]; i++)
        for (int32_t j = 0; j < D; j++)
            y[i * D + j] =
                r->id[i] >= 0 ? in[0][r->id[i] * D + j] : in[1][(-1 - r->id[i]) * D + j];
}

/* ---- bag: dim = { V, D }, a bag for each of lens ---- */

static void bag_setup(struct op_run *r)
{
    op_pack(r, r->c->bench ? 1024 : r->c->n_lens, POS_FIRST);
    op_input(r, dim(r)[0], dim(r)[1], 1);
    r->id = op_index(r, r->sp.N, dim(r)[0]);
}
static struct ten *bag_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_bag(tp, in[0], r->id, r->sp.cu, r->sp.B);
}
static void bag_ref(const struct op_run *r, double *y, double *const *in)
{
    const int32_t D = dim(r)[1];
    for (int32_t b = 0; b < r->sp.B; b++)
        for (int32_t j = 0; j < D; j++) {
            y[b * D + j] = 0;
            for (int32_t i = r->sp.cu[b]; i < r->sp.cu[b + 1]; i++)
                y[b * D + j] += in[0][r->id[i] * D + j];
        }
}

/* ---- bce_logits: dim = { N } ---- */

static void bce_setup(struct op_run *r) { op_input(r, dim(r)[0], 1, 3); }
static float label(int32_t i) { return i % 4 == 3 ? 0.25f : (float)(i % 2); }
static struct ten *bce_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    float *l = ARENA_NEW(tape_arena(tp), float, dim(r)[0]);
    for (int32_t i = 0; i < dim(r)[0]; i++) l[i] = label(i);
    return ad_bce_logits(tp, in[0], l);
}
static void bce_ref(const struct op_run *r, double *y, double *const *in)
{
    *y = 0;
    for (int32_t i = 0; i < dim(r)[0]; i++) {
        const double p = 1 / (1 + exp(-in[0][i])), l = (double)label(i);
        *y -= (l * log(p) + (1 - l) * log(1 - p)) / dim(r)[0];
    }
}

/* ---- squares: dim = { R, C } ---- */

static void squares_setup(struct op_run *r) { op_input(r, dim(r)[0], dim(r)[1], 1); }
static struct ten *squares_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    (void)r;
    return ad_squares(tp, in[0], 0.5f);
}
static void squares_ref(const struct op_run *r, double *y, double *const *in)
{
    *y = 0;
    for (int32_t i = 0; i < dim(r)[0] * dim(r)[1]; i++) *y += 0.5 * in[0][i] * in[0][i];
}

/* clang-format off */
#define NORM    .op = "batch_norm", .setup = norm_setup, .build = norm_build, .ref = norm_ref
#define CONCAT  .op = "concat_cols", .setup = concat_setup, .build = concat_build, .ref = concat_ref
#define PICK    .op = "pick_rows", .setup = pick_setup, .build = pick_build, .ref = pick_ref
#define BAG     .op = "bag", .setup = bag_setup, .build = bag_build, .ref = bag_ref
#define BCE     .op = "bce_logits", .setup = bce_setup, .build = bce_build, .ref = bce_ref
#define SQUARES .op = "squares", .setup = squares_setup, .build = squares_build, .ref = squares_ref
#define LENS(n, ...) .lens = { __VA_ARGS__ }, .n_lens = (n)
/* clang-format on */

static const struct op_case cases[] = {
    { NORM, .what = "19x33", .dim = { 19, 33 } },
    { NORM, .what = "2x5, relu", .dim = { 2, 5, 1 }, .tol_g = 1e-4 },
    { NORM, .what = "300x70, relu", .dim = { 300, 70, 1 } },
    { NORM, .what = "19x33, running", .dim = { 19, 33 }, .eval = true },
    { NORM, .what = "1x40, running, relu", .dim = { 1, 40, 1 }, .eval = true },
    { CONCAT, .what = "1: 1, 1, 1", .dim = { 1, 1, 1, 1 } },
    { CONCAT, .what = "150: 3, 17, 8", .dim = { 150, 3, 17, 8 } },
    { PICK, .what = "1 of 1 and 1", .dim = { 1, 1, 1, 1 } },
    { PICK, .what = "200 of 40 and 3", .dim = { 40, 3, 7, 200 } },
    { BAG, .what = "bags of 0 to 5", .dim = { 9, 11 }, LENS(6, 0, 5, 1, 0, 2, 3) },
    { BAG, .what = "one bag", .dim = { 3, 1 }, LENS(1, 8) },
    { BCE, .what = "1", .dim = { 1 } },
    { BCE, .what = "41", .dim = { 41 } },
    { SQUARES, .what = "1x1", .dim = { 1, 1 } },
    { SQUARES, .what = "37x61", .dim = { 37, 61 } },

    { NORM, .what = "1024x256, relu", .dim = { 1024, 256, 1 }, .bench = true },
    { CONCAT, .what = "1024: 128, 128, 112", .dim = { 1024, 128, 128, 112 }, .bench = true },
    { PICK, .what = "8192 of 8192 and 1, D=32", .dim = { 8192, 1, 32, 8192 }, .bench = true },
    { BAG, .what = "1024 bags, D=16", .dim = { 10000, 16 }, LENS(4, 2, 5, 1, 8),
      .bench = true },
    { BCE, .what = "1024", .dim = { 1024 }, .bench = true },
    { SQUARES, .what = "1024x256", .dim = { 1024, 256 }, .bench = true },
};

const struct op_table cases_rank = { cases, sizeof cases / sizeof *cases };
