#include "models/train.h"
#include "core/ad/opt.h"
#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/base/prog.h"
#include "core/fmt/bundle.h"
#include "core/fmt/ckpt.h"
#include "models/evaluate.h"
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t stop_asked;

static void on_stop(int sig)
{
    (void)sig;
    stop_asked = 1;
}

struct trainer {
    const struct train_args *a;
    const struct recipe *r;
    struct dataset ds;
    struct model *model;
    struct params *best; /* parameters of the best validation */
    struct model *best_model;
    struct batcher *batches;
    struct arena *mem;
    struct tape *tp;
    struct opt_adam *opt;
    FILE *log;
    int64_t version, step;
    double best_score, start_s;
    int64_t best_epoch;      /* 0: none yet */
    struct evaluation valid; /* of the best epoch */
};

static double score_of(const struct metrics *m, enum stop_metric on)
{
    switch (on) { /* rank_cut: 5 10 20 50 100 */
    case STOP_NDCG10: return m->ndcg[1];
    case STOP_NDCG20: return m->ndcg[2];
    case STOP_MRR10: return m->mrr[1];
    case STOP_HR20: return m->hr[2];
    case STOP_RECALL50: return m->hr[3];
    }
    return 0;
}

/* One JSON object a line; takes o. */
static void log_line(struct trainer *t, json_t *o)
{
    json_dumpf(o, t->log, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', t->log);
    fflush(t->log);
    json_decref(o);
}

static struct ten *weighted_loss(struct trainer *t, const struct batch *b)
{
    struct step s = { t->tp, t->model, b, (enum layout)t->r->train.layout, { 0 } };
    s.in = model_encode(t->model, t->tp, &b->seq, b->ids, BETA_IN);
    struct ten *total = NULL;
    for (int i = 0; i < t->r->n_obj; i++) {
        const struct obj_use *u = &t->r->obj[i];
        if (u->weight == 0) continue;
        struct ten *l = u->ops->loss(u->cfg, &s);
        if (u->weight != 1) l = ad_scale(t->tp, l, u->weight);
        total = total ? ad_add(t->tp, total, l) : l;
    }
    REQUIRE(total, "every objective has weight 0");
    return total;
}

static int train_step(struct trainer *t, const struct batch *b, double *loss, struct err *e)
{
    uint64_t key =
        rng_hash(rng_make((uint64_t)t->r->train.seed, RNG_DROPOUT).key, (uint64_t)t->step);
    tape_begin(t->tp, GROUPS_ALL, key, true);
    struct ten *l = weighted_loss(t, b);
    *loss = (double)l->x[0];
    if (!isfinite(*loss))
        return err_set(e, ERR_CONFIG,
                       "the loss is %g at step %lld: lower train.lr (%g) or check the data",
                       *loss, (long long)t->step, (double)t->r->train.lr);
    tape_backward(t->tp, l);
    opt_step(t->opt, model_params(t->model), GROUPS_ALL, t->a->pool);
    t->step++;
    return 0;
}

/* Mean loss of the epoch; fewer steps when a stop was asked for. */
static int train_epoch(struct trainer *t, int64_t epoch, double *mean, struct err *e)
{
    char label[32];
    snprintf(label, sizeof label, "epoch %lld", (long long)epoch);
    struct prog p = prog_begin(label, batcher_batches(t->batches));
    double sum = 0, loss = 0;
    int64_t n = 0;
    batcher_epoch(t->batches, epoch);
    for (const struct batch *b; !stop_asked && (b = batcher_next(t->batches));) {
        TRY(train_step(t, b, &loss, e));
        sum += loss;
        n++;
        prog_step(&p, n, "loss %.4f", sum / (double)n);
    }
    *mean = n ? sum / (double)n : 0;
    prog_end(&p, "loss %.4f", *mean);
    return 0;
}

static json_t *manifest(const struct trainer *t, json_t *metrics)
{
    const struct model_cfg *c = model_config(t->model);
    return json_pack("{s:o, s:i, s:i, s:i, s:i, s:s, s:o, s:o, s:{s:s, s:I}}", "encoder",
                     bundle_opts_to_json(model_opts, c), "items", c->n_items, "interests",
                     model_interests(t->model), "width", c->width, "max_len", c->max_len,
                     "metric", "inner_product", "recipe", recipe_json(t->r), "metrics", metrics,
                     "data", "name", t->ds.name, "epochs", (json_int_t)t->best_epoch);
}

/* The best parameters as version t->version, replacing what an earlier epoch wrote. */
static int export_best(struct trainer *t, json_t *metrics, struct err *e)
{
    struct bundle_writer w;
    json_t *mf = manifest(t, metrics);
    int rc = bundle_begin(&w, t->a->out, t->version, e);
    if (rc == 0) {
        char *weights = xasprintf("%s/" BUNDLE_WEIGHTS, w.tmp_dir);
        char *items = xasprintf("%s/" BUNDLE_ITEMS, w.tmp_dir);
        char *source = xasprintf("%s/" BUNDLE_ITEMS, t->a->data);
        rc = ckpt_save(weights, t->best, e);
        if (rc == 0) rc = io_copy_file(items, source, e);
        if (rc == 0)
            rc = bundle_commit(&w, mf, e);
        else
            bundle_abort(&w);
        free(weights);
        free(items);
        free(source);
    }
    json_decref(mf);
    return rc < 0 ? err_ctx(e, "writing the bundle %s/%lld", t->a->out, (long long)t->version)
                  : 0;
}

/* Validates, logs, keeps the parameters when they are the best so far. */
static int validate(struct trainer *t, int64_t epoch, double loss, double train_s,
                    struct err *e)
{
    struct evaluation v;
    TRY(evaluate(&v, t->model, &t->ds, SPLIT_VALID, (enum seen)t->r->train.valid_seen,
                 t->a->pool, false, e));
    const struct opt *on = conf_find(train_opts, "stop_on");
    char name[16];
    conf_get(on, &t->r->train, name, sizeof name);
    double score = score_of(&v.metrics, (enum stop_metric)t->r->train.stop_on);
    bool better = t->best_epoch == 0 || score > t->best_score;
    log_line(t, json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:b, s:o, s:o}", "event", "epoch",
                          "epoch", (json_int_t)epoch, "step", (json_int_t)t->step, "loss", loss,
                          "train_s", train_s, "valid_s", v.seconds, "best", better, "valid",
                          metrics_json(&v.metrics), "interests", interests_json(&v)));
    fprintf(stderr, "  valid hr@10 %.4f ndcg@10 %.4f recall@50 %.4f  %s %.4f%s\n",
            v.metrics.hr[1], v.metrics.ndcg[1], v.metrics.hr[3], name, score,
            better ? "  best so far, saved" : "");
    if (!better) return 0;
    t->best_score = score;
    t->best_epoch = epoch;
    t->valid = v;
    params_copy(t->best, model_params(t->model));
    return export_best(t, json_pack("{s:o}", "valid", metrics_json(&v.metrics)), e);
}

