#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/fmt/bundle.h"
#include "core/num/num.h"
#include "core/serve/load.h"
#include "models/train.h"
#include "tests/child.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include "tests/models/fixture_train.h"
#include <check.h>
#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char *dir, *data;

static void set_up(void)
{
    num_init();
    dir = fixture_tmpdir();
    data = learnable_data(dir, 40, 30, 1);
}

static void tear_down(void)
{
    fixture_rmdir(dir);
    free(dir);
    free(data);
}

/* Opens the newest version with its weights: what the daemon would do. */
static void check_bundle(const char *path, bool need_index)
{
    struct err e = { 0 };
    struct bundle b;
    struct model *m = NULL;
    struct items *it = NULL;
    ck_assert_msg(bundle_open(&b, path, need_index, &e) == 0, "%s", e.msg);
    ck_assert_msg(load_model(&m, &it, &b, false, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(items_count(it), model_config(m)->n_items);
    model_free(m);
    items_close(it);
    bundle_close(&b);
}

static void must_train(struct job *j)
{
    job_run(j);
    ck_assert_msg(j->rc == 0, "%s\n%s", j->e.msg, j->text);
}

/* ---- every objective ---- */

static void train_smoke(const char *sections)
{
    double loss[3];
    struct job j = job_new(dir, data, sections);
    must_train(&j);
    ck_assert_int_eq(job_log(&j, 1, "start", "items", loss, 1), 1);
    ck_assert(loss[0] == 30);
    ck_assert_int_eq(job_log(&j, 1, "epoch", "loss", loss, 3), 3);
    ck_assert_int_eq(job_log(&j, 1, "done", "best_epoch", NULL, 0), 1);
    ck_assert_msg(isfinite(loss[2]) && loss[2] < loss[0], "%s: loss %g, %g, %g", sections,
                  loss[0], loss[1], loss[2]);
    check_bundle(j.out, true);
    job_free(&j);
}

START_TEST(every_objective_trains_with_every_model_it_accepts)
{
    const struct obj_ops *ops = obj_list[_i];
    for (int interests = 0; interests <= 3; interests += 3) {
        for (int layout = LAYOUT_A; layout <= LAYOUT_B; layout++) {
            struct model_cfg c;
            conf_defaults(model_opts, &c);
            c.interests = interests;
            if (ops->check && ops->check(&c, (enum layout)layout, NULL) < 0) continue;
            char sections[200];
            snprintf(sections, sizeof sections,
                     "layout = %s\n[model]\ninterests = %d\n[%s]\nweight = 1\n",
                     layout == LAYOUT_A ? "A" : "B", interests, ops->name);
            train_smoke(sections);
        }
    }
}
END_TEST

START_TEST(objectives_train_together) { train_smoke("[next_item]\n[dssrec]\nweight = 0.5\n"); }
END_TEST

START_TEST(training_learns_what_the_data_repeat)
{
    double hr[1];
    struct job j =
        job_new(dir, data, "epochs = 25\npatience = 25\nvalid_seen = keep\n[next_item]\n");
    must_train(&j);
    struct bundle b;
    ck_assert_int_eq(bundle_open(&b, j.out, true, NULL), 0);
    json_t *m = json_object_get(b.manifest, "metrics");
    hr[0] = json_number_value(json_object_get(json_object_get(m, "test"), "hr@5"));
    ck_assert_msg(hr[0] > 0.5, "hr@5 %g, where guessing has %g", hr[0], 5.0 / 30);
    ck_assert(json_is_object(json_object_get(json_object_get(m, "interests"), "share")) ||
              json_is_array(json_object_get(json_object_get(m, "interests"), "share")));
    bundle_close(&b);
    job_free(&j);
}
END_TEST

START_TEST(it_stops_when_validation_gets_no_better)
{
    double epoch[100];
    /* with so small a learning rate no rank changes after the first epoch */
    struct job j = job_new(dir, data, "epochs = 100\npatience = 2\nlr = 1e-9\n[next_item]\n");
    must_train(&j);
    ck_assert_int_eq(job_log(&j, 1, "epoch", "epoch", epoch, 100), 3);
    ck_assert_int_eq(job_log(&j, 1, "done", "best_epoch", epoch, 1), 1);
    ck_assert(epoch[0] == 1);
    ck_assert_ptr_nonnull(strstr(j.text, "no better validation for 2 epochs"));
    job_free(&j);
}
END_TEST

START_TEST(every_training_makes_a_new_version)
{
    struct job j = job_new(dir, data, "epochs = 1\n[next_item]\n");
    int64_t version = 0;
    for (int want = 1; want <= 2; want++) {
        must_train(&j);
        ck_assert_int_eq(bundle_latest(j.out, &version, NULL), 0);
        ck_assert_int_eq(version, want);
    }
    check_bundle(j.out, true);
    job_free(&j);
}
END_TEST

/* ---- same seed, same bits ---- */

static char *weights_of(const struct job *j, size_t *nb)
{
    struct err e = { 0 };
    char *path = xasprintf("%s/1/" BUNDLE_WEIGHTS, j->out), *bytes = NULL;
    ck_assert_msg(io_read_all(&bytes, nb, path, 1 << 26, &e) == 0, "%s", e.msg);
    free(path);
    return bytes;
}

/* The weights of a run on data large enough that every op has work for several threads. */
static char *trained_weights(const char *from, int threads, int seed, size_t *nb)
{
    char sections[200];
    snprintf(sections, sizeof sections,
             "epochs = 2\nbatch_size = 128\nseed = %d\n[model]\nwidth = 48\ndropout = 0.3\n"
             "attn_dropout = 0.3\n[next_item]\n[dssrec]\nweight = 0.3\n",
             seed);
    struct job j = job_new(dir, from, sections);
    j.threads = threads;
    must_train(&j);
    char *bytes = weights_of(&j, nb);
    job_free(&j);
    return bytes;
}

START_TEST(one_seed_gives_the_same_bytes_for_any_number_of_threads)
{
    static const struct {
        int threads, seed;
        bool same;
    } runs[] = { { 1, 7, true }, { 2, 7, true }, { 3, 7, true }, { 2, 8, false } };
    const struct num_ops *have[3];
    if (_i >= num_available(have)) return;
    num = have[_i];
    char *more = learnable_data(dir, 120, 400, 2), *first = NULL;
    size_t nb_first = 0;
    for (int i = 0, n = _i == 0 ? 4 : 2; i < n; i++) {
        size_t nb;
        char *bytes = trained_weights(more, runs[i].threads, runs[i].seed, &nb);
        if (!first) {
            first = bytes;
            nb_first = nb;
            continue;
        }
        ck_assert_msg((nb == nb_first && memcmp(bytes, first, nb) == 0) == runs[i].same,
                      "%s, %d threads, seed %d: the bytes %s", num->isa, runs[i].threads,
                      runs[i].seed, runs[i].same ? "differ" : "are the same");
        free(bytes);
    }
    free(first);
    free(more);
}
END_TEST

/* ---- interrupted ---- */

/* Nothing but versions and their logs: no half-written directory. */
static void check_no_leftovers(const char *out)
{
    DIR *d = opendir(out);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *x; (x = readdir(d));) {
        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0) continue;
        size_t digits = strspn(x->d_name, "0123456789");
        const char *rest = x->d_name + digits;
        ck_assert_msg(digits > 0 && (*rest == '\0' || strcmp(rest, ".train.jsonl") == 0),
                      "%s is left over", x->d_name);
    }
    closedir(d);
}

