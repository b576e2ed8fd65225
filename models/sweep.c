#include "models/sweep.h"
#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/base/prog.h"
#include "core/data/dataset.h"
#include "core/data/text.h"
#include "core/fmt/bundle.h"
#include "models/stop.h"
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

enum status { WAITING, RUNNING, STOPPED, DONE, FAILED };
static const char *const status_name[] = { "waiting", "running", "stopped", "done", "failed" };
enum { MAX_GRIDS = 16 };

struct trial {
    char *set[MAX_GRIDS]; /* "key=value" of each grid, owned */
    enum status status;
    pid_t pid;       /* of a running one */
    int killed;      /* times it died of a signal that nobody here sent */
    double started;  /* clock_s */
    double seconds;  /* of this and earlier calls */
    double score;    /* on validation; NaN: none yet */
    int64_t epoch;   /* that gave it */
    json_t *metrics; /* on validation; owned, NULL: none */
};

struct sweep {
    const struct sweep_args *a;
    char *dir;    /* OUT/sweep */
    char *recipe; /* OUT/sweep/recipe.ini: the file as it was at the beginning */
    int lock,
        busy; /* descriptors: of dir, held while a sweep runs; of a file that its trainings hold too */
    uint64_t data;
    char judge[64]; /* metric and protocol that all trials share */
    char metric[16];
    struct trial *trial;
    int n;
    double spent, started; /* seconds of earlier calls; clock_s of this one */
    double saved;          /* clock_s of the newest plan on disk */
    int winner;            /* -1: not chosen */
    int64_t version;       /* of OUT, where the winner was put; 0: not yet */
};

int sweep_budget(double *seconds, const char *text, struct err *e)
{
    size_t n = strlen(text);
    double unit = 1;
    if (n && strchr("smhd", text[n - 1])) {
        unit = text[n - 1] == 's'   ? 1
               : text[n - 1] == 'm' ? 60
               : text[n - 1] == 'h' ? 3600
                                    : 86400;
        n--;
    }
    if (!text_number((struct span){ text, n }, seconds) || *seconds <= 0)
        return err_set(e, ERR_USAGE, "--budget %s: expected a time such as 90m, 2h or 3600",
                       text);
    *seconds *= unit;
    return 0;
}

/* ---- the trials ---- */

static int count_values(const char *grid, struct err *e)
{
    const char *eq = strchr(grid, '=');
    if (!eq || eq == grid || !eq[1])
        return err_set(e, ERR_USAGE, "--grid %s: expected key=a,b,c", grid);
    int n = 1;
    for (const char *p = eq; *p; p++) n += *p == ',';
    return n;
}

/* "key=value" with the i-th value */
static char *grid_value(const char *grid, int i)
{
    const char *eq = strchr(grid, '='), *v = eq + 1;
    for (; i > 0; i--) v = strchr(v, ',') + 1;
    return xasprintf("%.*s=%.*s", (int)(eq - grid), grid, (int)strcspn(v, ","), v);
}

/* One key in two grids, with its section or without. */
static bool same_key(const char *a, const char *b)
{
    size_t na = strcspn(a, "="), nb = strcspn(b, "="), n = na < nb ? na : nb;
    const char *longer = na < nb ? b : a;
    if (memcmp(a + na - n, b + nb - n, n) != 0) return false;
    return na == nb || longer[(na < nb ? nb : na) - n - 1] == '.';
}

static int check_grids(const struct sweep_args *a, struct err *e)
{
    if (a->n_grid > MAX_GRIDS) return err_set(e, ERR_USAGE, "at most %d grids", MAX_GRIDS);
    for (int i = 0; i < a->n_grid; i++)
        for (int k = 0; k < i; k++)
            if (same_key(a->grid[i], a->grid[k]))
                return err_set(e, ERR_USAGE, "--grid %s and --grid %s are about one key",
                               a->grid[k], a->grid[i]);
    return 0;
}

/* All combinations, the last grid's values changing fastest. */
static int make_trials(struct sweep *s, struct err *e)
{
    int count[MAX_GRIDS];
    int64_t n = 1;
    TRY(check_grids(s->a, e));
    for (int g = 0; g < MAX_GRIDS; g++) count[g] = 1;
    for (int g = 0; g < s->a->n_grid; g++) {
        count[g] = count_values(s->a->grid[g], e);
        TRY(count[g]);
        n *= count[g];
        if (n > SWEEP_TRIALS)
            return err_set(e, ERR_USAGE, "more than %d combinations", SWEEP_TRIALS);
    }
    s->n = (int)n;
    s->trial = xcalloc((size_t)n, sizeof *s->trial);
    for (int i = 0; i < s->n; i++) {
        int left = i;
        s->trial[i].score = (double)NAN;
        for (int g = s->a->n_grid - 1; g >= 0; g--) {
            s->trial[i].set[g] = grid_value(s->a->grid[g], left % count[g]);
            left /= count[g];
        }
    }
    return 0;
}

