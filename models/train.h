/* train.h — the training loop: epochs over packed batches, validation after each, the best
 * checkpoint kept as a complete bundle, early stopping, a JSON-lines log.
 *   train_run(&(struct train_args){ .data = "var/beauty", .out = "var/models/beauty", ... }, &e)
 * Killing it at any moment leaves the last written bundle whole; SIGINT and SIGTERM end it after the step,
 * with the best checkpoint so far in place.  Same data, recipe and seed: same bits, for any number of
 * threads.  Thread: main. */
#pragma once
#include "core/base/par.h"
#include "models/index.h"
#include "models/recipe.h"

struct train_args {
    const char *data;      /* data set directory */
    const char *out;       /* model directory: a new version is made in it */
    struct recipe *recipe; /* n_items is filled in */
    struct par *pool;
    struct index_cfg index; /* what is built at the end */
};
NODISCARD int train_run(const struct train_args *a, struct err *e);
