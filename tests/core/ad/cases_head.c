/* cases_head.c — rows of the interest head's ops, of products and of losses. */
#include "tests/core/ad/ops_cases.h"
#include <math.h>

static const int32_t *dim(const struct op_run *r) { return r->c->dim; }

/* ---- seg_dot: dim = { D } ---- */

static void seg_dot_setup(struct op_run *r)
{
    op_pack(r, r->c->bench ? 256 : r->c->n_lens, POS_FIRST);
    op_input(r, r->sp.N, dim(r)[0], 1);
    op_input(r, r->sp.B, dim(r)[0], 1);
}
static struct ten *seg_dot_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_seg_dot(tp, in[0], in[1], &r->sp, 0.25f);
}
static void seg_dot_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t D = dim(r)[0];
    for (int32_t b = 0; b < r->sp.B; b++)
        for (int32_t i = r->sp.cu[b]; i < r->sp.cu[b + 1]; i++) {
            y[i] = 0;
            for (int32_t j = 0; j < D; j++) y[i] += 0.25 * in[0][i * D + j] * in[1][b * D + j];
        }
}
/* ---- seg_softmax: dim = { one key in so many is masked, 0: none } ---- */

static void seg_softmax_setup(struct op_run *r)
{
    op_pack(r, r->c->bench ? 256 : r->c->n_lens, POS_FIRST);
    op_input(r, r->sp.N, 1, 2);
    if (dim(r)[0]) op_mask_keys(r, (uint32_t)dim(r)[0]);
}
static struct ten *seg_softmax_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_seg_softmax(tp, in[0], &r->sp);
}
static void seg_softmax_ref(const struct op_run *r, double *y, double *const *in)
{
    const struct seqpack *sp = &r->sp;
    for (int32_t b = 0; b < sp->B; b++) {
        double s = 0;
        for (int32_t i = sp->cu[b]; i < sp->cu[b + 1]; i++)
            s += !sp->key || sp->key[i] ? exp(in[0][i]) : 0;
        for (int32_t i = sp->cu[b]; i < sp->cu[b + 1]; i++)
            y[i] = !sp->key || sp->key[i] ? exp(in[0][i]) / s : 0;
    }
}

/* ---- seg_mix: dim = { K, D } ---- */

static void seg_mix_setup(struct op_run *r)
{
    op_pack(r, r->c->bench ? 256 : r->c->n_lens, POS_LAST);
    op_input(r, r->sp.N, dim(r)[0], 1);
    op_input(r, r->sp.N, 1, 1);
    op_input(r, r->sp.N, dim(r)[1], 1);
}
static struct ten *seg_mix_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_seg_mix(tp, in[0], in[1], in[2], &r->sp);
}
static void seg_mix_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t K = dim(r)[0], D = dim(r)[1];
    for (int32_t t = 0; t < r->sp.B * K * D; t++) y[t] = 0;
    for (int32_t b = 0; b < r->sp.B; b++)
        for (int32_t i = r->sp.cu[b]; i < r->sp.cu[b + 1]; i++)
            for (int32_t k = 0; k < K; k++)
                for (int32_t j = 0; j < D; j++)
                    y[(b * K + k) * D + j] += in[0][i * K + k] * in[1][i] * in[2][i * D + j];
}
/* ---- matmul_nt: dim = { M, C, D } ---- */

static void matmul_setup(struct op_run *r)
{
    op_input(r, dim(r)[0], dim(r)[2], 1);
    op_input(r, dim(r)[1], dim(r)[2], 1);
}
static struct ten *matmul_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    (void)r;
    return ad_matmul_nt(tp, in[0], in[1], 0.5f);
}
static void matmul_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t M = dim(r)[0], C = dim(r)[1], D = dim(r)[2];
    for (int32_t i = 0; i < M; i++)
        for (int32_t c = 0; c < C; c++) {
            double s = 0;
            for (int32_t j = 0; j < D; j++) s += in[0][i * D + j] * in[1][c * D + j];
            y[i * C + c] = 0.5 * s;
        }
}
/* ---- softmax: dim = { R, C } ---- */