/* By what validation of the last stage chooses; the same for all trials. */
static int check_judge(struct sweep *s, const struct recipe *r, struct err *e)
{
    struct recipe last;
    char seen[16], judge[64];
    recipe_stage(&last, r, recipe_stages(r) - 1);
    bool none = last.train.stop_on == STOP_NONE;
    conf_get(conf_find(train_opts, "stop_on"), &last.train, s->metric, sizeof s->metric);
    conf_get(conf_find(train_opts, "valid_seen"), &last.train, seen, sizeof seen);
    snprintf(judge, sizeof judge, "stop_on = %s, valid_seen = %s", s->metric, seen);
    recipe_free(&last);
    if (none)
        return err_set(e, ERR_CONFIG,
                       "validation chooses among trials: set train.stop_on to a metric");
    if (s->judge[0] && strcmp(judge, s->judge) != 0)
        return err_set(e, ERR_CONFIG,
                       "trials must be judged alike to be compared: one has %s, another %s",
                       s->judge, judge);
    memcpy(s->judge, judge, sizeof judge);
    return 0;
}

/* A trial's recipe, which must be trainable and be judged as the others are. */
static int check_trial(struct sweep *s, const struct trial *t, int32_t n_items, struct err *e)
{
    struct recipe r;
    json_t *o = recipe_json(s->a->recipe);
    int rc = recipe_from_json(&r, o, e);
    json_decref(o);
    TRY(rc);
    for (int g = 0; g < s->a->n_grid && rc == 0; g++) {
        rc = recipe_set(&r, t->set[g], e);
        if (rc < 0) err_ctx(e, "--grid");
    }
    r.model.n_items = n_items;
    if (rc == 0) rc = recipe_check(&r, e);
    if (rc == 0) rc = check_judge(s, &r, e);
    recipe_free(&r);
    return rc;
}

static int check_trials(struct sweep *s, struct err *e)
{
    struct dataset d;
    TRY(dataset_open(&d, s->a->data, e));
    s->data = dataset_fingerprint(&d);
    int rc = 0;
    for (int i = 0; i < s->n && rc == 0; i++) rc = check_trial(s, &s->trial[i], d.n_items, e);
    dataset_close(&d);
    return rc;
}

static char *trial_path(const struct sweep *s, int i, const char *suffix)
{
    return xasprintf("%s/trial-%03d%s", s->dir, i + 1, suffix);
}

static void trial_label(const struct sweep *s, int i, char *out, size_t n)
{
    size_t at = (size_t)snprintf(out, n, "trial %d/%d", i + 1, s->n);
    for (int g = 0; g < s->a->n_grid && at < n; g++)
        at += (size_t)snprintf(out + at, n - at, " %s", s->trial[i].set[g]);
}

/* ---- the plan ---- */

static json_t *identity(const struct sweep *s)
{
    json_t *grid = json_array();
    char data[17];
    for (int g = 0; g < s->a->n_grid; g++)
        json_array_append_new(grid, json_string(s->a->grid[g]));
    snprintf(data, sizeof data, "%016" PRIx64, s->data);
    return json_pack("{s:i, s:s, s:o, s:o}", "format", 1, "data", data, "grid", grid, "recipe",
                     recipe_json(s->a->recipe));
}

static double spent(const struct sweep *s) { return s->spent + clock_s() - s->started; }

static int save_plan(struct sweep *s, struct err *e)
{
    s->saved = clock_s();
    json_t *o = identity(s), *trials = json_array();
    for (int i = 0; i < s->n; i++) {
        const struct trial *t = &s->trial[i];
        double seconds = t->seconds + (t->status == RUNNING ? clock_s() - t->started : 0);
        /* what runs now will have been stopped when somebody reads this */
        const char *status = status_name[t->status == RUNNING ? STOPPED : t->status];
        json_array_append_new(trials,
                              json_pack("{s:s, s:f}", "status", status, "seconds", seconds));
    }
    json_object_set_new(o, "trials", trials);
    json_object_set_new(o, "spent_s", json_real(spent(s)));
    json_object_set_new(o, "winner", json_integer(s->winner + 1));
    json_object_set_new(o, "version", json_integer((json_int_t)s->version));
    char *text = json_dumps(o, JSON_INDENT(1)), *path = xasprintf("%s/plan.json", s->dir);
    int rc = io_write_atomic(path, text, strlen(text), e);
    json_decref(o);
    free(text);
    free(path);
    return rc;
}

