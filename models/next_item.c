/* next_item.c — the next item, scored s(b,v) = max_k phi_k . e_v / temperature with the item table tied to the input
 * embedding and no bias (models/README.md, Objectives).  t: the target, N: negatives drawn.
 *   softmax  log sum_v exp s(v) - s(t)                          over the whole catalogue (RecBole's SASRec, its
 *                                                               padding row left out)
 *   sampled  log sum_{v in N + t} exp s'(v) - s'(t)             N shared by the batch, s' corrected for the draws by
 *                                                               -log(n q): the negatives' scores, or both
 *   bce      -log sigma(s(t)) - sum_N log(1 - sigma(s(v)))      S3-Rec's SASRec with one negative
 *   gbce     (-beta log sigma(s(t)) - sum_N ...) / (|N| + 1)    Petrov & Macdonald, RecSys 2023:
 *            beta = a ((1 - 1/a) t + 1/a), a = |N| / (V - 1)
 *   bpr      - mean_N log sigma(s(t) - s(v))                    Rendle et al., UAI 2009
 * Layout A trains every position of a single-vector causal encoder, layouts B and C the last position or
 * the K interests; the maximum over interests is ComiRec's readout (Cen et al., KDD 2020) moved
 * inside the loss. */
#include "models/obj.h"
#include <math.h>

enum log_q { LOG_Q_NONE, LOG_Q_BOTH, LOG_Q_NEGATIVES };
enum loss { LOSS_SOFTMAX, LOSS_SAMPLED, LOSS_BCE, LOSS_GBCE, LOSS_BPR };

struct next_item {
    int32_t loss, negatives, sampling, log_q;
    bool avoid_seen;
    float temperature, label_smoothing, gbce_t;
};

static const struct opt opts[] = {
    OPT_CHOICE(
        struct next_item, loss, "softmax", "softmax|sampled|bce|gbce|bpr",
        "over all items, or against negatives: softmax, binary cross-entropy, gBCE, BPR"),
    OPT_INT(
        struct next_item, negatives, "0", 0, 65536,
        "negatives of a batch (sampled) or of each target (bce, gbce, bpr); 0: 256, 1, 256, 1"),
    OPT_CHOICE(struct next_item, sampling, "uniform", "uniform|popularity",
               "how negatives are drawn"),
    OPT_CHOICE(struct next_item, log_q, "negatives", "none|both|negatives",
               "sampled: scores that are corrected for how often an item is drawn"),
    OPT_BOOL(struct next_item, avoid_seen, "true",
             "bce, gbce, bpr: no negatives from the user's training part"),
    OPT_FLOAT(struct next_item, temperature, "1", 1e-3, 1e3, "divides the scores"),
    OPT_FLOAT(struct next_item, label_smoothing, "0", 0, 0.99,
              "softmax, sampled: part of the target that is spread over all candidates"),
    OPT_FLOAT(struct next_item, gbce_t, "0.75", 0, 1,
              "gbce: calibration, 0: plain, 1: fully corrected for the sampling"),
    OPT_END
};

static int32_t negatives(const struct next_item *c)
{
    if (c->loss == LOSS_SOFTMAX) return 0;
    if (c->negatives > 0) return c->negatives;
    return c->loss == LOSS_SAMPLED || c->loss == LOSS_GBCE ? 256 : 1;
}

static int check(const void *cfg, const struct obj_context *x, struct err *e)
{
    const struct next_item *c = cfg;
    if (x->layout == LAYOUT_A && x->model->interests > 0)
        return err_set(e, ERR_CONFIG,
                       "next_item: layout A trains every position and has no interests; set "
                       "train.layout = B or model.interests = 0");
    if (x->layout == LAYOUT_A && !x->model->causal)
        return err_set(
            e, ERR_CONFIG,
            "next_item: with layout A a bidirectional encoder would see its targets; "
            "set model.causal = causal or train.layout = B");
    if (x->touched && c->loss == LOSS_SOFTMAX)
        return err_set(
            e, ERR_CONFIG,
            "next_item: the full softmax touches every item; with train.item_update = "
            "touched set next_item.loss = sampled");
    if (c->label_smoothing > 0 && c->loss != LOSS_SOFTMAX && c->loss != LOSS_SAMPLED)
        return err_set(
            e, ERR_CONFIG,
            "next_item: label_smoothing is for the softmax losses; set it to 0 or loss "
            "= sampled");
    return 0;
}

