/* cl4srec.c — contrastive learning for sequential recommendation (Xie et al., ICDE 2022; models/README.md, cl4srec):
 * NT-Xent between two augmented views of every sequence of the batch.  Added to next_item, as the paper does:
 *   L = L_next_item + weight L_contrast */
#include "models/contrast.h"
#include "models/similar.h"

struct cl4srec {
    float crop_keep, mask, reorder, insert, substitute, temperature;
    bool two_operators;
    int32_t mask_token, similarity, similar, short_length;
};

static const struct opt opts[] = {
    OPT_FLOAT(struct cl4srec, crop_keep, "0.6", 0, 1,
              "crop: part of a sequence that stays; 1: no cropping"),
    OPT_FLOAT(struct cl4srec, mask, "0.3", 0, 1, "mask: part that is hidden; 0: no masking"),
    OPT_FLOAT(struct cl4srec, reorder, "0.6", 0, 1, "reorder: part that is shuffled; 0: none"),
    OPT_FLOAT(struct cl4srec, insert, "0", 0, 1,
              "insert: part that gets a similar item before it; 0: none"),
    OPT_FLOAT(struct cl4srec, substitute, "0", 0, 1,
              "substitute: part replaced by similar items; 0: none"),
    OPT_BOOL(struct cl4srec, two_operators, "true",
             "the two views are made by different operators; false: drawn independently"),
    OPT_CHOICE(struct cl4srec, mask_token, "learned", "learned|padding",
               "what hides an item: a token, or nothing (it leaves attention)"),
    OPT_INT(struct cl4srec, short_length, "0", 0, 4096,
            "up to so many items neither crop nor reorder, if there is anything else"),
    OPT_CHOICE(struct cl4srec, similar, "itemcf", "itemcf|hybrid",
               "insert, substitute: similar by counting, or also by current embeddings"),
    OPT_CHOICE(struct cl4srec, similarity, "dot", "dot|cosine", "of two views"),
    OPT_FLOAT(struct cl4srec, temperature, "1", 1e-3, 1e3, "divides the similarities"),
    OPT_END
};

static bool uses_similar(const struct cl4srec *c) { return c->insert > 0 || c->substitute > 0; }

static struct augment_cfg augmentation(const struct cl4srec *c, const struct model_cfg *m,
                                       const struct similar *s)
{
    return (struct augment_cfg){ .crop_keep = c->crop_keep,
                                 .mask = c->mask,
                                 .reorder = c->reorder,
                                 .insert = c->insert,
                                 .substitute = c->substitute,
                                 .two_operators = c->two_operators,
                                 .short_length = c->short_length,
                                 .pad = c->mask > 0 && c->mask_token == MASK_PADDING,
                                 .similar = s ? similar_items(s) : NULL,
                                 .max_len = m->max_len,
                                 .positions = (enum pos_from)m->positions };
}

static int check(const void *cfg, const struct obj_context *x, struct err *e)
{
    const struct cl4srec *c = cfg;
    struct augment_cfg a = augmentation(c, x->model, NULL);
    if (augment_operators(&a) == 0)
        return err_set(e, ERR_CONFIG,
                       "cl4srec: no operator is left: set crop_keep below 1, or mask, reorder, "
                       "insert or substitute above 0");
    if (x->touched && uses_similar(c))
        return err_set(e, ERR_CONFIG,
                       "cl4srec: insert and substitute take items that a batch does not name; "
                       "set train.item_update = dense, or both to 0");
    return contrast_check("cl4srec", 2 * (int64_t)x->batch_size, "lower train.batch_size", e);
}

static void *open(const void *cfg, struct model *m, const struct dataset *d)
{
    const struct cl4srec *c = cfg;
    if (c->mask > 0) model_add_mask(m, c->mask_token == MASK_LEARNED);
    return uses_similar(c) ? similar_new(m, d, c->similar == SIMILAR_HYBRID) : NULL;
}

static void close(void *own) { similar_free(own); }

static void epoch(void *own, struct model *m, bool fresh, struct par *pool)
{
    if (own) similar_epoch(own, m, fresh, pool);
}

static const void *draw(const void *cfg, const void *own, const struct step *s)
{
    struct augment_cfg a = augmentation(cfg, model_config(s->model), own);
    return contrast_views(s, &a);
}

static struct ten *loss(const void *cfg, const void *own, const void *drawn, struct step *s)
{
    (void)own;
    const struct cl4srec *c = cfg;
    const struct view *v = drawn;
    struct ten *a = contrast_vectors(s, &v[0]), *b = contrast_vectors(s, &v[1]);
    return contrast_nt_xent(s->tp, a, b, c->temperature, (enum similarity)c->similarity);
}

const struct obj_ops obj_cl4srec = {
    .name = "cl4srec",
    .help = "contrast of two augmented views of a sequence (CL4SRec: Xie et al., ICDE 2022)",
    .opts = opts,
    .cfg_size = sizeof(struct cl4srec),
    .check = check,
    .open = open,
    .close = close,
    .epoch = epoch,
    .draw = draw,
    .loss = loss,
};
