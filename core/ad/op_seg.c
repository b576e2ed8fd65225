/* op_seg.c — ops of the K-interest head over packed sequences: seg_dot, seg_softmax, seg_mix.
 * Each sequence is independent; the pool gets blocks of SEQS sequences.  Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/num/num.h"

enum { SEQS = 16 };

static int blocks(const struct seqpack *sp) { return (sp->B + SEQS - 1) / SEQS; }

/* The sequences [lo, hi) of a block. */
static int32_t block_end(const struct seqpack *sp, int block)
{
    int32_t hi = (block + 1) * SEQS;
    return hi < sp->B ? hi : sp->B;
}

static float *row(float *x, int32_t i, int32_t cols)
{
    return x ? x + (int64_t)i * cols : NULL;
}

/* ---- s[i] = scale x[i].q[b] ---- */

struct seg_dot {
    struct ten *s, *x, *q;
    const struct seqpack *sp;
    float scale;
};

static void dot_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct seg_dot *c = ctx;
    int32_t D = c->x->cols;
    for (int32_t b = block * SEQS; b < block_end(c->sp, block); b++) {
        int32_t i = c->sp->cu[b];
        num->seg->dot(c->s->x + i, row(c->x->x, i, D), row(c->q->x, b, D), c->sp->cu[b + 1] - i,
                      D, c->scale);
    }
}

static void dot_block_bwd(void *ctx, int block, int worker)
{
    (void)worker;
    struct seg_dot *c = ctx;
    int32_t D = c->x->cols;
    for (int32_t b = block * SEQS; b < block_end(c->sp, block); b++) {
        int32_t i = c->sp->cu[b];
        num->seg->dot_bwd(row(c->x->g, i, D), row(c->q->g, b, D), c->s->g + i,
                          row(c->x->x, i, D), row(c->q->x, b, D), c->sp->cu[b + 1] - i, D,
                          c->scale);
    }
}

static void dot_bwd(struct tape *tp, const struct ten *y, void *saved)
{
    (void)y;
    struct seg_dot *c = saved;
    grad_open(tp, c->x);
    grad_open(tp, c->q);
    par_for(tape_pool(tp), blocks(c->sp), dot_block_bwd, c);
}

struct ten *ad_seg_dot(struct tape *tp, struct ten *x, struct ten *q, const struct seqpack *sp,
                       float scale)
{
    REQUIRE(x->rows == sp->N && q->rows == sp->B && x->cols == q->cols,
            "seg_dot: x [%d,%d], q [%d,%d], %d sequences, %d tokens", x->rows, x->cols, q->rows,
            q->cols, sp->B, sp->N);
    struct seg_dot *c = ARENA_NEW(tape_arena(tp), struct seg_dot, 1);
    *c = (struct seg_dot){ tape_ten(tp, sp->N, 1, x->g || q->g), x, q, sp, scale };
    par_for(tape_pool(tp), blocks(sp), dot_block, c);
    const double n = (double)sp->N * x->cols;
    tape_cost(tp, (struct cost){ .flop = { 2 * n, 4 * n }, .floats = { n, 3 * n } });
    tape_push(tp, c->s, dot_bwd, c, "seg_dot");
    return c->s;
}

/* ---- softmax within each sequence ---- */

struct seg_softmax {
    struct ten *y, *s;
    const struct seqpack *sp;
};

static void softmax_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct seg_softmax *c = ctx;
    for (int32_t b = block * SEQS; b < block_end(c->sp, block); b++) {
        int32_t i = c->sp->cu[b];
        num->seg->softmax(c->y->x + i, c->s->x + i, c->sp->key ? c->sp->key + i : NULL,
                          c->sp->cu[b + 1] - i);
    }
}

