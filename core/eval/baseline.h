/* baseline.h — counting baselines of models/README.md, Evaluation: pop, markov, itemcf, history.
 * Counts come from the training part only.  Each makes a list of distinct items, completed with the
 * popularity order (history is not) and cut at 100; the answer's place in it is its rank:
 *   pop       popularity order
 *   markov    successors of the last item by count
 *   itemcf    the 200 best sum_d 0.8^d sim(h_d, j) over the last 20 items h_0 (newest) .. h_19
 *   history   the user's items, newest first
 * Ties: first seen in the file first: the item (pop), the pair (markov), for itemcf the pair whose sim was added first,
 * beginning with h_0.  A masked history is left out of the list; a zeroed one comes after
 * everything else.
 * Thread: owner; the pool works inside. */
#pragma once
#include "core/eval/rank.h"

enum baseline { BASE_POP, BASE_MARKOV, BASE_ITEMCF, BASE_HISTORY };
/* Metrics of the baseline on a split; ERR_EMPTY: no user has an answer there.  rank_out, shown: NULL, or as in
 * rank_eval and struct rank_cfg (an answer outside the list has rank n_items). */
NODISCARD int baseline_eval(struct metrics *m, int64_t *rank_out, int64_t *shown,
                            const struct dataset *d, enum baseline b, enum split s,
                            enum seen seen, struct par *pool, struct err *e);
