#include "core/nn/interest.h"
#include <math.h>
#include <stdio.h>

void interest_declare(struct interest_head *h, struct params *ps, const struct model_cfg *c)
{
    int32_t K = c->interests, D = c->width;
    float spread = 1.0f / sqrtf((float)D);
    h->prototypes =
        params_add(ps, "interest.prototypes", K, D, GROUP_HEAD, INIT_NORMAL, spread);
    h->beta[BETA_IN] =
        params_add(ps, "interest.beta_in", K, D, GROUP_HEAD, INIT_NORMAL, spread);
    h->beta[BETA_OUT] =
        params_add(ps, "interest.beta_out", K, D, GROUP_HEAD, INIT_NORMAL, spread);
    h->pos = params_add(ps, "interest.pos", c->max_len, D, GROUP_HEAD, INIT_ZERO, 0);
    h->query_bias = params_add(ps, "interest.query_bias", 1, D, GROUP_HEAD, INIT_ZERO, 0);
    h->ffn = linear_declare(ps, "interest.ffn", D, D, GROUP_HEAD, c->init_std);
    for (int i = 0; i < 5; i++) {
        char s[32];
        snprintf(s, sizeof s, "interest.norm%d", i + 1);
        h->norm[i] = norm_declare(ps, s, D, GROUP_HEAD);
    }
}

/* q [B,D]: the last state with its position and the query's own bias */
static struct ten *query(const struct interest_head *h, struct tape *tp,
                         const struct seqpack *sp, struct ten *z)
{
    int32_t *last = ARENA_NEW(tape_arena(tp), int32_t, sp->B);
    for (int32_t b = 0; b < sp->B; b++) last[b] = sp->pos[sp->cu[b + 1] - 1];
    const int32_t *zero = ARENA_NEW0(tape_arena(tp), int32_t, sp->B);
    struct ten *q = ad_add_rows(tp, ad_seg_last(tp, z, sp), ad_param(tp, h->pos), last);
    q = ad_add_rows(tp, q, ad_param(tp, h->query_bias), zero);
    return norm_apply(tp, q, h->norm[3]);
}

struct ten *interest_tokens(struct ten **assign, const struct interest_head *h,
                            const struct model_cfg *c, struct tape *tp,
                            const struct seqpack *sp, struct ten *z)
{
    struct ten *proto = norm_apply(tp, ad_param(tp, h->prototypes), h->norm[1]);
    struct ten *item = norm_apply(tp, z, h->norm[0]);
    *assign = ad_softmax(tp, ad_matmul_nt(tp, item, proto, 1.0f / sqrtf((float)c->width)));

    struct ten *kt =
        norm_apply(tp, ad_add_rows(tp, z, ad_param(tp, h->pos), sp->pos), h->norm[2]);
    return ad_add(tp, kt, linear_apply(tp, kt, h->ffn, ACT_RELU));
}

void interest_mix(struct encoded *e, const struct interest_head *h, const struct model_cfg *c,
                  struct tape *tp, const struct seqpack *sp, enum beta beta, struct ten *key)
{
    struct ten *z = e->states;
    const int32_t K = c->interests;
    struct ten *score =
        ad_seg_dot(tp, key, query(h, tp, sp, z), sp, 1.0f / sqrtf((float)c->width));
    e->weight = ad_seg_softmax(tp, score, sp);

    int32_t *which = ARENA_NEW(tape_arena(tp), int32_t, (size_t)sp->B * (size_t)K);
    for (int32_t r = 0; r < sp->B * K; r++) which[r] = r % K;
    struct ten *mix = ad_seg_mix(tp, e->assign, e->weight, z, sp);
    mix = ad_add_rows(tp, mix, ad_param(tp, h->beta[beta]), which);
    e->phi = norm_apply(tp, mix, h->norm[4]);
}

void interest_forward(const struct interest_head *h, const struct model_cfg *c, struct tape *tp,
                      const struct seqpack *sp, enum beta beta, struct encoded *e)
{
    struct ten *key = interest_tokens(&e->assign, h, c, tp, sp, e->states);
    interest_mix(e, h, c, tp, sp, beta, key);
}
