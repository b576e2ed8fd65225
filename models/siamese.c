/* siamese.c — the two halves of a history, which items of either chance put together, should agree (models/README.md,
 * siamese): NT-Xent between the halves' vectors, the batch's other halves being the negatives. */
#include "models/contrast.h"

struct siamese {
    int32_t similarity;
    float temperature;
};

static const struct opt opts[] = {
    OPT_CHOICE(struct siamese, similarity, "cosine", "dot|cosine", "of two halves"),
    OPT_FLOAT(struct siamese, temperature, "0.1", 1e-3, 1e3, "divides the similarities"),
    OPT_END
};

static int check(const void *cfg, const struct obj_context *x, struct err *e)
{
    (void)cfg;
    return contrast_check("siamese", 2 * (int64_t)x->batch_size, "lower train.batch_size", e);
}

static const void *draw(const void *cfg, const void *own, const struct step *s)
{
    (void)cfg, (void)own;
    const struct model_cfg *m = model_config(s->model);
    struct view *v = ARENA_NEW(tape_arena(s->tp), struct view, 2);
    augment_halves(v, tape_arena(s->tp), &s->batch->seq, s->batch->ids, m->max_len,
                   (enum pos_from)m->positions, s->key);
    return v;
}

static struct ten *loss(const void *cfg, const void *own, const void *drawn, struct step *s)
{
    (void)own;
    const struct siamese *c = cfg;
    const struct view *v = drawn;
    struct ten *a = contrast_vectors(s, &v[0]), *b = contrast_vectors(s, &v[1]);
    return contrast_nt_xent(s->tp, a, b, c->temperature, (enum similarity)c->similarity);
}

const struct obj_ops obj_siamese = {
    .name = "siamese",
    .help = "the two halves of a history, split at random, should have similar vectors",
    .opts = opts,
    .cfg_size = sizeof(struct siamese),
    .check = check,
    .draw = draw,
    .loss = loss,
};
