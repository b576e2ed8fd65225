/* obj.h — a training objective: a forward computation that ends in a scalar.  One file each, one
 * line in list.def; the list drives recipes, gradient checks and smoke trainings.
 * Thread: the training loop's. */
#pragma once
#include "core/base/conf.h"
#include "core/data/batch.h"
#include "core/nn/model.h"

/* A part of an objective's loss that has a name of its own. */
struct loss_term {
    const char *name;
    const struct ten *x;
};
enum { MAX_TERMS = 8 };

/* What an objective sees of a step: the batch, and its inputs encoded once for all objectives. */
struct step {
    struct tape *tp;
    const struct model *model;
    const struct batch *batch;
    enum layout layout;
    uint64_t
        key; /* of what the objective at hand draws for this batch: the same in all its turns */
    int turn;                         /* of obj_ops.turns */
    struct loss_term term[MAX_TERMS]; /* step_term, of the objective at hand */
    int n_terms;
    struct encoded in_; /* step_in */
};

/* The inputs of the batch, as its layout needs them (layout A: only the states); encoded by the first who asks. */
const struct encoded *step_in(struct step *s);
/* x, a part of the loss: should it be no number, the run ends with its name. */
struct ten *step_term(struct step *s, const char *name, struct ten *x);
/* 0, 1 .. n-1, for as long as the step: targets of rows whose own column is the right one, offsets of single rows. */
const int32_t *step_numbers(struct tape *tp, int32_t n);

/* What an objective is going to be used with. */
struct obj_context {
    const struct model_cfg *model;
    enum layout layout;
    bool touched; /* a step has only the rows of the item table that its batch names */
    const struct dataset *data; /* NULL: not known yet */
    int32_t batch_size;
};

/* A batch may be several steps of the optimiser, in which different parameters learn. */
struct turn {
    uint32_t groups; /* that learn */
    bool alone;      /* from this objective's loss, unweighted, and no other's */
};
enum { MAX_TURNS = 4 };

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
    /* Declares parameters of its own in the model and makes what it looks up while training; once a run, and the
     * result is handed to the others as own.  NULL: nothing of its own. */
    void *(*open)(const void *cfg, struct model *m, const struct dataset *d);
    void (*close)(void *own);
    /* Before an epoch's first batch, and (fresh = false) before the first one of a run that goes on within an epoch. */
    void (*epoch)(void *own, struct model *m, bool fresh, struct par *pool);
    /* The turns of a batch, at most MAX_TURNS; the number of them.  NULL: one in which all learn. */
    int (*turns)(const void *cfg, struct turn *out);
    /* What a batch needs that is drawn at random, from s->key, in the tape's arena.  NULL: nothing. */
    const void *(*draw)(const void *cfg, const void *own, const struct step *s);
    struct ten *(*loss)(const void *cfg, const void *own, const void *drawn,
                        struct step *s); /* [1,1] */
};

#define OBJ(name) extern const struct obj_ops obj_##name;
#include "models/list.def"
#undef OBJ
extern const struct obj_ops *const obj_list[];
extern const int obj_count;
