/* sweep.c — the trials' processes, the budget, the winner. */
#include "models/sweep.h"
#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/base/prog.h"
#include "core/fmt/bundle.h"
#include "models/stop.h"
#include "models/sweep_plan.h"
#include "models/train.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- processes ---- */

/* In the child: output to the log, the training stops with its sweep and holds `busy` until it has; never returns. */
static void exec_train(char **argv, const char *log, int busy, pid_t parent,
                       const sigset_t *mask)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    if (dup(busy) < 0) _exit(127); /* without close-on-exec */
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0) {
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == parent) execv("/proc/self/exe", argv);
    _exit(127);
}

/* `intent train` for trial i; test: with its test and index. */
static pid_t start(struct sweep *s, int i, bool test, struct err *e)
{
    const struct sweep_args *a = s->a;
    char *out = plan_path(s, i, ""), *log = plan_path(s, i, ".log"), threads[16];
    char **argv = xcalloc((size_t)(a->n_set + a->n_grid) * 2 + 16, sizeof *argv);
    char *words[] = { (char[]){ "intent" },
                      (char[]){ "train" },
                      (char[]){ "--data" },
                      (char *)(uintptr_t)a->data,
                      (char[]){ "--recipe" },
                      s->recipe,
                      (char[]){ "--out" },
                      out,
                      (char[]){ "--resume" },
                      (char[]){ "--threads" },
                      threads };
    int n = 0;
    snprintf(threads, sizeof threads, "%d", test ? a->threads * a->jobs : a->threads);
    for (size_t k = 0; k < sizeof words / sizeof *words; k++) argv[n++] = words[k];
    char set[] = "--set", no_test[] = "--no-test", finish[] = "--finish";
    argv[n++] = test ? finish : no_test;
    for (int k = 0; k < a->n_set; k++) argv[n++] = set, argv[n++] = a->set[k];
    for (int g = 0; g < a->n_grid; g++) argv[n++] = set, argv[n++] = s->trial[i].set[g];
    /* a signal meanwhile waits: to the child it must not look handled */
    sigset_t stops, before;
    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    sigprocmask(SIG_BLOCK, &stops, &before);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) exec_train(argv, log, s->busy, parent, &before);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (pid < 0) (void)err_sys(e, ERR_IO, "starting a training");
    free(argv);
    free(out);
    free(log);
    return pid;
}

/* Last line of a trial's log, for people. */
static void last_words(const struct sweep *s, int i, char *out, size_t n)
{
    char *path = plan_path(s, i, ".log"), *text = NULL;
    size_t nb = 0;
    out[0] = '\0';
    if (io_read_all(&text, &nb, path, (size_t)64 << 20, NULL) == 0 && nb > 0) {
        while (nb > 0 && text[nb - 1] == '\n') text[--nb] = '\0';
        const char *line = strrchr(text, '\n');
        snprintf(out, n, "%s", line ? line + 1 : text);
    }
    free(text);
    free(path);
}

/* A training that ended: by itself, stopped and saved (128 + signal), with an error, or of a signal.  What others send
 * (SIGKILL is also what a system short of memory does) is forgiven twice. */
static enum status how_it_ended(struct trial *t, int status, char *words, size_t n)
{
    enum { OFTEN = 3 };
    if (WIFEXITED(status))
        return WEXITSTATUS(status) == 0 ? DONE : WEXITSTATUS(status) > 128 ? STOPPED : FAILED;
    int sig = WTERMSIG(status);
    if (sig == SIGTERM || sig == SIGINT)
        return STOPPED; /* before it could save, or a second time */
    if (sig == SIGKILL && ++t->killed < OFTEN) return STOPPED;
    snprintf(words, n, "signal %d (%s)%s", sig, strsignal(sig),
             sig == SIGKILL ? ", three times: is there memory enough?" : "");
    return FAILED;
}

static int collect(struct sweep *s, int i, int status, struct err *e)
{
    struct trial *t = &s->trial[i];
    char label[512], words[256];
    last_words(s, i, words, sizeof words);
    t->status = how_it_ended(t, status, words, sizeof words);
    t->seconds += clock_s() - t->started;
    plan_look_at(s, i);
    plan_label(s, i, label, sizeof label);
    if (t->status == FAILED)
        fprintf(stderr, "%s: failed: %s\n", label, words);
    else if (isnan(t->score))
        fprintf(stderr, "%s: %s before its first validation\n", label, status_name[t->status]);
    else
        fprintf(stderr, "%s: %s, %s %.4f in epoch %" PRId64 ", %.0f s\n", label,
                status_name[t->status], s->metric, t->score, t->epoch, t->seconds);
    TRY(plan_save_table(s, e));
    return plan_save(s, e);
}

