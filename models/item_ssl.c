/* item_ssl.c — self-supervision of the item tower (Yao et al., CIKM 2021; models/README.md, item_ssl): two views of an
 * item, each with the other one's features masked, should have similar vectors z, z'; the items are drawn uniformly from
 * the catalogue, not as they were interacted with:
 *   L = -1/n sum_i log( exp(cos(z_i, z'_i) / temperature) / sum_j exp(cos(z_i, z'_j) / temperature) )
 * Added to a loss that shares the tower:  L_main + weight L. */
#include "models/item_ssl.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "models/contrast.h"
#include "models/mutual.h"
#include <stdlib.h>
#include <string.h>

enum masking { MASKING_CFM, MASKING_RFM };
enum { FEATURES = LIMIT_FIELDS + 1, ID = LIMIT_FIELDS }; /* the fields, and the id */

struct item_ssl {
    int32_t masking, items;
    float value_dropout, temperature;
};

static const struct opt opts[] = {
    OPT_CHOICE(struct item_ssl, masking, "cfm", "cfm|rfm",
               "masked together: fields that tell of each other, or any half"),
    OPT_INT(struct item_ssl, items, "256", 2, 65536, "items of a batch, drawn uniformly"),
    OPT_FLOAT(struct item_ssl, value_dropout, "0.1", 0, 1,
              "part of the values that is left out of a field with several"),
    OPT_FLOAT(struct item_ssl, temperature, "0.1", 1e-3, 1e3, "divides the cosines"), OPT_END
};

struct own {
    int32_t n;      /* fields */
    double *mutual; /* [n,n] mutual information */
};

static int check(const void *cfg, const struct obj_context *x, struct err *e)
{
    if (!x->model->item_tower)
        return err_set(e, ERR_CONFIG,
                       "item_ssl: trains the item tower, which this model has not; set "
                       "model.item_tower = true");
    return contrast_check("item_ssl", ((const struct item_ssl *)cfg)->items,
                          "lower item_ssl.items", e);
}

static void *open(const void *cfg, struct model *m, const struct dataset *d)
{
    (void)cfg, (void)d;
    const struct item_fields *f = tower_fields(model_tower(m));
    struct own *o = xcalloc(1, sizeof *o);
    o->n = f->n;
    o->mutual = xcalloc((size_t)f->n * (size_t)f->n, sizeof *o->mutual);
    mutual_information(o->mutual, f);
    return o;
}

static void close(void *own)
{
    struct own *o = own;
    free(o->mutual);
    free(o);
}

/* ---- what is drawn ---- */

/* The features that the first view lacks; the second one lacks the others.  The id tells everything, so that it is in one
 * of the views only, either. */
static void split_half(bool *masked, int32_t n, struct rng *r)
{
    int32_t order[FEATURES];
    for (int32_t j = 0; j <= n; j++) order[j] = j < n ? j : ID;
    rng_shuffle(r, order, n + 1);
    for (int32_t i = 0; i <= n; i++) masked[order[i]] = i < (n + 1) / 2;
}

/* A field at random and the floor(n / 2) that share most information with it, of equals the first; one is left for the
 * other view. */
static void split_correlated(bool *masked, const struct own *o, struct rng *r)
{
    const int32_t n = o->n, seed = (int32_t)rng_below(r, (uint32_t)n);
    const int32_t more = n / 2 < n - 2 ? n / 2 : n - 2;
    memset(masked, 0, FEATURES * sizeof *masked);
    masked[seed] = true;
    for (int32_t k = 0; k < more; k++) {
        int32_t best = -1;
        for (int32_t j = 0; j < n; j++)
            if (!masked[j] &&
                (best < 0 || o->mutual[seed * n + j] > o->mutual[seed * n + best]))
                best = j;
        masked[best] = true;
    }
    masked[ID] = rng_below(r, 2);
}

/* A view's bags of field j: none where it is masked, else some of the values, one at least. */
static struct item_field thin(struct arena *mem, const struct item_field *f,
                              const int32_t *item, int32_t n, bool masked, float dropout,
                              struct rng *r)
{
    int32_t *cu = ARENA_NEW(mem, int32_t, n + 1), most = 0;
    for (int32_t i = 0; i < n; i++) most += f->cu[item[i] + 1] - f->cu[item[i]];
    int32_t *id = ARENA_NEW(mem, int32_t, most + 1);
    cu[0] = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t from = f->cu[item[i]], size = f->cu[item[i] + 1] - from;
        const int32_t keep = size ? (int32_t)rng_below(r, (uint32_t)size) : 0;
        cu[i + 1] = cu[i];
        for (int32_t k = 0; k < size && !masked; k++)
            if (k == keep || rng_f64(r) >= (double)dropout) id[cu[i + 1]++] = f->id[from + k];
    }
    return (struct item_field){ f->name, f->n_values, cu, id };
}

static const void *draw(const void *cfg, const void *own, const struct step *s)
{
    const struct item_ssl *c = cfg;
    const struct own *o = own;
    struct arena *mem = tape_arena(s->tp);
    const struct item_fields *all = tower_fields(model_tower(s->model));
    struct rng r = rng_make(s->key, RNG_AUGMENT);
    struct item_view *v = ARENA_NEW(mem, struct item_view, 2);
    int32_t *item = ARENA_NEW(mem, int32_t, c->items);
    bool masked[FEATURES] = { false };
    for (int32_t i = 0; i < c->items; i++)
        item[i] = (int32_t)rng_below(&r, (uint32_t)all->n_items);
    if (c->masking == MASKING_CFM)
        split_correlated(masked, o, &r);
    else
        split_half(masked, o->n, &r);
    for (int side = 0; side < 2; side++) {
        struct item_field *bag = ARENA_NEW(mem, struct item_field, o->n);
        int32_t *ids = ARENA_NEW(mem, int32_t, c->items);
        for (int32_t j = 0; j < o->n; j++)
            bag[j] = thin(mem, &all->field[j], item, c->items, masked[j] == (side == 0),
                          c->value_dropout, &r);
        for (int32_t i = 0; i < c->items; i++)
            ids[i] = masked[ID] == (side == 0) ? EMBED_MASK : item[i];
        v[side] = (struct item_view){ c->items, ids, bag };
    }
    return v;
}

/* ---- loss ---- */

static struct ten *vectors(struct step *s, const struct item_view *v)
{
    return ad_normalize(s->tp,
                        tower_vectors(model_tower(s->model), s->tp, v->ids, v->n, v->bag));
}

static struct ten *loss(const void *cfg, const void *own, const void *drawn, struct step *s)
{
    (void)own;
    const struct item_ssl *c = cfg;
    const struct item_view *v = drawn;
    struct ten *a = vectors(s, &v[0]), *b = vectors(s, &v[1]);
    struct ten *x = ad_matmul_nt(s->tp, a, b, 1.0f / c->temperature);
    return ad_sum(s->tp, ad_xent_rows(s->tp, x, step_numbers(s->tp, v[0].n), false),
                  1.0f / (float)v[0].n);
}

const struct obj_ops obj_item_ssl = {
    .name = "item_ssl",
    .help = "two feature masks of an item should agree (Yao et al., CIKM 2021)",
    .opts = opts,
    .cfg_size = sizeof(struct item_ssl),
    .check = check,
    .open = open,
    .close = close,
    .draw = draw,
    .loss = loss,
};