/* What failed is tried again by a later call: a disk may have been full. */
static int take_trials(struct sweep *s, const json_t *trials, struct err *e)
{
    if ((int)json_array_size(trials) != s->n)
        return err_set(e, ERR_FORMAT, "%zu trials, %d expected", json_array_size(trials), s->n);
    for (int i = 0; i < s->n; i++) {
        const json_t *o = json_array_get(trials, (size_t)i);
        const char *status = json_string_value(json_object_get(o, "status"));
        s->trial[i].seconds = json_number_value(json_object_get(o, "seconds"));
        for (int k = 0; k < FAILED && status; k++)
            if (strcmp(status, status_name[k]) == 0) s->trial[i].status = (enum status)k;
    }
    return 0;
}

static int same_sweep(const json_t *was, const json_t *now, const char *dir, struct err *e)
{
    const char *key;
    json_t *v;
    json_object_foreach ((json_t *)(uintptr_t)now, key, v)
        if (!json_equal(v, json_object_get(was, key)))
            return err_set(
                e, ERR_CONFIG,
                "%s holds another sweep (its %s differs): give its command again to go "
                "on with it, or another --out",
                dir, key);
    return 0;
}

static int load_plan(struct sweep *s, struct err *e)
{
    char *path = xasprintf("%s/plan.json", s->dir), *text = NULL;
    size_t nb;
    json_error_t why;
    json_t *o = NULL, *now = identity(s);
    int rc = 0;
    if (io_exists(path)) {
        rc = io_read_all(&text, &nb, path, LIMIT_JSON_FILE_BYTES, e);
        if (rc == 0 && !(o = json_loadb(text, nb, JSON_REJECT_DUPLICATES, &why)))
            rc = err_set(e, ERR_FORMAT, "line %d: %s", why.line, why.text);
        if (rc == 0) rc = same_sweep(o, now, s->dir, e);
        if (rc == 0) rc = take_trials(s, json_object_get(o, "trials"), e);
        if (rc < 0) err_ctx(e, "%s", path);
        s->spent = json_number_value(json_object_get(o, "spent_s"));
        s->winner = (int)json_integer_value(json_object_get(o, "winner")) - 1;
        s->version = json_integer_value(json_object_get(o, "version"));
        if (rc == 0 && (s->winner < -1 || s->winner >= s->n || s->version < 0))
            rc = err_set(e, ERR_FORMAT, "%s: winner %d of %d", path, s->winner + 1, s->n);
    } else {
        /* trainings read this copy: the file may be edited meanwhile */
        rc = io_copy_file(s->recipe, s->a->recipe_path, e);
    }
    json_decref(o);
    json_decref(now);
    free(text);
    free(path);
    return rc;
}

/* ---- what trials have reached ---- */

/* From the bundle, which is there from the first validation on. */
static void look_at(struct sweep *s, int i)
{
    struct trial *t = &s->trial[i];
    struct bundle b;
    struct err none = { 0 };
    char *dir = trial_path(s, i, "");
    if (io_exists(dir) && bundle_open(&b, dir, false, &none) == 0) {
        const json_t *valid = json_object_get(json_object_get(b.manifest, "metrics"), "valid");
        const json_t *score = json_object_get(valid, s->metric);
        if (json_is_number(score)) {
            t->score = json_number_value(score);
            t->epoch = json_integer_value(
                json_object_get(json_object_get(b.manifest, "data"), "epochs"));
            json_decref(t->metrics);
            t->metrics = json_incref((json_t *)(uintptr_t)valid);
        }
        bundle_close(&b);
    }
    free(dir);
}

static int best_trial(const struct sweep *s)
{
    int best = -1;
    for (int i = 0; i < s->n; i++)
        if (!isnan(s->trial[i].score) && (best < 0 || s->trial[i].score > s->trial[best].score))
            best = i;
    return best;
}

static int by_score(const void *a, const void *b, void *trials)
{
    const struct trial *t = trials;
    double x = t[*(const int *)a].score, y = t[*(const int *)b].score;
    if (isnan(x) || isnan(y)) return isnan(x) - isnan(y);
    if (x != y) return x < y ? 1 : -1;
    return *(const int *)a - *(const int *)b;
}

