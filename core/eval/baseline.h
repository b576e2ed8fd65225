/* baseline.h — counting baselines of protocol.md: pop, markov, itemcf, history.
 * Counts come from the training part only.  Thread: owner; the pool works inside. */
#pragma once
#include "core/eval/rank.h"

enum baseline { BASE_POP, BASE_MARKOV, BASE_ITEMCF, BASE_HISTORY };
/* Metrics of the baseline on a split; definitions and tie rule in protocol.md. */
NODISCARD int baseline_eval(struct metrics *m, const struct dataset *d, enum baseline b,
                            enum split s, enum seen seen, struct par *pool, struct err *e);
