#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/fmt/bundle.h"
#include "core/fmt/safet.h"
#include "core/num/num.h"
#include "core/serve/load.h"
#include "models/init.h"
#include "models/trainer.h"
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

static bool accepted(const struct obj_ops *ops, const char *loss, int interests, int layout)
{
    struct model_cfg c;
    struct err e = { 0 };
    void *cfg = xcalloc(1, ops->cfg_size + 1);
    conf_defaults(model_opts, &c);
    conf_defaults(ops->opts, cfg);
    c.interests = interests;
    c.item_tower = ops == &obj_item_ssl;
    if (loss) ck_assert_int_eq(conf_set(ops->opts, cfg, "loss", loss, &e), 0);
    struct obj_context x = { &c, (enum layout)layout, false, NULL, 4 };
    bool ok = !ops->check || ops->check(cfg, &x, NULL) == 0;
    free(cfg);
    return ok;
}

START_TEST(every_objective_trains_with_every_model_it_accepts)
{
    const struct obj_ops *ops = obj_list[_i];
    for (int v = 0; v < objective_variants(ops); v++)
        for (int interests = 0; interests <= 3; interests += 3)
            for (int layout = LAYOUT_A; layout <= LAYOUT_C; layout++) {
                const char *loss = objective_variant(ops, v);
                if (!accepted(ops, loss, interests, layout)) continue;
                char sections[300];
                snprintf(sections, sizeof sections,
                         "layout = %s\n[model]\ninterests = %d\nitem_tower = %s\n[%s]\nweight "
                         "= 1\n%s%s\n",
                         layout_name[layout], interests,
                         ops == &obj_item_ssl ? "true" : "false", ops->name,
                         loss ? "loss = " : "", loss ? loss : "");
                train_smoke(sections);
            }
}
END_TEST

/* Every option of the optimiser and the loop, a training each. */
static const char *const ways[] = {
    "optimizer = adamw\nweight_decay = 0.1\n[next_item]\n",
    "warmup = 3\nschedule = cosine\nlr_end = 0.1\n[next_item]\n",
    "schedule = step\nstep_epochs = 1\nstep_factor = 0.5\n[next_item]\n",
    "clip_norm = 0.5\n[next_item]\n",
    "accumulate = 3\nbatch_size = 11\n[next_item]\n",
    "ema = 0.9\n[next_item]\n",
    "item_update = touched\n[next_item]\nloss = sampled\nnegatives = 8\n",
    "item_update = touched\nema = 0.9\nclip_norm = 1\n[next_item]\nloss = gbce\n",
    "item_update = touched\n[dssrec]\n",
    "[next_item]\nlabel_smoothing = 0.1\ntemperature = 0.5\n",
    "[next_item]\nloss = sampled\nsampling = popularity\nlabel_smoothing = 0.1\n",
    "[cl4srec]\nsimilarity = cosine\nmask_token = padding\ntwo_operators = false\n",
    "[cl4srec]\nsubstitute = 0.2\ninsert = 0.3\nsimilar = hybrid\nshort_length = 4\n",
    "[model]\nitem_tower = true\n[next_item]\n[cl4srec]\nsubstitute = 0.2\nsimilar = hybrid\n",
    "[next_item]\n[mclrec]\nupdates = two\nshared_augmenter = true\nmask_token = learned\n",
    "[next_item]\n[mclrec]\nupdates = joint\nlambda = 0\n",
    "[next_item]\n[mclrec]\nbeta = 0\n",
    "[model]\nitem_tower = true\n[next_item]\n",
    "[model]\nitem_tower = true\n[next_item]\n[item_ssl]\nmasking = rfm\nitems = 16\n",
    "[next_item]\nweight = 0\n[s3rec]\nform = paper\n[model]\nitem_tower = true\n",
};

START_TEST(every_way_to_optimise_learns) { train_smoke(ways[_i]); }
END_TEST

/* 190 rows in batches of 19: 10 steps an epoch; what lr is at the end of each epoch, as a part of its full height. */
static const struct {
    const char *how;
    double part[3];
} rates[] = {
    { "", { 1, 1, 1 } },
    { "warmup = 15\n", { 10.0 / 15, 1, 1 } },
    { "accumulate = 3\nwarmup = 15\n", { 4.0 / 15, 8.0 / 15, 12.0 / 15 } },
    { "schedule = step\nstep_epochs = 2\nstep_factor = 0.1\n", { 1, 1, 0.1 } },
    /* step 9 of 30, 19, 29: 1/2 (1 + cos(pi s / 30)) */
    { "schedule = cosine\n", { 0.793893, 0.296632, 0.002739 } },
    { "schedule = cosine\nlr_end = 0.5\n", { 0.896946, 0.648316, 0.501370 } },
    /* after 10 steps: steps -1 of 20, 9 of 20, 19 of 20 */
    { "schedule = cosine\nwarmup = 10\n", { 1, 0.578217, 0.006156 } },
};

