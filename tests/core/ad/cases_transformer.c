/* Rows for the encoder's ops: embed linear ffn norm add_norm dropout add add_rows scale attn seg_last. */
#include "core/num/drop.h"
#include "tests/core/ad/ops_cases.h"
#include <math.h>
#include <string.h>

static double max0(double x) { return x > 0 ? x : 0; }
static double act_ref(double x, enum act act)
{
    if (act == ACT_GELU) return x / 2 * (1 + erf(x / sqrt(2)));
    return act == ACT_RELU ? max0(x) : x;
}

/* The factor of dropout at (row, col) of the op's first mask. */
static double kept(const struct op_run *r, int64_t row, int32_t col)
{
    if (r->c->p == 0 || r->c->eval) return 1;
    struct drop d = drop_make(OP_DROP_KEY, r->c->p);
    return drop_keeps(&d, drop_row(&d, row), (uint32_t)col) ? 1 / (1 - (double)r->c->p) : 0;
}

/* Moves inputs away from relu's kink, where no difference quotient is right. */
static void off_kink(struct op_in *in)
{
    for (int64_t i = 0; i < (int64_t)in->rows * in->cols; i++)
        in->x[i] += in->x[i] < 0 ? -.01f : .01f;
}

/* ---- embed, add_rows: dim = { N, V, D, L, one token in so many is masked }, L = 0: no positions ---- */

static void embed_setup(struct op_run *r)
{
    const int32_t *d = r->c->dim;
    r->id = op_index(r, d[0], d[1]);
    op_input(r, d[1], d[2], 1);
    if (d[3] > 0) {
        r->target = op_index(r, d[0], d[3]);
        op_input(r, d[3], d[2], 1);
    }
    if (d[4] == 0) return;
    for (int32_t i = 0; i < d[0]; i++)
        if (rng_below(&r->rng, (uint32_t)d[4]) == 0) r->id[i] = EMBED_MASK;
    op_input(r, 1, d[2], 1);
}

static struct ten *embed_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    const int32_t *d = r->c->dim;
    return ad_embed(tp, in[0], r->id, d[4] ? in[r->n_in - 1] : NULL, d[3] ? in[1] : NULL,
                    r->target, d[0]);
}

static void embed_ref(const struct op_run *r, double *y, double *const *in)
{
    const int32_t N = r->c->dim[0], D = r->c->dim[2];
    for (int32_t i = 0; i < N; i++)
        for (int32_t c = 0; c < D; c++)
            y[i * D + c] = (r->id[i] < 0 ? in[r->n_in - 1][c] : in[0][r->id[i] * D + c]) +
                           (r->c->dim[3] ? in[1][r->target[i] * D + c] : 0);
}

static void add_rows_setup(struct op_run *r)
{
    const int32_t *d = r->c->dim;
    r->id = op_index(r, d[0], d[1]);
    op_input(r, d[0], d[2], 1);
    op_input(r, d[1], d[2], 1);
}

static struct ten *add_rows_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_add_rows(tp, in[0], in[1], r->id);
}

static void add_rows_ref(const struct op_run *r, double *y, double *const *in)
{
    const int32_t N = r->c->dim[0], D = r->c->dim[2];
    for (int32_t i = 0; i < N; i++)
        for (int32_t c = 0; c < D; c++)
            y[i * D + c] = in[0][i * D + c] + in[1][r->id[i] * D + c];
}

/* ---- linear: dim = { N, I, O, act, bias } ---- */

static void linear_setup(struct op_run *r)
{
    const int32_t *d = r->c->dim;
    op_input(r, d[0], d[1], 1);
    op_input(r, d[1], d[2], 1 / sqrtf((float)d[1]));
    if (d[4]) op_input(r, 1, d[2], 1);
}

static struct ten *linear_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_linear(tp, in[0], in[1], r->c->dim[4] ? in[2] : NULL, (enum act)r->c->dim[3]);
}

static void linear_ref(const struct op_run *r, double *y, double *const *in)
{
    const int32_t N = r->c->dim[0], I = r->c->dim[1], O = r->c->dim[2];
    for (int32_t i = 0; i < N; i++)
        for (int32_t o = 0; o < O; o++) {
            double s = r->c->dim[4] ? in[2][o] : 0;
            for (int32_t k = 0; k < I; k++) s += in[0][i * I + k] * in[1][k * O + o];
            y[i * O + o] = act_ref(s, (enum act)r->c->dim[3]);
        }
}

