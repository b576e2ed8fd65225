/* cases_sampled.c — rows of the losses against sampled negatives. */
#include "tests/core/ad/ops_cases.h"
#include <math.h>
#include <string.h>

/* dim = { B, K, V, D, n, enum sampled_kind | 4: negatives are shared }, p = label smoothing */
enum { SHARED = 4 };
struct drawn {
    int32_t B, K, V, D, n, m; /* m: negatives in all */
    struct sampled_opts o;
};

static struct drawn drawn(const struct op_run *r)
{
    const int32_t *d = r->c->dim;
    bool shared = d[5] & SHARED;
    return (struct drawn){ d[0],
                           d[1],
                           d[2],
                           d[3],
                           d[4],
                           shared ? d[4] : d[0] * d[4],
                           { .kind = (enum sampled_kind)(d[5] & 3),
                             .target = r->target,
                             .neg = r->id,
                             .n = d[4],
                             .shared = shared,
                             .smoothing = r->c->p,
                             .beta = 0.7f,
                             .scale = 0.5f } };
}

/* Weights and biases are the last two constants: no inputs, since they have no gradient. */
static float *constants(const struct op_run *r, int32_t n, uint64_t seed, float lo)
{
    float *x = ARENA_NEW(r->mem, float, n);
    struct rng rng = rng_make(seed, RNG_TEST);
    for (int32_t i = 0; i < n; i++) x[i] = lo + (float)rng_f64(&rng);
    return x;
}

static void sampled_setup(struct op_run *r)
{
    struct drawn c = drawn(r);
    op_input(r, c.B * c.K, c.D, 1);
    op_input(r, c.V, c.D, 1);
    r->target = op_index(r, c.B, c.V);
    r->id = op_index(r, c.m, c.V);
    /* some negatives are the target of a row: they must not count */
    if (c.V > 1)
        for (int32_t j = 0; j < c.m; j += 7) r->id[j] = r->target[j % c.B];
    if (!c.o.shared && c.o.kind != SAMPLED_SOFTMAX) return;
    if (c.n < 3) r->id[0] = (r->target[0] + 1) % c.V;
}

static void fill_opts(const struct op_run *r, struct drawn *c)
{
    c->o.weight = constants(r, c->B, 1, 0.5f);
    if (c->o.kind != SAMPLED_SOFTMAX) return;
    c->o.target_bias = constants(r, c->B, 2, -1);
    c->o.neg_bias = constants(r, c->m, 3, -1);
}

static struct ten *sampled_build(struct op_run *r, struct tape *tp, struct ten **in)
{
    struct drawn c = drawn(r);
    fill_opts(r, &c);
    return ad_sampled(tp, in[0], in[1], c.K, &c.o);
}

static double score(const struct drawn *c, double *const *in, int32_t b, int32_t v)
{
    double best = -HUGE_VAL;
    for (int32_t k = 0; k < c->K; k++) {
        double s = 0;
        for (int32_t j = 0; j < c->D; j++)
            s += in[0][(b * c->K + k) * c->D + j] * in[1][v * c->D + j];
        best = fmax(best, s);
    }
    return best;
}

static double log_sigma(double x) { return x < 0 ? x - log1p(exp(x)) : -log1p(exp(-x)); }

static double row_ref(const struct drawn *c, double *const *in, int32_t b)
{
    const struct sampled_opts *o = &c->o;
    double s0 = score(c, in, b, o->target[b]), e = (double)o->smoothing, sum = 0, exps, bce,
           bpr = 0;
    int32_t left = 0;
    if (o->target_bias) s0 += (double)o->target_bias[b];
    exps = exp(s0);
    sum = s0;
    bce = -(double)o->beta * log_sigma(s0);
    for (int32_t j = 0; j < c->n; j++) {
        int32_t at = o->shared ? j : b * c->n + j;
        if (o->neg[at] == o->target[b]) continue;
        double s = score(c, in, b, o->neg[at]) + (o->neg_bias ? (double)o->neg_bias[at] : 0);
        exps += exp(s);
        sum += s;
        bce -= log_sigma(-s);
        bpr -= log_sigma(s0 - s);
        left++;
    }
    if (o->kind == SAMPLED_SOFTMAX) return log(exps) - (1 - e) * s0 - e * sum / (left + 1);
    return o->kind == SAMPLED_BCE ? bce : left ? bpr / left : 0;
}

