/* train.c — a run: its version and log, stage after stage, the test at the end; or what of that an interrupted one
 * has left. */
#include "models/train.h"
#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/fmt/ckpt.h"
#include "core/num/num.h"
#include "models/init.h"
#include "models/profile.h"
#include "models/save.h"
#include "models/stop.h"
#include "models/trainer.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

void trainer_log(struct trainer *t, json_t *o)
{
    json_dumpf(o, t->log, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', t->log);
    fflush(t->log);
    json_decref(o);
}

static char *version_path(const char *out, int64_t version, const char *suffix)
{
    return xasprintf("%s/%" PRId64 "%s", out, version, suffix);
}

char *trainer_path(const struct trainer *t, const char *suffix)
{
    return version_path(t->a->out, t->version, suffix);
}

/* ---- the bundle ---- */

int trainer_export(struct trainer *t, int64_t epoch, json_t *metrics, struct err *e)
{
    json_t *m = save_manifest(t->model, &t->ds, t->fingerprint, recipe_json(&t->r), metrics);
    json_t *data = json_object_get(m, "data");
    json_object_set_new(data, "epochs", json_integer(epoch));
    if (t->r.n_stages > 0)
        json_object_set_new(data, "stage", json_string(t->r.stage[t->at.stage].name));
    if (t->init) json_object_set_new(data, "init", json_string(t->init));
    if (t->fields) json_object_set_new(m, "tower", fields_json(t->fields));
    int rc = save_bundle(t->a->out, t->version, t->model, t->a->data, m, e);
    json_decref(m);
    return rc;
}

/* What the recipe says of stage t->at.stage. */
static void stage_enter(struct trainer *t)
{
    t->now = &t->stage[t->at.stage];
    model_set(t->model, &t->now->model);
}

/* The weights of the exported bundle, whose epoch and metrics on validation are told (metrics: a new reference), and
 * the stage that they are of: a later one may not have come to its first validation. */
static int load_best(struct trainer *t, int64_t *epoch, json_t **valid, struct err *e)
{
    struct bundle b;
    char *dir = trainer_path(t, "");
    int rc = bundle_open(&b, dir, false, e);
    free(dir);
    TRY(rc);
    char *weights = bundle_path(&b, BUNDLE_WEIGHTS);
    rc = ckpt_load(model_params(t->model), GROUPS_BUNDLE, weights, e);
    if (rc == 0 && t->fields) { /* the ids' embeddings in the place of what was made of them */
        char *tower = bundle_path(&b, BUNDLE_TOWER);
        rc = ckpt_load(model_params(t->model), GROUP_TOWER, tower, e);
        free(tower);
    }
    *epoch = json_integer_value(json_object_get(json_object_get(b.manifest, "data"), "epochs"));
    *valid = json_incref(json_object_get(json_object_get(b.manifest, "metrics"), "valid"));
    const char *stage =
        json_string_value(json_object_get(json_object_get(b.manifest, "data"), "stage"));
    for (int i = 0; i < t->r.n_stages && stage; i++)
        if (strcmp(t->r.stage[i].name, stage) == 0) t->at.stage = i;
    stage_enter(t);
    free(weights);
    bundle_close(&b);
    return rc;
}

/* ---- stages ---- */

/* bf16 products where the stage asks for them and the CPU has them. */
static void set_precision(struct trainer *t)
{
    const bool wanted = t->now->train.precision == PRECISION_BF16;
    if (wanted && !t->mm16) t->mm16 = mm16_new(par_threads(t->a->pool));
    if (wanted && !t->mm16)
        fprintf(stderr, "note: this CPU has no bf16 products; training in fp32\n");
    t->bf16 = (struct bf16_ops){ t->mm16, mm16_product };
    tape_precise(t->tp, wanted && t->mm16 ? &t->bf16 : NULL);
    snprintf(t->kernels, sizeof t->kernels, "%s%s", num->isa, t->mm16 ? "+bf16" : "");
}

static void stage_begin(struct trainer *t)
{
    stage_enter(t);
    const struct train_cfg *c = &t->now->train;
    set_precision(t);
    struct batch_cfg b = recipe_batches(t->now);
    if (t->at.stage > 0) b.seed = rng_hash(b.seed, (uint64_t)t->at.stage); /* another order */
    batcher_free(t->batches);
    t->batches = batcher_new(&t->ds, &b);
    opt_free(t->opt);
    t->opt = opt_new(model_params(t->model),
                     (struct opt_cfg){ .lr = c->lr,
                                       .beta1 = c->beta1,
                                       .beta2 = c->beta2,
                                       .eps = 1e-8f,
                                       .weight_decay = c->weight_decay,
                                       .decoupled = c->optimizer == OPTIMIZER_ADAMW,
                                       .clip_norm = c->clip_norm,
                                       .ema = c->ema });
}

/* The weights that the stage leaves: to the next one, or exported already or here for the end. */
static int stage_end(struct trainer *t, bool last, struct err *e)
{
    int64_t epoch;
    json_t *valid;
    if (t->now->train.stop_on != STOP_NONE) {
        if (last) return 0; /* the end loads the best, when the moments are gone */
        TRY(load_best(t, &epoch, &valid, e));
        json_decref(valid);
        return 0;
    }
    opt_swap_average(t->opt, model_params(t->model));
    if (!last) return 0;
    struct evaluation v;
    TRY(loop_evaluate(t, &v, SPLIT_VALID, e));
    return trainer_export(t, t->now->train.epochs,
                          json_pack("{s:o}", "valid", metrics_json(&v.metrics)), e);
}

/* Stages from where t->at stands; at.trained at the end, unless a stop was asked for. */
static int run_stages(struct trainer *t, struct err *e)
{
    while (!t->at.trained) {
        TRY(loop_run(t, e));
        if (stop_asked()) return 0;
        bool last = t->at.stage + 1 == recipe_stages(&t->r);
        TRY(stage_end(t, last, e));
        if (last) {
            t->at.trained = true;
        } else {
            t->at.stage++;
            t->at = (struct progress){
                .stage = t->at.stage, .epoch = 1, .step = t->at.step, .seconds = t->at.seconds
            };
            stage_begin(t);
        }
        TRY(state_save(t, e));
    }
    return 0;
}

/* ---- the end ---- */

static void tell(const struct trainer *t, json_t *valid, const struct metrics *test)
{
    struct metrics m;
    if (metrics_from_json(&m, valid)) metrics_table(&m, "valid", stdout);
    if (test) metrics_table(test, "test", stdout);
    printf("%s/%" PRId64 "\n", t->a->out, t->version);
}

/* Test once, with the checkpoint that validation chose; then the index.  Stopped before that is written, it is done
 * again. */
static int finish(struct trainer *t, bool *finished, struct err *e)
{
    struct evaluation test;
    int64_t epoch;
    json_t *valid;
    TRY(load_best(t, &epoch, &valid, e));
    int rc = loop_evaluate(t, &test, SPLIT_TEST, e);
    if (rc < 0 || stop_asked()) {
        json_decref(valid);
        return rc;
    }
    rc = trainer_export(t, epoch,
                        json_pack("{s:O, s:o, s:o}", "valid", valid, "test",
                                  metrics_json(&test.metrics), "interests",
                                  interests_json(&test)),
                        e);
    char *dir = trainer_path(t, "");
    if (rc == 0) rc = index_bundle(dir, &t->a->index, stderr, e);
    free(dir);
    if (rc == 0) {
        trainer_log(t,
                    json_pack("{s:s, s:I, s:f, s:I, s:O, s:o, s:o}", "event", "done",
                              "best_epoch", (json_int_t)epoch, "seconds",
                              t->at.seconds + clock_s() - t->start_s, "step_arena_bytes",
                              (json_int_t)arena_peak(t->mem), "valid", valid, "test",
                              metrics_json(&test.metrics), "interests", interests_json(&test)));
        rc = state_remove(t, false, e);
        *finished = true;
        tell(t, valid, &test.metrics);
    }
    json_decref(valid);
    return rc;
}

/* ---- the beginning ---- */

static int check_cases(const struct dataset *d, const char *dir, struct err *e)
{
    const int32_t *hist;
    int32_t len, answer;
    for (int32_t u = 0; u < d->n_users; u++)
        if (dataset_case(d, u, SPLIT_VALID, &hist, &len, &answer)) return 0;
    return d->split.kind == SPLIT_TIME
               ? err_set(e, ERR_EMPTY,
                         "%s: no user has a validation case: prepare it with an "
                         "earlier --valid-from",
                         dir)
               : err_set(e, ERR_EMPTY,
                         "%s: no user has the 3 events that validation and test need", dir);
}

int train_newest(int64_t *version, const char *out, struct err *e)
{
    TRY(bundle_latest(out, version, e));
    for (bool there = true; there;) {
        char *path = version_path(out, *version + 1, TRAIN_LOG);
        there = io_exists(path);
        *version += there;
        free(path);
    }
    return 0;
}

/* Opens the log for appending and locks it: one process writes a version.  1: a fresh one is there already, another
 * one is not. */
static int open_log(struct trainer *t, bool fresh, struct err *e)
{
    char *path = trainer_path(t, TRAIN_LOG);
    int rc = 0, fd = open(path, O_RDWR | O_CLOEXEC | (fresh ? O_CREAT | O_EXCL : 0), 0644);
    if (fd < 0 && errno == (fresh ? EEXIST : ENOENT))
        rc = 1;
    else if (fd < 0)
        rc = err_sys(e, ERR_IO, "%s", path);
    else if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        rc = err_set(e, ERR_INVALID, "%s: another training is writing it", path);
    else
        t->log = fdopen(fd, "r+");
    if (fd >= 0 && !t->log) close(fd);
    free(path);
    return rc;
}

static int new_version(struct trainer *t, struct err *e)
{
    int rc = 1;
    TRY(train_newest(&t->version, t->a->out, e));
    while (rc > 0) {
        t->version++;
        rc = open_log(t, true, e);
    }
    return rc;
}

/* What differs between the run's recipe and the one it is resumed with. */
static int check_recipe(const json_t *was, const json_t *now, struct err *e)
{
    const char *key;
    json_t *v;
    json_object_foreach ((json_t *)(uintptr_t)now, key, v) {
        const char *old = json_string_value(json_object_get(was, key));
        if (!old || strcmp(old, json_string_value(v)) != 0)
            return err_set(
                e, ERR_CONFIG,
                "%s is %s, in the run to go on with it is %s: give the recipe it was "
                "started with, or none; without --resume a new run begins",
                key, json_string_value(v), old ? old : "not set");
    }
    json_object_foreach ((json_t *)(uintptr_t)was, key, v) {
        if (!json_object_get(now, key))
            return err_set(
                e, ERR_CONFIG,
                "%s is not set, in the run to go on with it is %s: give the recipe it "
                "was started with, or none",
                key, json_string_value(v));
    }
    return 0;
}

/* The recipe of the saved run, which must be the one that was given, if one was; in the order it had. */
static int take_recipe(struct trainer *t, const struct state *s, struct err *e)
{
    json_t *now = t->a->recipe ? recipe_json(t->a->recipe) : NULL;
    int rc = now ? check_recipe(state_recipe(s), now, e) : 0;
    json_decref(now);
    return rc < 0 ? rc : recipe_from_json(&t->r, state_recipe(s), e);
}

/* Data, recipe, model: what a fresh and a resumed run begin with. */
static int set_up(struct trainer *t, const struct state *s, struct err *e)
{
    if (s) TRY(take_recipe(t, s, e));
    t->r.model.n_items = t->ds.n_items;
    TRY(recipe_check(&t->r, &t->ds, e));
    t->model = model_new(&t->r.model, true);
    if (t->r.model.item_tower) {
        TRY(fields_new(&t->fields, t->ds.items, e));
        model_add_tower(t->model, fields_of(t->fields));
    }
    for (int i = 0; i < recipe_stages(&t->r); i++) {
        recipe_stage(&t->stage[i], &t->r, i);
        recipe_open(&t->stage[i], t->model, &t->ds);
    }
    if (t->r.train.item_update == ITEMS_TOUCHED) params_part(model_items(t->model));
    t->mem = arena_new("step", 1 << 20, 0);
    t->tp = tape_new(t->mem, t->a->pool);
    if (t->a->profile) t->prof = prof_new();
    tape_profile(t->tp, t->prof);
    return 0;
}

/* Says so when a run of the past waits to be gone on with. */
static int mention_unfinished(const struct trainer *t, struct err *e)
{
    int64_t newest;
    TRY(train_newest(&newest, t->a->out, e));
    char *path = version_path(t->a->out, newest, STATE_SUFFIX);
    if (io_exists(path))
        fprintf(stderr,
                "note: %s/%" PRId64
                " is unfinished and --resume would go on with it; this is %" PRId64
                ": to go back, interrupt it and remove %s/%" PRId64 "*\n",
                t->a->out, newest, newest + 1, t->a->out, newest + 1);
    free(path);
    return 0;
}

static int begin_fresh(struct trainer *t, struct err *e)
{
    json_t *recipe = recipe_json(t->a->recipe);
    int rc = recipe_from_json(&t->r, recipe, e);
    json_decref(recipe);
    TRY(rc);
    TRY(set_up(t, NULL, e));
    t->at = (struct progress){ .epoch = 1 };
    params_init(model_params(t->model), (uint64_t)t->r.train.seed);
    if (t->a->init) {
        TRY(init_from(t->model, t->ds.items, t->a->init, stderr, e));
        TRY(init_label(&t->init, t->a->init, e));
    }
    stage_begin(t);
    if (batcher_rows(t->batches) == 0)
        return err_set(e, ERR_EMPTY,
                       "%s has no training rows: every user has fewer than 2 training events",
                       t->a->data);
    if (!t->log) {
        TRY(io_mkdirs(t->a->out, e));
        TRY(mention_unfinished(t, e));
        TRY(new_version(t, e));
    }
    trainer_log(t, json_pack("{s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:o, s:s*}", "event", "start",
                             "data", t->ds.name, "users", t->ds.n_users, "items", t->ds.n_items,
                             "events", (json_int_t)t->ds.n_events, "rows",
                             (json_int_t)batcher_rows(t->batches), "parameters",
                             (json_int_t)params_size(model_params(t->model)), "recipe",
                             recipe_json(&t->r), "init", t->init));
    fprintf(stderr, "%s: %d users, %d items, %lld training rows; %lld parameters; %d threads\n",
            t->ds.name, t->ds.n_users, t->ds.n_items, (long long)batcher_rows(t->batches),
            (long long)params_size(model_params(t->model)), par_threads(t->a->pool));
    return state_save(t, e);
}

/* The log goes back to where the state was saved: what came after happens again. */
static int shorten_log(const struct trainer *t, int64_t nb, struct err *e)
{
    struct stat st;
    if (fstat(fileno(t->log), &st) < 0 ||
        (st.st_size > nb && ftruncate(fileno(t->log), nb) < 0) ||
        fseek(t->log, 0, SEEK_END) < 0)
        return err_sys(e, ERR_IO, "shortening the log");
    if (st.st_size < nb)
        fprintf(stderr, "%s/%" PRId64 TRAIN_LOG " has lost its end\n", t->a->out, t->version);
    return 0;
}

/* The weights that the saved run began with, which must be those that are given, if any are. */
static int take_init(struct trainer *t, const struct state *s, struct err *e)
{
    const char *was = state_init(s);
    if (t->a->init) {
        TRY(init_label(&t->init, t->a->init, e));
        if (!was || strcmp(was, t->init) != 0)
            return err_set(
                e, ERR_CONFIG,
                "--init is %s, the run to go on with began with %s: leave --init out, "
                "or begin anew without --resume",
                t->init, was ? was : "random weights");
    } else if (was) {
        t->init = xstrdup(was);
    }
    return 0;
}

static int begin_again(struct trainer *t, const struct state *s, struct err *e)
{
    const struct progress *at = state_progress(s);
    if (state_fingerprint(s) != t->fingerprint)
        return err_set(e, ERR_INVALID,
                       "%s is not the data set that %s/%" PRId64
                       " was started with: give that one, or begin anew without --resume",
                       t->a->data, t->a->out, t->version);
    TRY(take_init(t, s, e));
    TRY(set_up(t, s, e));
    if (at->stage >= recipe_stages(&t->r))
        return err_set(e, ERR_FORMAT, "the saved state has stage %lld of %d",
                       (long long)at->stage, recipe_stages(&t->r));
    t->at.stage = at->stage;
    stage_begin(t);
    TRY(state_restore(s, t, e));
    if (at->batch > batcher_batches(t->batches))
        return err_set(e, ERR_FORMAT, "the saved state has batch %lld of %lld",
                       (long long)at->batch, (long long)batcher_batches(t->batches));
    TRY(shorten_log(t, at->log_bytes, e));
    fprintf(stderr, "%s/%" PRId64 ": going on at epoch %lld, batch %lld of %lld\n", t->a->out,
            t->version, (long long)at->epoch, (long long)at->batch,
            (long long)batcher_batches(t->batches));
    if (strcmp(state_isa(s), t->kernels) != 0)
        fprintf(stderr,
                "saved by kernels %s, going on with %s: results will differ in the last bits\n",
                state_isa(s), t->kernels);
    return 0;
}

/* Finished runs have no state, but a test in their manifest. */
static bool is_finished(const struct trainer *t)
{
    struct bundle b;
    struct err none = { 0 };
    char *dir = trainer_path(t, "");
    bool there = io_exists(dir) && bundle_open(&b, dir, false, &none) == 0, tested = false;
    if (there) {
        tested = json_object_get(json_object_get(b.manifest, "metrics"), "test") != NULL;
        bundle_close(&b);
    }
    free(dir);
    return tested;
}

/* The newest run of OUT: resumed, begun again in its version when it never saved, or found finished. */
static int begin_resume(struct trainer *t, bool *finished, struct err *e)
{
    struct state *s = NULL;
    if (io_exists(t->a->out)) TRY(train_newest(&t->version, t->a->out, e));
    char *path = trainer_path(t, STATE_SUFFIX);
    int rc = t->version > 0 ? open_log(t, false, e) : 0; /* first: nobody ends it meanwhile */
    bool saved = rc >= 0 && t->version > 0 && io_exists(path);
    if (rc == 1 && saved) rc = open_log(t, true, e);
    if (rc >= 0) rc = t->log ? state_remove(t, true, e) : 0;
    *finished = !saved && t->version > 0 && is_finished(t);
    if (rc == 0 && !saved && !*finished && (!t->a->recipe || t->a->finish))
        rc = err_set(e, ERR_USAGE, "%s has no unfinished run%s", t->a->out,
                     t->a->finish ? "" : "; --recipe is needed to start one");
    if (rc == 0 && saved) rc = state_open(&s, path, e);
    if (rc == 0 && saved) rc = begin_again(t, s, e);
    if (rc == 0 && !saved && !*finished) {
        if (t->log && ftruncate(fileno(t->log), 0) < 0)
            rc = err_sys(e, ERR_IO, "emptying the log");
        if (rc == 0) rc = begin_fresh(t, e);
    }
    state_close(s);
    free(path);
    return rc;
}

static int begin(struct trainer *t, bool *finished, struct err *e)
{
    TRY(dataset_open(&t->ds, t->a->data, e));
    TRY(check_cases(&t->ds, t->a->data, e));
    t->fingerprint = dataset_fingerprint(&t->ds);
    if (t->a->resume) return begin_resume(t, finished, e);
    return begin_fresh(t, e);
}

static void end(struct trainer *t)
{
    if (t->log) fclose(t->log);
    opt_free(t->opt);
    tape_free(t->tp);
    mm16_free(t->mm16);
    prof_free(t->prof);
    arena_free(t->mem);
    batcher_free(t->batches);
    model_free(t->model);
    fields_free(t->fields);
    for (int i = 0; i < RECIPE_STAGES; i++) recipe_free(&t->stage[i]);
    recipe_free(&t->r);
    dataset_close(&t->ds);
    free(t->init);
}

/* What is there is enough. */
static int stop_training(struct trainer *t, struct err *e)
{
    char *dir = trainer_path(t, "");
    t->at.trained = io_exists(dir);
    free(dir);
    return t->at.trained
               ? 0
               : err_set(e, ERR_EMPTY, "%s/%" PRId64 " has no checkpoint to finish with yet",
                         t->a->out, t->version);
}

static int run(struct trainer *t, struct train_result *res, struct err *e)
{
    bool finished = false;
    TRY(begin(t, &finished, e));
    res->version = t->version;
    if (finished) {
        fprintf(stderr, "%s/%" PRId64 " is finished; leave --resume out to train another\n",
                t->a->out, t->version);
        res->finished = true;
        return 0;
    }
    if (t->a->finish) TRY(stop_training(t, e));
    TRY(run_stages(t, e));
    if (t->at.trained) { /* room for the best weights, which are mapped and copied */
        opt_free(t->opt);
        t->opt = NULL;
    }
    if (t->at.trained && !t->a->no_test) TRY(finish(t, &res->finished, e));
    res->stopped = res->finished || (t->at.trained && t->a->no_test) ? 0 : stop_asked();
    if (res->stopped) fprintf(stderr, "stopped and saved: --resume goes on from here\n");
    if (res->stopped || res->finished) return 0;
    int64_t epoch;
    json_t *valid;
    TRY(load_best(t, &epoch, &valid, e));
    tell(t, valid, NULL);
    json_decref(valid);
    return 0;
}

int train_run(const struct train_args *a, struct train_result *res, struct err *e)
{
    struct trainer t = { .a = a, .start_s = clock_s() };
    struct stop stop = stop_begin();
    *res = (struct train_result){ 0 };
    t.saved_s = t.start_s;
    int rc = run(&t, res, e);
    if (rc == 0 && t.prof) profile_print(stdout, t.prof, t.profiled, a->pool);
    end(&t);
    stop_end(&stop);
    return rc;
}