static void needs(const void *cfg, struct batch_cfg *b)
{
    const struct next_item *c = cfg;
    b->neg = (struct negatives_cfg){ .n = negatives(c),
                                     .per_target = c->loss != LOSS_SAMPLED,
                                     .avoid_seen = c->loss != LOSS_SAMPLED && c->avoid_seen,
                                     .how = (enum sampling)c->sampling };
}

/* -log (draws q) [n]: how often an item is expected among so many draws, for as long as the step */
static const float *correction(struct tape *tp, const float *log_q, int32_t n, int32_t draws)
{
    float *x = ARENA_NEW(tape_arena(tp), float, n), all = logf((float)draws);
    for (int32_t i = 0; i < n; i++) x[i] = -log_q[i] - all;
    return x;
}

/* The power of the positive's probability that undoes what |N| of V - 1 negatives overstate. */
static float gbce_beta(const struct next_item *c, int32_t n, int32_t V)
{
    double a = V > 1 ? (double)n / (V - 1) : 1, t = (double)c->gbce_t;
    return (float)(a * ((1 - 1 / a) * t + 1 / a));
}

static struct ten *against_negatives(const struct next_item *c, const struct step *s,
                                     struct ten *q, struct ten *table, int32_t K)
{
    int32_t n = negatives(c), T = q->rows / K;
    struct sampled_opts o = { .kind = c->loss == LOSS_SAMPLED ? SAMPLED_SOFTMAX
                                      : c->loss == LOSS_BPR   ? SAMPLED_BPR
                                                              : SAMPLED_BCE,
                              .target = s->batch->target,
                              .neg = s->batch->neg,
                              .n = n,
                              .shared = c->loss == LOSS_SAMPLED,
                              .weight = s->batch->weight,
                              .smoothing = c->label_smoothing,
                              .beta = 1,
                              .scale = 1 };
    if (c->loss == LOSS_SAMPLED && c->log_q != LOG_Q_NONE)
        o.neg_bias = correction(s->tp, s->batch->neg_log_q, n, n);
    if (c->loss == LOSS_SAMPLED && c->log_q == LOG_Q_BOTH)
        o.target_bias = correction(s->tp, s->batch->target_log_q, T, n);
    if (c->loss == LOSS_GBCE) {
        o.beta = gbce_beta(c, n, model_config(s->model)->n_items);
        o.scale = 1.0f / (float)(n + 1);
    }
    return ad_sampled(s->tp, q, table, K, &o);
}

static struct ten *loss(const void *cfg, const void *own, const void *drawn, struct step *s)
{
    (void)own, (void)drawn;
    const struct next_item *c = cfg;
    /* one target per token (layout A) or per row */
    bool per_token = s->layout == LAYOUT_A;
    struct ten *q = per_token ? step_in(s)->states : step_in(s)->phi;
    struct ten *table = ad_param(s->tp, model_items(s->model));
    int32_t K = per_token ? 1 : model_interests(s->model);
    if (c->temperature != 1) q = ad_scale(s->tp, q, 1.0f / c->temperature);
    if (c->loss != LOSS_SOFTMAX) return against_negatives(c, s, q, table, K);
    struct xent_opts o = { .smoothing = c->label_smoothing, .weight = s->batch->weight };
    return ad_xent(s->tp, q, table, s->batch->target, K, &o);
}

const struct obj_ops obj_next_item = {
    .name = "next_item",
    .help =
        "the next item: softmax over all items (SASRec), or a loss against sampled negatives",
    .opts = opts,
    .cfg_size = sizeof(struct next_item),
    .check = check,
    .needs = needs,
    .loss = loss,
};
