/* loop.c — the epochs of one stage: steps, learning rate, validation, the best checkpoint. */
#include "core/base/clock.h"
#include "core/base/prog.h"
#include "models/stop.h"
#include "models/trainer.h"
#include <math.h>
#include <stdlib.h>

/* ---- a step ---- */

/* The batch that is being trained, and whose turn it is. */
struct move {
    struct step step;
    uint64_t key, draws; /* of the dropout; of what objectives draw */
    struct turn turn;
    const struct obj_ops *in_turns; /* whose turns they are; NULL: all learn together */
};

/* Every objective draws from numbers of its own, wherever its section stands. */
static uint64_t draw_key(uint64_t key, const struct obj_ops *ops)
{
    uint64_t i = 0;
    while (obj_list[i] != ops) i++;
    return rng_hash(key, i);
}

static struct ten *objective_loss(const struct obj_use *u, struct move *m)
{
    struct step *s = &m->step;
    s->key = draw_key(m->draws, u->ops);
    s->n_terms = 0;
    const void *drawn = u->ops->draw ? u->ops->draw(u->cfg, u->own, s) : NULL;
    return u->ops->loss(u->cfg, u->own, drawn, s);
}

/* The message names the first of the loss's terms that is no number. */
static int check_finite(const struct trainer *t, const char *name, const struct step *s,
                        double loss, struct err *e)
{
    int i = 0;
    if (isfinite(loss)) return 0;
    while (i < s->n_terms && isfinite(s->term[i].x->x[0])) i++;
    const bool found = i < s->n_terms;
    return err_set(e, ERR_CONFIG,
                   "the loss %s%s%s is %g at step %lld: lower train.lr (%g) or check the data; "
                   "checkpoints so far are kept",
                   name, found ? ", term " : "", found ? s->term[i].name : "",
                   found ? (double)s->term[i].x->x[0] : loss, (long long)t->at.step,
                   (double)t->now->train.lr);
}

/* The weighted sum of the objectives, or the one whose turn it is. */
static int sum_losses(struct ten **total, struct trainer *t, struct move *m, struct err *e)
{
    *total = NULL;
    for (int i = 0; i < t->now->n_obj; i++) {
        const struct obj_use *u = &t->now->obj[i];
        if (u->weight == 0 || (m->turn.alone && u->ops != m->in_turns)) continue;
        struct ten *l = objective_loss(u, m);
        TRY(check_finite(t, u->ops->name, &m->step, (double)l->x[0], e));
        if (u->weight != 1 && !m->turn.alone) l = ad_scale(t->tp, l, u->weight);
        *total = *total ? ad_add(t->tp, *total, l) : l;
    }
    REQUIRE(*total, "every objective has weight 0");
    return 0;
}

/* Gradients of one batch, which counts `share` in the step. */
static int backward(struct trainer *t, struct move *m, float share, double *loss, struct err *e)
{
    const struct batch *b = m->step.batch;
    struct ten *l;
    tape_begin(t->tp, m->turn.groups, m->key, true);
    if (b->rows) tape_bind(t->tp, model_items(t->model), b->rows, b->n_rows);
    model_begin(t->model, t->tp);
    TRY(sum_losses(&l, t, m, e));
    *loss = (double)l->x[0];
    if (share != 1) l = ad_scale(t->tp, l, share);
    tape_backward(t->tp, l);
    return 0;
}

/* The turns of the objective that has any; else one. */
static int list_turns(struct turn *out, const struct obj_ops **whose, const struct recipe *r)
{
    *whose = NULL;
    out[0] = (struct turn){ GROUPS_ALL, false };
    for (int i = 0; i < r->n_obj; i++) {
        if (r->obj[i].weight == 0 || !r->obj[i].ops->turns) continue;
        *whose = r->obj[i].ops;
        return r->obj[i].ops->turns(r->obj[i].cfg, out);
    }
    return 1;
}

