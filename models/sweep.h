/* sweep.h — a grid of settings, each trained by a process of its own; validation chooses, the winner is tested once
 * and becomes a version of the model directory.
 *   OUT/sweep/plan.json      what is tried and where it stands: the same command goes on from there
 *   OUT/sweep/recipe.ini     the recipe as it was when the sweep began
 *   OUT/sweep/table.tsv      the trials, best first
 *   OUT/sweep/trial-001/     the model directory of a trial, and trial-001.log what it said
 * Killing it or its trials at any moment loses at most what a trial did since it last saved.  Thread: main. */
#pragma once
#include "models/recipe.h"

struct sweep_args {
    const char *data, *recipe_path, *out;
    const struct recipe *recipe; /* with the settings all trials share */
    char *const *set;            /* [n_set] those settings, as --set takes them */
    int n_set;
    char *const *grid; /* [n_grid] "key=a,b,c" */
    int n_grid;
    double budget_s;   /* of wall time, over all calls; 0: none */
    int jobs, threads; /* at once; threads of each */
};
enum { SWEEP_TRIALS = 10000 };

/* *stopped: the signal that ended it early, or 0.  ERR_CONFIG: a trial that can't be trained, or another sweep lies in
 * OUT/sweep. */
NODISCARD int sweep_run(const struct sweep_args *a, int *stopped, struct err *e);
