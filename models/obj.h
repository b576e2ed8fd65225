/* obj.h — a training objective: a forward computation that ends in a scalar.  One file each, one
 * line in list.def; the list drives recipes, gradient checks and smoke trainings.
 * Thread: the training loop's. */
#pragma once
#include "core/base/conf.h"
#include "core/data/batch.h"
#include "core/nn/model.h"

/* What an objective sees of a step: the batch, and its inputs already encoded (once for all
 * objectives). */
struct step {
    struct tape *tp;
    const struct model *model;
    const struct batch *batch;
    enum layout layout;
    struct encoded in; /* by step_encode; layout A: only the states */
};

/* The inputs of the batch, as its layout needs them. */
void step_encode(struct step *s);

/* What an objective is going to be used with. */
struct obj_context {
    const struct model_cfg *model;
    enum layout layout;
    bool touched; /* a step has only the rows of the item table that its batch names */
};

struct obj_ops {
    const char *name;
    const char *help; /* one line: paper and idea */
    const struct opt
        *opts; /* of cfg: numbers, choices, no strings; the weight is common to all */
    size_t cfg_size;
    /* Refuses a model or layout it can't train, saying what to change.  NULL: takes any. */
    int (*check)(const void *cfg, const struct obj_context *c, struct err *e);
    /* Asks for what batches carry beside inputs and targets.  NULL: nothing. */
    void (*needs)(const void *cfg, struct batch_cfg *b);
    struct ten *(*loss)(const void *cfg, const struct step *s); /* [1,1] */
};

#define OBJ(name) extern const struct obj_ops obj_##name;
#include "models/list.def"
#undef OBJ
extern const struct obj_ops *const obj_list[];
extern const int obj_count;