/* ---- ffn: dim = { N, D, H, O, act } ---- */

static void ffn_setup(struct op_run *r)
{
    const int32_t *d = r->c->dim;
    op_input(r, d[0], d[1], 1);
    op_input(r, d[1], d[2], 1 / sqrtf((float)d[1]));
    op_input(r, 1, d[2], 1);
    op_input(r, d[2], d[3], 1 / sqrtf((float)d[2]));
    op_input(r, 1, d[3], 1);
}

static struct ten *ffn_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_ffn(tp, in[0], in[1], in[2], (enum act)r->c->dim[4], in[3], in[4]);
}

static void ffn_ref(const struct op_run *r, double *y, double *const *in)
{
    const int32_t N = r->c->dim[0], D = r->c->dim[1], H = r->c->dim[2], O = r->c->dim[3];
    for (int32_t i = 0; i < N; i++) {
        for (int32_t o = 0; o < O; o++) y[i * O + o] = in[4][o];
        for (int32_t h = 0; h < H; h++) {
            double s = in[2][h];
            for (int32_t k = 0; k < D; k++) s += in[0][i * D + k] * in[1][k * H + h];
            s = act_ref(s, (enum act)r->c->dim[4]);
            for (int32_t o = 0; o < O; o++) y[i * O + o] += s * in[3][h * O + o];
        }
    }
}

/* ---- norm, add_norm: dim = { N, D } ---- */

static void norm_setup(struct op_run *r)
{
    const int32_t *d = r->c->dim;
    op_input(r, d[0], d[1], 1);
    if (strcmp(r->c->op, "add_norm") == 0) op_input(r, d[0], d[1], 1);
    op_input(r, 1, d[1], 1);
    op_input(r, 1, d[1], 1);
}

static struct ten *norm_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    (void)r;
    return ad_norm(tp, in[0], in[1], in[2]);
}

static struct ten *add_norm_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_add_norm(tp, in[0], in[1], r->c->p, in[2], in[3]);
}

static void norm_rows(const struct op_run *r, double *y, const double *gain, const double *bias)
{
    const int32_t N = r->c->dim[0], D = r->c->dim[1];
    for (int32_t i = 0; i < N; i++, y += D) {
        double mean = 0, var = 0;
        for (int32_t c = 0; c < D; c++) mean += y[c] / D;
        for (int32_t c = 0; c < D; c++) var += (y[c] - mean) * (y[c] - mean) / D;
        for (int32_t c = 0; c < D; c++)
            y[c] = (y[c] - mean) / sqrt(var + 1e-12) * gain[c] + bias[c];
    }
}

static void norm_ref(const struct op_run *r, double *y, double *const *in)
{
    memcpy(y, in[0], (size_t)r->rows * (size_t)r->cols * sizeof *y);
    norm_rows(r, y, in[1], in[2]);
}

static void add_norm_ref(const struct op_run *r, double *y, double *const *in)
{
    const int32_t N = r->c->dim[0], D = r->c->dim[1];
    for (int32_t i = 0; i < N; i++)
        for (int32_t c = 0; c < D; c++)
            y[i * D + c] = in[0][i * D + c] + in[1][i * D + c] * kept(r, i, c);
    norm_rows(r, y, in[2], in[3]);
}

/* ---- dropout, add, scale: dim = { N, D } ---- */

static void one_setup(struct op_run *r)
{
    struct op_in *x = op_input(r, r->c->dim[0], r->c->dim[1], 1.5f);
    if (r->c->dim[2] == ACT_RELU) off_kink(x);
}

static void two_setup(struct op_run *r)
{
    op_input(r, r->c->dim[0], r->c->dim[1], 1);
    op_input(r, r->c->dim[0], r->c->dim[1], 1);
}

static struct ten *dropout_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_dropout(tp, in[0], r->c->p);
}

static void dropout_ref(const struct op_run *r, double *y, double *const *in)
{
    for (int32_t i = 0; i < r->rows; i++)
        for (int32_t c = 0; c < r->cols; c++)
            y[i * r->cols + c] = in[0][i * r->cols + c] * kept(r, i, c);
}

