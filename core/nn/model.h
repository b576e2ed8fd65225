/* model.h — the encoder and its head: item ids in, K interest vectors out.  Training, evaluation
 * and serving call model_encode; there is no other encoder.
 *   struct model *m = model_new(&cfg, trainable);        declares parameters
 *   params_init(model_params(m), seed)  or  a loader fills them
 *   struct encoded e = model_encode(m, tp, &sp, ids, BETA_IN);
 * Parameter names and shapes: models/README.md.  Immutable while encoding; any thread may encode with
 * its own tape. */
#pragma once
#include "core/ad/ops.h"
#include "core/base/conf.h"
#include "core/nn/tower.h"

/* The transformer and the K-interest head of models/README.md, Encoder and Heads. */
struct model_cfg {
    int32_t width; /* D */
    int32_t layers, heads;
    int32_t max_len;    /* L */
    int32_t interests;  /* K; 0: single vector, the last state */
    int32_t causal;     /* 0: bidirectional, 1: causal (choice) */
    int32_t positions;  /* enum pos_from */
    int32_t activation; /* 0: gelu, 1: relu (choice) */
    int32_t ffn_mult;   /* inner width of the feed-forward / D */
    float dropout;      /* hidden */
    float attn_dropout;
    float init_std;
    float active_share; /* an interest with a smaller share of importance is not searched */
    bool item_tower;    /* item vectors come from ids and fields (tower.h) */
    int32_t field_width, tower_width; /* E, M */
    float id_dropout; /* part of the ids that are missing in a step of the training */
    int32_t n_items;  /* V, from the data, not from the recipe */
};
extern const struct opt model_opts[]; /* every member but n_items */

/* What learns together.  A bundle holds the encoder and the head; what objectives add is of training alone. */
enum group {
    GROUP_ENCODER = 1,
    GROUP_HEAD = 2,
    GROUP_OBJECTIVE = 4,
    GROUP_AUGMENTER = 8,
    GROUP_TOWER = 16,
    GROUP_STATE =
        32 /* kept with the weights, moved by no optimiser: running averages of batch norms */
};
enum { GROUPS_BUNDLE = GROUP_ENCODER | GROUP_HEAD };
enum beta { BETA_IN, BETA_OUT }; /* default vectors of inputs, and of label sequences */

struct model;
NODISCARD int model_check(const struct model_cfg *cfg, struct err *e); /* D % H, caps ... */
struct model *model_new(const struct model_cfg *cfg, bool trainable);  /* cfg must pass check */
void model_free(struct model *m);
const struct model_cfg *model_config(const struct model *m);
/* Another way to run the same weights: causal, dropout, attn_dropout and active_share may differ. */
void model_set(struct model *m, const struct model_cfg *cfg);
struct params *model_params(const struct model *m);
int32_t model_interests(const struct model *m); /* vectors per sequence: max(1, K) */
struct param *
model_items(const struct model *m); /* item.weight [V,D]: input and output table */

/* For cfg.item_tower, while training: item.weight [V,D] holds the ids' embeddings from now on.  Borrows fields. */
void model_add_tower(struct model *m, const struct item_fields *fields);
const struct tower *model_tower(const struct model *m); /* NULL: none was added */
/* After tape_begin, before anything else of the step: with a tower, item.weight is what it gives for all items. */
void model_begin(const struct model *m, struct tape *tp);
/* Exchanges the ids' embeddings and what the tower gives for all items, which is what evaluation and bundles have as
 * item.weight; twice is as before, but for weights that have moved.  Nothing without a tower. */
void model_bake(struct model *m, struct par *pool);
/* From here on ids may be EMBED_MASK: such a token has the place of an item and a learned row, mask.weight [1,D], of
 * GROUP_OBJECTIVE; not learned, it is a constant, as the padding row is in the public codes.  Asked again, nothing is added; learned wins. */
void model_add_mask(struct model *m, bool learned);

struct encoded {
    struct ten *states; /* [N,D]; NULL for the single head, which needs the last ones only */
    struct ten *phi;    /* [B*K,D], row b*K+k; the last state when the head is single */
    struct ten *assign; /* [N,K] p(k|i); NULL for the single head */
    struct ten *weight; /* [N,1] p_i, sums to 1 in each sequence; NULL for the single head */
};
/* ids [N] in [0,V), or EMBED_MASK, every sequence 1..L long.  All of it is recorded on tp. */
struct encoded model_encode(const struct model *m, struct tape *tp, const struct seqpack *sp,
                            const int32_t *ids, enum beta beta);
/* All states [N,D], for objectives that train every position. */
struct ten *model_states(const struct model *m, struct tape *tp, const struct seqpack *sp,
                         const int32_t *ids);
/* The last states [B,D], whatever the head. */
struct ten *model_last(const struct model *m, struct tape *tp, const struct seqpack *sp,
                       const int32_t *ids);
/* Share of importance per interest, share[b*K+k] = sum_i p(k|i) p_i; ones for the single head. */
void model_shares(float *share, const struct model *m, const struct encoded *e,
                  const struct seqpack *sp);
