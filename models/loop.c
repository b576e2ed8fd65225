/* loop.c — the epochs of one stage: steps, learning rate, validation, the best checkpoint. */
#include "core/base/clock.h"
#include "core/base/prog.h"
#include "models/stop.h"
#include "models/trainer.h"
#include <math.h>
#include <stdlib.h>

/* ---- a step ---- */

static struct ten *weighted_loss(struct trainer *t, const struct batch *b)
{
    struct step s = { t->tp, t->model, b, (enum layout)t->now.train.layout, { 0 } };
    step_encode(&s);
    struct ten *total = NULL;
    for (int i = 0; i < t->now.n_obj; i++) {
        const struct obj_use *u = &t->now.obj[i];
        if (u->weight == 0) continue;
        struct ten *l = u->ops->loss(u->cfg, &s);
        if (u->weight != 1) l = ad_scale(t->tp, l, u->weight);
        total = total ? ad_add(t->tp, total, l) : l;
    }
    REQUIRE(total, "every objective has weight 0");
    return total;
}

/* Gradients of one batch, which counts `share` in the step. */
static int backward(struct trainer *t, const struct batch *b, float share, double *loss,
                    struct err *e)
{
    uint64_t seed = (uint64_t)t->now.train.seed;
    tape_begin(t->tp, GROUPS_ALL,
               rng_hash(rng_make(seed, RNG_DROPOUT).key, (uint64_t)t->at.step), true);
    if (b->rows) tape_bind(t->tp, model_items(t->model), b->rows, b->n_rows);
    struct ten *l = weighted_loss(t, b);
    *loss = (double)l->x[0];
    if (!isfinite(*loss))
        return err_set(e, ERR_CONFIG,
                       "the loss is %g at step %lld: lower train.lr (%g) or check the data",
                       *loss, (long long)t->at.step, (double)t->now.train.lr);
    if (share != 1) l = ad_scale(t->tp, l, share);
    tape_backward(t->tp, l);
    t->at.step++;
    return 0;
}

static int64_t steps_of_epoch(const struct trainer *t)
{
    int64_t a = t->now.train.accumulate;
    return (batcher_batches(t->batches) + a - 1) / a;
}

/* Warm-up, then the schedule: what lr is multiplied with at the optimiser's step s, from 0. */
static double schedule(const struct train_cfg *c, int64_t s, int64_t epoch, int64_t epoch_steps)
{
    if (s < c->warmup) return (double)(s + 1) / c->warmup;
    if (c->schedule == SCHEDULE_STEP) {
        int64_t times = (epoch - 1) / c->step_epochs;
        return pow((double)c->step_factor, (double)times);
    }
    if (c->schedule == SCHEDULE_CONSTANT) return 1;
    double total = (double)(c->epochs * epoch_steps - c->warmup), end = (double)c->lr_end;
    double part = total > 0 ? (double)(s - c->warmup) / total : 1;
    return end + (1 - end) * 0.5 * (1 + cos(acos(-1) * fmin(part, 1)));
}

/* Of the newest step. */
static double learning_rate(const struct trainer *t)
{
    const struct train_cfg *c = &t->now.train;
    return (double)c->lr * schedule(c, t->at.moves - 1, t->at.epoch, steps_of_epoch(t));
}

/* Up to `accumulate` batches, then the optimiser moves.  0: the epoch has no batch left. */
static int train_step(struct trainer *t, struct err *e)
{
    const struct train_cfg *c = &t->now.train;
    int64_t left = batcher_batches(t->batches) - t->at.batch;
    int64_t n = left < c->accumulate ? left : c->accumulate;
    if (n <= 0) return 0;
    for (int64_t i = 0; i < n; i++) {
        double loss;
        prof_mark(t->prof);
        const struct batch *b = batcher_next(t->batches);
        prof_lap(t->prof, "batch", NULL, PROF_FORWARD);
        TRY(backward(t, b, 1.0f / (float)n, &loss, e));
        t->at.loss_sum += loss;
        t->at.loss_n++;
    }
    t->at.moves++;
    opt_set_lr(t->opt, (float)learning_rate(t));
    opt_step(t->opt, model_params(t->model), GROUPS_ALL, t->a->pool);
    prof_lap(t->prof, "optimiser", NULL, PROF_FORWARD);
    t->profiled++;
    t->at.batch += n;
    return 1;
}

static double mean_loss(const struct trainer *t)
{
    return t->at.loss_n ? t->at.loss_sum / (double)t->at.loss_n : 0;
}