/* For people, in columns; or with a tab between cells. */
static void print_table(const struct sweep *s, FILE *f, bool tabs)
{
    const char *sep = tabs ? "\t" : "  ";
    static const char *const columns[] = { "hr@10", "ndcg@10", "hr@20", "ndcg@20",
                                           "recall@50" };
    int *order = xcalloc((size_t)s->n, sizeof *order);
    for (int i = 0; i < s->n; i++) order[i] = i;
    qsort_r(order, (size_t)s->n, sizeof *order, by_score, s->trial);
    fprintf(f, "trial%sstatus%sepoch%sseconds", sep, sep, sep);
    for (int c = 0; c < 5; c++) fprintf(f, "%svalid %s", sep, columns[c]);
    fprintf(f, "%ssettings\n", sep);
    for (int i = 0; i < s->n; i++) {
        const struct trial *t = &s->trial[order[i]];
        fprintf(f, tabs ? "%d%s%s%s%" PRId64 "%s%.0f" : "%5d%s%-7s%s%5" PRId64 "%s%7.0f",
                order[i] + 1, sep, status_name[t->status], sep, t->epoch, sep, t->seconds);
        for (int c = 0; c < 5; c++) {
            const json_t *v = json_object_get(t->metrics, columns[c]);
            int width = tabs ? 0 : (int)strlen(columns[c]) + 6;
            if (v)
                fprintf(f, "%s%*.4f", sep, width, json_number_value(v));
            else
                fprintf(f, "%s%*s", sep, width, "-");
        }
        fputs(sep, f);
        for (int g = 0; g < s->a->n_grid; g++) fprintf(f, "%s%s", g ? " " : "", t->set[g]);
        fputc('\n', f);
    }
    free(order);
}

static int save_table(const struct sweep *s, struct err *e)
{
    char *text = NULL, *path = xasprintf("%s/table.tsv", s->dir);
    size_t nb = 0;
    FILE *f = open_memstream(&text, &nb);
    REQUIRE(f, "open_memstream");
    print_table(s, f, true);
    fclose(f);
    int rc = io_write_atomic(path, text, nb, e);
    free(text);
    free(path);
    return rc;
}

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
    char *out = trial_path(s, i, ""), *log = trial_path(s, i, ".log"), threads[16];
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
    char *path = trial_path(s, i, ".log"), *text = NULL;
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
    look_at(s, i);
    trial_label(s, i, label, sizeof label);
    if (t->status == FAILED)
        fprintf(stderr, "%s: failed: %s\n", label, words);
    else if (isnan(t->score))
        fprintf(stderr, "%s: %s before its first validation\n", label, status_name[t->status]);
    else
        fprintf(stderr, "%s: %s, %s %.4f in epoch %" PRId64 ", %.0f s\n", label,
                status_name[t->status], s->metric, t->score, t->epoch, t->seconds);
    TRY(save_table(s, e));
    return save_plan(s, e);
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
    int done = 0, best = best_trial(s);
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
        bool now = stop_asked() || (s->a->budget_s > 0 && spent(s) >= s->a->budget_s);
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
            rc = save_plan(s, e);
            continue;
        }
        usleep(50000);
        rc = reap(s, e);
        if (rc == 0 && clock_s() - s->saved > PLAN_EVERY_S) rc = save_plan(s, e);
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
    char *log = trial_path(s, s->winner, "/1" TRAIN_LOG);
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
        TRY(save_plan(s, e));
    }
    char *dir = trial_path(s, s->winner, "");
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
    if (s->winner < 0) s->winner = best_trial(s);
    if (s->winner < 0)
        return err_set(e, ERR_EMPTY,
                       "no trial came to its first validation; see %s/trial-*.log", s->dir);
    TRY(save_plan(s, e)); /* from here on nothing else is tested */
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
    TRY(make_trials(s, e));
    TRY(check_trials(s, e));
    TRY(io_mkdirs(s->dir, e));
    int rc = take_lock(s, e);
    if (rc != 0) return rc < 0 ? rc : (*stopped = stop_asked(), 0);
    TRY(load_plan(s, e));
    for (int i = 0; i < s->n; i++)
        if (s->trial[i].status != WAITING) look_at(s, i);
    bool was_there = is_published(s);
    if (!was_there && s->winner < 0) TRY(train_all(s, e));
    *stopped = stop_asked();
    if (!*stopped && !was_there) TRY(finish(s, e));
    *stopped = is_published(s) ? 0 : stop_asked();
    TRY(save_table(s, e));
    TRY(save_plan(s, e));
    print_table(s, stdout, false);
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
    for (int i = 0; i < s.n; i++) {
        for (int g = 0; g < a->n_grid; g++) free(s.trial[i].set[g]);
        json_decref(s.trial[i].metrics);
    }
    free(s.trial);
    free(s.recipe);
    free(s.dir);
    return rc;
}