/* Every version that can be seen is whole. */
static int check_versions(const char *out)
{
    DIR *d = opendir(out);
    int n = 0;
    for (struct dirent *x; d && (x = readdir(d));) {
        if (!isdigit((unsigned char)x->d_name[0]) || strchr(x->d_name, '.')) continue;
        char *path = xasprintf("%s/%s", out, x->d_name);
        check_bundle(path, false);
        free(path);
        n++;
    }
    if (d) closedir(d);
    return n;
}

START_TEST(killed_at_any_moment_it_leaves_whole_bundles)
{
    enum { KILLS = 10 };
    struct job j = job_new(dir, data, "epochs = 6\n[next_item]\n");
    struct rng r = rng_make((uint64_t)getpid(), RNG_TEST); /* other moments every time */
    double start = clock_s();
    int status = child_wait(child_start(job_in_child, &j), 60);
    ck_assert_int_eq(status, 0);
    double whole = clock_s() - start;
    int versions = check_versions(j.out), killed = 0;
    ck_assert_int_eq(versions, 1);
    for (int i = 0; i < KILLS; i++) {
        pid_t pid = child_start(job_in_child, &j);
        usleep((useconds_t)(whole * 1e6 * rng_f64(&r)));
        kill(pid, SIGKILL);
        status = child_wait(pid, 10);
        ck_assert(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
        killed += status != 0;
        int now = check_versions(j.out);
        ck_assert(now == versions || now == versions + 1);
        versions = now;
    }
    ck_assert_int_gt(killed, 0);
    must_train(&j); /* goes on where they ended, and tidies up */
    ck_assert_int_eq(check_versions(j.out), versions + 1);
    check_no_leftovers(j.out);
    check_bundle(j.out, true);
    job_free(&j);
}
END_TEST

static const struct {
    int signal;
    const char *after; /* event of the log */
} asks[] = { { SIGINT, "start" }, { SIGINT, "epoch" }, { SIGTERM, "epoch" } };

START_TEST(asked_to_stop_it_ends_with_a_bundle)
{
    struct job j = job_new(dir, data, "epochs = 100000\npatience = 100000\n[next_item]\n");
    pid_t pid = child_start(job_in_child, &j);
    double until = clock_s() + 30;
    while (job_log(&j, 1, asks[_i].after, "", NULL, 0) == 0 && clock_s() < until) usleep(3000);
    kill(pid, asks[_i].signal);
    int status = child_wait(pid, 30);
    ck_assert_msg(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x",
                  (unsigned)status);
    ck_assert_int_eq(job_log(&j, 1, "done", "", NULL, 0), 1);
    check_bundle(j.out, true);
    check_no_leftovers(j.out);
    job_free(&j);
}
END_TEST

START_TEST(afterwards_signals_are_as_before)
{
    static const int sig[] = { SIGINT, SIGTERM };
    struct sigaction was[2], now;
    struct job j = job_new(dir, data, "epochs = 1\n[next_item]\n");
    for (int i = 0; i < 2; i++) ck_assert_int_eq(sigaction(sig[i], NULL, &was[i]), 0);
    must_train(&j);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(sigaction(sig[i], NULL, &now), 0);
        ck_assert(now.sa_handler == was[i].sa_handler && now.sa_flags == was[i].sa_flags);
    }
    job_free(&j);
}
END_TEST