static void sampled_ref(const struct op_run *r, double *y, double *const *in)
{
    struct drawn c = drawn(r);
    double total = 0, weights = 0;
    fill_opts(r, &c);
    for (int32_t b = 0; b < c.B; b++) {
        total += (double)c.o.weight[b] * row_ref(&c, in, b);
        weights += (double)c.o.weight[b];
    }
    y[0] = (double)c.o.scale * total / weights;
}

#define SAMPLED                                                                                \
    .op = "sampled", .setup = sampled_setup, .build = sampled_build, .ref = sampled_ref
#define SOFTMAX SAMPLED_SOFTMAX
#define BCE     SAMPLED_BCE
#define BPR     SAMPLED_BPR

static const struct op_case cases[] = {
    { SAMPLED, .what = "softmax, shared", .dim = { 9, 1, 23, 17, 12, SOFTMAX | SHARED } },
    { SAMPLED, .what = "softmax, shared, K=3", .dim = { 40, 3, 50, 8, 70, SOFTMAX | SHARED } },
    { SAMPLED, .what = "softmax, shared, smoothing",
      .dim = { 9, 1, 23, 5, 12, SOFTMAX | SHARED }, .p = 0.2f },
    { SAMPLED, .what = "softmax, shared, K=4, smoothing",
      .dim = { 6, 4, 23, 5, 12, SOFTMAX | SHARED }, .p = 0.1f },
    { SAMPLED, .what = "softmax, own", .dim = { 7, 1, 23, 17, 5, SOFTMAX } },
    { SAMPLED, .what = "softmax, own, K=2, smoothing", .dim = { 33, 2, 23, 9, 3, SOFTMAX },
      .p = 0.1f },
    { SAMPLED, .what = "softmax, one item", .dim = { 3, 1, 1, 4, 2, SOFTMAX | SHARED } },
    { SAMPLED, .what = "bce, one each", .dim = { 35, 1, 23, 17, 1, BCE } },
    { SAMPLED, .what = "bce, many each, K=3", .dim = { 5, 3, 40, 33, 30, BCE } },
    { SAMPLED, .what = "bce, shared", .dim = { 34, 1, 40, 64, 70, BCE | SHARED } },
    { SAMPLED, .what = "bce, shared, K=2", .dim = { 5, 2, 40, 6, 17, BCE | SHARED } },
    { SAMPLED, .what = "bpr, one each", .dim = { 35, 1, 23, 17, 1, BPR } },
    { SAMPLED, .what = "bpr, four each, K=3", .dim = { 8, 3, 23, 17, 4, BPR } },
    { SAMPLED, .what = "bpr, shared", .dim = { 8, 1, 23, 17, 9, BPR | SHARED } },

    { SAMPLED, .what = "softmax, N=2144, n=256",
      .dim = { 2144, 1, 12101, 64, 256, SOFTMAX | SHARED }, .gemm = { 2144, 64, 256 },
      .bench = true },
    { SAMPLED, .what = "softmax, B=256, K=4, n=256",
      .dim = { 256, 4, 12101, 64, 256, SOFTMAX | SHARED }, .gemm = { 1024, 64, 256 },
      .bench = true },
    { SAMPLED, .what = "bce, N=2144, one each", .dim = { 2144, 1, 12101, 64, 1, BCE },
      .bench = true },
    { SAMPLED, .what = "bce, N=2144, 256 each", .dim = { 2144, 1, 12101, 64, 256, BCE },
      .bench = true },
    { SAMPLED, .what = "bpr, N=2144, one each", .dim = { 2144, 1, 12101, 64, 1, BPR },
      .bench = true },
};

extern const struct op_table cases_sampled;
const struct op_table cases_sampled = { cases, sizeof cases / sizeof *cases };