static int train_epoch(struct trainer *t, struct err *e)
{
    char label[80];
    if (t->r.n_stages > 0)
        snprintf(label, sizeof label, "%s epoch %lld", t->r.stage[t->at.stage].name,
                 (long long)t->at.epoch);
    else
        snprintf(label, sizeof label, "epoch %lld", (long long)t->at.epoch);
    struct prog p = prog_begin(label, batcher_batches(t->batches));
    batcher_epoch(t->batches, t->at.epoch, t->at.batch);
    for (int more = 1; more && !stop_asked();) {
        more = train_step(t, e);
        TRY(more);
        prog_step(&p, t->at.batch, "loss %.4f", mean_loss(t));
        if (more) TRY(state_save_at_times(t, e));
    }
    prog_end(&p, "loss %.4f", mean_loss(t));
    return 0;
}

/* ---- validation ---- */

static double score_of(const struct metrics *m, enum stop_metric on)
{
    switch (on) { /* rank_cut: 5 10 20 50 100 */
    case STOP_NDCG10: return m->ndcg[1];
    case STOP_NDCG20: return m->ndcg[2];
    case STOP_MRR10: return m->mrr[1];
    case STOP_HR20: return m->hr[2];
    case STOP_RECALL50: return m->hr[3];
    case STOP_NONE: break;
    }
    return 0;
}

static void log_epoch(struct trainer *t, const struct evaluation *v, double train_s,
                      bool better)
{
    json_t *o = json_pack("{s:s, s:I, s:I, s:f, s:f, s:f}", "event", "epoch", "epoch",
                          (json_int_t)t->at.epoch, "step", (json_int_t)t->at.step, "lr",
                          learning_rate(t), "loss", mean_loss(t), "train_s", train_s);
    if (t->r.n_stages > 0)
        json_object_set_new(o, "stage", json_string(t->r.stage[t->at.stage].name));
    if (v) {
        json_object_set_new(o, "valid_s", json_real(v->seconds));
        json_object_set_new(o, "best", json_boolean(better));
        json_object_set_new(o, "valid", metrics_json(&v->metrics));
        json_object_set_new(o, "interests", interests_json(v));
    }
    trainer_log(t, o);
}

int loop_evaluate(struct trainer *t, struct evaluation *v, enum split split, struct err *e)
{
    struct evaluate_opts o = { .split = split,
                               .seen = (enum seen)t->now.train.valid_seen,
                               .users = split == SPLIT_VALID ? t->now.train.valid_users : 0 };
    return evaluate(v, t->model, &t->ds, &o, t->a->pool, e);
}

/* Validates, logs, exports the weights when they are the best of the stage so far. */
static int validate(struct trainer *t, double train_s, struct err *e)
{
    struct evaluation v;
    char name[16];
    TRY(loop_evaluate(t, &v, SPLIT_VALID, e));
    conf_get(conf_find(train_opts, "stop_on"), &t->now.train, name, sizeof name);
    double score = score_of(&v.metrics, (enum stop_metric)t->now.train.stop_on);
    bool better = t->at.best_epoch == 0 || score > t->at.best_score;
    log_epoch(t, &v, train_s, better);
    fprintf(stderr, "  valid hr@10 %.4f ndcg@10 %.4f recall@50 %.4f  %s %.4f%s\n",
            v.metrics.hr[1], v.metrics.ndcg[1], v.metrics.hr[3], name, score,
            better ? "  best so far, saved" : "");
    if (!better) return 0;
    t->at.best_score = score;
    t->at.best_epoch = t->at.epoch;
    return trainer_export(t, t->at.epoch, json_pack("{s:o}", "valid", metrics_json(&v.metrics)),
                          e);
}

/* ---- the stage ---- */

static bool stage_over(const struct trainer *t)
{
    const struct train_cfg *c = &t->now.train;
    int64_t done = t->at.epoch - 1;
    if (done >= c->epochs) return true;
    return c->stop_on != STOP_NONE && t->at.best_epoch > 0 &&
           done - t->at.best_epoch >= c->patience;
}

static void next_epoch(struct trainer *t)
{
    t->at.epoch++;
    t->at.batch = t->at.loss_n = 0;
    t->at.loss_sum = 0;
}

static int epoch_run(struct trainer *t, struct err *e)
{
    double start = clock_s();
    TRY(train_epoch(t, e));
    if (t->at.batch < batcher_batches(t->batches)) return state_save(t, e); /* asked to stop */
    double train_s = clock_s() - start;
    if (t->now.train.stop_on == STOP_NONE) {
        log_epoch(t, NULL, train_s, false);
    } else {
        opt_swap_average(t->opt, model_params(t->model));
        int rc = validate(t, train_s, e);
        opt_swap_average(t->opt, model_params(t->model));
        TRY(rc);
    }
    next_epoch(t);
    return state_save(t, e);
}

int loop_run(struct trainer *t, struct err *e)
{
    while (!stage_over(t) && !stop_asked()) TRY(epoch_run(t, e));
    if (stage_over(t) && t->at.epoch - 1 < t->now.train.epochs)
        fprintf(stderr, "no better validation for %d epochs: stopping\n",
                t->now.train.patience);
    return 0;
}