START_TEST(the_learning_rate_follows_its_schedule)
{
    double lr[3], rows;
    char sections[200];
    snprintf(sections, sizeof sections, "batch_size = 19\n%s[next_item]\n", rates[_i].how);
    struct job j = job_new(dir, data, sections);
    must_train(&j);
    ck_assert_int_eq(job_log(&j, 1, "start", "rows", &rows, 1), 1);
    ck_assert(rows == 190);
    ck_assert_int_eq(job_log(&j, 1, "epoch", "lr", lr, 3), 3);
    for (int i = 0; i < 3; i++) ck_assert_double_eq_tol(lr[i] / 0.005, rates[_i].part[i], 2e-6);
    job_free(&j);
}
END_TEST

START_TEST(objectives_train_together) { train_smoke("[next_item]\n[dssrec]\nweight = 0.5\n"); }
END_TEST

START_TEST(stages_follow_each_other)
{
    double loss[4];
    struct job j =
        job_new(dir, data,
                "[next_item]\n[dssrec]\nweight = 0\n"
                "[stage pretrain]\ntrain.epochs = 2\ntrain.stop_on = none\n"
                "dssrec.weight = 1\nnext_item.weight = 0\nmodel.causal = bidirectional\n"
                "[stage finetune]\ntrain.epochs = 2\ntrain.lr = 0.001\n");
    must_train(&j);
    ck_assert_int_eq(job_log(&j, 1, "epoch", "loss", loss, 4), 4);
    ck_assert(loss[1] < loss[0] && loss[3] < loss[2]);
    ck_assert_ptr_nonnull(strstr(j.text, "pretrain epoch 2"));
    ck_assert_ptr_nonnull(strstr(j.text, "finetune epoch 1"));
    struct bundle b;
    ck_assert_int_eq(bundle_open(&b, j.out, true, NULL), 0);
    const json_t *recipe = json_object_get(b.manifest, "recipe");
    ck_assert_str_eq(json_string_value(json_object_get(recipe, "stage pretrain.train.stop_on")),
                     "none");
    ck_assert_str_eq(
        json_string_value(json_object_get(json_object_get(b.manifest, "encoder"), "causal")),
        "causal");
    bundle_close(&b);
    check_bundle(j.out, true);
    job_free(&j);
}
END_TEST

START_TEST(without_a_metric_the_last_epoch_is_kept)
{
    double best[1];
    struct job j = job_new(dir, data, "epochs = 2\nstop_on = none\nema = 0.5\n[next_item]\n");
    must_train(&j);
    ck_assert_int_eq(job_log(&j, 1, "done", "best_epoch", best, 1), 1);
    ck_assert(best[0] == 2);
    check_bundle(j.out, true);
    job_free(&j);
}
END_TEST

/* The 190 rows in one batch, or in two whose gradients make one step. */
START_TEST(batches_of_one_step_add_up_to_a_large_one)
{
    double loss[2][3], rows;
    static const char *const how[] = { "batch_size = 190\n",
                                       "batch_size = 95\naccumulate = 2\n" };
    for (int i = 0; i < 2; i++) {
        char sections[200];
        snprintf(sections, sizeof sections,
                 "epochs = 3\n%s[model]\ndropout = 0\nattn_dropout = 0\n"
                 "[next_item]\n",
                 how[i]);
        struct job j = job_new(dir, data, sections);
        must_train(&j);
        ck_assert_int_eq(job_log(&j, 1, "start", "rows", &rows, 1), 1);
        ck_assert(rows == 190);
        ck_assert_int_eq(job_log(&j, 1, "epoch", "loss", loss[i], 3), 3);
        job_free(&j);
    }
    ck_assert(loss[0][2] < loss[0][0]);
    for (int i = 0; i < 3; i++) ck_assert_double_eq_tol(loss[0][i], loss[1][i], 1e-5);
}
END_TEST