static int running(const struct sweep *s)
{
    int n = 0;
    for (int i = 0; i < s->n; i++) n += s->trial[i].status == RUNNING;
    return n;
}

static void ask_to_stop(struct sweep *s)
{
    for (int i = 0; i < s->n; i++)
        if (s->trial[i].status == RUNNING) kill(s->trial[i].pid, SIGTERM);
}

/* Takes in one training that has ended, if one has. */
static int reap(struct sweep *s, struct err *e)
{
    for (int i = 0; i < s->n; i++) {
        int status;
        if (s->trial[i].status != RUNNING) continue;
        pid_t got = waitpid(s->trial[i].pid, &status, WNOHANG);
        REQUIRE(got >= 0, "waiting for trial %d", i + 1);
        if (got > 0) TRY(collect(s, i, status, e));
    }
    return 0;
}

static int next_waiting(const struct sweep *s)
{
    for (int i = 0; i < s->n; i++)
        if (s->trial[i].status == STOPPED) return i; /* first what has begun already */
    for (int i = 0; i < s->n; i++)
        if (s->trial[i].status == WAITING) return i;
    return -1;
}

static void show(const struct sweep *s, struct prog *p)
{
    int done = 0, best = plan_best(s);
    for (int i = 0; i < s->n; i++) done += s->trial[i].status >= DONE;
    if (best >= 0)
        prog_step(p, done, "%d of %d trials, best %s %.4f (trial %d)", done, s->n, s->metric,
                  s->trial[best].score, best + 1);
    else
        prog_step(p, done, "%d of %d trials", done, s->n);
}

/* Trains until all trials are through, the budget is spent or a stop is asked for. */
static int train_all(struct sweep *s, struct err *e)
{
    struct prog p = prog_begin("sweep", s->n);
    enum { PLAN_EVERY_S = 10 }; /* so much of the budget's count may be lost by a kill */
    bool over = false;
    int rc = 0;
    while (rc == 0) {
        bool now = stop_asked() || (s->a->budget_s > 0 && plan_spent(s) >= s->a->budget_s);
        if (now && !over) ask_to_stop(s);
        over = now;
        int i = over ? -1 : next_waiting(s);
        if (i < 0 && running(s) == 0) break;
        if (i >= 0 && running(s) < s->a->jobs) {
            struct trial *t = &s->trial[i];
            t->pid = start(s, i, false, e);
            if (t->pid < 0) {
                rc = e ? e->code : ERR_IO;
                break;
            }
            t->status = RUNNING;
            t->started = clock_s();
            rc = plan_save(s, e);
            continue;
        }
        usleep(50000);
        rc = reap(s, e);
        if (rc == 0 && clock_s() - s->saved > PLAN_EVERY_S) rc = plan_save(s, e);
        show(s, &p);
    }
    if (rc < 0) ask_to_stop(s);
    while (rc < 0 && running(s) > 0) { /* nobody is left behind */
        usleep(50000);
        (void)!reap(s, NULL);
    }
    prog_end(&p, "%s", over && !stop_asked() ? "the budget is spent" : "");
    return rc;
}

/* ---- the winner ---- */

