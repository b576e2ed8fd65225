/* similar.h — the item most similar to each, for augmentations that insert and substitute (CoSeRec: Liu et al., 2021).
 *   struct similar *s = similar_new(model, &ds, true);  similar_epoch(s, model, true, pool);  similar_items(s)[v]
 * By counting: the largest similarity of the ItemCF baseline (core/eval/links.h), over the training part; an item that nobody had
 * together with another gets one at random.  Hybrid: counting's or the one of the largest dot product of item
 * vectors at the beginning of the epoch, whichever is larger when each kind is scaled to 0 .. 1 over all pairs.
 * Thread: the training loop's. */
#pragma once
#include "core/data/dataset.h"
#include "core/nn/model.h"

enum { SIMILAR_ITEMCF, SIMILAR_HYBRID };

struct similar;
/* hybrid: keeps its table as a parameter that never learns, so that a saved state has that of its epoch. */
struct similar *similar_new(struct model *m, const struct dataset *d, bool hybrid);
void similar_free(struct similar *s); /* NULL is fine */
/* fresh: an epoch begins; else a run goes on within one. */
void similar_epoch(struct similar *s, struct model *m, bool fresh, struct par *pool);
const int32_t *similar_items(const struct similar *s); /* [V] */