/* AdamW with lr weight_decay = 100 makes weights 99 times larger in every step. */
START_TEST(a_loss_that_is_no_number_stops_the_run_by_name_and_keeps_the_best)
{
    struct job j = job_new(dir, data,
                           "patience = 100\n[next_item]\n[cl4srec]\n[stage good]\n"
                           "train.epochs = 1\n[stage wild]\ntrain.epochs = 50\n"
                           "train.optimizer = adamw\ntrain.lr = 10\ntrain.weight_decay = 10\n");
    job_run(&j);
    ck_assert_int_eq(j.rc, ERR_CONFIG);
    ck_assert_msg(strstr(j.e.msg, "the loss next_item is") ||
                      strstr(j.e.msg, "the loss cl4srec is"),
                  "%s", j.e.msg);
    ck_assert_ptr_nonnull(strstr(j.e.msg, "train.lr (10)"));
    check_bundle(j.out, false);
    job_free(&j);
}
END_TEST

START_TEST(of_several_terms_the_one_that_is_no_number_is_named)
{
    static const char *const sections[] = { "[s3rec]\n", "[next_item]\n[mclrec]\n",
                                            "[dssrec]\n" };
    static const char *const terms[] = { "aap mip map sp", "L_cl1 L_cl2 R",
                                         "seq2item seq2seq" };
    for (int i = 0; i < 3; i++) {
        char text[200], *term;
        snprintf(text, sizeof text,
                 "epochs = 50\npatience = 100\noptimizer = adamw\nlr = 10\n"
                 "weight_decay = 10\n[model]\ninterests = %d\n%s",
                 i == 2 ? 2 : 0, sections[i]);
        struct job j = job_new(dir, data, text);
        job_run(&j);
        ck_assert_int_eq(j.rc, ERR_CONFIG);
        term = strstr(j.e.msg, ", term ");
        if (i != 1 || term) { /* the next item's may be the first to go */
            ck_assert_msg(term, "%s", j.e.msg);
            term[strcspn(term + 7, " ") + 7] = '\0';
            ck_assert_msg(strstr(terms[i], term + 7), "%s", term);
        }
        job_free(&j);
    }
}
END_TEST

/* Of the only epoch. */
static double valid_of(const struct job *j)
{
    struct bundle b;
    struct err e = { 0 };
    ck_assert_msg(bundle_open(&b, j->out, false, &e) == 0, "%s", e.msg);
    double x = json_number_value(json_object_get(
        json_object_get(json_object_get(b.manifest, "metrics"), "valid"), "mrr@100"));
    bundle_close(&b);
    ck_assert(x > 0);
    return x;
}

/* Its manifest says so. */
static void check_began_with(const struct job *j, const struct job *first)
{
    struct bundle b;
    char *label;
    ck_assert_int_eq(bundle_open(&b, j->out, false, NULL), 0);
    ck_assert_int_eq(init_label(&label, first->out, NULL), 0);
    ck_assert_ptr_nonnull(strstr(label, "@1 "));
    const json_t *said = json_object_get(json_object_get(b.manifest, "data"), "init");
    ck_assert_str_eq(json_string_value(said), label);
    bundle_close(&b);
    free(label);
}

START_TEST(a_run_begins_with_the_weights_of_a_bundle)
{
    struct job first = job_new(dir, data, "[next_item]\n");
    must_train(&first);
    struct job again = job_new(dir, data, "epochs = 1\nlr = 1e-9\n[next_item]\n");
    again.init = first.out;
    must_train(&again);
    ck_assert_ptr_nonnull(strstr(again.text, "30 of 30 items"));
    check_began_with(&again, &first);
    ck_assert(fabs(valid_of(&again) - valid_of(&first)) < 1e-6);
    char *more = learnable_data(dir, 60, 45, 2); /* the same items and 15 others */
    struct job other = job_new(dir, more, "epochs = 1\nlr = 1e-9\n[next_item]\n");
    other.init = first.out;
    must_train(&other);
    ck_assert_ptr_nonnull(strstr(other.text, "30 of 45 items"));
    free(more);
    job_free(&other);
    job_free(&again);
    again = job_new(dir, data, "[model]\nwidth = 8\n[next_item]\n");
    again.init = first.out;
    job_run(&again);
    ck_assert_int_eq(again.rc, ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(again.e.msg, "model.width is 8 in the recipe and 16"));
    job_free(&again);
    job_free(&first);
}
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

