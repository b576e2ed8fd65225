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
    struct encoded in;
};

struct obj_ops {
    const char *name;
    const char *help;       /* one line: paper and idea */
    const struct opt *opts; /* of cfg; the weight is common to all */
    size_t cfg_size;
    bool needs_future; /* batches carry the reversed future */
    /* Refuses a model or layout it can't train, saying what to change.  NULL: takes any. */
    int (*check)(const struct model_cfg *m, enum layout layout, struct err *e);
    struct ten *(*loss)(const void *cfg, const struct step *s); /* [1,1] */
};

#define OBJ(name) extern const struct obj_ops obj_##name;
#include "models/list.def"
#undef OBJ
extern const struct obj_ops *const obj_list[];
extern const int obj_count;
