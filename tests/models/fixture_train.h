/* fixture_train.h — small trainings for tests: a data set whose next item can be learnt, a recipe, a run.
 *   char *data = learnable_data(dir, 40, 30, 1);
 *   struct job j = job_new(dir, data, "[next_item]\n");  job_run(&j);  ck_assert(j.rc == 0);  job_free(&j);
 * Everything lies below dir (fixture_tmpdir).  Thread: owner. */
#pragma once
#include "core/base/err.h"
#include <stdint.h>

/* Users who mostly go from item i to item i + 1, of 4 to 12 events; the data set's directory, malloc'd. */
char *learnable_data(const char *dir, int n_users, int n_items, uint64_t seed);

struct job {
    char *data, *out, *recipe; /* paths, owned */
    int threads;
    int rc;
    struct err e;
    char *text; /* what the run printed, owned */
};
/* A job with a fresh model directory.  sections: what follows the recipe's [model] and [train], which keep to
 * small sizes (width 16, 1 layer, 8 events, 3 epochs, 2 interests). */
struct job job_new(const char *dir, const char *data, const char *sections);
void job_run(struct job *j);  /* trains in this process; fills rc, e and text */
void job_in_child(void *ctx); /* the same, for a child process: exits with 1 when it fails */
void job_free(struct job *j);

/* Number of lines of the version's log with "event": event; values of a number in them go to x[0..most). */
int job_log(const struct job *j, int version, const char *event, const char *key, double *x,
            int most);