/* Nothing but versions, their logs and at most the state of an unfinished one: no half-written directory. */
static void check_no_leftovers(const char *out, bool finished)
{
    DIR *d = opendir(out);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *x; (x = readdir(d));) {
        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0) continue;
        size_t digits = strspn(x->d_name, "0123456789");
        const char *rest = x->d_name + digits;
        bool state = strcmp(rest, ".state.safetensors") == 0;
        ck_assert_msg(digits > 0 && (*rest == '\0' || strcmp(rest, ".train.jsonl") == 0 ||
                                     (state && !finished)),
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

/* Two stages, an average, warm-up, accumulation, negatives: all that has a state. */
static const char *const eventful[] = {
    "epochs = 3\npatience = 2\naccumulate = 2\nbatch_size = 16\nwarmup = 5\nschedule = cosine\n"
    "ema = 0.9\nclip_norm = 1\nweight_decay = 0.01\n[next_item]\nloss = sampled\nnegatives = "
    "8\n"
    "[dssrec]\nweight = 0.1\n[stage first]\nnext_item.loss = bce\ntrain.epochs = 2\n"
    "train.stop_on = none\n[stage second]\ntrain.seed = 5\n",
    /* the rows of a batch, whose moments move alone */
    "epochs = 3\nbatch_size = 16\nitem_update = touched\nema = 0.9\noptimizer = adamw\n"
    "weight_decay = 0.1\nlayout = C\n[next_item]\nloss = gbce\nnegatives = 4\n",
    /* views that are drawn, similar items of the epoch, an optimiser in turns */
    "epochs = 3\nbatch_size = 16\n[next_item]\n[cl4srec]\nweight = 0.1\ninsert = 0.5\n"
    "substitute = 0.1\nsimilar = hybrid\n[mclrec]\n",
    /* an item tower, whose bundle has other item vectors than its parameters */
    "epochs = 2\nbatch_size = 16\nema = 0.8\n[model]\nitem_tower = true\n[next_item]\n"
    "[item_ssl]\nitems = 16\n[s3rec]\nweight = 0\n[stage first]\ns3rec.weight = 1\n"
    "train.stop_on = none\ntrain.epochs = 1\n[stage second]\ntrain.layout = C\n",
};

/* The log without what differs from run to run: times, and the state of the arena. */
static char *log_without_times(const struct job *j)
{
    char *path = xasprintf("%s/1.train.jsonl", j->out), *text, *rest;
    size_t nb;
    struct buf out = { 0 };
    struct err e = { 0 };
    ck_assert_msg(io_read_all(&text, &nb, path, 1 << 20, &e) == 0, "%s", e.msg);
    rest = text;
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        json_t *o = json_loads(line, 0, NULL);
        ck_assert_msg(o, "not JSON: %s", line);
        static const char *const times[] = { "train_s", "valid_s", "seconds",
                                             "step_arena_bytes" };
        for (size_t i = 0; i < sizeof times / sizeof *times; i++) json_object_del(o, times[i]);
        char *clean = json_dumps(o, JSON_COMPACT);
        buf_printf(&out, "%s\n", clean);
        free(clean);
        json_decref(o);
    }
    free(text);
    free(path);
    return out.data;
}

