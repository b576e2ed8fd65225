/* encoder.h — the Transformer of models/README.md, Encoder (S3-Rec and RecBole families): post-LN blocks over
 * item + position embeddings.  Part of model.h; use that.  Thread: as model.h. */
#pragma once
#include "core/nn/model.h"

struct norm_params {
    struct param *gain, *bias; /* [1,D] */
};
struct linear_params {
    struct param *w, *b; /* [in,out], [1,out] */
};
struct block_params {
    struct linear_params qkv, out, up, down;
    struct norm_params attn_norm, ffn_norm;
};
struct encoder {
    struct param *item, *pos; /* [V,D], [L,D] */
    struct param *mask;       /* [1,D] for ids EMBED_MASK; NULL: none was asked for */
    struct norm_params emb_norm;
    struct block_params *block; /* [layers] */
};

struct norm_params norm_declare(struct params *ps, const char *name, int32_t D, uint32_t group);
struct linear_params linear_declare(struct params *ps, const char *name, int32_t in,
                                    int32_t out, uint32_t group, float std);
struct ten *norm_apply(struct tape *tp, struct ten *x, struct norm_params n);
struct ten *linear_apply(struct tape *tp, struct ten *x, struct linear_params l, enum act act);

/* Block i of width, heads, feed-forward and dropouts of c: layers.I.* */
void block_declare(struct block_params *b, struct params *ps, const struct model_cfg *c,
                   int32_t i);
struct ten *block_forward(const struct block_params *b, const struct model_cfg *c,
                          struct tape *tp, const struct seqpack *sp, struct ten *x); /* [N,D] */
/* What follows attention a [N,D] of states x [N,D]: X = LN(X + Dropout(O)), O = Linear(a);
 * X = LN(X + Dropout(F)), F = Linear(act(Linear X)). */
struct ten *block_finish(const struct block_params *b, const struct model_cfg *c,
                         struct tape *tp, struct ten *x, struct ten *a);

void encoder_declare(struct encoder *enc, struct params *ps, const struct model_cfg *c);
void encoder_free(struct encoder *enc);
/* The last states [B,D]: the last block works for them alone. */
struct ten *encoder_last(const struct encoder *enc, const struct model_cfg *c, struct tape *tp,
                         const struct seqpack *sp, const int32_t *ids);
/* Its two ends: what the first block reads [N,D]; and from the states x [N,D] that the last block
 * reads (without blocks the embedding) the last states [B,D]. */
struct ten *encoder_embed(const struct encoder *enc, const struct model_cfg *c, struct tape *tp,
                          const struct seqpack *sp, const int32_t *ids);
struct ten *encoder_finish(const struct encoder *enc, const struct model_cfg *c,
                           struct tape *tp, const struct seqpack *sp, struct ten *x);
/* states [N,D] */
struct ten *encoder_forward(const struct encoder *enc, const struct model_cfg *c,
                            struct tape *tp, const struct seqpack *sp, const int32_t *ids);

const struct encoder *model_encoder(const struct model *m);
