/* op_sampled.c — losses of a target against sampled negatives (ops.h, ad_sampled).  Negatives are shared by all rows
 * (their scores are one product), or each row has its own (their vectors are gathered row by row).  The gradient for
 * upstream 1 is ready when forward returns; the table's waits as one coefficient for each score.
 * Rows go in blocks of a fixed size and partial sums are added in order: the same bits for any number of threads.
 * Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"
#include <math.h>
#include <string.h>

enum {
    ROWS = 32, /* targets of a block */
    COLS = 64, /* negatives of a block of the backward product */
    FEW = 16,  /* scores of a row that are not worth a product */
    PART = 32  /* columns of the table that one block scatters into */
};

struct sampled {
    struct ten *q, *table;
    struct sampled_opts o;
    int32_t B, K, n, D;
    float unit;      /* scale / sum of weights */
    float *coef;     /* [B,n] dy/dscore of the negatives */
    float *coef0;    /* [B] of the target */
    int32_t *win;    /* [B,n] which of the K vectors the score is from; NULL: K = 1 */
    int32_t *best;   /* [B] the same of the target's */
    float *dq;       /* [B*K,D]; NULL: not wanted */
    float *shared;   /* [n,D] vectors of shared negatives */
    float *dshared;  /* [n,D] their gradient, in backward */
    float *logits;   /* [workers, ROWS*K, n] */
    float *gathered; /* [workers, n, D]; NULL: shared */
    double *part;    /* [blocks] of the loss */
    float upstream;
};

static const float *row_of(const struct ten *t, int32_t i)
{
    return t->x + (int64_t)i * t->cols;
}

/* ---- scores ---- */

static float target_score(struct sampled *c, int32_t b)
{
    const float *e = row_of(c->table, c->o.target[b]);
    float s = -INFINITY;
    for (int32_t k = 0; k < c->K; k++) {
        float x = num->vec->dot(row_of(c->q, b * c->K + k), e, c->D);
        if (k > 0 && !(x > s)) continue;
        s = x;
        c->best[b] = k;
    }
    return c->o.target_bias ? s + c->o.target_bias[b] : s;
}

static const int32_t *negatives(const struct sampled *c, int32_t b)
{
    return c->o.shared ? c->o.neg : c->o.neg + (int64_t)b * c->n;
}

/* Scores of b's negatives into s [n] from its K rows of logits; those that are the target become -inf.  Returns
 * how many are left. */
static int32_t negative_scores(struct sampled *c, float *s, const float *logits, int32_t b)
{
    const int32_t *id = negatives(c, b);
    const float *bias = c->o.neg_bias;
    int32_t left = c->n;
    if (bias && !c->o.shared) bias += (int64_t)b * c->n;
    if (c->win)
        num->loss->best(s, c->win + (int64_t)b * c->n, logits, c->K, c->n, c->n);
    else
        memcpy(s, logits, (size_t)c->n * sizeof *s);
    if (bias) num->vec->add(s, s, bias, c->n);
    for (int32_t j = 0; j < c->n; j++) {
        if (id[j] != c->o.target[b]) continue;
        s[j] = -INFINITY;
        left--;
    }
    return left;
}

/* ---- losses: from scores in s to dloss/dscore in s; *s0 likewise for the target ---- */

/* log sum exp - (1 - e) s0 - e mean s, over the target and the negatives id that are left */
static double softmax_loss(float *s, float *s0, const int32_t *id, int32_t target, int32_t n,
                           int32_t left, float smoothing)
{
    float m = fmaxf(num->vec->max(s, n), *s0), each = smoothing / (float)(left + 1);
    double sum_s = (double)*s0;
    for (int32_t j = 0; smoothing > 0 && j < n; j++)
        if (id[j] != target) sum_s += (double)s[j];
    float p0 = expf(*s0 - m), total = num->vec->exp_sum(s, s, m, n) + p0;
    double loss = (double)m + log((double)total) - (1 - (double)smoothing) * (double)*s0 -
                  (double)each * sum_s;
    num->vec->scale(s, 1.0f / total, s, n);
    for (int32_t j = 0; smoothing > 0 && j < n; j++)
        if (id[j] != target) s[j] -= each;
    *s0 = p0 / total - (1 - smoothing) - each;
    return loss;
}

/* log(1 + exp x) and its derivative, for one score */
static double softplus(float x, float *d)
{
    float e = expf(-fabsf(x));
    *d = (x >= 0 ? 1 : e) / (1 + e);
    return (double)fmaxf(x, 0) + (double)log1pf(e);
}

/* -beta log sigma(s0) - sum log(1 - sigma(s)) */
static double bce_loss(float *s, float *s0, int32_t n, float beta)
{
    float d0;
    double loss = (double)beta * softplus(-*s0, &d0);
    *s0 = -beta * d0;
    return loss + (double)num->loss->softplus_sum(s, n);
}

