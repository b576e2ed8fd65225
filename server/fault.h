/* fault.h — what is wrong with a request's body, place by place: the `errors` of a problem reply.
 *   struct faults f = { 0 };
 *   fault_add(&f, ERR_INVALID, "/limit", "must be from 1 to %d", LIMIT_RESULTS);
 * The first one gives the reply its status and its detail.  Thread: owner. */
#pragma once
#include "core/base/err.h"

enum { FAULTS_MAX = 8 }; /* more are not reported */

struct fault {
    int code;          /* ERR_* */
    char pointer[128]; /* RFC 6901 into the body; "" is the whole */
    char detail[256];
};
struct faults {
    struct fault at[FAULTS_MAX];
    int n;
};

/* Returns code. */
int fault_add(struct faults *f, int code, const char *pointer, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
