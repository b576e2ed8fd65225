/* op_attn_last.c — self-attention whose only query is each sequence's last token, projections included: what a
 * last block needs when nothing but the last state is read.  The weights of keys and values are moved to the
 * query's side (k_last.h), so that tokens are read and never projected; the bias of the keys adds the same to
 * every score and drops out.
 * Saved: last states, q, u, z, t and log-sum-exp of every head; the weights are made again.
 * Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/reduce.h"
#include "core/ad/rows.h"
#include "core/num/num.h"
#include <math.h>

enum { SEQS = 16 }; /* of a block */

struct attn_last {
    struct ten *y, *x, *w, *b;
    const struct seqpack *sp; /* a copy in the arena */
    struct k_attn_cfg cfg;
    float *last, *q; /* [B,D] */
    float *u, *z;    /* [B,H*D] */
    float *t, *lse;  /* [B,H] */
    float *scratch;  /* [workers, n_scratch] */
    size_t n_scratch;
    /* backward only */
    bool first;        /* dx is written, not added to */
    struct reduce sum; /* of dw [D,3D], db [3D] */
    float *work;       /* [workers, SEQS * (2 H D + 2 D)] */
};

static float *scratch_of(const struct attn_last *c, int worker)
{
    return c->scratch + (size_t)worker * c->n_scratch;
}

static struct k_last head_of(const struct attn_last *c, int64_t b, int32_t h)
{
    const struct seqpack *sp = c->sp;
    const int64_t first = sp->cu[b], D = c->cfg.D, H = c->cfg.H;
    return (struct k_last){ .x = c->x->x + first * D,
                            .u = c->u + (b * H + h) * D,
                            .key = sp->key ? sp->key + first : NULL,
                            .n = sp->cu[b + 1] - sp->cu[b],
                            .row = (int64_t)(sp->cu[b + 1] - 1) * H + h };
}

static void forward_block(void *ctx, int block, int worker)
{
    const struct attn_last *c = ctx;
    const struct row_span s = row_span(c->sp->B, SEQS, block);
    const int32_t D = c->cfg.D, H = c->cfg.H, dh = D / H, HD = H * D;
    const int64_t b0 = s.first;
    const float *w = c->w->x, *bias = c->b->x;
    float *last = c->last + b0 * D, *q = c->q + b0 * D, *y = c->y->x + b0 * D;
    for (int32_t i = 0; i < s.n; i++)
        memcpy(last + (int64_t)i * D, c->x->x + (int64_t)(c->sp->cu[b0 + i + 1] - 1) * D,
               (size_t)D * sizeof *last);
    num->mm->nn(q, D, last, D, w, 3 * D, bias, s.n, D, D, false);
    for (int32_t h = 0; h < H; h++)
        num->mm->nt(c->u + b0 * HD + h * D, HD, q + h * dh, D, w + D + h * dh, 3 * D, s.n, D,
                    dh, false);
    for (int64_t b = b0; b < b0 + s.n; b++)
        for (int32_t h = 0; h < H; h++) {
            const struct k_last a = head_of(c, b, h);
            c->lse[b * H + h] = num->last->fwd(c->z + (b * H + h) * D, c->t + b * H + h, &a,
                                               &c->cfg, scratch_of(c, worker));
        }
    for (int32_t h = 0; h < H; h++) {
        num->mm->nn(y + h * dh, D, c->z + b0 * HD + h * D, HD, w + 2 * D + h * dh, 3 * D, NULL,
                    s.n, dh, D, false);
        for (int32_t i = 0; i < s.n; i++)
            num->vec->axpy(y + (int64_t)i * D + h * dh, c->t[(b0 + i) * H + h],
                           bias + 2 * D + h * dh, dh);
    }
}

/* dw, db of the block's rows, given du and dq. */
static void weight_gradients(struct attn_last *c, int block, struct row_span s, const float *du,
                             const float *dq)
{
    const int32_t D = c->cfg.D, H = c->cfg.H, dh = D / H, HD = H * D;
    const int64_t b0 = s.first;
    const float *dy = c->y->g + b0 * D, *q = c->q + b0 * D;
    float *dw = reduce_take(&c->sum), *db = dw + (int64_t)D * 3 * D;
    num->vec->fill(db, 0, 3 * D);
    num->mm->tn(dw, 3 * D, c->last + b0 * D, D, dq, D, D, D, s.n, false);
    for (int32_t h = 0; h < H; h++) {
        num->mm->tn(dw + D + h * dh, 3 * D, du + h * D, HD, q + h * dh, D, D, dh, s.n, false);
        num->mm->tn(dw + 2 * D + h * dh, 3 * D, c->z + b0 * HD + h * D, HD, dy + h * dh, D, D,
                    dh, s.n, false);
    }
    num->vec->sum_rows(db, dq, s.n, D, D);
    for (int32_t i = 0; i < s.n; i++)
        for (int32_t h = 0; h < H; h++)
            num->vec->axpy(db + 2 * D + h * dh, c->t[(b0 + i) * H + h],
                           dy + (int64_t)i * D + h * dh, dh);
    reduce_put(&c->sum, block, dw);
}

