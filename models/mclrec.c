/* mclrec.c — meta-optimised contrastive learning (Qin et al., SIGIR 2023; models/README.md, mclrec).  h1, h2: vectors of two
 * augmented views, z1 = w1(h1), z2 = w2(h2) those of two learned augmenters; con: NT-Xent, reg: ad_margin_limit:
 *   L_cl1 = con(h1,h2)    L_cl2 = con(z1,z2) + con(h1,z2) + con(h2,z1)    R = reg over the same three pairs
 *   the encoder learns   L_0 = L_next_item + lambda L_cl1 + beta (L_cl2 + gamma R)
 *   the augmenters       L_1 = L_cl2 + gamma R
 * in turns: encoder, augmenters, and as in the authors' code the encoder again. */
#include "core/base/mem.h"
#include "models/contrast.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum updates { UPDATES_THREE, UPDATES_TWO, UPDATES_JOINT };
enum { LAYERS = 3 };

struct mclrec {
    float crop_keep, mask, reorder, lambda, beta, gamma;
    bool shared_augmenter;
    int32_t mask_token, updates;
};

static const struct opt opts[] = {
    OPT_FLOAT(struct mclrec, crop_keep, "0.5", 0, 1,
              "crop: part of a sequence that stays; 1: no cropping"),
    OPT_FLOAT(struct mclrec, mask, "0.5", 0, 1, "mask: part that is hidden; 0: no masking"),
    OPT_FLOAT(struct mclrec, reorder, "0.8", 0, 1, "reorder: part that is shuffled; 0: none"),
    OPT_CHOICE(struct mclrec, mask_token, "padding", "learned|padding",
               "what hides an item: a token, or nothing (it leaves attention)"),
    OPT_FLOAT(struct mclrec, lambda, "0.04", 0, 1e3, "weight of the views' contrast, L_cl1"),
    OPT_FLOAT(struct mclrec, beta, "0.4", 0, 1e3,
              "weight of the augmented vectors' contrast and of its regulariser"),
    OPT_FLOAT(struct mclrec, gamma, "0.1", 0, 1e3, "the regulariser's, beside L_cl2"),
    OPT_BOOL(struct mclrec, shared_augmenter, "false", "one augmenter for both views"),
    OPT_CHOICE(struct mclrec, updates, "three", "three|two|joint",
               "encoder, augmenters, encoder; without the last; or all at once"),
    OPT_END
};

/* MLP D -> D/2 -> D/4 -> D, gelu between, scaled to length 1. */
struct augmenter {
    struct param *w[LAYERS], *b[LAYERS];
};

/* Of the vectors: all interests side by side. */
static int32_t width(const struct model_cfg *m)
{
    return m->width * (m->interests > 0 ? m->interests : 1);
}

static struct augment_cfg augmentation(const struct mclrec *c, const struct model_cfg *m)
{
    return (struct augment_cfg){ .crop_keep = c->crop_keep,
                                 .mask = c->mask,
                                 .reorder = c->reorder,
                                 .two_operators = true,
                                 .pad = c->mask > 0 && c->mask_token == MASK_PADDING,
                                 .max_len = m->max_len,
                                 .positions = (enum pos_from)m->positions };
}

static int check(const void *cfg, const struct obj_context *x, struct err *e)
{
    const struct mclrec *c = cfg;
    struct augment_cfg a = augmentation(c, x->model);
    if (augment_operators(&a) == 0)
        return err_set(e, ERR_CONFIG,
                       "mclrec: no operator is left: set crop_keep below 1, or mask or reorder "
                       "above 0");
    if (c->lambda == 0 && c->beta == 0)
        return err_set(e, ERR_CONFIG, "mclrec: nothing to train: lambda and beta are 0");
    if (width(x->model) < 4)
        return err_set(e, ERR_CONFIG, "mclrec: model.width = %d: augmenters need at least 4",
                       x->model->width);
    return contrast_check("mclrec", 2 * (int64_t)x->batch_size, "lower train.batch_size", e);
}

/* ---- augmenters ---- */

static struct augmenter declare(struct params *ps, int number, int32_t D)
{
    const int32_t size[LAYERS + 1] = { D, D / 2, D / 4, D };
    struct augmenter a;
    for (int i = 0; i < LAYERS; i++) {
        char name[64];
        float bound = 1 / sqrtf((float)size[i]); /* as PyTorch begins linear layers */
        snprintf(name, sizeof name, "mclrec.augmenter%d.%d.weight", number, i);
        a.w[i] =
            params_want(ps, name, size[i], size[i + 1], GROUP_AUGMENTER, INIT_UNIFORM, bound);
        snprintf(name, sizeof name, "mclrec.augmenter%d.%d.bias", number, i);
        a.b[i] = params_want(ps, name, 1, size[i + 1], GROUP_AUGMENTER, INIT_UNIFORM, bound);
        a.b[i]->decay = false;
    }
    return a;
}

