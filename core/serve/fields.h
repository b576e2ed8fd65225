/* fields.h — the attribute fields of a catalogue as the item tower takes them: a field of
 * values as it is, one of numbers in buckets of about as many items each.
 *   struct fields *f = fields_new(items, &e);
 *   model_add_tower(m, fields_of(f));  ...  fields_free(f);
 *   fields_known(&f, items, manifest's "tower", &e);  n = fields_ids(id, f, j, &attrs);
 * Thread: any once made. */
#pragma once
#include "core/data/items.h"
#include "core/nn/tower.h"
#include "core/serve/attr.h"
#include <jansson.h>

struct fields;
/* Of every item of the catalogue, for training.  ERR_CONFIG: it has no field. */
NODISCARD int fields_new(struct fields **out, const struct items *it, struct err *e);
/* known: what a bundle's manifest says of the fields its tower was trained with ("tower"):
 * the catalogue may have more of them, more values and more items.  Without bags: cu and id
 * are NULL.  ERR_BAD_BUNDLE: known does not fit the catalogue.  it outlives it. */
NODISCARD int fields_known(struct fields **out, const struct items *it, const json_t *known,
                           struct err *e);
void fields_free(struct fields *f); /* NULL is fine */
const struct item_fields *fields_of(const struct fields *f);
json_t *fields_json(const struct fields *f); /* as known */

/* Of fields_known: what field j takes from an item's attributes, ascending, each once; what
 * the tower was not trained with is left out.  id [LIMIT_TAGS]; returns how many. */
int32_t fields_ids(int32_t *id, const struct fields *f, int32_t j, const struct attrs *a);