static void softmax_setup(struct op_run *r) { op_input(r, dim(r)[0], dim(r)[1], 2); }
static struct ten *softmax_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    (void)r;
    return ad_softmax(tp, in[0]);
}
static void softmax_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t C = dim(r)[1];
    for (int32_t i = 0; i < dim(r)[0]; i++) {
        double s = 0;
        for (int32_t j = 0; j < C; j++) s += exp(in[0][i * C + j]);
        for (int32_t j = 0; j < C; j++) y[i * C + j] = exp(in[0][i * C + j]) / s;
    }
}

/* ---- xent: dim = { B, K, V, D, 1: every target is the last item, 1: weights }, p = label smoothing ---- */

static void xent_setup(struct op_run *r)
{
    int32_t B = dim(r)[0], K = dim(r)[1], V = dim(r)[2], D = dim(r)[3];
    op_input(r, B * K, D, 1);
    op_input(r, V, D, 1);
    r->target = op_index(r, B, V);
    for (int32_t b = 0; dim(r)[4] && b < B; b++) r->target[b] = V - 1;
}
/* NULL without weights */
static float *xent_weights(const struct op_run *r)
{
    if (!dim(r)[5]) return NULL;
    float *w = ARENA_NEW(r->mem, float, dim(r)[0]);
    for (int32_t b = 0; b < dim(r)[0]; b++) w[b] = 0.5f + 0.25f * (float)(b % 5);
    return w;
}
static struct ten *xent_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    struct xent_opts o = { .smoothing = r->c->p, .weight = xent_weights(r) };
    return ad_xent(tp, in[0], in[1], r->target, dim(r)[1], &o);
}
static void xent_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t B = dim(r)[0], K = dim(r)[1], V = dim(r)[2], D = dim(r)[3];
    double e = (double)r->c->p, total = 0, weights = 0;
    const float *weight = xent_weights(r);
    for (int32_t b = 0; b < B; b++) {
        double s = 0, at_target = 0, sum = 0, w = weight ? (double)weight[b] : 1;
        for (int32_t v = 0; v < V; v++) {
            double best = -HUGE_VAL;
            for (int32_t k = 0; k < K; k++) {
                double l = 0;
                for (int32_t j = 0; j < D; j++)
                    l += in[0][(b * K + k) * D + j] * in[1][v * D + j];
                best = fmax(best, l);
            }
            s += exp(best);
            sum += best;
            if (v == r->target[b]) at_target = best;
        }
        total += w * (log(s) - (1 - e) * at_target - e * sum / V);
        weights += w;
    }
    y[0] = total / weights;
}
/* ---- xent_rows: dim = { R, C };  xent_group: dim = { B, C, K } ---- */

static void xent_rows_setup(struct op_run *r)
{
    int32_t K = dim(r)[2] ? dim(r)[2] : 1;
    op_input(r, dim(r)[0] * K, dim(r)[1], 2);
    r->target = op_index(r, dim(r)[0], dim(r)[1]);
}
static struct ten *xent_rows_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return dim(r)[2] ? ad_xent_group(tp, in[0], r->target, dim(r)[2])
                     : ad_xent_rows(tp, in[0], r->target, false);
}
static void xent_rows_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t C = dim(r)[1], K = dim(r)[2] ? dim(r)[2] : 1;
    for (int32_t b = 0; b < dim(r)[0]; b++) {
        double s = 0, best = -HUGE_VAL;
        for (int32_t k = 0; k < K; k++) {
            const double *x = in[0] + (b * K + k) * C;
            for (int32_t c = 0; c < C; c++) s += exp(x[c]);
            best = fmax(best, x[r->target[b]]);
        }
        y[b] = log(s) - best;
    }
}

/* ---- trimmed_sum: dim = { R, keep } ---- */

static void trimmed_setup(struct op_run *r) { op_input(r, dim(r)[0], 1, 2); }
static struct ten *trimmed_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_trimmed_sum(tp, in[0], dim(r)[1]);
}
static void trimmed_ref(const struct op_run *r, double *y, double *const *in)
{
    int32_t R = dim(r)[0];
    y[0] = 0;
    for (int32_t i = 0; i < R; i++) {
        int32_t smaller = 0;
        for (int32_t j = 0; j < R; j++) smaller += in[0][j] < in[0][i];
        if (smaller < dim(r)[1]) y[0] += in[0][i];
    }
}

/* ---- sum: dim = { R, C } ---- */