static int epochs(struct trainer *t, struct err *e)
{
    const struct train_cfg *c = &t->r->train;
    for (int64_t epoch = 1; epoch <= c->epochs && !stop_asked; epoch++) {
        double loss, start = clock_s();
        TRY(train_epoch(t, epoch, &loss, e));
        /* an unfinished epoch is validated only when there is nothing else to keep */
        if (stop_asked && (t->best_epoch || t->step == 0)) break;
        TRY(validate(t, epoch, loss, clock_s() - start, e));
        if (epoch - t->best_epoch >= c->patience) {
            fprintf(stderr, "no better validation for %d epochs: stopping\n", c->patience);
            break;
        }
    }
    if (!t->best_epoch)
        return err_set(e, ERR_EMPTY,
                       "stopped before the first step: nothing was trained or saved");
    return 0;
}

static json_t *tested(const struct evaluation *valid, const struct evaluation *test)
{
    return json_pack("{s:o, s:o, s:o}", "valid", metrics_json(&valid->metrics), "test",
                     metrics_json(&test->metrics), "interests", interests_json(test));
}

/* Test once, with the checkpoint that validation chose; then the index. */
static int finish(struct trainer *t, struct err *e)
{
    struct evaluation test;
    TRY(evaluate(&test, t->best_model, &t->ds, SPLIT_TEST, (enum seen)t->r->train.valid_seen,
                 t->a->pool, false, e));
    TRY(export_best(t, tested(&t->valid, &test), e));
    log_line(t, json_pack("{s:s, s:I, s:f, s:I, s:o, s:o}", "event", "done", "best_epoch",
                          (json_int_t)t->best_epoch, "seconds", clock_s() - t->start_s,
                          "step_arena_bytes", (json_int_t)arena_peak(t->mem), "test",
                          metrics_json(&test.metrics), "interests", interests_json(&test)));
    char *dir = xasprintf("%s/%lld", t->a->out, (long long)t->version);
    int rc = index_bundle(dir, &t->a->index, stderr, e);
    if (rc == 0) {
        metrics_table(&t->valid.metrics, "valid", stdout);
        metrics_table(&test.metrics, "test", stdout);
        printf("%s\n", dir);
    }
    free(dir);
    return rc;
}

