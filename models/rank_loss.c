#include "models/rank_loss.h"
#include "models/contrast.h"
#include <math.h>

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

static int32_t part_of(float rate, int32_t n) { return (int32_t)floor((double)rate * n); }

/* A random piece of at least one step: its length, at row[0..]. */
static int32_t crop(int32_t *row, int32_t n, float keep, struct rng *rng)
{
    int32_t k = part_of(keep, n);
    if (k < 1) k = 1;
    const int32_t from = (int32_t)rng_below(rng, (uint32_t)(n - k + 1));
    for (int32_t i = 0; i < k; i++) row[i] = row[from + i];
    return k;
}

static void mask(int32_t *row, int32_t n, float rate, struct rng *rng)
{
    for (int32_t left = part_of(rate, n), i = 0; left > 0; i++) /* each subset is as likely */
        if ((int32_t)rng_below(rng, (uint32_t)(n - i)) < left) {
            row[i] = -1;
            left--;
        }
}

static void reorder(int32_t *row, int32_t n, float rate, struct rng *rng)
{
    const int32_t k = part_of(rate, n);
    rng_shuffle(rng, row + rng_below(rng, (uint32_t)(n - k + 1)), k);
}

/* One operator, drawn among those in use. */
static int32_t augment(int32_t *row, int32_t n, const struct rank_loss_cfg *c, struct rng *rng)
{
    enum { CROP, MASK, REORDER } use[3];
    uint32_t k = 0;
    if (c->crop_keep < 1) use[k++] = CROP;
    if (c->mask_rate > 0) use[k++] = MASK;
    if (c->reorder_rate > 0) use[k++] = REORDER;
    if (k == 0) return n;
    switch (use[rng_below(rng, k)]) {
    case CROP: return crop(row, n, c->crop_keep, rng);
    case MASK: mask(row, n, c->mask_rate, rng); return n;
    default: reorder(row, n, c->reorder_rate, rng); return n;
    }
}

static void draw_one(struct seqpack *pack, const int32_t **rows, struct arena *mem,
                     const struct rank_loss_cfg *cfg, const struct seqpack *seq,
                     struct rng *rng)
{
    int32_t *cu = ARENA_NEW(mem, int32_t, seq->B + 1), *row = ARENA_NEW(mem, int32_t, seq->N),
            *pos = ARENA_NEW(mem, int32_t, seq->N), B = 0, longest = 0;
    cu[0] = 0;
    for (int32_t b = 0; b < seq->B; b++) {
        const int32_t n = seq->cu[b + 1] - seq->cu[b];
        if (n == 0) continue;
        for (int32_t i = 0; i < n; i++) row[cu[B] + i] = seq->cu[b] + i;
        cu[B + 1] = cu[B] + augment(row + cu[B], n, cfg, rng);
        longest = n > longest ? n : longest;
        B++;
    }
    seqpack_positions(pos, cu, B, longest, POS_FIRST);
    *pack = (struct seqpack){ .B = B, .N = cu[B], .cu = cu, .pos = pos };
    *rows = row;
}

void rank_views_draw(struct rank_views *v, struct arena *mem, const struct rank_loss_cfg *cfg,
                     const struct seqpack *seq, struct rng *rng)
{
    for (int i = 0; i < 2; i++) draw_one(&v->pack[i], &v->row[i], mem, cfg, seq, rng);
}

/* ---- losses ---- */

static struct ten *plus(struct tape *tp, struct ten *a, struct ten *b)
{
    return b ? ad_add(tp, a, b) : a;
}

struct rank_losses rank_loss(const struct ranker *m, struct tape *tp,
                             const struct rank_loss_cfg *cfg, const struct ranker_batch *b,
                             const float *label, const struct rank_views *views)
{
    struct ranked r = ranker_forward(m, tp, b);
    struct rank_losses l = { .logit = r.logit, .click = ad_bce_logits(tp, r.logit, label) };
    /* a single view has nothing to be told from */
    if (r.steps && views && views->pack[0].B > 1) {
        struct ten *z[2];
        for (int i = 0; i < 2; i++) {
            const struct seqpack *p = &views->pack[i];
            struct ten *steps = ranker_view(m, tp, r.steps, views->row[i], p->N);
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
