#include "models/rank_train.h"
#include "core/ad/opt.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/base/prog.h"
#include "core/fmt/ckpt.h"
#include "core/nn/model.h"
#include "models/stop.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct trainer {
    const struct rank_train_args *a;
    struct rank_recipe *r;
    struct clicks data, valid;
    int32_t n_train; /* impressions of data that are for training; the rest is for validation */
    struct items_builder *items;
    struct ranker *model;
    struct opt_adam *opt;
    struct arena *mem;
    struct tape *tp;
    int64_t step;
    struct ranker *kept; /* the model after kept_epoch, the last whole one; 0: none yet */
    int32_t kept_epoch;
};

static const uint32_t LEARNING = GROUP_ENCODER | GROUP_HEAD; /* not the running averages */

/* ---- data ---- */

static void report(const char *path, const struct clicks *c)
{
    if (c->damage[0]) fprintf(stderr, "%s: %s: what came before is read\n", path, c->damage);
    fprintf(stderr, "%s: %d impressions, %d steps of sequences", path, c->n, c->seq_cu[c->n]);
    if (c->bad)
        fprintf(stderr, "; %" PRId64 " dropped, the first in line %" PRId64 ": %s", c->bad,
                c->first_bad, c->why);
    if (c->not_utf8)
        fprintf(stderr, "; %" PRId64 " cells are not UTF-8 and count as missing", c->not_utf8);
    fputc('\n', stderr);
}

static int read_one(struct trainer *t, struct clicks *c, const char *path, bool fit,
                    struct err *e)
{
    struct clicks_opts o = { .label = t->r->columns.label,
                             .user = t->r->columns.user,
                             .item = t->r->columns.item,
                             .max_len = t->r->model.max_len,
                             .fit = fit,
                             .items = t->items };
    TRY(clicks_read(c, &t->r->schema, path, &o, e));
    if (!t->a->quiet) report(path, c);
    return 0;
}

static int read_data(struct trainer *t, struct err *e)
{
    TRY(read_one(t, &t->data, t->a->data, true, e));
    t->n_train = t->data.n;
    if (t->a->valid) return read_one(t, &t->valid, t->a->valid, false, e);
    t->n_train -= (int32_t)((double)t->data.n * (double)t->r->train.valid_share);
    return 0;
}

/* ---- steps ---- */

static float rate(const struct rank_train_cfg *c, int64_t step)
{
    const int64_t times = step / c->lr_steps;
    double lr = (double)c->lr * pow((double)c->lr_factor, (double)times);
    return (float)fmax(lr, (double)c->lr_min);
}

/* Until enough batches have been seen the running averages are their mean. */
static float momentum(const struct rank_train_cfg *c, int64_t step)
{
    double m = (double)step / (double)(step + 1);
    return (float)fmin(m, (double)c->norm_momentum);
}

static int check_finite(const struct rank_losses *l, int64_t step, struct err *e)
{
    const struct {
        const char *name;
        const struct ten *x;
    } term[] = { { "click log-loss", l->click },
                 { "contrastive loss", l->contrast },
                 { "l2_regularization", l->l2 },
                 { "embedding_regularization", l->embedding } };
    for (int i = 0; i < 4; i++)
        if (term[i].x && !isfinite(term[i].x->x[0]))
            return err_set(e, ERR_INVALID,
                           "the %s is %g in step %" PRId64
                           ": lower rank.lr, or set rank.clip_norm",
                           term[i].name, (double)term[i].x->x[0], step);
    return 0;
}

struct means { /* of the losses since they were last shown */
    double click, contrast;
    int64_t n;
};

static int train_step(struct trainer *t, const int32_t *row, int32_t n, struct means *sum,
                      struct err *e)
{
    const struct rank_train_cfg *c = &t->r->train;
    const uint64_t key =
        rng_hash(rng_make((uint64_t)c->seed, RNG_DROPOUT).key, (uint64_t)t->step);
    struct view views[2];
    tape_begin(t->tp, LEARNING, key, true);
    struct ranker_batch b = rank_batch(&t->r->schema, &t->data, row, n, t->mem);
    b.momentum = momentum(c, t->step);
    float *label = ARENA_NEW(t->mem, float, n);
    for (int32_t i = 0; i < n; i++) label[i] = t->data.label[row[i]];
    const bool contrast = t->r->loss.contrast_weight > 0 && t->r->model.sequence;
    if (contrast) rank_views(views, t->mem, &t->r->loss, &b.seq, t->r->model.max_len, key);
    struct rank_losses l =
        rank_loss(t->model, t->tp, &t->r->loss, &b, label, contrast ? views : NULL);
    TRY(check_finite(&l, t->step, e));
    sum->click += (double)l.click->x[0];
    sum->contrast += l.contrast ? (double)l.contrast->x[0] : 0;
    sum->n++;
    tape_backward(t->tp, l.total);
    opt_set_lr(t->opt, rate(c, t->step));
    opt_step(t->opt, ranker_params(t->model), LEARNING, t->a->pool);
    t->step++;
    return 0;
}