static struct ten *add_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    (void)r;
    return ad_add(tp, in[0], in[1]);
}

static void add_ref(const struct op_run *r, double *y, double *const *in)
{
    for (int64_t i = 0; i < (int64_t)r->rows * r->cols; i++) y[i] = in[0][i] + in[1][i];
}

static struct ten *scale_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_scale(tp, in[0], r->c->p);
}

static void scale_ref(const struct op_run *r, double *y, double *const *in)
{
    for (int64_t i = 0; i < (int64_t)r->rows * r->cols; i++) y[i] = (double)r->c->p * in[0][i];
}

/* ---- attn: dim = { D, H, causal, B, mask one key in (0: none), deviation of q, k, v } ---- */

static void attn_setup(struct op_run *r)
{
    const int32_t *d = r->c->dim;
    op_pack(r, d[3], POS_FIRST);
    if (d[4]) op_mask_keys(r, (uint32_t)d[4]);
    op_input(r, r->sp.N, 3 * d[0], (float)d[5]);
}

static struct ten *attn_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_attn(tp, in[0], &r->sp, r->c->dim[1], r->c->dim[2] != 0, r->c->p);
}

/* One query of one head: weights into w[n]; false when every key is masked. */
static bool attn_weights(const struct op_run *r, double *w, const double *q, const double *k,
                         int32_t first, int32_t i, int32_t n)
{
    const int32_t D = r->c->dim[0], dh = D / r->c->dim[1];
    double top = -HUGE_VAL, sum = 0;
    for (int32_t j = 0; j < n; j++) {
        w[j] = -HUGE_VAL;
        if (r->c->dim[2] && j > i) continue;
        if (r->sp.key && !r->sp.key[first + j]) continue;
        w[j] = 0;
        for (int32_t c = 0; c < dh; c++) w[j] += q[c] * k[j * 3 * D + c] / sqrt(dh);
        top = w[j] > top ? w[j] : top;
    }
    for (int32_t j = 0; j < n && top > -HUGE_VAL; j++) sum += w[j] = exp(w[j] - top);
    for (int32_t j = 0; j < n; j++) w[j] = sum > 0 ? w[j] / sum : 0;
    return sum > 0;
}

static void attn_ref(const struct op_run *r, double *y, double *const *in)
{
    const int32_t D = r->c->dim[0], H = r->c->dim[1], dh = D / H;
    double *w = ARENA_NEW(r->mem, double, r->sp.N + 1);
    memset(y, 0, (size_t)r->sp.N * (size_t)D * sizeof *y);
    for (int32_t b = 0; b < r->sp.B; b++)
        for (int32_t t = r->sp.cu[b]; t < r->sp.cu[b + 1]; t++)
            for (int32_t h = 0; h < H; h++) {
                const int32_t first = r->sp.cu[b], n = r->sp.cu[b + 1] - first;
                const double *q = in[0] + t * 3 * D + h * dh;
                const double *k = in[0] + first * 3 * D + D + h * dh, *v = k + D;
                if (!attn_weights(r, w, q, k, first, t - first, n)) continue;
                for (int32_t j = 0; j < n; j++)
                    for (int32_t c = 0; c < dh; c++)
                        y[t * D + h * dh + c] +=
                            w[j] * kept(r, (int64_t)t * H + h, j) * v[j * 3 * D + c];
            }
}

/* ---- attn_last: dim as attn's ---- */

static void attn_last_setup(struct op_run *r)
{
    const int32_t *d = r->c->dim;
    op_pack(r, d[3], POS_FIRST);
    if (d[4]) op_mask_keys(r, (uint32_t)d[4]);
    op_input(r, r->sp.N, d[0], (float)d[5]);
    op_input(r, d[0], 3 * d[0], 1 / sqrtf((float)d[0]));
    op_input(r, 1, 3 * d[0], .5f);
}

static struct ten *attn_last_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_attn_last(tp, in[0], in[1], in[2], &r->sp, r->c->dim[1], r->c->p);
}

