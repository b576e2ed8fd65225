/* child.h — code that aborts, is killed or writes to standard error, watched from outside.
 *   struct child c = child_run(fn, ctx);          runs fn in a child process and waits for it
 *   ck_assert(child_aborted(&c)); free(c.text);
 * Thread: owner; the process must have no threads of its own when it forks. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

typedef void child_fn(void *ctx);

struct child {
    int status; /* of waitpid */
    char *text; /* what it wrote to standard error; the caller frees it */
};
/* The child exits with 0 when fn returns. */
struct child child_run(child_fn *fn, void *ctx);
bool child_aborted(const struct child *c);
bool child_succeeded(const struct child *c);

/* Starts fn with its output thrown away; the caller signals and waits.  No assertions in fn: check's file of messages is
 * shared, and what both write at the same time lands in the middle of each other's. */
pid_t child_start(child_fn *fn, void *ctx);
/* Waits at most `seconds`, then kills; the status, or -1 when it had to kill. */
int child_wait(pid_t pid, double seconds);

/* Runs fn in this process with standard output and error caught; the caller frees the text.  fn must return:
 * no assertions in it. */
char *child_caught(child_fn *fn, void *ctx);

/* A failed test unless fn aborts and says text. */
void child_must_abort(child_fn *fn, void *ctx, const char *text);
