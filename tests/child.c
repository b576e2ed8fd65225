#include "tests/child.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int scratch(void)
{
    int fd = memfd_create("test output", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static char *text_of(int fd)
{
    off_t n = lseek(fd, 0, SEEK_END);
    ck_assert_int_ge(n, 0);
    char *s = xcalloc((size_t)n + 1, 1);
    ck_assert_int_eq(pread(fd, s, (size_t)n, 0), n);
    close(fd);
    return s;
}

/* The child: fn with standard error at err. */
__attribute__((noreturn)) static void become(child_fn *fn, void *ctx, int err)
{
    if (dup2(err, STDERR_FILENO) < 0) _exit(99);
    fn(ctx);
    fflush(stdout);
    fflush(stderr); /* not all: check's file of messages is shared */
    _exit(0);       /* not exit: the parent's handlers and leak check are the parent's */
}

struct child child_run(child_fn *fn, void *ctx)
{
    struct child c = { 0 };
    int fd = scratch();
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) become(fn, ctx, fd);
    ck_assert_int_eq(waitpid(pid, &c.status, 0), pid);
    c.text = text_of(fd);
    return c;
}

bool child_aborted(const struct child *c)
{
    return WIFSIGNALED(c->status) && WTERMSIG(c->status) == SIGABRT;
}

bool child_succeeded(const struct child *c)
{
    return WIFEXITED(c->status) && WEXITSTATUS(c->status) == 0;
}

pid_t child_start(child_fn *fn, void *ctx)
{
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid != 0) return pid;
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0) _exit(99);
    become(fn, ctx, fd);
}

int child_wait(pid_t pid, double seconds)
{
    double until = clock_s() + seconds;
    int status = 0;
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        ck_assert_int_ge(got, 0);
        if (got == pid) return status;
        if (clock_s() > until) break;
        usleep(2000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return -1;
}

char *child_caught(child_fn *fn, void *ctx)
{
    int fd = scratch();
    fflush(NULL);
    int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
    ck_assert(out >= 0 && err >= 0);
    ck_assert(dup2(fd, STDOUT_FILENO) >= 0 && dup2(fd, STDERR_FILENO) >= 0);
    fn(ctx);
    fflush(NULL);
    ck_assert(dup2(out, STDOUT_FILENO) >= 0 && dup2(err, STDERR_FILENO) >= 0);
    close(out);
    close(err);
    return text_of(fd);
}

void child_must_abort(child_fn *fn, void *ctx, const char *text)
{
    struct child c = child_run(fn, ctx);
    ck_assert_msg(child_aborted(&c), "expected an abort that says '%s', got status %#x: %s",
                  text, (unsigned)c.status, c.text);
    ck_assert_msg(strstr(c.text, text), "'%s' is not in: %s", text, c.text);
    free(c.text);
}
