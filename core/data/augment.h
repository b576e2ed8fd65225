/* augment.h — two altered views of each sequence of a batch, for objectives that compare them.
 *   struct view v[2];
 *   augment_pair(v, mem, &cfg, &batch->seq, batch->ids, key);
 * Operators on a sequence of n items (models/README.md, Augmentation):
 *   crop        a contiguous part of max(1, floor(crop_keep n)) items
 *   mask        floor(mask n) items become EMBED_MASK
 *   reorder     a contiguous block of floor(reorder n) items is shuffled
 *   insert      before max(1, floor(insert n)) items comes the most similar one; the newest max_len are kept
 *   substitute  max(1, floor(substitute n)) items are replaced by the most similar one
 * One operator makes one view; which ones take part says cfg.  A sequence of one item is its own two views.  The
 * sequences that are given are not touched.  Draws depend on (key, place in the batch) only.  Thread: any (pure). */
#pragma once
#include "core/base/arena.h"
#include "core/base/rng.h"
#include "core/num/seqpack.h"
#include <stdbool.h>

struct augment_cfg {
    float crop_keep;                         /* part that is kept; 1: no cropping */
    float mask, reorder, insert, substitute; /* parts that are changed; 0: not used */
    bool two_operators; /* the views of a pair are made by different ones, when there are two */
    int32_t
        short_length; /* up to so many items crop and reorder are not used, when there are others */
    bool
        pad; /* masked items leave attention as keys, as the padding of the public codes does */
    const int32_t *similar; /* [V] the item most similar to each; for insert and substitute */
    int32_t max_len;
    enum pos_from positions;
};

struct view {
    struct seqpack seq; /* key: NULL unless cfg.pad */
    int32_t *ids;       /* [seq.N] */
};

/* How many operators cfg leaves. */
int augment_operators(const struct augment_cfg *c);
/* Views of sequences of 1 to max_len items, in mem; cfg has at least one operator. */
void augment_pair(struct view v[2], struct arena *mem, const struct augment_cfg *c,
                  const struct seqpack *sp, const int32_t *ids, uint64_t key);
/* Each item goes to one of two halves at random, in its order; neither is empty, but a sequence of one item is both. */
void augment_halves(struct view v[2], struct arena *mem, const struct seqpack *sp,
                    const int32_t *ids, int32_t max_len, enum pos_from positions, uint64_t key);
/* An item that is not among these n, drawn uniformly from V. */
int32_t augment_foreign(const int32_t *ids, int32_t n, int32_t V, struct rng *r);
/* A history with foreign items at random places, how robust evaluation is: about part of its n items more (the fraction
 * by chance), drawn uniformly from those of the V that it does not have.  In mem; *len becomes the new length. */
const int32_t *augment_noise(struct arena *mem, const int32_t *ids, int32_t *len, float part,
                             int32_t V, uint64_t key);