/* RESUME_KILLS: how many runs are killed; the environment asks for more than a quick test does. */
START_TEST(killed_at_any_moment_and_resumed_it_ends_with_the_same_bits)
{
    const char *asked = getenv("RESUME_KILLS");
    int runs = asked ? atoi(asked) : 8, killed = 0;
    struct job whole = job_new(dir, data, eventful[_i]);
    struct rng r = rng_make((uint64_t)getpid(), RNG_TEST); /* other moments every time */
    whole.save_s = 0;
    double start = clock_s();
    ck_assert_int_eq(child_wait(child_start(job_in_child, &whole), 60), 0);
    double seconds = clock_s() - start;
    size_t nb, nb_again;
    char *want = weights_of(&whole, &nb), *log = log_without_times(&whole);
    for (int i = 0; i < runs; i++) {
        struct job j = job_new(dir, data, eventful[_i]);
        j.save_s = 0;
        j.resume = true;
        j.threads = 1 + i % 2;
        int status = -1;
        for (int kills = 0; status != 0; kills++) {
            pid_t pid = child_start(job_in_child, &j);
            if (kills < 3) { /* up to three times; then it may end */
                usleep((useconds_t)(seconds * 1e6 * rng_f64(&r)));
                kill(pid, SIGKILL);
            }
            status = child_wait(pid, 60);
            killed += status != 0;
            ck_assert(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
            (void)check_versions(j.out);
        }
        char *got = weights_of(&j, &nb_again), *log_again = log_without_times(&j);
        ck_assert_msg(nb == nb_again && memcmp(got, want, nb) == 0, "run %d: other bits", i);
        ck_assert_str_eq(log_again, log);
        check_no_leftovers(j.out, true);
        check_bundle(j.out, true);
        free(got);
        free(log_again);
        job_free(&j);
    }
    ck_assert_int_gt(killed, 0);
    if (asked)
        fprintf(stderr, "%d runs killed %d times: all ended with the same bits\n", runs,
                killed);
    free(want);
    free(log);
    job_free(&whole);
}
END_TEST

static const struct {
    int signal;
    const char *after; /* event of the log */
} asks[] = { { SIGINT, "start" }, { SIGINT, "epoch" }, { SIGTERM, "epoch" } };

START_TEST(asked_to_stop_it_saves_and_goes_on_when_resumed)
{
    struct job j = job_new(dir, data, "epochs = 100000\npatience = 100000\n[next_item]\n");
    pid_t pid = child_start(job_in_child, &j);
    double until = clock_s() + 30;
    while (job_log(&j, 1, asks[_i].after, "", NULL, 0) == 0 && clock_s() < until) usleep(3000);
    kill(pid, asks[_i].signal);
    int status = child_wait(pid, 30);
    ck_assert_msg(status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 2, "status %#x",
                  (unsigned)status);
    ck_assert_int_eq(job_log(&j, 1, "done", "", NULL, 0), 0); /* test was not looked at */
    check_no_leftovers(j.out, false);
    int epochs = job_log(&j, 1, "epoch", "", NULL, 0);
    j.resume = true;
    pid = child_start(job_in_child, &j);
    until = clock_s() + 30;
    while (job_log(&j, 1, "epoch", "", NULL, 0) <= epochs && clock_s() < until) usleep(3000);
    kill(pid, SIGTERM);
    ck_assert_int_eq(WEXITSTATUS(child_wait(pid, 30)), 2);
    ck_assert_int_gt(job_log(&j, 1, "epoch", "", NULL, 0), epochs);
    job_free(&j);
}
END_TEST

/* Trains with --no-test: an unfinished run is left, whatever its length. */
static struct job unfinished(const char *sections)
{
    struct job j = job_new(dir, data, sections);
    j.no_test = true;
    must_train(&j);
    ck_assert(!j.res.finished);
    ck_assert_int_eq(job_log(&j, 1, "done", "", NULL, 0), 0);
    j.resume = true;
    j.no_test = false;
    return j;
}

/* Steps of the optimiser that the version's saved state counts for the parameters of this kind. */
static int64_t steps_of(const struct job *j, const char *kind)
{
    struct err e = { 0 };
    struct safet *f;
    char *path = xasprintf("%s/1.state.safetensors", j->out);
    ck_assert_msg(safet_open(&f, path, &e) == 0, "%s", e.msg);
    const struct safet_tensor *steps = safet_find(f, "steps");
    int64_t n = -1, at = 0;
    for (int32_t i = 0; i < safet_count(f); i++) {
        const struct safet_tensor *t = safet_at(f, i);
        if (strncmp(t->name, "param.", 6) != 0) continue;
        if (strncmp(t->name + 6, kind, strlen(kind)) == 0)
            n = ((const int64_t *)steps->data)[at];
        at++;
    }
    ck_assert_int_eq(at, steps->n);
    safet_close(f);
    free(path);
    return n;
}

/* 10 batches an epoch, 2 epochs. */
START_TEST(the_turns_of_a_batch_are_steps_of_what_learns_in_them)
{
    static const struct {
        const char *sections;
        int encoder, augmenter;
    } how[] = { { "[next_item]\n[mclrec]\n", 40, 20 },
                { "[next_item]\n[mclrec]\nupdates = two\n", 20, 20 },
                { "[next_item]\n[mclrec]\nupdates = joint\n", 20, 20 },
                { "[next_item]\n[mclrec]\nbeta = 0\n", 40, 0 },
                { "[next_item]\n[mclrec]\nbeta = 0\nupdates = two\n", 20, 0 } };
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        char sections[200];
        snprintf(sections, sizeof sections, "epochs = 2\nbatch_size = 19\n%s", how[i].sections);
        struct job j = unfinished(sections);
        ck_assert_int_eq(steps_of(&j, "layers.0.attn.out.weight"), how[i].encoder);
        ck_assert_int_eq(steps_of(&j, "mclrec.augmenter2.0.weight"), how[i].augmenter);
        job_free(&j);
    }
}
END_TEST

/* A state that nobody could go on from would replace one from which one can. */
START_TEST(weights_that_are_no_numbers_are_not_saved)
{
    struct model_cfg c;
    struct recipe now;
    struct err e = { 0 };
    conf_defaults(model_opts, &c);
    c.n_items = 3;
    recipe_defaults(&now);
    struct trainer t = { .model = model_new(&c, true), .now = &now, .at = { .step = 7 } };
    params_init(model_params(t.model), 1);
    ck_assert_int_eq(state_check(&t, &e), 0);
    model_items(t.model)->t.x[c.width] = NAN;
    ck_assert_int_eq(state_save(&t, &e), ERR_FORMAT);
    ck_assert_msg(strstr(e.msg, "step 7: lower train.lr (0.001)") &&
                      strstr(e.msg, "tensor item.weight: row 1, column 0 is NaN"),
                  "%s", e.msg);
    model_free(t.model);
}
END_TEST

