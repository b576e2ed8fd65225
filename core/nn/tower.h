/* tower.h — the item tower: an item's vector from its id and its attribute fields, so that an item nobody interacted with
 * has one (models/README.md, Item tower).  With t_id the id's embedding, t_j the mean of the embeddings of field j's
 * values; a missing id or field has a learned default instead:
 *   x = relu([t_id | t_1 | ... | t_F] W0 + b0) W1 + b1
 * Part of model.h; use that.  Thread: as model.h. */
#pragma once
#include "core/ad/ops.h"

/* One field of all items; the bag of item v is id[cu[v]] .. id[cu[v+1]-1], below n_values. */
struct item_field {
    const char *name;
    int32_t n_values;
    const int32_t *cu, *id;
};
struct item_fields {
    int32_t n_items, n;
    const struct item_field *field; /* [n] */
};

struct tower_cfg {
    int32_t D;    /* of items' vectors and of the ids' embeddings */
    int32_t E, M; /* width of a field's embeddings; of the hidden layer */
    float std;    /* of initial weights */
    uint32_t group;
};

struct tower;
/* Declares tower.FIELD.weight [n_values,E], tower.FIELD.default [1,E], tower.id.default [1,D] and tower.mlp.{0,1}.  id
 * [V,D]: embeddings of the ids.  fields and what they point to are borrowed. */
struct tower *tower_new(struct params *ps, struct param *id, const struct item_fields *fields,
                        const struct tower_cfg *c);
void tower_free(struct tower *t); /* NULL is fine */
const struct item_fields *tower_fields(const struct tower *t);
/* Vectors [n,D] of n items: ids EMBED_MASK are missing; bags [fields] as in struct item_field, of the n. */
struct ten *tower_vectors(const struct tower *t, struct tape *tp, const int32_t *ids, int32_t n,
                          const struct item_field *bag);
