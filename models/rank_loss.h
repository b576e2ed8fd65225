/* rank_loss.h — what the rank model is trained on: click log-loss, and a contrastive loss between two augmented views of
 * each sequence through the same package of layers (EasyRec's CL4SRec; models/README.md, Rank model).
 *   struct rank_views v;  rank_views_draw(&v, tape_arena(tp), &cfg, &batch.seq, &rng);
 *   struct rank_losses l = rank_loss(m, tp, &cfg, &batch, label, &v);   tape_backward(tp, l.total);
 * Thread: the training loop's. */
#pragma once
#include "core/base/rng.h"
#include "core/nn/ranker.h"

struct rank_loss_cfg {
    float contrast_weight, temperature;
    float crop_keep, mask_rate, reorder_rate; /* an operator is drawn where it does something */
    float l2_regularization, embedding_regularization;
};
extern const struct opt rank_loss_opts[];

/* Two versions of every sequence that is not empty. */
struct rank_views {
    struct seqpack pack[2];
    const int32_t *row[2]; /* [pack.N] rows of the steps; -1: masked */
};
void rank_views_draw(struct rank_views *v, struct arena *mem, const struct rank_loss_cfg *cfg,
                     const struct seqpack *seq, struct rng *rng);

struct rank_losses { /* [1,1] each, with its weight; NULL: not in use */
    struct ten *click, *contrast, *l2, *embedding, *total;
    struct ten *logit; /* [B,1] */
};
/* label [B] in [0,1]; views NULL: no contrastive loss. */
struct rank_losses rank_loss(const struct ranker *m, struct tape *tp,
                             const struct rank_loss_cfg *cfg, const struct ranker_batch *b,
                             const float *label, const struct rank_views *views);
