/* cmd.c — what the subcommands share; apart from main() so that tests can link them. */
#include "models/cmd.h"
#include "core/base/mem.h"
#include "models/recipe.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cmd_options(const struct opt *o, void *cfg, int argc, char **argv, struct err *e)
{
    char **pos = xcalloc((size_t)argc + 1, sizeof *pos);
    int n_pos = 0;
    conf_defaults(o, cfg);
    int rc = conf_args(o, cfg, argc, argv, pos, &n_pos, e);
    if (rc == 0 && n_pos > 0) rc = err_set(e, ERR_USAGE, "unexpected argument '%s'", pos[0]);
    free(pos);
    return rc;
}

int cmd_repeated(const char *name, int *argc, char **argv, char **value, int *n_value,
                 struct err *e)
{
    size_t len = strlen(name);
    char **taken = xcalloc((size_t)*argc + 1, sizeof *taken);
    int kept = 0, n = 0, rc = 0;
    *n_value = 0;
    for (int i = 0; i < *argc; i++) {
        bool alone = strcmp(argv[i], name) == 0;
        if (!alone && !(strncmp(argv[i], name, len) == 0 && argv[i][len] == '=')) {
            argv[kept++] = argv[i];
            continue;
        }
        taken[n++] = argv[i];
        if (!alone) value[(*n_value)++] = argv[i] + len + 1;
        if (alone && i + 1 == *argc) rc = err_set(e, ERR_USAGE, "%s needs a value", name);
        if (alone && i + 1 < *argc) value[(*n_value)++] = taken[n++] = argv[++i];
    }
    memcpy(argv + kept, taken, (size_t)n * sizeof *argv);
    free(taken);
    *argc = kept;
    return rc;
}

int cmd_usage(int rc, struct err *e)
{
    if (rc == ERR_CONFIG) rc = e->code = ERR_USAGE;
    return rc;
}

int cmd_recipe(struct recipe *r, const char *path, char *const *set, int n_set, struct err *e)
{
    recipe_defaults(r);
    int rc = recipe_load(r, path, e);
    for (int i = 0; rc == 0 && i < n_set; i++) rc = cmd_usage(recipe_set(r, set[i], e), e);
    return rc;
}

int cmd_fail(const char *name, const struct err *e)
{
    fprintf(stderr, "intent %s: %s\n", name, e->msg);
    if (e->code != ERR_USAGE) return 1;
    fprintf(stderr, "`intent %s --help` lists the options.\n", name);
    return 2;
}