static int64_t steps_of_epoch(const struct trainer *t)
{
    int64_t a = t->now->train.accumulate;
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
    const struct train_cfg *c = &t->now->train;
    return (double)c->lr * schedule(c, t->at.moves - 1, t->at.epoch, steps_of_epoch(t));
}

/* One batch, in its turns.  After each but the last the parameters that learn in it move; *groups are the last one's. */
static int train_batch(struct trainer *t, float share, uint32_t *groups, struct err *e)
{
    const uint64_t seed = (uint64_t)t->now->train.seed, step = (uint64_t)t->at.step;
    struct turn turn[MAX_TURNS];
    struct move m = {
        .step = { .tp = t->tp, .model = t->model, .layout = (enum layout)t->now->train.layout },
        .draws = rng_hash(rng_make(seed, RNG_AUGMENT).key, step)
    };
    const int n = list_turns(turn, &m.in_turns, t->now);
    prof_mark(t->prof);
    m.step.batch = batcher_next(t->batches);
    prof_lap(t->prof, "batch", NULL, PROF_FORWARD);
    for (int i = 0; i < n; i++) {
        double loss;
        m.turn = turn[i];
        m.step.turn = i;
        m.step.in_ = (struct encoded){ 0 };
        m.key = rng_hash(rng_make(seed, RNG_DROPOUT).key, step);
        if (i > 0) m.key = rng_hash(m.key, (uint64_t)i);
        TRY(backward(t, &m, share, &loss, e));
        if (i == 0) t->at.loss_sum += loss;
        if (i + 1 < n) opt_step(t->opt, model_params(t->model), m.turn.groups, t->a->pool);
        *groups = m.turn.groups;
    }
    t->at.loss_n++;
    t->at.step++;
    return 0;
}

/* Up to `accumulate` batches, then the optimiser moves.  0: the epoch has no batch left. */
static int train_step(struct trainer *t, struct err *e)
{
    const struct train_cfg *c = &t->now->train;
    int64_t left = batcher_batches(t->batches) - t->at.batch;
    int64_t n = left < c->accumulate ? left : c->accumulate;
    uint32_t groups = 0;
    if (n <= 0) return 0;
    t->at.moves++;
    opt_set_lr(t->opt, (float)learning_rate(t));
    for (int64_t i = 0; i < n; i++) TRY(train_batch(t, 1.0f / (float)n, &groups, e));
    opt_step(t->opt, model_params(t->model), groups, t->a->pool);
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
    for (int i = 0; i < t->now->n_obj; i++) {
        const struct obj_use *u = &t->now->obj[i];
        if (u->weight > 0 && u->ops->epoch)
            u->ops->epoch(u->own, t->model, t->at.batch == 0, t->a->pool);
    }
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
                               .seen = (enum seen)t->now->train.valid_seen,
                               .users = split == SPLIT_VALID ? t->now->train.valid_users : 0 };
    model_bake(t->model, t->a->pool);
    int rc = evaluate(v, t->model, &t->ds, &o, t->a->pool, e);
    model_bake(t->model, t->a->pool);
    return rc;
}

/* Validates, logs, exports the weights when they are the best of the stage so far. */
static int validate(struct trainer *t, double train_s, struct err *e)
{
    struct evaluation v;
    char name[16];
    TRY(loop_evaluate(t, &v, SPLIT_VALID, e));
    conf_get(conf_find(train_opts, "stop_on"), &t->now->train, name, sizeof name);
    double score = score_of(&v.metrics, (enum stop_metric)t->now->train.stop_on);
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
    const struct train_cfg *c = &t->now->train;
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
    TRY(state_check(t, e));
    if (t->now->train.stop_on == STOP_NONE) {
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
    if (stage_over(t) && t->at.epoch - 1 < t->now->train.epochs)
        fprintf(stderr, "no better validation for %d epochs: stopping\n",
                t->now->train.patience);
    return 0;
}
