#include "models/rank_loss.h"
#include "models/contrast.h"

const struct opt rank_loss_opts[] = {
    OPT_FLOAT(struct rank_loss_cfg, contrast_weight, "0.1", 0, 1e3,
              "of the contrastive loss; 0: none"),
    OPT_FLOAT(struct rank_loss_cfg, temperature, "0.15", 1e-3, 1e3,
              "divides the similarities of views"),
    OPT_FLOAT(struct rank_loss_cfg, crop_keep, "0.2", 0, 1,
              "part of the sequence that cropping keeps; 1: no cropping"),
    OPT_FLOAT(struct rank_loss_cfg, mask_rate, "0.6", 0, 1,
              "part of the steps that masking replaces by a learned vector; 0: no masking"),
    OPT_FLOAT(struct rank_loss_cfg, reorder_rate, "0.6", 0, 1,
              "part of the sequence, in one piece, that is shuffled; 0: no shuffling"),
    OPT_FLOAT(struct rank_loss_cfg, l2_regularization, "0", 0, 1e3,
              "half of it times the squares of the top's matrices and the steps' projection"),
    OPT_FLOAT(struct rank_loss_cfg, embedding_regularization, "0", 0, 1e3,
              "half of it times the squares of all embeddings that the batch looked up"),
    OPT_END
};

/* ---- views ---- */

static struct augment_cfg augmentation(const struct rank_loss_cfg *c, int32_t max_len)
{
    return (struct augment_cfg){ .crop_keep = c->crop_keep,
                                 .mask = c->mask_rate,
                                 .reorder = c->reorder_rate,
                                 .max_len = max_len,
                                 .positions = POS_FIRST };
}

int rank_loss_check(const struct rank_loss_cfg *c, int32_t batch_size, struct err *e)
{
    const struct augment_cfg a = augmentation(c, 0);
    if (c->contrast_weight == 0) return 0;
    if (augment_operators(&a) == 0)
        return err_set(
            e, ERR_CONFIG,
            "contrastive loss: no operator is left: set crop_keep below 1, mask_rate or "
            "reorder_rate above 0, or contrast_weight = 0");
    return contrast_check("contrastive loss", 2 * (int64_t)batch_size,
                          "lower batch_size, or set contrast_weight = 0", e);
}

void rank_views(struct view v[2], struct arena *mem, const struct rank_loss_cfg *cfg,
                const struct seqpack *seq, int32_t max_len, uint64_t key)
{
    const struct augment_cfg a = augmentation(cfg, max_len);
    int32_t *cu = ARENA_NEW(mem, int32_t, seq->B + 1), *row = ARENA_NEW(mem, int32_t, seq->N),
            B = 0;
    cu[0] = 0;
    for (int32_t b = 0; b < seq->B; b++)
        if (seq->cu[b + 1] > seq->cu[b]) cu[++B] = seq->cu[b + 1];
    for (int32_t i = 0; i < seq->N; i++) row[i] = i;
    augment_pair(v, mem, &a, &(struct seqpack){ .B = B, .N = seq->N, .cu = cu }, row, key);
}

/* ---- losses ---- */

static struct ten *plus(struct tape *tp, struct ten *a, struct ten *b)
{
    return b ? ad_add(tp, a, b) : a;
}

struct rank_losses rank_loss(const struct ranker *m, struct tape *tp,
                             const struct rank_loss_cfg *cfg, const struct ranker_batch *b,
                             const float *label, const struct view *views)
{
    struct ranked r = ranker_forward(m, tp, b);
    struct rank_losses l = { .logit = r.logit, .click = ad_bce_logits(tp, r.logit, label) };
    /* a single view has nothing to be told from */
    if (r.steps && views && views->seq.B > 1) {
        struct ten *z[2];
        for (int i = 0; i < 2; i++) {
            const struct seqpack *p = &views[i].seq;
            struct ten *steps = ranker_view(m, tp, r.steps, views[i].ids, p->N);
            z[i] = ranker_package(m, tp, steps, p);
        }
        l.contrast =
            ad_scale(tp, contrast_nt_xent(tp, z[0], z[1], cfg->temperature, SIMILARITY_DOT),
                     cfg->contrast_weight);
    }
    if (cfg->l2_regularization > 0) l.l2 = ranker_squares(m, tp, cfg->l2_regularization / 2);
    if (cfg->embedding_regularization > 0) {
        const float half = cfg->embedding_regularization / 2;
        l.embedding = ad_squares(tp, r.input, half);
        if (r.steps) l.embedding = ad_add(tp, l.embedding, ad_squares(tp, r.steps, half));
    }
    l.total = plus(tp, plus(tp, plus(tp, l.click, l.contrast), l.l2), l.embedding);
    return l;
}
