/* cmd.c — what the subcommands share; apart from main() so that tests can link them. */
#include "models/cmd.h"
#include "core/base/mem.h"
#include <stdio.h>
#include <stdlib.h>

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

int cmd_usage(int rc, struct err *e)
{
    if (rc == ERR_CONFIG) rc = e->code = ERR_USAGE;
    return rc;
}

int cmd_fail(const char *name, const struct err *e)
{
    fprintf(stderr, "intent %s: %s\n", name, e->msg);
    if (e->code != ERR_USAGE) return 1;
    fprintf(stderr, "`intent %s --help` lists the options.\n", name);
    return 2;
}