static struct ten *apply(struct tape *tp, const struct augmenter *a, struct ten *h)
{
    for (int i = 0; i < LAYERS; i++)
        h = ad_linear(tp, h, ad_param(tp, a->w[i]), ad_param(tp, a->b[i]),
                      i + 1 < LAYERS ? ACT_GELU : ACT_NONE);
    return ad_normalize(tp, h);
}

static void *open(const void *cfg, struct model *m, const struct dataset *d)
{
    (void)d;
    const struct mclrec *c = cfg;
    struct augmenter *a = xcalloc(2, sizeof *a);
    if (c->mask > 0) model_add_mask(m, c->mask_token == MASK_LEARNED);
    a[0] = declare(model_params(m), 1, width(model_config(m)));
    a[1] = c->shared_augmenter ? a[0] : declare(model_params(m), 2, width(model_config(m)));
    return a;
}

/* Without beta nothing reads the augmenters: their turn falls out, the encoder keeps its own. */
static int turns(const void *cfg, struct turn *out)
{
    const struct mclrec *c = cfg;
    const struct turn encoder = { GROUPS_ALL & ~(uint32_t)GROUP_AUGMENTER, false };
    int n = 0;
    if (c->updates == UPDATES_JOINT) {
        out[0] = (struct turn){ GROUPS_ALL, false };
        return 1;
    }
    out[n++] = encoder;
    if (c->beta > 0) out[n++] = (struct turn){ GROUP_AUGMENTER, true };
    if (c->updates == UPDATES_THREE) out[n++] = encoder;
    return n;
}

/* ---- loss ---- */

static const void *draw(const void *cfg, const void *own, const struct step *s)
{
    (void)own;
    struct augment_cfg a = augmentation(cfg, model_config(s->model));
    return contrast_views(s, &a);
}

/* con(a,b) + gamma reg(a,b); the regulariser needs a negative, so another row. */
static struct ten *compare(struct step *s, const char *name, struct ten *a, struct ten *b,
                           float gamma)
{
    struct tape *tp = s->tp;
    struct ten *x = contrast_matrix(tp, a, b, 1, SIMILARITY_DOT);
    struct ten *l = step_term(s, name, contrast_mean(tp, x));
    if (gamma == 0 || a->rows < 2) return l;
    struct ten *reg = step_term(s, "R", ad_margin_limit(tp, x, contrast_pairs(tp, a->rows)));
    return ad_add(tp, l, ad_scale(tp, reg, gamma));
}

/* L_cl2 + gamma R */
static struct ten *learned_views(const struct mclrec *c, const struct augmenter *w,
                                 struct step *s, struct ten *h1, struct ten *h2)
{
    struct ten *z1 = apply(s->tp, &w[0], h1), *z2 = apply(s->tp, &w[1], h2);
    struct ten *l = compare(s, "L_cl2", z1, z2, c->gamma);
    l = ad_add(s->tp, l, compare(s, "L_cl2", h1, z2, c->gamma));
    return ad_add(s->tp, l, compare(s, "L_cl2", h2, z1, c->gamma));
}

static struct ten *loss(const void *cfg, const void *own, const void *drawn, struct step *s)
{
    const struct mclrec *c = cfg;
    const struct view *v = drawn;
    struct ten *h1 = contrast_vectors(s, &v[0]), *h2 = contrast_vectors(s, &v[1]);
    struct ten *second = c->beta > 0 ? learned_views(c, own, s, h1, h2) : NULL;
    if (second && s->turn == 1) return second;
    if (second) second = ad_scale(s->tp, second, c->beta);
    if (c->lambda == 0) return second;
    struct ten *first = ad_scale(s->tp, compare(s, "L_cl1", h1, h2, 0), c->lambda);
    return second ? ad_add(s->tp, first, second) : first;
}

const struct obj_ops obj_mclrec = {
    .name = "mclrec",
    .help = "contrast of augmented views and of learned ones (MCLRec: Qin et al., SIGIR 2023)",
    .opts = opts,
    .cfg_size = sizeof(struct mclrec),
    .check = check,
    .open = open,
    .close = free,
    .turns = turns,
    .draw = draw,
    .loss = loss,
};
