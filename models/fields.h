/* fields.h — the attribute fields of a catalogue as the item tower takes them: a field of values as it is, one of numbers
 * in buckets of about as many items each.
 *   struct fields *f = fields_new(items, NULL, &e);  model_add_tower(m, fields_of(f));  ...  fields_free(f);
 * Thread: any once made. */
#pragma once
#include "core/data/items.h"
#include "core/nn/tower.h"
#include <jansson.h>

struct fields;
/* known: what a bundle's manifest says of the fields its tower was trained with ("tower"): the catalogue may have more of
 * them, more values and more items.  ERR_CONFIG: no field; ERR_BAD_BUNDLE: known does not fit the catalogue.  it outlives
 * it. */
NODISCARD int fields_new(struct fields **out, const struct items *it, const json_t *known,
                         struct err *e);
void fields_free(struct fields *f); /* NULL is fine */
const struct item_fields *fields_of(const struct fields *f);
json_t *fields_json(const struct fields *f); /* as known */
