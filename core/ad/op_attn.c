/* op_attn.c — multi-head self-attention over packed sequences.
 * Saved: log-sum-exp per query and head; weights and their dropout are made again.
 * Thread: the tape's owner. */
#include "core/ad/ops.h"
#include "core/ad/rows.h"
#include "core/num/num.h"
#include <math.h>

enum { TOKENS = 128 }; /* sequences are dealt out in groups of about so many tokens */

struct attn {
    struct ten *y, *qkv;
    const struct seqpack *sp; /* a copy in the arena */
    struct k_attn_cfg cfg;
    float *lse;     /* [N,H] or NULL */
    int32_t *group; /* [n_groups+1] first sequence of each */
    int n_groups;
    float *scratch; /* [workers, nb_scratch] while a pass runs */
    size_t n_scratch;
    bool first; /* backward: to add to dqkv */
};

static void forward_group(void *ctx, int block, int worker)
{
    const struct attn *c = ctx;
    const int32_t b = c->group[block];
    num->attn->fwd(c->y->x, c->lse, c->qkv->x, c->sp->key, c->sp->cu + b,
                   c->group[block + 1] - b, &c->cfg,
                   c->scratch + (size_t)worker * c->n_scratch);
}

static void backward_group(void *ctx, int block, int worker)
{
    const struct attn *c = ctx;
    const int32_t b = c->group[block], from = c->sp->cu[b];
    if (c->first)
        rows_clear(c->qkv, (struct row_span){ from, c->sp->cu[c->group[block + 1]] - from });
    num->attn->bwd(c->qkv->g, c->y->g, c->y->x, c->lse, c->qkv->x, c->sp->key, c->sp->cu + b,
                   c->group[block + 1] - b, &c->cfg,
                   c->scratch + (size_t)worker * c->n_scratch);
}

static void run(struct tape *tp, struct attn *c, par_fn *fn)
{
    struct arena *mem = tape_arena(tp);
    struct arena_mark m = arena_mark(mem);
    c->scratch = ARENA_NEW(mem, float, (size_t)par_threads(tape_pool(tp)) * c->n_scratch);
    par_for(tape_pool(tp), c->n_groups, fn, c);
    arena_release(mem, m);
}

static void backward(struct tape *tp, const struct ten *y, void *saved)
{
    (void)y;
    struct attn *c = saved;
    c->first = grad_first(c->qkv);
    run(tp, c, backward_group);
}

/* Sequences in order until a group holds TOKENS; the longest sequence is returned. */
static int32_t make_groups(struct attn *c, const struct seqpack *sp)
{
    int32_t longest = 0, start = 0;
    c->group[0] = 0;
    for (int32_t b = 0; b < sp->B; b++) {
        int32_t len = sp->cu[b + 1] - sp->cu[b];
        REQUIRE(len >= 0, "attn: sequence %d has %d tokens", b, len);
        longest = len > longest ? len : longest;
        if (sp->cu[b + 1] - start < TOKENS && b + 1 < sp->B) continue;
        start = sp->cu[b + 1];
        c->group[++c->n_groups] = b + 1;
    }
    return longest;
}

/* Scores and mixing, 2 D operations a pair of tokens each; backward makes the scores again and has four products more. */
static struct cost cost_of(const struct seqpack *sp, int32_t D, bool causal)
{
    double pairs = 0, n = (double)sp->N * D;
    for (int32_t b = 0; b < sp->B; b++) {
        double len = sp->cu[b + 1] - sp->cu[b];
        pairs += causal ? len * (len + 1) / 2 : len * len;
    }
    return (struct cost){ .flop = { 4 * D * pairs, 10 * D * pairs },
                          .floats = { 4 * n, 8 * n } };
}

struct ten *ad_attn(struct tape *tp, struct ten *qkv, const struct seqpack *sp, int32_t H,
                    bool causal, float p_drop)
{
    struct arena *mem = tape_arena(tp);
    const int32_t D = qkv->cols / 3, dh = H > 0 ? D / H : 0;
    REQUIRE(qkv->rows == sp->N && qkv->cols == 3 * D && dh > 0 && dh * H == D,
            "attn: qkv [%d,%d], %d tokens, %d heads", qkv->rows, qkv->cols, sp->N, H);
    bool dropping = tape_training(tp) && p_drop > 0;
    struct seqpack *pack = ARENA_NEW(mem, struct seqpack, 1);
    *pack = *sp;
    struct attn *c = ARENA_NEW0(mem, struct attn, 1);
    c->y = tape_ten(tp, sp->N, D, qkv->g != NULL);
    c->qkv = qkv;
    c->sp = pack;
    c->cfg = (struct k_attn_cfg){ .D = D,
                                  .H = H,
                                  .scale = 1.0f / sqrtf((float)dh),
                                  .causal = causal,
                                  .drop = dropping ? drop_make(tape_drop_key(tp), p_drop)
                                                   : drop_none() };
    if (qkv->g) c->lse = ARENA_NEW(mem, float, (size_t)sp->N *(size_t)H);
    c->group = ARENA_NEW(mem, int32_t, (size_t)sp->B + 1);
    c->n_scratch = (num->attn->scratch(&c->cfg, make_groups(c, sp)) + 15) / 16 * 16;
    run(tp, c, forward_group);
    tape_cost(tp, cost_of(sp, D, causal));
    tape_push(tp, c->y, backward, c, "attn");
    return c->y;
}
