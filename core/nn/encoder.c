#include "core/nn/encoder.h"
#include "core/base/mem.h"
#include <stdio.h>
#include <stdlib.h>

enum { NAME = 96 };

struct norm_params norm_declare(struct params *ps, const char *name, int32_t D, uint32_t group)
{
    char s[NAME];
    struct norm_params n;
    snprintf(s, sizeof s, "%s.weight", name);
    n.gain = params_add(ps, s, 1, D, group, INIT_ONE, 0);
    snprintf(s, sizeof s, "%s.bias", name);
    n.bias = params_add(ps, s, 1, D, group, INIT_ZERO, 0);
    return n;
}

struct linear_params linear_declare(struct params *ps, const char *name, int32_t in,
                                    int32_t out, uint32_t group, float std)
{
    char s[NAME];
    struct linear_params l;
    snprintf(s, sizeof s, "%s.weight", name);
    l.w = params_add(ps, s, in, out, group, INIT_NORMAL, std);
    snprintf(s, sizeof s, "%s.bias", name);
    l.b = params_add(ps, s, 1, out, group, INIT_ZERO, 0);
    return l;
}

struct ten *norm_apply(struct tape *tp, struct ten *x, struct norm_params n)
{
    return ad_norm(tp, x, ad_param(tp, n.gain), ad_param(tp, n.bias));
}

struct ten *linear_apply(struct tape *tp, struct ten *x, struct linear_params l, enum act act)
{
    return ad_linear(tp, x, ad_param(tp, l.w), ad_param(tp, l.b), act);
}

void block_declare(struct block_params *b, struct params *ps, const struct model_cfg *c,
                   int32_t i)
{
    const struct {
        const char *name;
        struct linear_params *l;
        int32_t in, out;
    } lin[] = { { "attn.qkv", &b->qkv, c->width, 3 * c->width },
                { "attn.out", &b->out, c->width, c->width },
                { "ffn.up", &b->up, c->width, c->ffn_mult * c->width },
                { "ffn.down", &b->down, c->ffn_mult * c->width, c->width } };
    char s[NAME];
    for (int j = 0; j < 4; j++) {
        snprintf(s, sizeof s, "layers.%d.%s", i, lin[j].name);
        *lin[j].l = linear_declare(ps, s, lin[j].in, lin[j].out, GROUP_ENCODER, c->init_std);
    }
    snprintf(s, sizeof s, "layers.%d.attn_norm", i);
    b->attn_norm = norm_declare(ps, s, c->width, GROUP_ENCODER);
    snprintf(s, sizeof s, "layers.%d.ffn_norm", i);
    b->ffn_norm = norm_declare(ps, s, c->width, GROUP_ENCODER);
}

void encoder_declare(struct encoder *enc, struct params *ps, const struct model_cfg *c)
{
    enc->item = params_add(ps, "item.weight", c->n_items, c->width, GROUP_ENCODER, INIT_NORMAL,
                           c->init_std);
    enc->pos = params_add(ps, "pos.weight", c->max_len, c->width, GROUP_ENCODER, INIT_NORMAL,
                          c->init_std);
    enc->emb_norm = norm_declare(ps, "emb_norm", c->width, GROUP_ENCODER);
    enc->block = xcalloc((size_t)c->layers, sizeof *enc->block);
    for (int32_t i = 0; i < c->layers; i++) block_declare(&enc->block[i], ps, c, i);
}

void encoder_free(struct encoder *enc) { free(enc->block); }

struct ten *block_finish(const struct block_params *b, const struct model_cfg *c,
                         struct tape *tp, struct ten *x, struct ten *a)
{
    struct ten *o = linear_apply(tp, a, b->out, ACT_NONE);
    x = ad_add_norm(tp, x, o, c->dropout, ad_param(tp, b->attn_norm.gain),
                    ad_param(tp, b->attn_norm.bias));
    struct ten *f = ad_ffn(tp, x, ad_param(tp, b->up.w), ad_param(tp, b->up.b),
                           c->activation == 0 ? ACT_GELU : ACT_RELU, ad_param(tp, b->down.w),
                           ad_param(tp, b->down.b));
    return ad_add_norm(tp, x, f, c->dropout, ad_param(tp, b->ffn_norm.gain),
                       ad_param(tp, b->ffn_norm.bias));
}

struct ten *block_forward(const struct block_params *b, const struct model_cfg *c,
                          struct tape *tp, const struct seqpack *sp, struct ten *x)
{
    struct ten *qkv = linear_apply(tp, x, b->qkv, ACT_NONE);
    struct ten *a = ad_attn(tp, qkv, sp, c->heads, c->causal, c->attn_dropout);
    return block_finish(b, c, tp, x, a);
}

static struct ten *block_last(const struct block_params *b, const struct model_cfg *c,
                              struct tape *tp, const struct seqpack *sp, struct ten *x)
{
    struct ten *last =
        ad_seg_last(tp, x, sp); /* before attention, whose gradient then is the first of x */
    struct ten *a = ad_attn_last(tp, x, ad_param(tp, b->qkv.w), ad_param(tp, b->qkv.b), sp,
                                 c->heads, c->attn_dropout);
    return block_finish(b, c, tp, last, a);
}

struct ten *encoder_embed(const struct encoder *enc, const struct model_cfg *c, struct tape *tp,
                          const struct seqpack *sp, const int32_t *ids)
{
    struct ten *x =
        ad_embed(tp, ad_param(tp, enc->item), ids, enc->mask ? ad_param(tp, enc->mask) : NULL,
                 ad_param(tp, enc->pos), sp->pos, sp->N);
    return ad_dropout(tp, norm_apply(tp, x, enc->emb_norm), c->dropout);
}

/* States [N,D] after the embedding and the first blocks. */
static struct ten *first_blocks(const struct encoder *enc, const struct model_cfg *c, int32_t n,
                                struct tape *tp, const struct seqpack *sp, const int32_t *ids)
{
    struct ten *x = encoder_embed(enc, c, tp, sp, ids);
    for (int32_t i = 0; i < n; i++) x = block_forward(&enc->block[i], c, tp, sp, x);
    return x;
}

struct ten *encoder_forward(const struct encoder *enc, const struct model_cfg *c,
                            struct tape *tp, const struct seqpack *sp, const int32_t *ids)
{
    return first_blocks(enc, c, c->layers, tp, sp, ids);
}

struct ten *encoder_finish(const struct encoder *enc, const struct model_cfg *c,
                           struct tape *tp, const struct seqpack *sp, struct ten *x)
{
    return c->layers == 0 ? ad_seg_last(tp, x, sp)
                          : block_last(&enc->block[c->layers - 1], c, tp, sp, x);
}

struct ten *encoder_last(const struct encoder *enc, const struct model_cfg *c, struct tape *tp,
                         const struct seqpack *sp, const int32_t *ids)
{
    const int32_t first = c->layers > 0 ? c->layers - 1 : 0;
    return encoder_finish(enc, c, tp, sp, first_blocks(enc, c, first, tp, sp, ids));
}