/* mean of -log sigma(s0 - s) */
static double bpr_loss(float *s, float *s0, int32_t n, int32_t left)
{
    float each = 1.0f / (float)(left > 0 ? left : 1);
    for (int32_t j = 0; j < n; j++) s[j] -= *s0;
    double loss = (double)num->loss->softplus_sum(s, n) * (double)each;
    num->vec->scale(s, each, s, n);
    *s0 = -num->vec->sum(s, n);
    return loss;
}

static double row_loss(struct sampled *c, const float *logits, int32_t b)
{
    float *s = c->coef + (int64_t)b * c->n, *s0 = &c->coef0[b];
    float w = (c->o.weight ? c->o.weight[b] : 1) * c->unit;
    *s0 = target_score(c, b);
    int32_t left = negative_scores(c, s, logits, b);
    const struct sampled_opts *o = &c->o;
    double loss =
        o->kind == SAMPLED_SOFTMAX
            ? softmax_loss(s, s0, negatives(c, b), o->target[b], c->n, left, o->smoothing)
        : c->o.kind == SAMPLED_BCE ? bce_loss(s, s0, c->n, c->o.beta)
                                   : bpr_loss(s, s0, c->n, left);
    num->vec->scale(s, w, s, c->n);
    *s0 *= w;
    return loss * (double)w;
}

/* ---- forward ---- */

static void gather(float *out, const struct ten *table, const int32_t *id, int32_t n)
{
    for (int32_t j = 0; j < n; j++)
        memcpy(out + (int64_t)j * table->cols, row_of(table, id[j]),
               (size_t)table->cols * sizeof *out);
}

/* dq of sequences [b0, b0+n_b) whose negatives have the vectors e [n,D] */
static void dq_rows(struct sampled *c, const float *e, int32_t b0, int32_t n_b)
{
    float *dq = c->dq + (int64_t)b0 * c->K * c->D;
    const float *coef = c->coef + (int64_t)b0 * c->n;
    if (!c->win) {
        num->mm->nn(dq, c->D, coef, c->n, e, c->D, NULL, n_b, c->D, c->n, false);
    } else {
        memset(dq, 0, (size_t)n_b * (size_t)c->K * (size_t)c->D * sizeof *dq);
        for (int32_t b = 0; b < n_b; b++)
            num->loss->win_rows(dq + (int64_t)b * c->K * c->D, coef + (int64_t)b * c->n,
                                c->win + (int64_t)(b0 + b) * c->n, e, c->K, c->n, c->D);
    }
    for (int32_t b = b0; b < b0 + n_b; b++)
        num->vec->axpy(c->dq + ((int64_t)b * c->K + c->best[b]) * c->D, c->coef0[b],
                       row_of(c->table, c->o.target[b]), c->D);
}

static void few_scores(float *logits, const struct sampled *c, const float *e, int32_t b)
{
    for (int32_t k = 0; k < c->K; k++)
        for (int32_t j = 0; j < c->n; j++)
            logits[k * c->n + j] =
                num->vec->dot(row_of(c->q, b * c->K + k), e + (int64_t)j * c->D, c->D);
}

static void forward_block(void *ctx, int block, int worker)
{
    struct sampled *c = ctx;
    const struct row_span s = row_span(c->B, ROWS, block);
    int32_t b0 = (int32_t)s.first, K = c->K, n = c->n, D = c->D;
    float *logits = c->logits + (int64_t)worker * ROWS * K * n;
    double loss = 0;
    if (c->shared) {
        num->mm->nt(logits, n, row_of(c->q, b0 * K), D, c->shared, D, s.n * K, n, D, false);
        for (int32_t b = 0; b < s.n; b++)
            loss += row_loss(c, logits + (int64_t)b * K * n, b0 + b);
        if (c->dq) dq_rows(c, c->shared, b0, s.n);
    } else {
        float *e = c->gathered + (int64_t)worker * n * D;
        for (int32_t b = b0; b < b0 + s.n; b++) {
            gather(e, c->table, negatives(c, b), n);
            if (K * n < FEW)
                few_scores(logits, c, e, b);
            else
                num->mm->nt(logits, n, row_of(c->q, b * K), D, e, D, K, n, D, false);
            loss += row_loss(c, logits, b);
            if (c->dq) dq_rows(c, e, b, 1);
        }
    }
    c->part[block] = loss;
}

/* ---- backward ---- */

static void shared_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct sampled *c = ctx;
    const struct row_span s = row_span(c->n, COLS, block);
    float *out = c->dshared + s.first * c->D;
    if (c->win)
        num->loss->win_cols(out, c->coef + s.first, c->win + s.first, c->q->x, c->B, c->K, s.n,
                            c->n, 1, c->D, 0);
    else
        num->mm->tn(out, c->D, c->coef + s.first, c->n, c->q->x, c->D, s.n, c->D, c->B, false);
}