static void backward_block(void *ctx, int block, int worker)
{
    struct attn_last *c = ctx;
    const struct row_span s = row_span(c->sp->B, SEQS, block);
    const int32_t D = c->cfg.D, H = c->cfg.H, dh = D / H, HD = H * D;
    const int64_t b0 = s.first;
    const float *w = c->w->x, *bias = c->b->x, *dy = c->y->g + b0 * D;
    float *dz = c->work + (int64_t)worker * SEQS * (2 * HD + 2 * D), *du = dz + SEQS * HD;
    float *dq = du + SEQS * HD, *dlast = dq + SEQS * D;
    for (int32_t h = 0; h < H; h++)
        num->mm->nt(dz + h * D, HD, dy + h * dh, D, w + 2 * D + h * dh, 3 * D, s.n, D, dh,
                    false);
    if (c->first) {
        int32_t from = c->sp->cu[b0];
        rows_clear(c->x, (struct row_span){ from, c->sp->cu[b0 + s.n] - from });
    }
    for (int32_t i = 0; i < s.n; i++)
        for (int32_t h = 0; h < H; h++) {
            const struct k_last a = head_of(c, b0 + i, h);
            float *dx = c->x->g ? c->x->g + (int64_t)c->sp->cu[b0 + i] * D : NULL;
            float dt = num->vec->dot(dy + (int64_t)i * D + h * dh, bias + 2 * D + h * dh, dh);
            num->last->bwd(dx, du + (int64_t)i * HD + h * D, dz + (int64_t)i * HD + h * D, dt,
                           c->lse[(b0 + i) * H + h], &a, &c->cfg, scratch_of(c, worker));
        }
    for (int32_t h = 0; h < H; h++)
        num->mm->nn(dq + h * dh, D, du + h * D, HD, w + D + h * dh, 3 * D, NULL, s.n, dh, D,
                    false);
    if (c->x->g) {
        num->mm->nt(dlast, D, dq, D, w, 3 * D, s.n, D, D, false);
        for (int32_t i = 0; i < s.n; i++)
            num->vec->axpy(c->x->g + (int64_t)(c->sp->cu[b0 + i + 1] - 1) * D, 1,
                           dlast + (int64_t)i * D, D);
    }
    if (c->w->g || c->b->g) weight_gradients(c, block, s, du, dq);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    (void)y;
    struct attn_last *c = saved;
    struct arena *mem = tape_arena(tp);
    const int64_t D = c->cfg.D, workers = par_threads(tape_pool(tp));
    const int blocks = row_blocks(c->sp->B, SEQS);
    struct arena_mark m = arena_mark(mem);
    c->scratch = ARENA_NEW(mem, float, (size_t)workers * c->n_scratch);
    c->work = ARENA_NEW(mem, float, workers *SEQS *(2 * c->cfg.H * D + 2 * D));
    reduce_open(&c->sum, mem, blocks, c->w->g, 3 * D * D, c->b->g, 3 * D);
    c->first = grad_first(c->x);
    par_for(tape_pool(tp), blocks, backward_block, c);
    arena_release(mem, m);
}

/* Three products a sequence and one more a head on the way there, twice as many on the way back; tokens are read twice. */
static struct cost cost_of(const struct attn_last *c)
{
    const double B = c->sp->B, N = c->sp->N, D = c->cfg.D, H = c->cfg.H;
    const double products = 6 * B * D * D, tokens = 4 * N * H * D;
    return (struct cost){ .flop = { products + tokens, 2 * products + 2.5 * tokens },
                          .floats = { N * D + 4 * B * D, 3 * N * D + 6 * B * D } };
}

struct ten *ad_attn_last(struct tape *tp, struct ten *x, struct ten *w, struct ten *b,
                         const struct seqpack *sp, int32_t H, float p_drop)
{
    struct arena *mem = tape_arena(tp);
    const int32_t D = x->cols, dh = H > 0 ? D / H : 0;
    REQUIRE(x->rows == sp->N && dh > 0 && dh * H == D && w->rows == D && w->cols == 3 * D &&
                b->rows == 1 && b->cols == 3 * D,
            "attn_last: x [%d,%d], w [%d,%d], b [%d,%d], %d tokens, %d heads", x->rows, D,
            w->rows, w->cols, b->rows, b->cols, sp->N, H);
    const bool dropping = tape_training(tp) && p_drop > 0;
    const size_t B = (size_t)sp->B, d = (size_t)D, heads = (size_t)H;
    int32_t longest = 0;
    for (int32_t i = 0; i < sp->B; i++) {
        int32_t n = sp->cu[i + 1] - sp->cu[i];
        REQUIRE(n > 0, "attn_last: sequence %d is empty", i);
        longest = n > longest ? n : longest;
    }
    struct seqpack *pack = ARENA_NEW(mem, struct seqpack, 1);
    *pack = *sp;
    struct attn_last *c = ARENA_NEW0(mem, struct attn_last, 1);
    *c = (struct attn_last){ .y = tape_ten(tp, sp->B, D, x->g || w->g || b->g),
                             .x = x,
                             .w = w,
                             .b = b,
                             .sp = pack,
                             .cfg = { .D = D,
                                      .H = H,
                                      .scale = 1.0f / sqrtf((float)dh),
                                      .causal = true,
                                      .drop = dropping ? drop_make(tape_drop_key(tp), p_drop)
                                                       : drop_none() },
                             .last = ARENA_NEW(mem, float, B *d),
                             .q = ARENA_NEW(mem, float, B *d),
                             .u = ARENA_NEW(mem, float, B *heads *d),
                             .z = ARENA_NEW(mem, float, B *heads *d),
                             .t = ARENA_NEW(mem, float, B *heads),
                             .lse = ARENA_NEW(mem, float, B *heads),
                             .n_scratch = (num->last->scratch(longest) + 15) / 16 * 16 };
    struct arena_mark m = arena_mark(mem);
    c->scratch = ARENA_NEW(mem, float, (size_t)par_threads(tape_pool(tp)) * c->n_scratch);
    par_for(tape_pool(tp), row_blocks(sp->B, SEQS), forward_block, c);
    arena_release(mem, m);
    tape_cost(tp, cost_of(c));
    tape_push(tp, c->y, backward, c, "attn_last");
    return c->y;
}
