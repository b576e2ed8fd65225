/* problem.h — RFC 9457 problem details, the body of every error reply.
 *   problem_write(&out, &(struct problem){ .code = ERR_METHOD, .detail = "use POST", ... });
 * The member `error` repeats the detail for clients of other model servers.  Whatever bytes came from
 * the request, the reply is UTF-8.  Thread: any (pure). */
#pragma once
#include "core/base/buf.h"
#include "server/fault.h"

struct problem {
    int code;   /* ERR_* */
    int status; /* 0: the code's own */
    const char *detail, *instance, *request_id;
    const struct faults *faults; /* or NULL */
    int retry_after_s;           /* 0: the member is left out */
    int retry_after_ms;          /* 0: as the seconds */
};
#define PROBLEM_TYPE "application/problem+json"

void problem_write(struct buf *b, const struct problem *p);
/* s as a JSON string; bytes that are not UTF-8 become '?'. */
void problem_text(struct buf *b, const char *s);
