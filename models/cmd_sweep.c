/* cmd_sweep.c — `intent sweep`. */
#include "core/base/mem.h"
#include "core/base/par.h"
#include "core/data/text.h"
#include "models/cmd.h"
#include "models/sweep.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args {
    char *data, *recipe, *out, *budget;
    int32_t jobs, threads;
};

static const struct opt opts[] = {
    OPT_STR(struct args, data, NULL, "data set directory made by `intent prep`"),
    OPT_STR(struct args, recipe, NULL, "recipe file that the trials share"),
    OPT_STR(struct args, out, NULL, "model directory; the winner becomes its next version"),
    OPT_STR(struct args, budget, NULL, "wall time for all trials, over all calls: 90m, 2h, 1d"),
    OPT_INT(struct args, jobs, "1", 0, 256, "trials at once; 0: one per core"),
    OPT_INT(struct args, threads, "0", 0, 256,
            "threads of a trial; 0: the cores divided by --jobs"),
    OPT_END
};

static void help(void)
{
    puts("usage: intent sweep --data DATASET --recipe FILE --out MODEL_DIR --grid KEY=A,B,C "
         "[--grid ...]\n\n"
         "Trains every combination of the grids, chooses by the recipe's train.stop_on on "
         "validation,\n"
         "tests the winner once and writes it as the next version of MODEL_DIR.  "
         "MODEL_DIR/sweep/table.tsv\n"
         "lists the trials.  Interrupted, by Ctrl-C or a kill, the same command goes on.\n");
    conf_help(opts, stdout);
    printf("  %-34s values of a key to try; may be repeated\n", "--grid [SECTION.]KEY=A,B,C");
    printf("  %-34s change a key for all trials; may be repeated\n",
           "--set [SECTION.]KEY=VALUE");
}

/* "90m", "2h", "1.5d", "45s" or seconds. */
static int budget(double *seconds, const char *text, struct err *e)
{
    size_t n = strlen(text);
    double unit = 1;
    if (n && strchr("smhd", text[n - 1])) {
        unit = text[n - 1] == 's'   ? 1
               : text[n - 1] == 'm' ? 60
               : text[n - 1] == 'h' ? 3600
                                    : 86400;
        n--;
    }
    if (!text_number((struct span){ text, n }, seconds) || *seconds <= 0)
        return err_set(e, ERR_USAGE, "--budget %s: expected a time such as 90m, 2h or 3600",
                       text);
    *seconds *= unit;
    return 0;
}

static int run(const struct args *a, struct sweep_args s, int *stopped, struct err *e)
{
    if (!a->data || !a->recipe || !a->out || s.n_grid == 0)
        return err_set(e, ERR_USAGE, "--data, --recipe, --out and --grid are needed");
    if (a->budget) TRY(budget(&s.budget_s, a->budget, e));
    struct recipe r;
    int cores = par_cores();
    s.jobs = a->jobs ? a->jobs : cores;
    s.threads = a->threads ? a->threads : cores / s.jobs > 0 ? cores / s.jobs : 1;
    s.data = a->data;
    s.recipe_path = a->recipe;
    s.out = a->out;
    s.recipe = &r;
    int rc = cmd_recipe(&r, a->recipe, s.set, s.n_set, e);
    if (rc == 0) rc = sweep_run(&s, stopped, e);
    recipe_free(&r);
    return rc;
}

int cmd_sweep(int argc, char **argv)
{
    struct args a = { 0 };
    struct err e = { 0 };
    char **set = xcalloc((size_t)argc * 2, sizeof *set), **grid = set + argc;
    struct sweep_args s = { .set = set, .grid = grid };
    int stopped = 0;
    int rc = cmd_repeated("--set", &argc, argv, set, &s.n_set, &e);
    if (rc == 0) rc = cmd_repeated("--grid", &argc, argv, grid, &s.n_grid, &e);
    if (rc == 0) rc = cmd_options(opts, &a, argc, argv, &e);
    if (rc == 1)
        help();
    else if (rc == 0)
        rc = run(&a, s, &stopped, &e);
    conf_free(opts, &a);
    free(set);
    if (rc < 0) return cmd_fail("sweep", &e);
    return stopped ? 128 + stopped : 0;
}