/* The log reserves the version: two trainings into one model directory never share a number. */
static int open_log(struct trainer *t, struct err *e)
{
    TRY(io_mkdirs(t->a->out, e));
    TRY(bundle_latest(t->a->out, &t->version, e));
    int rc = 0;
    while (rc == 0 && !t->log) {
        char *path = xasprintf("%s/%lld.train.jsonl", t->a->out, (long long)++t->version);
        t->log = fopen(path, "wx");
        if (!t->log && errno != EEXIST) rc = err_sys(e, ERR_IO, "%s", path);
        free(path);
    }
    return rc;
}

/* The name goes into JSON, which is UTF-8. */
static int check_name(const struct dataset *d, const char *dir, struct err *e)
{
    json_t *name = json_string(d->name);
    if (!name) return err_set(e, ERR_INVALID, "%s: rename it, its name is not UTF-8", dir);
    json_decref(name);
    return 0;
}

static bool can_validate(const struct dataset *d)
{
    const int32_t *hist;
    int32_t len, answer;
    for (int32_t u = 0; u < d->n_users; u++)
        if (dataset_case(d, u, SPLIT_VALID, &hist, &len, &answer)) return true;
    return false;
}

static int begin(struct trainer *t, struct err *e)
{
    struct recipe *r = t->a->recipe;
    TRY(dataset_open(&t->ds, t->a->data, e));
    r->model.n_items = t->ds.n_items;
    TRY(recipe_check(r, e));
    TRY(check_name(&t->ds, t->a->data, e));
    if (!can_validate(&t->ds))
        return err_set(e, ERR_EMPTY,
                       "%s: no user has the 3 events that validation and test need",
                       t->a->data);
    t->model = model_new(&r->model, true);
    t->best_model = model_new(&r->model, false);
    t->best = model_params(t->best_model);
    params_init(model_params(t->model), (uint64_t)r->train.seed);
    t->batches = batcher_new(&t->ds, &(struct batch_cfg){
                                         .batch_size = r->train.batch_size,
                                         .max_len = r->model.max_len,
                                         .layout = r->train.layout,
                                         .positions = r->model.positions,
                                         .future = recipe_needs_future(r),
                                         .seed = (uint64_t)r->train.seed,
                                     });
    if (batcher_rows(t->batches) == 0)
        return err_set(e, ERR_EMPTY,
                       "%s has no training rows: every user has fewer than 4 events",
                       t->a->data);
    TRY(open_log(t, e));
    t->mem = arena_new("step", 1 << 20, 0);
    t->tp = tape_new(t->mem, t->a->pool);
    t->opt = opt_new(model_params(t->model),
                     (struct opt_cfg){ r->train.lr, r->train.beta1, r->train.beta2, 1e-8f,
                                       r->train.weight_decay });
    log_line(t,
             json_pack("{s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:o}", "event", "start", "data",
                       t->ds.name, "users", t->ds.n_users, "items", t->ds.n_items, "events",
                       (json_int_t)t->ds.n_events, "rows", (json_int_t)batcher_rows(t->batches),
                       "parameters", (json_int_t)params_size(model_params(t->model)), "recipe",
                       recipe_json(r)));
    fprintf(stderr, "%s: %d users, %d items, %lld training rows; %lld parameters; %d threads\n",
            t->ds.name, t->ds.n_users, t->ds.n_items, (long long)batcher_rows(t->batches),
            (long long)params_size(model_params(t->model)), par_threads(t->a->pool));
    return 0;
}

static void end(struct trainer *t)
{
    if (t->log) fclose(t->log);
    opt_free(t->opt);
    tape_free(t->tp);
    arena_free(t->mem);
    if (t->batches) batcher_free(t->batches);
    model_free(t->model);
    model_free(t->best_model);
    dataset_close(&t->ds);
}

int train_run(const struct train_args *a, struct err *e)
{
    struct trainer t = { .a = a, .r = a->recipe, .start_s = clock_s() };
    /* A second signal ends at once; a bundle that is being written is not disturbed by the first. */
    struct sigaction sa = { .sa_handler = on_stop, .sa_flags = SA_RESETHAND | SA_RESTART },
                     was[2];
    stop_asked = 0;
    sigaction(SIGINT, &sa, &was[0]);
    sigaction(SIGTERM, &sa, &was[1]);
    int rc = begin(&t, e);
    if (rc == 0) rc = epochs(&t, e);
    if (rc == 0) rc = finish(&t, e);
    end(&t);
    sigaction(SIGINT, &was[0], NULL);
    sigaction(SIGTERM, &was[1], NULL);
    return rc;
}
