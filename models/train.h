/* train.h — the training loop: stages of epochs over packed batches, validation after each, the best
 * checkpoint kept as a complete bundle, early stopping, a JSON-lines log, and a saved state to go on from.
 *   struct train_result res;
 *   train_run(&(struct train_args){ .data = "var/beauty", .out = "var/models/beauty", ... }, &res, &e)
 * Files of OUT: N/ the bundle, N.train.jsonl the log, N.state.safetensors what an unfinished run goes on from.
 * Killing it at any moment loses at most the batches since the last saved state; SIGINT and SIGTERM save first.  A run
 * that is resumed ends with the bits of one that was never stopped.  Same data, recipe and seed: same bits, for any
 * number of threads.  Thread: main. */
#pragma once
#include "core/base/par.h"
#include "models/index.h"
#include "models/recipe.h"

#define TRAIN_LOG ".train.jsonl" /* OUT/N + this */

struct train_args {
    const char *data;            /* data set directory */
    const char *out;             /* model directory: a new version is made in it */
    const struct recipe *recipe; /* NULL, with resume: that of the unfinished run */
    const char *init; /* bundle whose weights a fresh run begins with; NULL: random ones */
    struct par *pool;
    struct index_cfg index; /* what is built at the end */
    /* Goes on with the newest run of OUT; starts one where there is none.  A finished one is left as it is. */
    bool resume;
    bool no_test; /* ends when training does: resume goes on with test and index */
    bool
        finish; /* with resume: trains no further, tests and indexes the best checkpoint so far */
    bool profile;  /* where the steps' time went, printed on standard output at the end */
    double save_s; /* seconds between saved states, at least; an epoch's end saves too */
};
struct train_result {
    int stopped;     /* the signal that stopped it; 0: it ended by itself */
    int64_t version; /* of the bundle; 0: none yet */
    bool finished;   /* tested and indexed */
};
/* The newest version of a model directory that has a bundle or a log, which reserves it before there is a bundle; 0:
 * none. */
NODISCARD int train_newest(int64_t *version, const char *out, struct err *e);
/* ERR_CONFIG names what differs when the run to be resumed had another recipe, ERR_INVALID when it had other
 * data. */
NODISCARD int train_run(const struct train_args *a, struct train_result *res, struct err *e);
