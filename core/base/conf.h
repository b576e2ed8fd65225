/* conf.h — options: one table drives defaults, flags, environment, INI files, checks and --help.
 *   struct cfg { int32_t epochs; float lr; char *out; bool quiet; int32_t seen; };
 *   static const struct opt opts[] = {
 *       OPT_INT(struct cfg, epochs, "100", 1, 100000, "most epochs to train"),
 *       OPT_FLOAT(struct cfg, lr, "0.001", 0, 1, "learning rate"),
 *       OPT_STR(struct cfg, out, NULL, "bundle directory to write"),
 *       OPT_BOOL(struct cfg, quiet, "false", "no progress"),
 *       OPT_CHOICE(struct cfg, seen, "mask", "mask|keep|zero", "history at test time"),
 *       OPT_END };
 *   conf_defaults(opts, &cfg); conf_set(opts, &cfg, "lr", "0.01", &err);
 * A key is the member's name; on the command line '_' is '-'.  Strings are owned by the struct
 * (conf_free).  Out-of-range and unknown keys are errors that name the key, the range or the
 * nearest key.  Thread: owner. */
#pragma once
#include "core/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum opt_type {
    OPT_T_END,
    OPT_T_BOOL,
    OPT_T_INT,
    OPT_T_I64,
    OPT_T_FLOAT,
    OPT_T_STR,
    OPT_T_CHOICE
};

struct opt {
    const char *key;
    enum opt_type type;
    size_t off;
    const char *def;     /* as text; NULL: zero / no string */
    double lo, hi;       /* inclusive range of numbers */
    const char *choices; /* "a|b|c": the value is the index */
    const char *help;
};

/* clang-format off */
#define OPT_BOOL(S, m, d, h) { #m, OPT_T_BOOL, offsetof(S, m), d, 0, 0, NULL, h }        /* bool */
#define OPT_INT(S, m, d, lo, hi, h) { #m, OPT_T_INT, offsetof(S, m), d, lo, hi, NULL, h } /* int32_t */
#define OPT_I64(S, m, d, lo, hi, h) { #m, OPT_T_I64, offsetof(S, m), d, lo, hi, NULL, h } /* int64_t */
#define OPT_FLOAT(S, m, d, lo, hi, h) { #m, OPT_T_FLOAT, offsetof(S, m), d, lo, hi, NULL, h } /* float */
#define OPT_STR(S, m, d, h) { #m, OPT_T_STR, offsetof(S, m), d, 0, 0, NULL, h }           /* char * */
#define OPT_CHOICE(S, m, d, c, h) { #m, OPT_T_CHOICE, offsetof(S, m), d, 0, 0, c, h }     /* int32_t */
#define OPT_END { NULL, OPT_T_END, 0, NULL, 0, 0, NULL, NULL }
/* clang-format on */

void conf_defaults(const struct opt *o, void *cfg);
void conf_free(const struct opt *o, void *cfg);                    /* frees the strings */
const struct opt *conf_find(const struct opt *o, const char *key); /* '-' equals '_'; or NULL */
NODISCARD int conf_set(const struct opt *o, void *cfg, const char *key, const char *value,
                       struct err *e);
/* The value as text, as conf_set reads it. */
void conf_get(const struct opt *o, const void *cfg, char *out, size_t n);
const char *conf_nearest(const struct opt *o, const char *key); /* by edit distance, or NULL */

/* argv[1..] as --key value, --key=value, --flag, --no-flag; the rest are positional, kept in argv
 * order in pos[0..*n_pos).  Stops with ERR_USAGE on an unknown flag.  --help returns 1. */
NODISCARD int conf_args(const struct opt *o, void *cfg, int argc, char **argv, char **pos,
                        int *n_pos, struct err *e);
/* PREFIX_KEY in upper case for every key; a variable that is empty counts as not set, whatever the type. */
NODISCARD int conf_env(const struct opt *o, void *cfg, const char *prefix, struct err *e);
/* INI file through inih: fn gets every section, key, value, line, and each [section] line by itself, with key and
 * value NULL; its error is given file:line. */
typedef int conf_ini_fn(void *ctx, const char *section, const char *key, const char *value,
                        int line, struct err *e);
NODISCARD int conf_ini(const char *path, conf_ini_fn *fn, void *ctx, struct err *e);
/* A line each: --key VALUE  help (default, range). */
void conf_help(const struct opt *o, FILE *f);
