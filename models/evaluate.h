/* evaluate.h — a model on a split of a data set: full ranking through core/eval with the encoder
 * that serves, what its interests are like, and where it is good and where not.  Inactive interests
 * (model.active_share) take no part, as in serving.
 *   struct evaluate_opts o = { .split = SPLIT_VALID, .seen = SEEN_MASK };
 *   struct evaluation v;  evaluate(&v, model, &ds, &o, pool, &e);
 * Thread: owner; the pool works inside. */
#pragma once
#include "core/base/limits.h"
#include "core/eval/baseline.h"
#include "core/eval/slices.h"
#include "core/nn/model.h"
#include <jansson.h>

struct evaluate_opts {
    enum split split;
    enum seen seen;
    int32_t users; /* at most so many, evenly spread; 0: all */
    float
        noise; /* part of foreign items that histories get before they are encoded (augment.h) */
    bool progress;
    bool details; /* slices and the spread of lists as well */
    const char
        *cluster; /* items' field of known clusters to compare interests with; NULL: none */
};
struct evaluation {
    struct metrics metrics;
    int32_t K;
    double share[LIMIT_INTERESTS]; /* mean share of importance of each interest */
    double cosine; /* mean pairwise cosine between a user's interests; 0 for one */
    double active; /* mean number of active interests */
    double
        nmi; /* of the interest that each event listens to most and its item's cluster; -1: not asked */
    double seconds;
    bool details; /* the rest is there */
    struct slices slices;
    struct spread_out spread;
};
/* ERR_NOT_FOUND: there is no such field of values. */
NODISCARD int evaluate(struct evaluation *v, const struct model *m, const struct dataset *d,
                       const struct evaluate_opts *o, struct par *pool, struct err *e);
/* The same of a counting baseline, which has no interests. */
NODISCARD int evaluate_baseline(struct evaluation *v, enum baseline b, const struct dataset *d,
                                const struct evaluate_opts *o, struct par *pool, struct err *e);
/* {"hr@5": ..., "ndcg@5": ..., "mrr@5": ..., "recall@5": ...} */
json_t *metrics_json(const struct metrics *m);
/* Back from there, n left 0; false where something is missing. */
bool metrics_from_json(struct metrics *m, const json_t *o);
/* {"share": [...], "mean_cosine": ..., "mean_active": ...} or null for a single vector */
json_t *interests_json(const struct evaluation *v);
/* {"head": {"users": ..., "hr@5": ...}, ...}; {"coverage@20": ..., "gini@20": ...} */
json_t *slices_json(const struct evaluation *v);
json_t *spread_json(const struct evaluation *v);
void evaluation_print(const struct evaluation *v,
                      FILE *f); /* interests, slices and spread, for people */
