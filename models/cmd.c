/* cmd.c — what the subcommands share; apart from main() so that tests can link them. */
#include "models/cmd.h"
#include <stdio.h>

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
