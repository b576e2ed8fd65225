/* merge.h — the lists of several interests to one: union, scores, order.
 *   struct cand *c;  int32_t n = merge_lists(&c, arena, list, n_lists, &cfg, query, corpus);
 * What a candidate's score is, by strategy; e_v is its vector, phi_k the query of list k:
 *   max, quota    max_k phi_k . e_v                            ComiRec's and Qdrant's "best score"
 *   sum           sum_k phi_k . e_v
 *   rrf           sum over the lists it is in of w_k / (rrf_k + its place, from 1)     Cormack et al. 2009
 *   round_robin   phi_k . e_v of the list that had its turn: lists give their best that is not taken, in turns
 * It counts for one list, `best`: that of the largest term, the first on ties; of round_robin the one whose
 * turn it was.  Dot products are computed one at a time: the same bits whatever the index and the batch.
 * Thread: any (pure but for the arena). */
#pragma once
#include "core/base/arena.h"
#include "core/serve/corpus.h"

struct list { /* of one query: score descending, then row ascending */
    const int32_t *row;
    const float *score;
    int32_t n;
};

struct cand {
    float score;
    int32_t row;
    int32_t best;
};

enum merge_how { MERGE_MAX, MERGE_SUM, MERGE_RRF, MERGE_ROUND_ROBIN, MERGE_QUOTA };
struct merge_cfg {
    enum merge_how how;
    float rrf_k;
    const float *weight;  /* rrf: [n_lists], NULL: ones */
    const int32_t *order; /* round_robin: lists by turn, [n_lists] */
    int32_t
        best; /* max, where no list lacks a better row than its last: only so many are wanted; 0: all */
};

/* query [n_lists,D].  Every candidate once; round_robin's, and the `best`, come in their final order, the others in none. */
int32_t merge_lists(struct cand **out, struct arena *a, const struct list *l, int32_t n_lists,
                    const struct merge_cfg *cfg, const float *query, const struct corpus *c);
/* Brings the best `limit` to the front, score descending, then row ascending; returns how
 * many.  The rest stay behind them in no order. */
int32_t merge_top(struct cand *c, int32_t n, int32_t limit);