/* 1: stopped. */
static int test_winner(struct sweep *s, struct err *e)
{
    pid_t pid = start(s, s->winner, true, e), got;
    int status = 0;
    TRY(pid < 0 ? ERR_IO : 0);
    for (bool told = false; (got = waitpid(pid, &status, WNOHANG)) == 0; usleep(50000)) {
        if (stop_asked() && !told) kill(pid, SIGTERM);
        told = stop_asked();
    }
    if (got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
    if (stop_asked()) return 1;
    char words[256];
    last_words(s, s->winner, words, sizeof words);
    return err_set(e, ERR_INTERNAL, "testing trial %d: %s", s->winner + 1, words);
}

static int put_bundle(struct sweep *s, const struct bundle *b, struct err *e)
{
    struct bundle_writer w;
    const char *name;
    json_t *v;
    TRY(bundle_begin(&w, s->a->out, s->version, e));
    int rc = 0;
    json_object_foreach (json_object_get(b->manifest, "files"), name, v)
        if (rc == 0) rc = bundle_reuse(&w, b, name, e);
    if (rc < 0) {
        bundle_abort(&w);
        return rc;
    }
    json_t *m = json_deep_copy(b->manifest);
    json_object_set_new(m, "sweep",
                        json_pack("{s:i, s:i}", "trial", s->winner + 1, "of", s->n));
    rc = bundle_commit(&w, m, e);
    json_decref(m);
    return rc;
}

static char *out_path(const struct sweep *s, const char *suffix)
{
    return xasprintf("%s/%" PRId64 "%s", s->a->out, s->version, suffix);
}

/* A version for the winner, with its log, which reserves the number. */
static int reserve(struct sweep *s, struct err *e)
{
    char *log = plan_path(s, s->winner, "/1" TRAIN_LOG);
    int rc = train_newest(&s->version, s->a->out, e);
    for (bool taken = true; rc == 0 && taken;) {
        s->version++;
        char *to = out_path(s, TRAIN_LOG);
        int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        taken = fd < 0 && errno == EEXIST;
        if (fd >= 0)
            close(fd);
        else if (!taken)
            rc = err_sys(e, ERR_IO, "%s", to);
        if (rc == 0 && !taken) rc = io_copy_file(to, log, e);
        free(to);
    }
    free(log);
    return rc;
}

/* The winner as a version of OUT.  The number is kept first: after a kill the same one is written again. */
static int publish(struct sweep *s, struct err *e)
{
    struct bundle b;
    if (s->version == 0) {
        TRY(reserve(s, e));
        TRY(plan_save(s, e));
    }
    char *dir = plan_path(s, s->winner, "");
    int rc = bundle_open(&b, dir, true, e);
    free(dir);
    TRY(rc);
    rc = put_bundle(s, &b, e);
    bundle_close(&b);
    return rc;
}

static bool is_published(const struct sweep *s)
{
    char *dir = out_path(s, "");
    bool there = s->version > 0 && io_exists(dir);
    free(dir);
    return there;
}

static int finish(struct sweep *s, struct err *e)
{
    if (s->winner < 0) s->winner = plan_best(s);
    if (s->winner < 0)
        return err_set(e, ERR_EMPTY,
                       "no trial came to its first validation; see %s/trial-*.log", s->dir);
    TRY(plan_save(s, e)); /* from here on nothing else is tested */
    int rc = test_winner(s, e);
    return rc == 0 ? publish(s, e) : rc < 0 ? rc : 0;
}

/* ---- one sweep at a time ---- */

static int take_lock(struct sweep *s, struct err *e)
{
    s->lock = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->lock < 0) return err_sys(e, ERR_IO, "%s", s->dir);
    if (flock(s->lock, LOCK_EX | LOCK_NB) < 0)
        return err_set(e, ERR_INVALID, "%s: another `intent sweep` is running it", s->dir);
    char *path = xasprintf("%s/busy", s->dir);
    s->busy = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    int rc = s->busy < 0 ? err_sys(e, ERR_IO, "%s", path) : 0;
    free(path);
    for (bool told = false; rc == 0 && flock(s->busy, LOCK_EX | LOCK_NB) < 0; usleep(50000)) {
        if (stop_asked()) return 1;
        if (!told) fprintf(stderr, "waiting for trainings of a killed sweep to save\n");
        told = true;
    }
    return rc;
}

static int run(struct sweep *s, int *stopped, struct err *e)
{
    TRY(plan_trials(s, e));
    TRY(plan_check(s, e));
    TRY(io_mkdirs(s->dir, e));
    int rc = take_lock(s, e);
    if (rc != 0) return rc < 0 ? rc : (*stopped = stop_asked(), 0);
    TRY(plan_load(s, e));
    for (int i = 0; i < s->n; i++)
        if (s->trial[i].status != WAITING) plan_look_at(s, i);
    bool was_there = is_published(s);
    if (!was_there && s->winner < 0) TRY(train_all(s, e));
    *stopped = stop_asked();
    if (!*stopped && !was_there) TRY(finish(s, e));
    *stopped = is_published(s) ? 0 : stop_asked();
    TRY(plan_save_table(s, e));
    TRY(plan_save(s, e));
    plan_print(s, stdout, false);
    if (*stopped) {
        fprintf(stderr, "stopped and saved: the same command goes on from here\n");
        return 0;
    }
    printf("winner: trial %d by %s on validation, tested once: %s/%" PRId64 "\n", s->winner + 1,
           s->metric, s->a->out, s->version);
    return 0;
}

int sweep_run(const struct sweep_args *a, int *stopped, struct err *e)
{
    struct sweep s = { .a = a, .started = clock_s(), .winner = -1, .lock = -1, .busy = -1 };
    struct stop stop = stop_begin();
    signal(SIGCHLD, SIG_DFL); /* ignored by the caller, ends of trainings would be lost */
    s.dir = xasprintf("%s/sweep", a->out);
    s.recipe = xasprintf("%s/recipe.ini", s.dir);
    int rc = run(&s, stopped, e);
    stop_end(&stop);
    if (s.lock >= 0) close(s.lock);
    if (s.busy >= 0) close(s.busy);
    plan_free(&s);
    return rc;
}
