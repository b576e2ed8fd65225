/* rank_recipe.h — the recipe of a rank model: an INI file.
 *   [rank]           keys of core/nn/ranker.h, models/rank_loss.h, rank_train_opts, and the columns
 *   [feature NAME]   keys of core/data/schema.h
 *   [group user]     features = a, b, c; and so [group item], [group sequence]
 * Unknown sections and keys are errors.  Thread: owner. */
#pragma once
#include "core/serve/rank_model.h"
#include "models/rank_loss.h"

struct rank_train_cfg {
    int32_t epochs, batch_size, lr_steps;
    float lr, lr_factor, lr_min, clip_norm, norm_momentum, valid_share;
    int64_t seed;
};
extern const struct opt rank_train_opts[];

struct rank_recipe {
    struct schema schema;
    struct rank_columns columns;
    struct ranker_cfg model;
    struct rank_loss_cfg loss;
    struct rank_train_cfg train;
};

void rank_recipe_defaults(struct rank_recipe *r);
NODISCARD int rank_recipe_load(struct rank_recipe *r, const char *path, struct err *e);
/* "rank.lr=0.01", "lr=0.01", "feature brand.hash_buckets=100" */
NODISCARD int rank_recipe_set(struct rank_recipe *r, const char *assignment, struct err *e);
/* Schema and model agree; before training. */
NODISCARD int rank_recipe_check(struct rank_recipe *r, struct err *e);
json_t *rank_recipe_json(const struct rank_recipe *r); /* {"rank.lr": "0.001", ...} */
void rank_recipe_free(struct rank_recipe *r);
void rank_recipe_help(FILE *f); /* the keys */