START_TEST(a_stopped_run_can_be_finished_with_what_is_there)
{
    struct job j = job_new(dir, data, "epochs = 100000\npatience = 100000\n[next_item]\n");
    pid_t pid = child_start(job_in_child, &j);
    double until = clock_s() + 30;
    while (job_log(&j, 1, "epoch", "", NULL, 0) < 2 && clock_s() < until) usleep(3000);
    kill(pid, SIGINT);
    ck_assert_int_eq(WEXITSTATUS(child_wait(pid, 30)), 2);
    int epochs = job_log(&j, 1, "epoch", "", NULL, 0);
    j.resume = j.finish = true;
    must_train(&j);
    ck_assert(j.res.finished);
    ck_assert_int_eq(job_log(&j, 1, "epoch", "", NULL, 0), epochs);
    ck_assert_int_eq(job_log(&j, 1, "done", "", NULL, 0), 1);
    check_bundle(j.out, true);
    job_free(&j);
}
END_TEST

/* A batch of the second stage takes long: it is stopped before its first validation. */
START_TEST(finished_before_a_stage_has_a_checkpoint_the_one_of_the_stage_before_is_tested)
{
    struct job j = job_new(dir, data,
                           "[next_item]\n[stage pre]\ntrain.epochs = 2\n"
                           "model.causal = bidirectional\ntrain.valid_seen = keep\n"
                           "[stage fine]\ntrain.batch_size = 1\nnext_item.loss = sampled\n"
                           "next_item.negatives = 65536\n");
    pid_t pid = child_start(job_in_child, &j);
    double until = clock_s() + 30, best[2];
    while (job_log(&j, 1, "epoch", "", NULL, 0) < 2 && clock_s() < until) usleep(3000);
    kill(pid, SIGINT);
    ck_assert_int_eq(WEXITSTATUS(child_wait(pid, 30)), 2);
    ck_assert_int_eq(job_log(&j, 1, "epoch", "", NULL, 0), 2);
    j.resume = j.finish = true;
    must_train(&j);
    struct bundle b;
    ck_assert_int_eq(bundle_open(&b, j.out, true, NULL), 0);
    const json_t *m = json_object_get(b.manifest, "encoder");
    ck_assert_str_eq(json_string_value(json_object_get(m, "causal")), "bidirectional");
    m = json_object_get(b.manifest, "data");
    ck_assert_str_eq(json_string_value(json_object_get(m, "stage")), "pre");
    best[0] = (double)json_integer_value(json_object_get(m, "epochs"));
    ck_assert_int_eq(job_log(&j, 1, "done", "best_epoch", best + 1, 1), 1);
    ck_assert(best[0] == best[1] && best[0] <= 2);
    bundle_close(&b);
    job_free(&j);
}
END_TEST

START_TEST(a_run_without_its_test_is_tested_when_resumed)
{
    struct job j = unfinished("epochs = 2\n[next_item]\n");
    must_train(&j);
    ck_assert(j.res.finished);
    ck_assert_int_eq(job_log(&j, 1, "done", "", NULL, 0), 1);
    ck_assert_int_eq(job_log(&j, 1, "epoch", "", NULL, 0), 2);
    check_bundle(j.out, true);
    check_no_leftovers(j.out, true);
    must_train(&j); /* and once more: there is nothing left to do */
    ck_assert_ptr_nonnull(
        strstr(j.text, "/1 is finished; leave --resume out to train another"));
    ck_assert_int_eq(job_log(&j, 2, "start", "", NULL, 0), 0);
    j.resume = false;
    must_train(&j);
    ck_assert_int_eq(j.res.version, 2);
    job_free(&j);
}
END_TEST

static void must_not_resume(struct job *j, int code, const char *msg)
{
    job_run(j);
    ck_assert_msg(j->rc == code, "%d: %s\n%s", j->rc, j->e.msg, j->text);
    ck_assert_msg(strstr(j->e.msg, msg), "'%s' is not in: %s", msg, j->e.msg);
    job_free(j);
}

static void rewrite(const char *path, const char *from, const char *to)
{
    char *text;
    size_t nb;
    struct buf out = { 0 };
    ck_assert_int_eq(io_read_all(&text, &nb, path, 1 << 20, NULL), 0);
    char *at = strstr(text, from);
    ck_assert_ptr_nonnull(at);
    buf_put(&out, text, (size_t)(at - text));
    buf_puts(&out, to);
    buf_puts(&out, at + strlen(from));
    ck_assert_int_eq(io_write_atomic(path, out.data, out.len, NULL), 0);
    buf_free(&out);
    free(text);
}