/* Projects every token and keeps the last rows of what attn_ref makes of them. */
static void attn_last_ref(const struct op_run *r, double *y, double *const *in)
{
    const int32_t D = r->c->dim[0], N = r->sp.N;
    double *qkv = ARENA_NEW(r->mem, double, N * 3 * D), *all = ARENA_NEW(r->mem, double, N *D);
    for (int32_t i = 0; i < N; i++)
        for (int32_t o = 0; o < 3 * D; o++) {
            qkv[i * 3 * D + o] = in[2][o];
            for (int32_t k = 0; k < D; k++)
                qkv[i * 3 * D + o] += in[0][i * D + k] * in[1][k * 3 * D + o];
        }
    attn_ref(r, all, &qkv);
    for (int32_t b = 0; b < r->sp.B; b++)
        memcpy(y + b * D, all + (r->sp.cu[b + 1] - 1) * D, (size_t)D * sizeof *y);
}

/* ---- seg_last: dim = { D, B } ---- */

static void seg_last_setup(struct op_run *r)
{
    op_pack(r, r->c->dim[1], POS_FIRST);
    op_input(r, r->sp.N, r->c->dim[0], 1);
}

static struct ten *seg_last_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    return ad_seg_last(tp, in[0], &r->sp);
}

static void seg_last_ref(const struct op_run *r, double *y, double *const *in)
{
    for (int32_t b = 0; b < r->rows; b++)
        memcpy(y + b * r->cols, in[0] + (r->sp.cu[b + 1] - 1) * r->cols,
               (size_t)r->cols * sizeof *y);
}

#define EMBED(w, ...)                                                                          \
    {                                                                                          \
        .op = "embed", .what = w, .setup = embed_setup, .build = embed_build,                  \
        .ref = embed_ref, .dim = {                                                             \
            __VA_ARGS__                                                                        \
        }                                                                                      \
    }
#define ADD_ROWS(w, ...)                                                                       \
    {                                                                                          \
        .op = "add_rows", .what = w, .setup = add_rows_setup, .build = add_rows_build,         \
        .ref = add_rows_ref, .dim = {                                                          \
            __VA_ARGS__                                                                        \
        }                                                                                      \
    }
#define LINEAR(w, ...)                                                                         \
    {                                                                                          \
        .op = "linear", .what = w, .setup = linear_setup, .build = linear_build,               \
        .ref = linear_ref, .dim = {                                                            \
            __VA_ARGS__                                                                        \
        }                                                                                      \
    }
#define FFN(w, ...)                                                                            \
    {                                                                                          \
        .op = "ffn", .what = w, .setup = ffn_setup, .build = ffn_build, .ref = ffn_ref,        \
        .dim = {                                                                               \
            __VA_ARGS__                                                                        \
        }                                                                                      \
    }
#define NORM(w, ...)                                                                           \
    {                                                                                          \
        .op = "norm", .what = w, .setup = norm_setup, .build = norm_build, .ref = norm_ref,    \
        .dim = {                                                                               \
            __VA_ARGS__                                                                        \
        }                                                                                      \
    }
#define ADD_NORM(w, drop, ...)                                                                 \
    {                                                                                          \
        .op = "add_norm", .what = w, .setup = norm_setup, .build = add_norm_build,             \
        .ref = add_norm_ref, .p = drop, .dim = {                                               \
            __VA_ARGS__                                                                        \
        }                                                                                      \
    }
#define DROPOUT(w, drop, ...)                                                                  \
    {                                                                                          \
        .op = "dropout", .what = w, .setup = one_setup, .build = dropout_build,                \
        .ref = dropout_ref, .p = drop, .dim = {                                                \
            __VA_ARGS__                                                                        \
        }                                                                                      \
    }
#define ATTN(w, drop, ...)                                                                     \
    {                                                                                          \
        .op = "attn", .what = w, .setup = attn_setup, .build = attn_build, .ref = attn_ref,    \
        .p = drop, __VA_ARGS__                                                                 \
    }
#define ATTN_LAST(w, drop, ...)                                                                \
    {                                                                                          \
        .op = "attn_last", .what = w, .setup = attn_last_setup, .build = attn_last_build,      \
        .ref = attn_last_ref, .p = drop, __VA_ARGS__                                           \
    }
#define LENS(n, ...) .lens = { __VA_ARGS__ }, .n_lens = (n)