static void sum_setup(struct op_run *r) { op_input(r, dim(r)[0], dim(r)[1], 1); }
static struct ten *sum_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    (void)r;
    return ad_sum(tp, in[0], 0.75f);
}
static void sum_ref(const struct op_run *r, double *y, double *const *in)
{
    y[0] = 0;
    for (int32_t i = 0; i < dim(r)[0] * dim(r)[1]; i++) y[0] += 0.75 * in[0][i];
}

#define SEG_DOT                                                                                \
    .op = "seg_dot", .setup = seg_dot_setup, .build = seg_dot_build, .ref = seg_dot_ref
#define SEG_SOFTMAX                                                                            \
    .op = "seg_softmax", .setup = seg_softmax_setup, .build = seg_softmax_build,               \
    .ref = seg_softmax_ref
#define SEG_MIX                                                                                \
    .op = "seg_mix", .setup = seg_mix_setup, .build = seg_mix_build, .ref = seg_mix_ref
#define MATMUL                                                                                 \
    .op = "matmul_nt", .setup = matmul_setup, .build = matmul_build, .ref = matmul_ref
#define SOFTMAX                                                                                \
    .op = "softmax", .setup = softmax_setup, .build = softmax_build, .ref = softmax_ref
#define XENT .op = "xent", .setup = xent_setup, .build = xent_build, .ref = xent_ref
#define XENT_ROWS                                                                              \
    .op = "xent_rows", .setup = xent_rows_setup, .build = xent_rows_build, .ref = xent_rows_ref
#define XENT_GROUP                                                                             \
    .op = "xent_group", .setup = xent_rows_setup, .build = xent_rows_build, .ref = xent_rows_ref
#define TRIMMED                                                                                \
    .op = "trimmed_sum", .setup = trimmed_setup, .build = trimmed_build, .ref = trimmed_ref
#define SUM    .op = "sum", .setup = sum_setup, .build = sum_build, .ref = sum_ref
#define RAGGED .lens = { 3, 1, 0, 17, 2, 50, 1, 33 }, .n_lens = 8
/* Average 8.4 of 50, as on the Beauty data. */
#define BATCH .lens = { 4, 7, 3, 5, 24, 6, 9, 9 }, .n_lens = 8, .bench = true