START_TEST(another_recipe_is_refused_by_the_key_that_differs)
{
    struct job j = unfinished("epochs = 2\n[next_item]\n");
    rewrite(j.recipe, "lr = 0.005", "lr = 0.004");
    must_not_resume(&j, ERR_CONFIG, "train.lr is 0.004, in the run to go on with it is 0.005");
    j = unfinished("epochs = 2\n[next_item]\n");
    rewrite(j.recipe, "[next_item]", "[next_item]\n[stage x]\ntrain.epochs = 1");
    must_not_resume(&j, ERR_CONFIG,
                    "stage x.train.epochs is 1, in the run to go on with it is not set");
    j = unfinished("epochs = 2\n[next_item]\n[dssrec]\nweight = 0\n");
    rewrite(j.recipe, "[dssrec]\nweight = 0\n", "");
    must_not_resume(&j, ERR_CONFIG, "dssrec.weight is not set");
}
END_TEST

START_TEST(other_weights_to_begin_with_are_refused)
{
    struct job first = job_new(dir, data, "epochs = 1\n[next_item]\n");
    must_train(&first);
    struct job j = unfinished("epochs = 2\n[next_item]\n");
    j.init = first.out;
    must_not_resume(&j, ERR_CONFIG, "began with random weights");
    j = job_new(dir, data, "epochs = 2\n[next_item]\n");
    j.init = first.out;
    j.no_test = true;
    must_train(&j);
    j.resume = true;
    must_train(&j); /* the same */
    j.init = NULL;
    j.no_test = false;
    must_train(&j); /* or none */
    check_began_with(&j, &first);
    job_free(&j);
    job_free(&first);
}
END_TEST

/* Objectives and stages run in the order of the recipe that the run began with. */
START_TEST(sections_in_another_order_change_nothing)
{
    static const char sections[] = "epochs = 2\n[dssrec]\nweight = 0.1\n[next_item]\nloss = "
                                   "bpr\n[stage b]\ntrain.lr = 0.02\n"
                                   "[stage a]\ntrain.epochs = 1\n";
    struct job whole = job_new(dir, data, sections), j = unfinished(sections);
    must_train(&whole);
    rewrite(j.recipe, "[stage b]\ntrain.lr = 0.02\n", "");
    rewrite(j.recipe, "train.epochs = 1\n", "train.epochs = 1\n[stage b]\ntrain.lr = 0.02\n");
    rewrite(j.recipe, "[dssrec]\nweight = 0.1\n", "");
    rewrite(j.recipe, "loss = bpr\n", "loss = bpr\n[dssrec]\nweight = 0.1\n");
    must_train(&j);
    size_t nb, nb_again;
    char *want = weights_of(&whole, &nb), *got = weights_of(&j, &nb_again);
    ck_assert(nb == nb_again && memcmp(got, want, nb) == 0);
    struct bundle b;
    ck_assert_int_eq(bundle_open(&b, j.out, true, NULL), 0);
    ck_assert_str_eq(
        json_string_value(json_object_get(json_object_get(b.manifest, "data"), "stage")), "a");
    bundle_close(&b);
    free(want);
    free(got);
    job_free(&whole);
    job_free(&j);
}
END_TEST

START_TEST(a_log_that_lost_its_end_is_gone_on_with)
{
    struct job j = unfinished("epochs = 2\n[next_item]\n");
    char *path = xasprintf("%s/1.train.jsonl", j.out), *text;
    size_t nb;
    ck_assert_int_eq(io_read_all(&text, &nb, path, 1 << 20, NULL), 0);
    size_t line = (size_t)(strchr(text, '\n') + 1 - text);
    ck_assert_int_eq(io_write_atomic(path, text, line, NULL), 0);
    must_train(&j);
    ck_assert_ptr_nonnull(strstr(j.text, "has lost its end"));
    ck_assert_int_eq(job_log(&j, 1, "start", "", NULL, 0), 1);
    ck_assert_int_eq(job_log(&j, 1, "done", "", NULL, 0), 1);
    free(text);
    free(path);
    job_free(&j);
}
END_TEST

START_TEST(without_a_checkpoint_there_is_nothing_to_finish)
{
    struct job j = job_new(dir, data, "[next_item]\n");
    j.resume = j.finish = true;
    job_run(&j);
    ck_assert_int_eq(j.rc, ERR_USAGE);
    ck_assert_msg(strstr(j.e.msg, "has no unfinished run"), "%s", j.e.msg);
    ck_assert(!io_exists(j.out));
    job_free(&j);
}
END_TEST

