#include "core/nn/tower.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct field {
    struct param *value, *none; /* [n,E], [1,E] */
};

struct tower {
    struct tower_cfg cfg;
    struct item_fields fields;
    struct param *id, *no_id; /* [V,D], [1,D] */
    struct field field[LIMIT_FIELDS];
    struct param *w[2], *b[2]; /* [D + F E, M], [M, D] */
};

struct tower *tower_new(struct params *ps, struct param *id, const struct item_fields *fields,
                        const struct tower_cfg *c)
{
    struct tower *t = xcalloc(1, sizeof *t);
    REQUIRE(fields->n <= LIMIT_FIELDS, "%d fields", fields->n);
    *t = (struct tower){ .cfg = *c, .fields = *fields, .id = id };
    t->no_id = params_add(ps, "tower.id.default", 1, c->D, c->group, INIT_NORMAL, c->std);
    for (int32_t j = 0; j < fields->n; j++) {
        const struct item_field *f = &fields->field[j];
        char name[LIMIT_TENSOR_NAME];
        snprintf(name, sizeof name, "tower.%s.weight", f->name);
        t->field[j].value =
            params_add(ps, name, f->n_values, c->E, c->group, INIT_NORMAL, c->std);
        snprintf(name, sizeof name, "tower.%s.default", f->name);
        t->field[j].none = params_add(ps, name, 1, c->E, c->group, INIT_NORMAL, c->std);
    }
    const int32_t size[] = { c->D + fields->n * c->E, c->M, c->D };
    for (int i = 0; i < 2; i++) {
        char name[32];
        /* He et al. 2015 for the relu; the same for what follows, so that vectors are as large as embeddings */
        float std = sqrtf((i == 0 ? 2.0f : 1.0f) / (float)size[i]);
        snprintf(name, sizeof name, "tower.mlp.%d.weight", i);
        t->w[i] = params_add(ps, name, size[i], size[i + 1], c->group, INIT_NORMAL, std);
        snprintf(name, sizeof name, "tower.mlp.%d.bias", i);
        t->b[i] = params_add(ps, name, 1, size[i + 1], c->group, INIT_ZERO, 0);
    }
    return t;
}

void tower_free(struct tower *t) { free(t); }
const struct item_fields *tower_fields(const struct tower *t) { return &t->fields; }

/* Values are fewer than items: each goes through its part of the first layer once. */
static struct ten *values_through(const struct tower *t, struct tape *tp, int32_t j)
{
    const int32_t first = t->cfg.D + j * t->cfg.E;
    struct ten *table =
        ad_concat_rows(tp, ad_param(tp, t->field[j].value), ad_param(tp, t->field[j].none));
    return ad_linear(tp, table, ad_param_rows(tp, t->w[0], first, t->cfg.E), NULL, ACT_NONE);
}

struct ten *tower_vectors(const struct tower *t, struct tape *tp, const int32_t *ids, int32_t n,
                          const struct item_field *bag)
{
    struct bag_table tables[LIMIT_FIELDS];
    for (int32_t j = 0; j < t->fields.n; j++)
        tables[j] = (struct bag_table){ values_through(t, tp, j), bag[j].cu, bag[j].id };
    struct ten *x = ad_embed(tp, ad_param_rows(tp, t->id, 0, t->id->t.rows), ids,
                             ad_param(tp, t->no_id), NULL, NULL, n);
    x = ad_linear(tp, x, ad_param_rows(tp, t->w[0], 0, t->cfg.D), ad_param(tp, t->b[0]),
                  ACT_NONE);
    x = ad_add_bags(tp, x, tables, t->fields.n, ACT_RELU);
    return ad_linear(tp, x, ad_param(tp, t->w[1]), ad_param(tp, t->b[1]), ACT_NONE);
}
