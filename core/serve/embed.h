/* embed.h — vectors of items that were never trained on, from their attributes, through a
 * bundle's item tower.
 *   struct embed *m;  embed_open(&m, &bundle, model, items, &e);  NULL: the bundle has no tower
 *   embed_items(vector, m, attrs, n);  embed_free(m);
 * `intent index --add-items` and the daemon make them here.  Thread: any once open. */
#pragma once
#include "core/fmt/bundle.h"
#include "core/nn/model.h"
#include "core/serve/attr.h"

struct embed;
/* items outlives it; the model is asked for its widths only.  ERR_BAD_BUNDLE. */
NODISCARD int embed_open(struct embed **out, const struct bundle *b, const struct model *model,
                         const struct items *items, struct err *e);
void embed_free(struct embed *m); /* NULL is fine */
/* vector [n,D] of n items, n >= 0; attributes and values that the tower was not trained with
 * say nothing.  Takes memory of its own; cost: all values of all fields once, whatever n is,
 * then about 2 M (F E + D) flops an item. */
void embed_items(float *vector, const struct embed *m, const struct attrs *a, int32_t n);
/* How many of the n items say nothing that the tower was trained with: they all get one vector. */
int32_t embed_silent(const struct embed *m, const struct attrs *a, int32_t n);
