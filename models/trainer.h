/* trainer.h — what the files of the training loop share: train.c (runs and stages), loop.c (epochs and steps), state.c
 * (what is saved).  Private to them.  Thread: main. */
#pragma once
#include "core/ad/opt.h"
#include "core/serve/fields.h"
#include "models/evaluate.h"
#include "models/train.h"
#include <stdio.h>

/* Where a run stands: all that is not a tensor.  Saved and restored as it is. */
struct progress {
    int64_t stage;      /* index of the stage that runs */
    int64_t epoch;      /* of the stage, from 1 */
    int64_t batch;      /* of the epoch, the next one */
    int64_t step;       /* batches so far, in all stages: keys the dropout */
    int64_t moves;      /* steps of the optimiser in this stage: the schedule's time */
    int64_t loss_n;     /* batches behind loss_sum */
    double loss_sum;    /* of the epoch so far */
    double best_score;  /* of the stage */
    int64_t best_epoch; /* 0: none yet */
    bool trained;       /* test and index are left */
    int64_t log_bytes;  /* what of the log belongs to this state */
    double seconds;     /* spent by earlier processes */
};

struct trainer {
    const struct train_args *a;
    struct recipe r;                    /* the whole */
    struct recipe stage[RECIPE_STAGES]; /* each by itself */
    const struct recipe *now;           /* the one that runs */
    struct dataset ds;
    uint64_t fingerprint; /* of ds */
    char *init;           /* init_label of what the run began with; NULL: random weights */
    struct model *model;
    struct fields *fields; /* of the items, for the item tower; NULL: none */
    struct batcher *batches;
    struct arena *mem;
    struct tape *tp;
    struct mm16 *mm16; /* NULL: fp32 */
    struct bf16_ops bf16;
    char kernels[16]; /* what the bits hang on: "v4", "v4+bf16" */
    struct opt_adam *opt;
    struct prof *prof; /* NULL: not asked for */
    int64_t profiled;  /* steps in it */
    FILE *log;
    int64_t version;
    struct progress at;
    double start_s, saved_s, save_took_s;
};

void trainer_log(struct trainer *t, json_t *o); /* one line; takes o */
char *trainer_path(const struct trainer *t,
                   const char *suffix); /* OUT/VERSION + suffix, malloc'd */
/* The model's weights as the bundle of this version, replacing what was there; takes metrics. */
NODISCARD int trainer_export(struct trainer *t, int64_t epoch, json_t *metrics, struct err *e);

/* loop.c: epochs from where t->at stands until the stage is over or a stop is asked for. */
NODISCARD int loop_run(struct trainer *t, struct err *e);
/* The model as it is on the split, by the stage's protocol. */
NODISCARD int loop_evaluate(struct trainer *t, struct evaluation *v, enum split split,
                            struct err *e);

/* state.c */
#define STATE_SUFFIX ".state.safetensors"
NODISCARD int state_save(struct trainer *t, struct err *e);
/* Refuses weights that are not finite: what nobody could go on from never replaces a state, nor is it validated. */
NODISCARD int state_check(const struct trainer *t, struct err *e);
/* Saves when enough time has passed since the last time. */
NODISCARD int state_save_at_times(struct trainer *t, struct err *e);
/* Removes the saved state, or only what a killed process left half-written beside it.  The version's log must be
 * locked. */
NODISCARD int state_remove(const struct trainer *t, bool half_written, struct err *e);
struct state; /* a saved state that was opened */
NODISCARD int state_open(struct state **s, const char *path, struct err *e);
void state_close(struct state *s); /* NULL is fine */
const struct progress *state_progress(const struct state *s);
const json_t *state_recipe(const struct state *s);
uint64_t state_fingerprint(const struct state *s);
const char *state_isa(const struct state *s);
const char *state_init(const struct state *s); /* trainer's init, NULL: none */
/* Weights, moments and averages into t's model and optimiser. */
NODISCARD int state_restore(const struct state *s, struct trainer *t, struct err *e);