static const struct op_case cases[] = {
    { SEG_DOT, .what = "one sequence of one", .dim = { 16 }, .lens = { 1 }, .n_lens = 1 },
    { SEG_DOT, .what = "D=17, lengths 0 to 50", .dim = { 17 }, RAGGED },
    { SEG_DOT, .what = "D=64, lengths 0 to 50", .dim = { 64 }, RAGGED },
    { SEG_DOT, .what = "D=5, one sequence of 50", .dim = { 5 }, .lens = { 50 }, .n_lens = 1 },
    { SEG_SOFTMAX, .what = "one sequence of one", .lens = { 1 }, .n_lens = 1 },
    { SEG_SOFTMAX, .what = "lengths 0 to 50", RAGGED },
    { SEG_SOFTMAX, .what = "a third masked", .dim = { 3 }, RAGGED },
    { SEG_SOFTMAX, .what = "all masked", .dim = { 1 }, .lens = { 2, 5 }, .n_lens = 2 },
    { SEG_MIX, .what = "K=1, one sequence of one", .dim = { 1, 16 }, .lens = { 1 },
      .n_lens = 1 },
    { SEG_MIX, .what = "K=4, D=64, lengths 0 to 50", .dim = { 4, 64 }, RAGGED },
    { SEG_MIX, .what = "K=3, D=19, lengths 0 to 50", .dim = { 3, 19 }, RAGGED },
    { SEG_MIX, .what = "K=2, D=7, one sequence of 50", .dim = { 2, 7 }, .lens = { 50 },
      .n_lens = 1 },
    { MATMUL, .what = "1x1x1", .dim = { 1, 1, 1 } },
    { MATMUL, .what = "7x5x19", .dim = { 7, 5, 19 } },
    { MATMUL, .what = "130x131x8", .dim = { 130, 131, 8 } },
    { MATMUL, .what = "130x3x16", .dim = { 130, 3, 16 } },
    { MATMUL, .what = "3x259x5", .dim = { 3, 259, 5 } },
    { SOFTMAX, .what = "1x1", .dim = { 1, 1 } },
    { SOFTMAX, .what = "300x4", .dim = { 300, 4 } },
    { SOFTMAX, .what = "3x37", .dim = { 3, 37 } },
    { XENT, .what = "B=1, K=1, V=1", .dim = { 1, 1, 1, 4 } },
    { XENT, .what = "B=1, K=4, V=23", .dim = { 1, 4, 23, 16 } },
    { XENT, .what = "B=5, K=1, V=23", .dim = { 5, 1, 23, 17 } },
    { XENT, .what = "B=6, K=3, V=1025, D=5", .dim = { 6, 3, 1025, 5 } },
    { XENT, .what = "B=3, K=2, V=1024, D=8", .dim = { 3, 2, 1024, 8, 1 } },
    { XENT, .what = "B=70, K=4, V=1030, D=3", .dim = { 70, 4, 1030, 3, 1 } },
    { XENT, .what = "B=9, K=4, V=75, D=64", .dim = { 9, 4, 75, 64 } },
    { XENT, .what = "B=5, K=3, V=131, D=83", .dim = { 5, 3, 131, 83 } },
    { XENT, .what = "B=2, K=200, V=9, D=4", .dim = { 2, 200, 9, 4 } },
    { XENT, .what = "B=131, K=1, V=61, D=6", .dim = { 131, 1, 61, 6 } },
    { XENT, .what = "K=1, smoothing", .dim = { 70, 1, 1030, 6 }, .p = 0.1f },
    { XENT, .what = "K=1, weights", .dim = { 9, 1, 75, 17, 0, 1 } },
    { XENT, .what = "K=3, smoothing, weights", .dim = { 37, 3, 1030, 6, 0, 1 }, .p = 0.2f },
    { XENT_ROWS, .what = "1x1", .dim = { 1, 1 } },
    { XENT_ROWS, .what = "19x33", .dim = { 19, 33 } },
    { XENT_GROUP, .what = "B=1, K=1", .dim = { 1, 5, 1 } },
    { XENT_GROUP, .what = "B=20, C=20, K=4", .dim = { 20, 20, 4 } },
    { TRIMMED, .what = "1 of 1", .dim = { 1, 1 } },
    { TRIMMED, .what = "1 of 9", .dim = { 9, 1 } },
    { TRIMMED, .what = "20 of 41", .dim = { 41, 20 } },
    { TRIMMED, .what = "all of 8", .dim = { 8, 8 } },
    { SUM, .what = "1x1", .dim = { 1, 1 } },
    { SUM, .what = "37x61", .dim = { 37, 61 } },

    { SEG_DOT, .what = "N=2144, D=64", .dim = { 64 }, BATCH },
    { SEG_SOFTMAX, .what = "N=2144", BATCH },
    { SEG_MIX, .what = "N=2144, K=4, D=64", .dim = { 4, 64 }, BATCH },
    { MATMUL, .what = "1024x1024x64", .dim = { 1024, 1024, 64 }, .gemm = { 1024, 64, 1024 },
      .bench = true },
    { MATMUL, .what = "1024x256x64", .dim = { 1024, 256, 64 }, .gemm = { 1024, 64, 256 },
      .bench = true },
    { SOFTMAX, .what = "2144x4", .dim = { 2144, 4 }, .bench = true },
    { XENT, .what = "B=256, K=1, V=12101, D=64", .dim = { 256, 1, 12101, 64 },
      .gemm = { 256, 64, 12101 }, .bench = true },
    { XENT, .what = "B=256, K=4, V=12101, D=64", .dim = { 256, 4, 12101, 64 },
      .gemm = { 1024, 64, 12101 }, .bench = true },
    { XENT, .what = "B=2300, K=1, V=12101, D=64", .dim = { 2300, 1, 12101, 64 },
      .gemm = { 2300, 64, 12101 }, .bench = true },
    { XENT_ROWS, .what = "1024x1024", .dim = { 1024, 1024 }, .bench = true },
    { XENT_GROUP, .what = "B=256, C=256, K=4", .dim = { 256, 256, 4 }, .bench = true },
    { TRIMMED, .what = "512 of 1024", .dim = { 1024, 512 }, .bench = true },
    { SUM, .what = "1024x1024", .dim = { 1024, 1024 }, .bench = true },
};

const struct op_table cases_head = { cases, sizeof cases / sizeof *cases };
