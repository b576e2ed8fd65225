/* recipe.h — what to train and how: an INI file with a section for the model, one for the loop and
 * one for each objective in use.
 *   [model]        keys of core/nn/model.h
 *   [train]        keys of train_opts
 *   [next_item]    weight = 1 and the objective's own keys
 *   [stage NAME]   section.key = value: one stage of several, trained one after the other; what it does not
 *                  name is as above
 * Unknown sections and keys are errors that name the nearest known one.  Thread: owner. */
#pragma once
#include "models/obj.h"
#include <jansson.h>

enum stop_metric { STOP_NDCG10, STOP_NDCG20, STOP_MRR10, STOP_HR20, STOP_RECALL50, STOP_NONE };
enum optimizer { OPTIMIZER_ADAM, OPTIMIZER_ADAMW };
enum schedule { SCHEDULE_CONSTANT, SCHEDULE_COSINE, SCHEDULE_STEP };
enum item_update { ITEMS_DENSE, ITEMS_TOUCHED };

enum precision { PRECISION_FP32, PRECISION_BF16 };
struct train_cfg {
    int32_t epochs, patience, batch_size, accumulate;
    int32_t layout;      /* enum layout */
    int32_t stop_on;     /* enum stop_metric, on the validation split */
    int32_t valid_seen;  /* enum seen */
    int32_t valid_users; /* 0: all */
    int32_t optimizer, schedule, item_update;
    int32_t precision; /* enum precision */
    float lr, beta1, beta2, weight_decay;
    int32_t warmup, step_epochs;
    float lr_end, step_factor, clip_norm, ema;
    int64_t seed;
};
extern const struct opt train_opts[];

struct obj_use {
    const struct obj_ops *ops;
    float weight;
    void *cfg; /* ops->cfg_size bytes, or NULL */
    void *own; /* of ops->open; recipe_open */
};

enum { RECIPE_OBJECTIVES = 16, RECIPE_STAGES = 8, RECIPE_STAGE_KEYS = 64 };
struct stage {
    char *name;
    char *assign[RECIPE_STAGE_KEYS]; /* "section.key=value", in order */
    int n_assign;
};
struct recipe {
    struct model_cfg model;
    struct train_cfg train;
    struct obj_use obj[RECIPE_OBJECTIVES];
    int n_obj;
    struct stage stage[RECIPE_STAGES];
    int n_stages; /* 0: the recipe is one stage by itself */
};

void recipe_defaults(struct recipe *r);
NODISCARD int recipe_load(struct recipe *r, const char *path, struct err *e);
/* "section.key=value", or "key=value" when one section alone has the key.  Makes no stage. */
NODISCARD int recipe_set(struct recipe *r, const char *assignment, struct err *e);
/* Stages, and objectives with model, layout and data (NULL: not known yet), agree; n_items must be set.  Call before
 * training. */
NODISCARD int recipe_check(const struct recipe *r, const struct dataset *d, struct err *e);
int recipe_stages(const struct recipe *r); /* at least 1 */
/* The recipe of stage i alone, to be freed; of a recipe that passed the check. */
void recipe_stage(struct recipe *out, const struct recipe *r, int i);
/* What batches of a stage's recipe carry and how they are made. */
struct batch_cfg recipe_batches(const struct recipe *r);
/* Lets the objectives of a stage's recipe declare parameters in the model and make what they look up, which recipe_free
 * releases.  d outlives it. */
void recipe_open(struct recipe *r, struct model *m, const struct dataset *d);
json_t *recipe_json(const struct recipe *r); /* {"train.lr": "0.001", ...} */
NODISCARD int recipe_from_json(struct recipe *r, const json_t *o, struct err *e);
void recipe_free(struct recipe *r);
