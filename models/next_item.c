/* next_item.c — softmax cross-entropy of the next item over the whole catalogue, the item table
 * tied to the input embedding, no bias (models/README.md, Objectives; RecBole's SASRec computes the same, with its padding
 * row as one more candidate):
 *   L = mean_b ( log sum_v exp s(b,v) - s(b, x_{t+1}) ),  s(b,v) = max_k phi_k . e_v
 * Layout A trains every position of a single-vector causal encoder, layout B the last position or
 * the K interests; the maximum over interests is ComiRec's readout (Cen et al., KDD 2020) moved
 * inside the softmax. */
#include "models/obj.h"

static const struct opt opts[] = { OPT_END };

static int check(const struct model_cfg *m, enum layout layout, struct err *e)
{
    if (layout == LAYOUT_A && m->interests > 0)
        return err_set(e, ERR_CONFIG,
                       "next_item: layout A trains every position and has no interests; set "
                       "train.layout = B or model.interests = 0");
    if (layout == LAYOUT_A && !m->causal)
        return err_set(
            e, ERR_CONFIG,
            "next_item: with layout A a bidirectional encoder would see its targets; "
            "set model.causal = causal or train.layout = B");
    return 0;
}

static struct ten *loss(const void *cfg, const struct step *s)
{
    (void)cfg;
    /* one target per token (layout A) or per row (layout B) */
    bool per_token = s->layout == LAYOUT_A;
    struct ten *q = per_token ? s->in.states : s->in.phi;
    int32_t K = per_token ? 1 : model_interests(s->model);
    return ad_xent(s->tp, q, ad_param(s->tp, model_items(s->model)), s->batch->target, K);
}

const struct obj_ops obj_next_item = {
    .name = "next_item",
    .help = "softmax cross-entropy of the next item over all items (SASRec)",
    .opts = opts,
    .check = check,
    .loss = loss,
};