/* ---- what cannot be trained ---- */

static void must_fail(struct job *j, int code, const char *msg)
{
    job_run(j);
    ck_assert_msg(j->rc == code, "%d: %s\n%s", j->rc, j->e.msg, j->text);
    ck_assert_msg(strstr(j->e.msg, msg), "'%s' is not in: %s", msg, j->e.msg);
    ck_assert_int_eq(check_versions(j->out), 0);
    job_free(j);
}

START_TEST(data_that_are_not_there_are_named)
{
    struct job j = job_new(dir, "/nonexistent/set", "[next_item]\n");
    must_fail(&j, ERR_NOT_FOUND, "/nonexistent/set");
}
END_TEST

START_TEST(a_recipe_that_does_not_fit_writes_nothing)
{
    struct job j = job_new(dir, data, "[model]\nheads = 3\n[next_item]\n");
    char *out = xstrdup(j.out);
    must_fail(&j, ERR_CONFIG, "width = 16 is not a multiple of heads = 3");
    ck_assert(!io_exists(out));
    free(out);
}
END_TEST

START_TEST(an_output_that_is_a_file_is_refused)
{
    struct job j = job_new(dir, data, "[next_item]\n");
    ck_assert_int_eq(io_write_atomic(j.out, "x", 1, NULL), 0);
    must_fail(&j, ERR_IO, "Not a directory");
}
END_TEST

static char *data_of(const char *text)
{
    struct dataset ds;
    data_from_text(&ds, dir, text);
    char *path = xasprintf("%s/%s", dir, ds.name);
    dataset_close(&ds);
    return path;
}

START_TEST(users_too_short_for_a_training_row_are_an_error)
{
    char *few = data_of("u1 a b c\nu2 c a b\n");
    struct job j = job_new(dir, few, "[next_item]\n");
    free(few);
    must_fail(&j, ERR_EMPTY, "has no training rows");
}
END_TEST

START_TEST(users_too_short_for_validation_are_an_error)
{
    char *few = data_of("u1 a b\nu2 c a\nu3 b c\n"); /* two events: both are training */
    struct job j = job_new(dir, few, "[next_item]\n");
    free(few);
    must_fail(&j, ERR_EMPTY, "no user has the 3 events");
}
END_TEST

START_TEST(a_single_item_is_data_too)
{
    char *one = data_of("u1 a a a a a\nu2 a a a a\n");
    struct job j = job_new(dir, one, "epochs = 1\nvalid_seen = keep\n[next_item]\n");
    must_train(&j);
    check_bundle(j.out, true);
    free(one);
    job_free(&j);
}
END_TEST

Suite *suite_train(void);
Suite *suite_train(void)
{
    Suite *s = suite_create("train");
    TCase *t = tcase_create("training");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, every_objective_trains_with_every_model_it_accepts, 0, obj_count);
    tcase_add_test(t, objectives_train_together);
    tcase_add_test(t, training_learns_what_the_data_repeat);
    tcase_add_test(t, it_stops_when_validation_gets_no_better);
    tcase_add_test(t, every_training_makes_a_new_version);
    tcase_add_loop_test(t, one_seed_gives_the_same_bytes_for_any_number_of_threads, 0, 3);
    suite_add_tcase(s, t);
    TCase *i = tcase_create("interrupted");
    tcase_set_timeout(i, 120);
    tcase_add_checked_fixture(i, set_up, tear_down);
    tcase_add_test(i, killed_at_any_moment_it_leaves_whole_bundles);
    tcase_add_loop_test(i, asked_to_stop_it_ends_with_a_bundle, 0,
                        sizeof asks / sizeof asks[0]);
    tcase_add_test(i, afterwards_signals_are_as_before);
    suite_add_tcase(s, i);
    TCase *w = tcase_create("refused");
    tcase_add_checked_fixture(w, set_up, tear_down);
    tcase_add_test(w, data_that_are_not_there_are_named);
    tcase_add_test(w, a_recipe_that_does_not_fit_writes_nothing);
    tcase_add_test(w, an_output_that_is_a_file_is_refused);
    tcase_add_test(w, users_too_short_for_a_training_row_are_an_error);
    tcase_add_test(w, users_too_short_for_validation_are_an_error);
    tcase_add_test(w, a_single_item_is_data_too);
    suite_add_tcase(s, w);
    return s;
}
