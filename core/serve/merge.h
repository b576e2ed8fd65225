/* merge.h — candidates of several interests to one list: union, exact scores, order.
 *   struct cand *c;  int32_t n = merge_union(&c, fetched, arena, ids, n_lists, depth);
 *   merge_score(c, n, query, n_lists, D, items);  n = merge_top(c, n, limit);
 * The score of an item is max_k query_k . item (ComiRec's and Qdrant's "best score"), computed
 * one dot product at a time: the same bits whatever the index and whatever else was found.
 * Thread: any (pure but for the arena). */
#pragma once
#include "core/base/arena.h"
#include <stdbool.h>
#include <stdint.h>

struct cand {
    float score;
    int32_t row;
    int32_t best; /* list (query) with the largest product, the first on ties */
};

/* The different rows of ids [n_lists, depth], -1 skipped, in order of first appearance;
 * fetched [n_lists]: rows each list brought.  Returns their number. */
int32_t merge_union(struct cand **out, int32_t *fetched, struct arena *a, const int32_t *ids,
                    int32_t n_lists, int32_t depth);
/* query [n_query,D], item [V,D]. */
void merge_score(struct cand *c, int32_t n, const float *query, int32_t n_query, int32_t D,
                 const float *item);
/* Brings the best `limit` to the front, score descending, then row ascending; returns how
 * many.  The rest stay behind them in no order. */
int32_t merge_top(struct cand *c, int32_t n, int32_t limit);
