/* dssrec.c — Disentangled self-supervision (Ma et al., KDD 2020; models/README.md, Objectives).  With phi^k(x) the
 * interests of the input, phi^k(y) those of the reversed future (its own default vectors beta'),
 * s(a,b) = a.b / sqrt D, and the batch's B rows:
 *   seq2seq   l(b,k) = -log( exp s(phi^k(x_b), phi^k(y_b)) / sum_{b',k'} exp s(phi^k(x_b), phi^k'(y_b')) )
 *             only the floor(lambda B K) smallest (at least 1) are trained: the confidence threshold
 *   seq2item  l(b)   = -log( max_k exp s(phi^k(x_b), e_b) / sum_{b',k} exp s(phi^k(x_b), e_b') )
 *             e_b the next item of row b; the batch's next items are the negatives
 *   L = ( v sum_b l(b) + w sum_kept l(b,k) ) / B      v, w: options seq2item, seq2seq, 1 in the paper
 * seq2item samples the softmax over all items by the batch; next_item has it whole: with seq2item = 0
 * seq2seq can be added to that instead.
 * Differences from the public port (abis330/DSSRec): natural logarithm instead of base 2; both
 * sums divided by B; log-sum-exp; the threshold uses the batch's own size. */
#include "models/contrast.h"
#include <math.h>

struct dssrec {
    float lambda, seq2item, seq2seq;
};

static const struct opt opts[] = {
    OPT_FLOAT(struct dssrec, lambda, "0.5", 0, 1, "part of the seq2seq pairs that is trained"),
    OPT_FLOAT(struct dssrec, seq2item, "1", 0, 1e3, "weight of seq2item; 0: none"),
    OPT_FLOAT(struct dssrec, seq2seq, "1", 0, 1e3, "weight of seq2seq beside it; 0: none"),
    OPT_END
};

static int check(const void *cfg, const struct obj_context *c, struct err *e)
{
    const struct dssrec *own = cfg;
    if (c->model->interests < 1)
        return err_set(e, ERR_CONFIG, "dssrec: needs interests; set model.interests, e.g. 4");
    if (c->layout == LAYOUT_A)
        return err_set(e, ERR_CONFIG, "dssrec: needs prefixes; set train.layout = B or C");
    if (own->seq2item == 0 && own->seq2seq == 0)
        return err_set(e, ERR_CONFIG, "dssrec: nothing to train: seq2item and seq2seq are 0");
    return contrast_check("dssrec", (int64_t)c->batch_size * c->model->interests,
                          "lower train.batch_size", e);
}

static void needs(const void *cfg, struct batch_cfg *b)
{
    b->future = ((const struct dssrec *)cfg)->seq2seq > 0;
}

static struct ten *seq2seq(const struct step *s, struct ten *phi, float lambda, float scale)
{
    const struct batch *b = s->batch;
    int32_t rows = phi->rows;
    struct encoded y = model_encode(s->model, s->tp, &b->fut, b->fut_ids, BETA_OUT);
    struct ten *l = ad_xent_rows(s->tp, ad_matmul_nt(s->tp, phi, y.phi, scale),
                                 step_numbers(s->tp, rows), false);
    /* .7f is a little less than .7: the millionth keeps 0.7 * 1000 at 700 */
    int32_t keep = (int32_t)floor((double)lambda * rows * (1 + 1e-6));
    return ad_trimmed_sum(s->tp, l, keep > 1 ? keep : 1);
}

static struct ten *seq2item(const struct step *s, struct ten *phi, float scale)
{
    int32_t B = s->batch->seq.B;
    struct ten *next = ad_embed(s->tp, ad_param(s->tp, model_items(s->model)), s->batch->target,
                                NULL, NULL, NULL, B);
    struct ten *l = ad_xent_group(s->tp, ad_matmul_nt(s->tp, phi, next, scale),
                                  step_numbers(s->tp, B), model_interests(s->model));
    return ad_sum(s->tp, l, 1);
}

static struct ten *loss(const void *cfg, const void *own, const void *drawn, struct step *s)
{
    (void)own, (void)drawn;
    const struct dssrec *c = cfg;
    struct ten *phi = step_in(s)->phi;
    const float scale = 1.0f / sqrtf((float)phi->cols), by_B = 1.0f / (float)s->batch->seq.B;
    struct ten *item = c->seq2item > 0 ? seq2item(s, phi, scale) : NULL;
    struct ten *seq = c->seq2seq > 0 ? seq2seq(s, phi, c->lambda, scale) : NULL;
    if (item) (void)step_term(s, "seq2item", item);
    if (seq) (void)step_term(s, "seq2seq", seq);
    if (item && c->seq2item != 1) item = ad_scale(s->tp, item, c->seq2item);
    if (seq && c->seq2seq != 1) seq = ad_scale(s->tp, seq, c->seq2seq);
    return ad_scale(s->tp, item && seq ? ad_add(s->tp, item, seq) : item ? item : seq, by_B);
}

const struct obj_ops obj_dssrec = {
    .name = "dssrec",
    .help = "disentangled sequence-to-sequence self-supervision (Ma et al., KDD 2020)",
    .opts = opts,
    .cfg_size = sizeof(struct dssrec),
    .check = check,
    .needs = needs,
    .loss = loss,
};
