/* fixture_train.h — small trainings for tests: a data set whose next item can be learnt, a recipe, a run.
 *   char *data = learnable_data(dir, 40, 30, 1);
 *   struct job j = job_new(dir, data, "[next_item]\n");  job_run(&j);  ck_assert(j.rc == 0);  job_free(&j);
 * Everything lies below dir (fixture_tmpdir).  Thread: owner. */
#pragma once
#include "core/base/err.h"
#include "models/train.h"
#include <stdint.h>

/* How many ways there are to run an objective: the choices of its option `loss`, or 1; the name of the i-th, or NULL. */
int objective_variants(const struct obj_ops *ops);
const char *objective_variant(const struct obj_ops *ops, int i);

/* Users who mostly go from item i to item i + 1, of 4 to 12 events; the data set's directory, malloc'd. */
char *learnable_data(const char *dir, int n_users, int n_items, uint64_t seed);

struct job {
    char *data, *out, *recipe; /* paths, owned */
    const char *init;          /* bundle to begin with */
    int threads;
    bool resume, no_test, finish;
    double save_s;
    int rc;
    struct train_result res;
    struct err e;
    char *text; /* what the run printed, owned */
};
/* A job with a fresh model directory.  sections: what follows the recipe's [model] and [train], which keep to
 * small sizes (width 16, 1 layer, 8 events, 3 epochs, 2 interests). */
struct job job_new(const char *dir, const char *data, const char *sections);
void job_run(struct job *j); /* trains in this process; fills rc, e and text */
void job_in_child(
    void *ctx); /* the same, for a child process: exits with 1 when it fails, 2 when stopped */
void job_free(struct job *j);

/* Number of lines of the version's log with "event": event; values of a number in them go to x[0..most). */
int job_log(const struct job *j, int version, const char *event, const char *key, double *x,
            int most);
