/* rank_loss.h — what the rank model is trained on: click log-loss, and a contrastive loss between two augmented views of
 * each sequence through the same package of layers (EasyRec's CL4SRec; models/README.md, Rank model).
 *   struct view v[2];  rank_views(v, tape_arena(tp), &cfg, &batch.seq, max_len, key);
 *   struct rank_losses l = rank_loss(m, tp, &cfg, &batch, label, v);   tape_backward(tp, l.total);
 * Thread: the training loop's. */
#pragma once
#include "core/data/augment.h"
#include "core/nn/ranker.h"

struct rank_loss_cfg {
    float contrast_weight, temperature;
    float crop_keep, mask_rate, reorder_rate; /* an operator is drawn where it does something */
    float l2_regularization, embedding_regularization;
};
extern const struct opt rank_loss_opts[];

/* Refuses what gives no views to compare: no operator, or more of them than can be compared. */
NODISCARD int rank_loss_check(const struct rank_loss_cfg *cfg, int32_t batch_size,
                              struct err *e);
/* Two versions of every sequence that is not empty, in mem; ids: rows of the steps, below 0 where one is masked. */
void rank_views(struct view v[2], struct arena *mem, const struct rank_loss_cfg *cfg,
                const struct seqpack *seq, int32_t max_len, uint64_t key);

struct rank_losses { /* [1,1] each, with its weight; NULL: not in use */
    struct ten *click, *contrast, *l2, *embedding, *total;
    struct ten *logit; /* [B,1] */
};
/* label [B] in [0,1]; views [2], NULL: no contrastive loss. */
struct rank_losses rank_loss(const struct ranker *m, struct tape *tp,
                             const struct rank_loss_cfg *cfg, const struct ranker_batch *b,
                             const float *label, const struct view *views);
