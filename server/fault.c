#include "server/fault.h"
#include <stdio.h>

int fault_add(struct faults *f, int code, const char *pointer, const char *fmt, ...)
{
    if (f->n == FAULTS_MAX) return code;
    struct fault *x = &f->at[f->n++];
    x->code = code;
    snprintf(x->pointer, sizeof x->pointer, "%s", pointer);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(x->detail, sizeof x->detail, fmt, ap);
    va_end(ap);
    return code;
}