static const struct op_case cases[] = {
    EMBED("one token", 1, 3, 1, 2),
    EMBED("D=17, ids repeat", 40, 5, 17, 6),
    EMBED("D=70, no positions", 30, 50, 70, 0),
    EMBED("D=17, masked tokens", 40, 5, 17, 6, 3),
    EMBED("D=33, masked tokens, no positions", 140, 9, 33, 0, 2),
    ADD_ROWS("D=17, rows repeat", 40, 5, 17),
    ADD_ROWS("D=64", 9, 20, 64),

    LINEAR("1x1", 1, 1, 1, ACT_NONE, 1),
    LINEAR("gelu", 7, 16, 33, ACT_GELU, 1),
    LINEAR("relu", 13, 17, 20, ACT_RELU, 1),
    LINEAR("no bias", 12, 64, 64, ACT_NONE, 0),
    LINEAR("several row blocks", 150, 8, 40, ACT_GELU, 1),
    LINEAR("several chunks of dw", 600, 3, 5, ACT_GELU, 1),
    LINEAR("inner size beyond one pass", 3, 300, 6, ACT_NONE, 1),

    FFN("one row", 1, 3, 5, 2, ACT_NONE),
    FFN("N=300, three pieces of rows, gelu", 300, 5, 9, 4, ACT_GELU),
    FFN("D=16, relu", 33, 16, 40, 16, ACT_RELU),
    NORM("D=3", 4, 3),
    NORM("D=64", 5, 64),
    NORM("D=19, several blocks", 300, 19),
    ADD_NORM("D=64", 0, 5, 64),
    ADD_NORM("D=64, dropout", .5f, 9, 64),
    ADD_NORM("D=23, dropout", .2f, 140, 23),
    { .op = "add_norm",
      .what = "not training",
      .setup = norm_setup,
      .build = add_norm_build,
      .ref = add_norm_ref,
      .p = .5f,
      .dim = { 4, 16 },
      .eval = true },

    DROPOUT("D=64", .5f, 130, 64),
    DROPOUT("D=37", .9f, 20, 37),
    { .op = "dropout",
      .what = "not training",
      .setup = one_setup,
      .build = dropout_build,
      .ref = dropout_ref,
      .p = .5f,
      .dim = { 4, 16 },
      .eval = true },
    { .op = "add",
      .what = "5x33",
      .setup = two_setup,
      .build = add_build,
      .ref = add_ref,
      .dim = { 5, 33 } },
    { .op = "scale",
      .what = "5x33",
      .setup = one_setup,
      .build = scale_build,
      .ref = scale_ref,
      .p = -1.75f,
      .dim = { 5, 33 } },

    ATTN("one token", 0, .dim = { 4, 1, 1, 1, 0, 1 }, LENS(1, 1)),
    ATTN("causal", 0, .dim = { 32, 2, 1, 4, 0, 1 }, LENS(4, 5, 1, 17, 3)),
    ATTN("both ways", 0, .dim = { 32, 2, 0, 3, 0, 1 }, LENS(3, 5, 1, 18)),
    ATTN("head width 1", 0, .dim = { 3, 3, 1, 2, 0, 1 }, LENS(2, 4, 7)),
    ATTN("head width 19", 0, .dim = { 38, 2, 1, 2, 0, 1 }, LENS(2, 4, 21)),
    ATTN("keys masked, causal", 0, .dim = { 8, 2, 1, 4, 2, 1 }, LENS(4, 1, 2, 9, 3)),
    ATTN("keys masked, both ways", 0, .dim = { 8, 2, 0, 5, 2, 1 }, LENS(5, 1, 2, 9, 1, 3)),
    ATTN("dropout", .5f, .dim = { 16, 2, 1, 3, 0, 1 }, LENS(3, 20, 3, 35)),
    ATTN("dropout, masked keys, both ways", .3f, .dim = { 16, 2, 0, 2, 3, 1 }, LENS(2, 12, 6)),
    ATTN("two blocks, causal, dropout", .2f, .dim = { 2, 1, 1, 1, 5, 1 }, LENS(1, 70)),
    ATTN("three blocks, both ways", 0, .dim = { 2, 1, 0, 1, 5, 2 }, LENS(1, 130)),
    ATTN("large scores", 0, .dim = { 8, 1, 1, 1, 0, 5 }, LENS(1, 9)),

    ATTN_LAST("one token", 0, .dim = { 4, 1, 1, 1, 0, 1 }, LENS(1, 1)),
    ATTN_LAST("several blocks", 0, .dim = { 12, 2, 1, 40, 0, 1 }, LENS(4, 5, 1, 2, 3)),
    ATTN_LAST("both ways", 0, .dim = { 32, 2, 0, 3, 0, 1 }, LENS(3, 5, 1, 18)),
    ATTN_LAST("head width 1", 0, .dim = { 3, 3, 1, 2, 0, 1 }, LENS(2, 4, 7)),
    ATTN_LAST("head width 19", 0, .dim = { 38, 2, 1, 2, 0, 1 }, LENS(2, 4, 21)),
    ATTN_LAST("keys masked", 0, .dim = { 8, 2, 1, 4, 2, 1 }, LENS(4, 1, 2, 9, 3)),
    ATTN_LAST("dropout", .5f, .dim = { 16, 2, 1, 3, 0, 1 }, LENS(3, 20, 3, 35)),
    ATTN_LAST("dropout, masked keys", .3f, .dim = { 16, 4, 0, 2, 3, 1 }, LENS(2, 12, 66)),

    { .op = "seg_last",
      .what = "D=17",
      .setup = seg_last_setup,
      .build = seg_last_build,
      .ref = seg_last_ref,
      .dim = { 17, 3 },
      LENS(3, 4, 1, 7) },

    /* The Beauty training step: 256 sequences, 8.8 tokens on average. */
    { .op = "linear",
      .what = "bench 2304x64x192",
      .setup = linear_setup,
      .build = linear_build,
      .dim = { 2304, 64, 192, ACT_NONE, 1 },
      .gemm = { 2304, 64, 192 },
      .bench = true },
    { .op = "linear",
      .what = "bench 2304x64x256 gelu",
      .setup = linear_setup,
      .build = linear_build,
      .dim = { 2304, 64, 256, ACT_GELU, 1 },
      .gemm = { 2304, 64, 256 },
      .bench = true },
    { .op = "linear",
      .what = "bench 2304x256x64",
      .setup = linear_setup,
      .build = linear_build,
      .dim = { 2304, 256, 64, ACT_NONE, 1 },
      .gemm = { 2304, 256, 64 },
      .bench = true },
    { .op = "embed",
      .what = "bench 2304x64",
      .setup = embed_setup,
      .build = embed_build,
      .dim = { 2304, 12101, 64, 50 },
      .bench = true },
    { .op = "ffn",
      .what = "bench 2304x64x256x64 gelu",
      .setup = ffn_setup,
      .build = ffn_build,
      .dim = { 2304, 64, 256, 64, ACT_GELU },
      .bench = true },
    { .op = "norm",
      .what = "bench 2304x64",
      .setup = norm_setup,
      .build = norm_build,
      .dim = { 2304, 64 },
      .bench = true },
    { .op = "add_norm",
      .what = "bench 2304x64",
      .setup = norm_setup,
      .build = add_norm_build,
      .p = .5f,
      .dim = { 2304, 64 },
      .bench = true },
    { .op = "dropout",
      .what = "bench 2304x64",
      .setup = one_setup,
      .build = dropout_build,
      .p = .5f,
      .dim = { 2304, 64 },
      .bench = true },
    { .op = "attn",
      .what = "bench 256 sequences",
      .setup = attn_setup,
      .build = attn_build,
      .p = .5f,
      .dim = { 64, 2, 1, 256, 0, 1 },
      LENS(8, 2, 3, 4, 5, 6, 8, 12, 32),
      .bench = true },
    { .op = "attn_last",
      .what = "bench 256 sequences",
      .setup = attn_last_setup,
      .build = attn_last_build,
      .p = .5f,
      .dim = { 64, 2, 1, 256, 0, 1 },
      LENS(8, 2, 3, 4, 5, 6, 8, 12, 32),
      .bench = true },
    { .op = "attn",
      .what = "bench 32 sequences of 50",
      .setup = attn_setup,
      .build = attn_build,
      .dim = { 64, 2, 1, 32, 0, 1 },
      LENS(1, 50),
      .bench = true },
};
extern const struct op_table cases_transformer;
const struct op_table cases_transformer = { cases, sizeof cases / sizeof *cases };
