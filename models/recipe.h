/* recipe.h — what to train and how: an INI file with a section for the model, one for the loop and
 * one for each objective in use.
 *   [model]        keys of core/nn/model.h
 *   [train]        keys of train_opts
 *   [next_item]    weight = 1 and the objective's own keys
 * Unknown sections and keys are errors that name the nearest known one.  Thread: owner. */
#pragma once
#include "models/obj.h"
#include <jansson.h>

enum stop_metric { STOP_NDCG10, STOP_NDCG20, STOP_MRR10, STOP_HR20, STOP_RECALL50 };

struct train_cfg {
    int32_t epochs, patience, batch_size;
    int32_t layout;     /* enum layout */
    int32_t stop_on;    /* enum stop_metric, on the validation split */
    int32_t valid_seen; /* enum seen */
    float lr, beta1, beta2, weight_decay;
    int64_t seed;
};
extern const struct opt train_opts[];

struct obj_use {
    const struct obj_ops *ops;
    float weight;
    void *cfg; /* ops->cfg_size bytes, or NULL */
};

enum { RECIPE_OBJECTIVES = 16 };
struct recipe {
    struct model_cfg model;
    struct train_cfg train;
    struct obj_use obj[RECIPE_OBJECTIVES];
    int n_obj;
};

void recipe_defaults(struct recipe *r);
NODISCARD int recipe_load(struct recipe *r, const char *path, struct err *e);
/* "section.key=value", or "key=value" when one section alone has the key. */
NODISCARD int recipe_set(struct recipe *r, const char *assignment, struct err *e);
/* Objectives agree with model and layout; n_items must be set.  Call before training. */
NODISCARD int recipe_check(const struct recipe *r, struct err *e);
bool recipe_needs_future(const struct recipe *r);
json_t *recipe_json(const struct recipe *r); /* {"train.lr": "0.001", ...} */
void recipe_free(struct recipe *r);