/* All that goes into these columns of the table, in the order of the rows. */
static void scatter_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct sampled *c = ctx;
    const struct row_span s = row_span(c->D, PART, block);
    float *table = c->table->g + s.first;
    int64_t D = c->D;
    for (int64_t b = 0; b < c->B; b++) {
        const float *q = c->q->x + b * c->K * D + s.first;
        num->vec->scatter_axpy(table, D, c->o.target + b, c->upstream, c->coef0 + b, q, D,
                               c->best + b, 1, s.n);
        if (!c->o.shared)
            num->vec->scatter_axpy(table, D, c->o.neg + b * c->n, c->upstream,
                                   c->coef + b * c->n, q, D, c->win ? c->win + b * c->n : NULL,
                                   c->n, s.n);
    }
    for (int64_t j = 0; c->o.shared && j < c->n; j++)
        num->vec->axpy(table + (int64_t)c->o.neg[j] * D, c->upstream,
                       c->dshared + j * D + s.first, s.n);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    struct sampled *c = saved;
    struct par *pool = tape_pool(tp);
    c->upstream = y->g[0];
    add_scaled(pool, c->q, c->upstream, c->dq);
    if (!c->table->g) return;
    grad_open(tp, c->table);
    if (c->o.shared) {
        c->dshared = ARENA_NEW(tape_arena(tp), float, (int64_t)c->n * c->D);
        par_for(pool, row_blocks(c->n, COLS), shared_block, c);
    }
    par_for(pool, row_blocks(c->D, PART), scatter_block, c);
}

static void check(const struct sampled *c)
{
    for (int32_t b = 0; b < c->B; b++)
        REQUIRE(c->o.target[b] >= 0 && c->o.target[b] < c->table->rows,
                "sampled: target %d of %d", c->o.target[b], c->table->rows);
    int64_t n = c->o.shared ? c->n : (int64_t)c->B * c->n;
    for (int64_t i = 0; i < n; i++)
        REQUIRE(c->o.neg[i] >= 0 && c->o.neg[i] < c->table->rows, "sampled: negative %d of %d",
                c->o.neg[i], c->table->rows);
}

struct ten *ad_sampled(struct tape *tp, struct ten *q, struct ten *table, int32_t K,
                       const struct sampled_opts *o)
{
    REQUIRE(K > 0 && q->rows > 0 && q->rows % K == 0 && q->cols == table->cols && o->n > 0,
            "sampled: q [%d,%d], table [%d,%d], K %d, %d negatives", q->rows, q->cols,
            table->rows, table->cols, K, o->n);
    struct arena *mem = tape_arena(tp);
    int64_t workers = par_threads(tape_pool(tp)), n = o->n, D = q->cols, B = q->rows / K;
    struct sampled *c = ARENA_NEW(mem, struct sampled, 1);
    struct ten *y = tape_ten(tp, 1, 1, q->g || table->g);
    *c = (struct sampled){ .q = q,
                           .table = table,
                           .o = *o,
                           .B = (int32_t)B,
                           .K = K,
                           .n = (int32_t)n,
                           .D = (int32_t)D };
    check(c);
    double weights = 0, loss = 0;
    for (int32_t b = 0; b < c->B; b++) weights += o->weight ? (double)o->weight[b] : 1;
    c->unit = (float)((double)o->scale / weights);
    c->coef = ARENA_NEW(mem, float, B *n);
    c->coef0 = ARENA_NEW(mem, float, B);
    c->best = ARENA_NEW(mem, int32_t, B);
    if (K > 1) c->win = ARENA_NEW(mem, int32_t, B * n);
    if (q->g) c->dq = ARENA_NEW(mem, float, B *K *D);
    int blocks = row_blocks(B, ROWS);
    c->part = ARENA_NEW(mem, double, blocks);
    c->logits = ARENA_NEW(mem, float, workers *ROWS *K *n);
    if (o->shared) {
        c->shared = ARENA_NEW(mem, float, n *D);
        gather(c->shared, table, o->neg, c->n);
    } else {
        c->gathered = ARENA_NEW(mem, float, workers *n *D);
    }
    par_for(tape_pool(tp), blocks, forward_block, c);
    for (int i = 0; i < blocks; i++) loss += c->part[i];
    y->x[0] = (float)loss;
    const double product = 2.0 * (double)B * K * (double)(n + 1) * (double)D;
    const double nq = (double)(B * K * D), nt = (double)((o->shared ? n + B : (n + 1) * B) * D);
    tape_cost(tp, (struct cost){ .rows = q->rows,
                                 .in = c->D,
                                 .out = c->n,
                                 .flop = { product * (q->g ? 2 : 1), table->g ? product : 0 },
                                 .floats = { 2 * nq + nt, 3 * nq + 2 * nt } });
    tape_push(tp, y, backward, c, "sampled");
    return y;
}