START_TEST(other_data_are_refused)
{
    struct job j = unfinished("epochs = 2\n[next_item]\n");
    char *more = learnable_data(dir, 41, 30, 2);
    free(j.data);
    j.data = more;
    must_not_resume(&j, ERR_INVALID, "is not the data set that");
}
END_TEST

START_TEST(a_damaged_state_is_refused_and_left_alone)
{
    struct job j = unfinished("epochs = 2\n[next_item]\n");
    char *path = xasprintf("%s/1.state.safetensors", j.out), *bytes;
    size_t nb;
    ck_assert_int_eq(io_read_all(&bytes, &nb, path, 1 << 26, NULL), 0);
    /* the last tensor is a second moment */
    static const float wrong[] = { NAN, -1 };
    static const char *const said[] = { "tensor v.", "15 is nan", "tensor v.", "15 is -1" };
    for (int i = 0; i < 2; i++) {
        memcpy(bytes + nb - sizeof *wrong, &wrong[i], sizeof *wrong);
        ck_assert_int_eq(io_write_atomic(path, bytes, nb, NULL), 0);
        job_run(&j);
        ck_assert_int_eq(j.rc, ERR_FORMAT);
        for (int k = 2 * i; k < 2 * i + 2; k++)
            ck_assert_msg(strstr(j.e.msg, said[k]), "%s", j.e.msg);
    }
    ck_assert_int_eq(io_write_atomic(path, bytes, nb / 2, NULL), 0);
    job_run(&j);
    ck_assert_int_eq(j.rc, ERR_FORMAT);
    ck_assert_msg(strstr(j.e.msg, "1.state.safetensors"), "%s", j.e.msg);
    ck_assert(io_exists(path));
    free(bytes);
    free(path);
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
    tcase_add_loop_test(t, every_way_to_optimise_learns, 0, sizeof ways / sizeof ways[0]);
    tcase_add_loop_test(t, the_learning_rate_follows_its_schedule, 0,
                        sizeof rates / sizeof rates[0]);
    tcase_add_test(t, stages_follow_each_other);
    tcase_add_test(t, without_a_metric_the_last_epoch_is_kept);
    tcase_add_test(t, batches_of_one_step_add_up_to_a_large_one);
    tcase_add_test(t, objectives_train_together);
    tcase_add_test(t, a_loss_that_is_no_number_stops_the_run_by_name_and_keeps_the_best);
    tcase_add_test(t, of_several_terms_the_one_that_is_no_number_is_named);
    tcase_add_test(t, a_run_begins_with_the_weights_of_a_bundle);
    tcase_add_test(t, training_learns_what_the_data_repeat);
    tcase_add_test(t, it_stops_when_validation_gets_no_better);
    tcase_add_test(t, every_training_makes_a_new_version);
    tcase_add_loop_test(t, one_seed_gives_the_same_bytes_for_any_number_of_threads, 0, 3);
    suite_add_tcase(s, t);
    TCase *i = tcase_create("interrupted");
    tcase_set_timeout(i, getenv("RESUME_KILLS") ? 7200 : 120);
    tcase_add_checked_fixture(i, set_up, tear_down);
    tcase_add_loop_test(i, killed_at_any_moment_and_resumed_it_ends_with_the_same_bits, 0,
                        sizeof eventful / sizeof *eventful);
    tcase_add_loop_test(i, asked_to_stop_it_saves_and_goes_on_when_resumed, 0,
                        sizeof asks / sizeof asks[0]);
    tcase_add_test(i, a_stopped_run_can_be_finished_with_what_is_there);
    tcase_add_test(i, the_turns_of_a_batch_are_steps_of_what_learns_in_them);
    tcase_add_test(i, weights_that_are_no_numbers_are_not_saved);
    tcase_add_test(
        i, finished_before_a_stage_has_a_checkpoint_the_one_of_the_stage_before_is_tested);
    tcase_add_test(i, without_a_checkpoint_there_is_nothing_to_finish);
    tcase_add_test(i, sections_in_another_order_change_nothing);
    tcase_add_test(i, a_log_that_lost_its_end_is_gone_on_with);
    tcase_add_test(i, a_run_without_its_test_is_tested_when_resumed);
    tcase_add_test(i, other_weights_to_begin_with_are_refused);
    tcase_add_test(i, another_recipe_is_refused_by_the_key_that_differs);
    tcase_add_test(i, other_data_are_refused);
    tcase_add_test(i, a_damaged_state_is_refused_and_left_alone);
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
