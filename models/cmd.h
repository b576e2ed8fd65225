/* cmd.h — the subcommands of `intent`.  Each takes argv with argv[0] its own name and returns the
 * process's exit status: 0 done, 1 failed, 2 wrong usage.  Thread: main. */
#pragma once
#include "core/base/conf.h"

int cmd_prep(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_index(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_recommend(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_sweep(int argc, char **argv);
int cmd_synth(int argc, char **argv);
int cmd_rank(int argc, char **argv);

/* Defaults, then argv's options into cfg, for a command that takes options only.  1: --help was asked for. */
NODISCARD int cmd_options(const struct opt *o, void *cfg, int argc, char **argv, struct err *e);
/* Takes every "--name VALUE" and "--name=VALUE" into value[0..*n_value), in order; those words go to the
 * end of argv, behind the shorter *argc: an option that may be repeated.  value has room for argc of them. */
NODISCARD int cmd_repeated(const char *name, int *argc, char **argv, char **value, int *n_value,
                           struct err *e);
/* The recipe of a file, changed by the values of --set; to be freed, after a failure too. */
struct recipe;
NODISCARD int cmd_recipe(struct recipe *r, const char *path, char *const *set, int n_set,
                         struct err *e);
/* Prints "intent NAME: message" on standard error; the exit status that goes with the error. */
int cmd_fail(const char *name, const struct err *e);
/* For a value that the command line gave: what conf_set calls a bad configuration is wrong usage. */
int cmd_usage(int rc, struct err *e);