static void softmax_block_bwd(void *ctx, int block, int worker)
{
    (void)worker;
    struct seg_softmax *c = ctx;
    for (int32_t b = block * SEQS; b < block_end(c->sp, block); b++) {
        int32_t i = c->sp->cu[b];
        num->seg->softmax_bwd(c->s->g + i, c->y->g + i, c->y->x + i, c->sp->cu[b + 1] - i);
    }
}

static void softmax_bwd(struct tape *tp, const struct ten *y, void *saved)
{
    (void)y;
    struct seg_softmax *c = saved;
    grad_open(tp, c->s);
    par_for(tape_pool(tp), blocks(c->sp), softmax_block_bwd, c);
}

struct ten *ad_seg_softmax(struct tape *tp, struct ten *s, const struct seqpack *sp)
{
    REQUIRE(s->rows == sp->N && s->cols == 1, "seg_softmax: s [%d,%d], %d tokens", s->rows,
            s->cols, sp->N);
    struct seg_softmax *c = ARENA_NEW(tape_arena(tp), struct seg_softmax, 1);
    *c = (struct seg_softmax){ tape_ten(tp, sp->N, 1, s->g != NULL), s, sp };
    par_for(tape_pool(tp), blocks(sp), softmax_block, c);
    tape_push(tp, c->y, softmax_bwd, c, "seg_softmax");
    return c->y;
}

/* ---- y[b,k] = sum_i a[i,k] p[i] z[i] ---- */

struct seg_mix {
    struct ten *y, *a, *p, *z;
    const struct seqpack *sp;
};

static void mix_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct seg_mix *c = ctx;
    int32_t K = c->a->cols, D = c->z->cols;
    for (int32_t b = block * SEQS; b < block_end(c->sp, block); b++) {
        int32_t i = c->sp->cu[b];
        num->seg->mix(row(c->y->x, b, K * D), row(c->a->x, i, K), c->p->x + i,
                      row(c->z->x, i, D), c->sp->cu[b + 1] - i, K, D);
    }
}

static void mix_block_bwd(void *ctx, int block, int worker)
{
    (void)worker;
    struct seg_mix *c = ctx;
    int32_t K = c->a->cols, D = c->z->cols;
    for (int32_t b = block * SEQS; b < block_end(c->sp, block); b++) {
        int32_t i = c->sp->cu[b];
        num->seg->mix_bwd(row(c->a->g, i, K), row(c->p->g, i, 1), row(c->z->g, i, D),
                          row(c->y->g, b, K * D), row(c->a->x, i, K), c->p->x + i,
                          row(c->z->x, i, D), c->sp->cu[b + 1] - i, K, D);
    }
}

static void mix_bwd(struct tape *tp, const struct ten *y, void *saved)
{
    (void)y;
    struct seg_mix *c = saved;
    grad_open(tp, c->a);
    grad_open(tp, c->p);
    grad_open(tp, c->z);
    par_for(tape_pool(tp), blocks(c->sp), mix_block_bwd, c);
}

struct ten *ad_seg_mix(struct tape *tp, struct ten *a, struct ten *p, struct ten *z,
                       const struct seqpack *sp)
{
    REQUIRE(a->rows == sp->N && p->rows == sp->N && p->cols == 1 && z->rows == sp->N,
            "seg_mix: a [%d,%d], p [%d,%d], z [%d,%d], %d tokens", a->rows, a->cols, p->rows,
            p->cols, z->rows, z->cols, sp->N);
    struct seg_mix *c = ARENA_NEW(tape_arena(tp), struct seg_mix, 1);
    struct ten *y = tape_ten(tp, sp->B * a->cols, z->cols, a->g || p->g || z->g);
    *c = (struct seg_mix){ y, a, p, z, sp };
    par_for(tape_pool(tp), blocks(sp), mix_block, c);
    const double n = (double)sp->N * z->cols, K = a->cols;
    tape_cost(tp, (struct cost){ .flop = { 2 * n * K, 4 * n * K }, .floats = { n, 3 * n } });
    tape_push(tp, y, mix_bwd, c, "seg_mix");
    return y;
}
