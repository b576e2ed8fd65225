/* evaluate.h — a model on a split of a data set: full ranking through core/eval with the encoder
 * that serves, and what its interests are like.  Inactive interests (model.active_share) take no part,
 * as in serving.
 *   struct evaluation v;  evaluate(&v, model, &ds, SPLIT_VALID, SEEN_MASK, pool, true, &e);
 * Thread: owner; the pool works inside. */
#pragma once
#include "core/base/limits.h"
#include "core/eval/rank.h"
#include "core/nn/model.h"
#include <jansson.h>

struct evaluation {
    struct metrics metrics;
    int32_t K;
    double share[LIMIT_INTERESTS]; /* mean share of importance of each interest */
    double cosine; /* mean pairwise cosine between a user's interests; 0 for one */
    double active; /* mean number of active interests */
    double seconds;
};
NODISCARD int evaluate(struct evaluation *v, const struct model *m, const struct dataset *d,
                       enum split split, enum seen seen, struct par *pool, bool progress,
                       struct err *e);
/* {"hr@5": ..., "ndcg@5": ..., "mrr@5": ..., "recall@5": ...} */
json_t *metrics_json(const struct metrics *m);
/* {"share": [...], "mean_cosine": ..., "mean_active": ...} or null for a single vector */
json_t *interests_json(const struct evaluation *v);
