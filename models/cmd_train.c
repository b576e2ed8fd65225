/* cmd_train.c — `intent train`. */
#include "core/base/mem.h"
#include "core/base/par.h"
#include "models/cmd.h"
#include "models/train.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct args {
    char *data, *recipe, *out, *init;
    int32_t index, threads;
    bool resume, finish, test, profile;
    float save_every;
};

static const struct opt opts[] = {
    OPT_STR(struct args, data, NULL, "data set directory made by `intent prep`"),
    OPT_STR(struct args, recipe, NULL, "recipe file (models/recipes/*.ini)"),
    OPT_STR(struct args, out, NULL, "model directory; a new version is written into it"),
    OPT_STR(
        struct args, init, NULL,
        "bundle to begin with the weights of: fine-tuning; items by id, new ones at random"),
    OPT_BOOL(
        struct args, resume, "false",
        "go on with the newest run of --out, or start one; a finished one is left as it is"),
    OPT_BOOL(struct args, finish, "false",
             "with --resume: train no further, test and index the best checkpoint so far"),
    OPT_BOOL(struct args, test, "true",
             "--no-test ends with training: --resume then tests and indexes"),
    OPT_FLOAT(struct args, save_every, "60", 0, 1e6,
              "seconds between saved states; the end of an epoch saves too"),
    OPT_CHOICE(struct args, index, "auto", INDEX_TYPES, "search index built at the end"),
    OPT_BOOL(
        struct args, profile, "false",
        "at the end, say where the steps' time went, beside BLAS's rate and a memory copy's"),
    OPT_INT(struct args, threads, "0", 0, 256, "threads; 0: one per core"),
    OPT_END
};

static void help(void)
{
    printf(
        "usage: intent train --data DATASET --recipe FILE --out MODEL_DIR [--set "
        "key=value]...\n\n"
        "Trains until validation stops getting better, keeps the best checkpoint as a bundle\n"
        "MODEL_DIR/VERSION, tests it once, builds its index.  MODEL_DIR/VERSION.train.jsonl "
        "has a\n"
        "line for every epoch.  Ctrl-C saves where it stands and ends; --resume goes on bit "
        "for "
        "bit,\nafter a kill too (--recipe may then be left out).\n\n");
    conf_help(opts, stdout);
    printf("  %-34s change a key of the recipe; may be repeated\n",
           "--set [SECTION.]KEY=VALUE");
    printf("\nKeys of [model]:\n");
    conf_help(model_opts, stdout);
    printf("\nKeys of [train]:\n");
    conf_help(train_opts, stdout);
    printf("\nObjectives, each a section with `weight` and its keys:\n");
    for (int i = 0; i < obj_count; i++) {
        printf("[%s] %s\n", obj_list[i]->name, obj_list[i]->help);
        conf_help(obj_list[i]->opts, stdout);
    }
}

static int run(const struct args *a, char **set, int n_set, int *stopped, struct err *e)
{
    if (!a->data || !a->out || (!a->recipe && !a->resume))
        return err_set(e, ERR_USAGE, "--data, --recipe and --out are needed");
    if (a->finish && !a->resume)
        return err_set(e, ERR_USAGE, "--finish ends an unfinished run: give --resume as well");
    if (a->finish && !a->test)
        return err_set(e, ERR_USAGE, "--finish tests, --no-test does not: give one of them");
    if (!a->recipe && a->init)
        return err_set(e, ERR_USAGE, "--init begins a run: give --recipe as well");
    if (!a->recipe && n_set > 0)
        return err_set(e, ERR_USAGE, "--set changes a recipe: give --recipe as well");
    struct recipe r = { 0 };
    struct train_result res;
    int rc = a->recipe ? cmd_recipe(&r, a->recipe, set, n_set, e) : 0;
    if (rc == 0) {
        struct par *pool = par_new(a->threads ? a->threads : par_cores());
        struct train_args t = { .data = a->data,
                                .out = a->out,
                                .recipe = a->recipe ? &r : NULL,
                                .init = a->init,
                                .pool = pool,
                                .index = { (enum index_type)a->index, 0.99f },
                                .resume = a->resume,
                                .finish = a->finish,
                                .no_test = !a->test,
                                .profile = a->profile,
                                .save_s = (double)a->save_every };
        rc = train_run(&t, &res, e);
        *stopped = res.stopped;
        par_free(pool);
    }
    recipe_free(&r);
    return rc;
}

int cmd_train(int argc, char **argv)
{
    struct args a = { 0 };
    struct err e = { 0 };
    char **set = xcalloc((size_t)argc, sizeof *set);
    int n_set = 0, stopped = 0;
    int rc = cmd_repeated("--set", &argc, argv, set, &n_set, &e);
    if (rc == 0) rc = cmd_options(opts, &a, argc, argv, &e);
    if (rc == 1)
        help();
    else if (rc == 0)
        rc = run(&a, set, n_set, &stopped, &e);
    conf_free(opts, &a);
    free(set);
    if (rc < 0) return cmd_fail("train", &e);
    return stopped ? 128 + stopped : 0; /* as a shell says of a program that a signal ended */
}
