/* rank_train.h — trains a rank model on a table of impressions, measures it, writes its bundle.
 *   struct rank_train_args a = { .data = "clicks.csv", .out = "models/ads", .recipe = &r, .pool = pool };
 *   struct rank_result res;  rank_train(&a, &res, &e);
 * Thread: main. */
#pragma once
#include "core/base/par.h"
#include "core/data/clicks.h"
#include "models/rank_recipe.h"

struct rank_train_args {
    const char *data, *valid; /* valid NULL: the last part of data */
    const char *out;
    struct rank_recipe *recipe; /* checked; learns the boundaries of numbers */
    struct par *pool;
    bool quiet;
};
struct rank_metrics {
    int64_t n;
    double auc, gauc, log_loss, clicks; /* clicks: their share */
};
struct rank_result {
    struct rank_metrics valid; /* n 0: there is no validation data */
    int64_t version; /* 0: it was stopped before the first step, and nothing is written */
    int stopped; /* by this signal: the bundle has what was trained until then; 0: to the end */
};
/* A loss or a weight that is no number ends it with an error; the bundle has what the last whole epoch left. */
NODISCARD int rank_train(const struct rank_train_args *a, struct rank_result *out,
                         struct err *e);

/* What a score is made of: impressions [from, from+n) as a batch in memory of mem. */
struct ranker_batch rank_batch(const struct schema *s, const struct clicks *c,
                               const int32_t *row, int32_t n, struct arena *mem);
/* Probabilities of a click for impressions [from, to): score [to - from]. */
void rank_scores(float *score, const struct ranker *m, const struct schema *s,
                 const struct clicks *c, int32_t from, int32_t to, struct par *pool);
struct rank_metrics rank_measure(const float *score, const struct clicks *c, int32_t from,
                                 int32_t to);
json_t *rank_metrics_json(const struct rank_metrics *m);