static int train_epoch(struct trainer *t, int32_t epoch, struct err *e)
{
    const struct rank_train_cfg *c = &t->r->train;
    int32_t *row = xmalloc((size_t)t->n_train * sizeof *row);
    struct rng rng = rng_make(rng_hash((uint64_t)c->seed, (uint64_t)epoch), RNG_SHUFFLE);
    char label[32];
    snprintf(label, sizeof label, "epoch %d", epoch);
    struct prog p = prog_begin(label, (t->n_train + c->batch_size - 1) / c->batch_size);
    struct means sum = { 0 };
    int rc = 0;
    for (int32_t i = 0; i < t->n_train; i++) row[i] = i;
    rng_shuffle(&rng, row, t->n_train);
    for (int32_t at = 0; at < t->n_train && rc == 0 && !stop_asked(); at += c->batch_size) {
        const int32_t n = t->n_train - at < c->batch_size ? t->n_train - at : c->batch_size;
        if (n < 2 && at > 0) break; /* statistics of one row are none */
        rc = train_step(t, row + at, n, &sum, e);
        if (!t->a->quiet)
            prog_step(&p, sum.n, "click %.4f contrast %.4f", sum.click / (double)sum.n,
                      sum.contrast / (double)sum.n);
    }
    free(row);
    if (rc == 0 && sum.n > 0 && !t->a->quiet)
        prog_end(&p, "%" PRId64 " steps, click %.4f contrast %.4f", sum.n,
                 sum.click / (double)sum.n, sum.contrast / (double)sum.n);
    return rc;
}

/* What to go back to when a later epoch ends in numbers that are none. */
static int keep(struct trainer *t, int32_t epoch, struct err *e)
{
    const struct params *ps = ranker_params(t->model);
    TRY(ckpt_check_params(ps, e));
    params_copy(ranker_params(t->kept), ps);
    t->kept_epoch = epoch;
    return 0;
}

static int train(struct trainer *t, struct err *e)
{
    const struct rank_train_cfg *c = &t->r->train;
    struct opt_cfg o = {
        .lr = c->lr, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .clip_norm = c->clip_norm
    };
    struct ranker_shape shape;
    rank_shape(&shape, &t->r->schema);
    t->model = ranker_new(&t->r->model, &shape, true);
    t->kept = ranker_new(&t->r->model, &shape, false);
    params_init(ranker_params(t->model), (uint64_t)c->seed);
    t->opt = opt_new(ranker_params(t->model), o);
    t->mem = arena_new("rank step", 1 << 20, 0);
    t->tp = tape_new(t->mem, t->a->pool);
    for (int32_t i = 1; i <= c->epochs && !stop_asked(); i++) {
        TRY(train_epoch(t, i, e));
        TRY(keep(t, i, e));
    }
    return 0;
}

/* ---- the bundle ---- */

static void measure(struct trainer *t, struct rank_metrics *m)
{
    const bool own = t->a->valid != NULL;
    const struct clicks *c = own ? &t->valid : &t->data;
    const int32_t from = own ? 0 : t->n_train, n = c->n - from;
    *m = (struct rank_metrics){ 0 };
    if (n == 0) return;
    float *score = xmalloc((size_t)n * sizeof *score);
    rank_scores(score, t->model, &t->r->schema, c, from, c->n, t->a->pool);
    *m = rank_measure(score, c, from, c->n);
    free(score);
}

static json_t *manifest(const struct trainer *t, const struct rank_metrics *m)
{
    json_t *metrics = json_object();
    if (m->n > 0) json_object_set_new(metrics, "valid", rank_metrics_json(m));
    return json_pack("{s:s, s:o, s:o, s:o, s:i, s:o, s:o}", "kind", "rank", "ranker",
                     bundle_opts_to_json(ranker_opts, &t->r->model), "columns",
                     bundle_opts_to_json(rank_column_opts, &t->r->columns), "schema",
                     rank_schema_json(&t->r->schema), "items", items_builder_count(t->items),
                     "recipe", rank_recipe_json(t->r), "metrics", metrics);
}

static int export(struct trainer *t, const struct rank_metrics *m, int64_t *version,
                  struct err *e)
{
    struct bundle_writer w;
    json_t *mf = manifest(t, m);
    int rc = bundle_begin(&w, t->a->out, 0, e);
    if (rc == 0) {
        char *weights = xasprintf("%s/" BUNDLE_WEIGHTS, w.tmp_dir);
        char *items = xasprintf("%s/" BUNDLE_ITEMS, w.tmp_dir);
        *version = w.version;
        rc = ckpt_save(weights, ranker_params(t->model), GROUPS_ALL, e);
        if (rc == 0) rc = items_write(t->items, items, e);
        if (rc == 0)
            rc = bundle_commit(&w, mf, e);
        else
            bundle_abort(&w);
        free(weights);
        free(items);
    }
    json_decref(mf);
    return rc;
}

static int run(struct trainer *t, struct rank_result *out, struct err *e)
{
    TRY(io_mkdirs(t->a->out, e)); /* where nothing can be written nothing is trained */
    TRY(read_data(t, e));
    if (t->n_train < 2)
        return err_set(e, ERR_EMPTY, "%d impressions to train on; lower rank.valid_share",
                       t->n_train);
    struct stop s = stop_begin();
    int rc = train(t, e);
    out->stopped = stop_asked();
    stop_end(&s);
    if (rc < 0 && t->kept_epoch == 0) return rc;
    if (rc < 0) params_copy(ranker_params(t->model), ranker_params(t->kept));
    if (t->step == 0) return 0; /* stopped before there was anything to save */
    measure(t, &out->valid);
    TRY(export(t, &out->valid, &out->version, e)); /* of two errors the first is told */
    if (rc < 0)
        err_ctx(e, "version %" PRId64 " has the weights of epoch %d", out->version,
                t->kept_epoch);
    return rc;
}

int rank_train(const struct rank_train_args *a, struct rank_result *out, struct err *e)
{
    struct trainer t = { .a = a, .r = a->recipe, .items = items_builder_new() };
    *out = (struct rank_result){ 0 };
    int rc = run(&t, out, e);
    tape_free(t.tp);
    arena_free(t.mem);
    opt_free(t.opt);
    ranker_free(t.model);
    ranker_free(t.kept);
    clicks_free(&t.data);
    clicks_free(&t.valid);
    items_builder_free(t.items);
    return rc;
}
