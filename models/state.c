/* state.c — the saved state of an unfinished run: a safetensors file with every parameter ("param.NAME"), its moments
 * ("m.NAME", "v.NAME"), its average ("average.NAME") and steps ("steps"), and as metadata the progress, the recipe,
 * the data set's fingerprint and the instruction set.  Untrusted when read: everything is checked. */
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/fmt/ckpt.h"
#include "core/fmt/safet.h"
#include "core/num/num.h"
#include "models/trainer.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct state {
    struct safet *file;
    struct progress at;
    json_t *recipe;
    uint64_t fingerprint;
};

/* ---- progress <-> JSON ---- */

static const struct {
    const char *name;
    size_t off;
} whole[] = {
    { "stage", offsetof(struct progress, stage) },
    { "epoch", offsetof(struct progress, epoch) },
    { "batch", offsetof(struct progress, batch) },
    { "step", offsetof(struct progress, step) },
    { "moves", offsetof(struct progress, moves) },
    { "loss_n", offsetof(struct progress, loss_n) },
    { "best_epoch", offsetof(struct progress, best_epoch) },
    { "log_bytes", offsetof(struct progress, log_bytes) },
};
static const struct {
    const char *name;
    size_t off;
} real[] = {
    { "loss_sum", offsetof(struct progress, loss_sum) },
    { "best_score", offsetof(struct progress, best_score) },
    { "seconds", offsetof(struct progress, seconds) },
};
enum { N_WHOLE = sizeof whole / sizeof *whole, N_REAL = sizeof real / sizeof *real };

/* 17 digits bring a double back as it was. */
static char *progress_text(const struct progress *at)
{
    json_t *o = json_pack("{s:b}", "trained", at->trained);
    for (int i = 0; i < N_WHOLE; i++)
        json_object_set_new(o, whole[i].name,
                            json_integer(*(const int64_t *)((const char *)at + whole[i].off)));
    for (int i = 0; i < N_REAL; i++)
        json_object_set_new(
            o, real[i].name,
            json_real(*(const double *)(const void *)((const char *)at + real[i].off)));
    char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(o);
    return text;
}

static int progress_read(struct progress *at, const json_t *o, struct err *e)
{
    *at = (struct progress){ .trained = json_is_true(json_object_get(o, "trained")) };
    for (int i = 0; i < N_WHOLE; i++) {
        const json_t *v = json_object_get(o, whole[i].name);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return err_set(e, ERR_FORMAT, "progress: %s is no count", whole[i].name);
        *(int64_t *)((char *)at + whole[i].off) = (int64_t)json_integer_value(v);
    }
    for (int i = 0; i < N_REAL; i++) {
        const json_t *v = json_object_get(o, real[i].name);
        if (!json_is_number(v) || !isfinite(json_number_value(v)))
            return err_set(e, ERR_FORMAT, "progress: %s is no number", real[i].name);
        *(double *)(void *)((char *)at + real[i].off) = json_number_value(v);
    }
    return at->epoch >= 1 ? 0 : err_set(e, ERR_FORMAT, "progress: epoch 0");
}

/* ---- saving ---- */

int state_check(const struct trainer *t, struct err *e)
{
    if (ckpt_check_params(model_params(t->model), e) == 0) return 0;
    return err_ctx(e,
                   "the weights are lost at step %" PRId64
                   ": lower train.lr (%g); checkpoints so far are kept",
                   t->at.step, (double)t->now->train.lr);
}

static void add(struct safet_tensor *t, int32_t *n, char **name, const char *kind,
                const struct param *p, const float *x)
{
    if (!x) return;
    name[*n] = xasprintf("%s.%s", kind, p->name);
    t[*n] = (struct safet_tensor){ .name = name[*n],
                                   .dtype = SAFET_F32,
                                   .rank = 2,
                                   .shape = { p->t.rows, p->t.cols },
                                   .data = x,
                                   .n = (int64_t)p->t.rows * p->t.cols };
    (*n)++;
}

static int save(const char *path, struct trainer *t, const char *const *meta, struct err *e)
{
    const struct params *ps = model_params(t->model);
    int32_t count = params_count(ps), n = 0;
    struct safet_tensor *tensor = xcalloc((size_t)count * 4 + 1, sizeof *tensor);
    char **name = xcalloc((size_t)count * 4 + 1, sizeof *name);
    int64_t *steps = xcalloc((size_t)count, sizeof *steps);
    for (int32_t i = 0; i < count; i++) {
        const struct param *p = params_at(ps, i);
        struct opt_state o = opt_state(t->opt, i);
        add(tensor, &n, name, "param", p, p->t.x);
        add(tensor, &n, name, "m", p, o.m);
        add(tensor, &n, name, "v", p, o.v);
        add(tensor, &n, name, "average", p, o.average);
        steps[i] = *o.steps;
    }
    tensor[n] = (struct safet_tensor){ .name = "steps",
                                       .dtype = SAFET_I64,
                                       .rank = 1,
                                       .shape = { count },
                                       .data = steps,
                                       .n = count };
    int rc = safet_write(path, tensor, n + 1, meta, e);
    for (int32_t i = 0; i < n; i++) free(name[i]);
    free(name);
    free(steps);
    free(tensor);
    return rc;
}

int state_save(struct trainer *t, struct err *e)
{
    double start = clock_s();
    TRY(state_check(t, e));
    struct progress at = t->at;
    fflush(t->log);
    if (fsync(fileno(t->log)) < 0) return err_sys(e, ERR_IO, "writing the log");
    at.log_bytes = ftell(t->log);
    at.seconds += start - t->start_s;
    char *path = trainer_path(t, STATE_SUFFIX), *progress = progress_text(&at);
    json_t *recipe = recipe_json(&t->r);
    char *recipe_text = json_dumps(recipe, JSON_COMPACT), sum[17];
    snprintf(sum, sizeof sum, "%016" PRIx64, t->fingerprint);
    const char *const meta[] = { "format",
                                 "intent state",
                                 "progress",
                                 progress,
                                 "recipe",
                                 recipe_text,
                                 "data",
                                 sum,
                                 "kernels",
                                 t->kernels,
                                 t->init ? "init" : NULL,
                                 t->init,
                                 NULL };
    int rc = save(path, t, meta, e);
    json_decref(recipe);
    free(recipe_text);
    free(progress);
    free(path);
    t->saved_s = clock_s();
    t->save_took_s = t->saved_s - start;
    return rc < 0 ? err_ctx(e, "saving the state") : 0;
}

int state_remove(const struct trainer *t, bool half_written, struct err *e)
{
    char name[64];
    size_t n = (size_t)snprintf(name, sizeof name, "%" PRId64 STATE_SUFFIX, t->version);
    DIR *d = opendir(t->a->out);
    if (!d) return err_sys(e, ERR_IO, "%s", t->a->out);
    int rc = 0;
    for (struct dirent *x; rc == 0 && (x = readdir(d));) {
        bool half = strncmp(x->d_name, name, n) == 0 && strncmp(x->d_name + n, ".tmp.", 5) == 0;
        if (!half && (half_written || strcmp(x->d_name, name) != 0)) continue;
        char *path = xasprintf("%s/%s", t->a->out, x->d_name);
        if (unlink(path) < 0 && errno != ENOENT) rc = err_sys(e, ERR_IO, "removing %s", path);
        free(path);
    }
    closedir(d);
    return rc;
}

int state_save_at_times(struct trainer *t, struct err *e)
{
    enum { SHARE = 20 }; /* saving takes at most so small a part of the time */
    double wait = fmax(t->a->save_s, SHARE * t->save_took_s);
    return clock_s() - t->saved_s < wait ? 0 : state_save(t, e);
}

/* ---- reading ---- */

static int read_meta(struct state *s, struct err *e)
{
    const char *format = safet_meta(s->file, "format"), *sum = safet_meta(s->file, "data");
    const char *progress = safet_meta(s->file, "progress"),
               *recipe = safet_meta(s->file, "recipe");
    if (!format || strcmp(format, "intent state") != 0 || !sum || !progress || !recipe ||
        !state_isa(s))
        return err_set(e, ERR_FORMAT, "not a state that `intent train` saved");
    char *end;
    s->fingerprint = strtoull(sum, &end, 16);
    if (*sum == '\0' || *end) return err_set(e, ERR_FORMAT, "fingerprint '%s'", sum);
    json_error_t why;
    json_t *o = json_loads(progress, JSON_REJECT_DUPLICATES, &why);
    if (!o) return err_set(e, ERR_FORMAT, "progress: %s", why.text);
    int rc = progress_read(&s->at, o, e);
    json_decref(o);
    TRY(rc);
    s->recipe = json_loads(recipe, JSON_REJECT_DUPLICATES, &why);
    return json_is_object(s->recipe) ? 0 : err_set(e, ERR_FORMAT, "recipe: %s", why.text);
}

int state_open(struct state **out, const char *path, struct err *e)
{
    struct state *s = xcalloc(1, sizeof *s);
    int rc = safet_open(&s->file, path, e);
    if (rc == 0 && (rc = read_meta(s, e)) < 0) err_ctx(e, "%s", path);
    if (rc < 0) {
        state_close(s);
        s = NULL;
    }
    *out = s;
    return rc;
}

void state_close(struct state *s)
{
    if (!s) return;
    if (s->file) safet_close(s->file);
    json_decref(s->recipe);
    free(s);
}

const struct progress *state_progress(const struct state *s) { return &s->at; }
const json_t *state_recipe(const struct state *s) { return s->recipe; }
uint64_t state_fingerprint(const struct state *s) { return s->fingerprint; }
const char *state_isa(const struct state *s) { return safet_meta(s->file, "kernels"); }

const char *state_init(const struct state *s) { return safet_meta(s->file, "init"); }

static int take(const struct state *s, const char *kind, const struct param *p, float *x,
                float least, struct err *e)
{
    char name[LIMIT_TENSOR_NAME];
    if (!x) return 0;
    snprintf(name, sizeof name, "%s.%s", kind, p->name);
    const struct safet_tensor *t = safet_find(s->file, name);
    if (!t) return err_set(e, ERR_FORMAT, "tensor %s is missing", name);
    if (t->dtype != SAFET_F32 || t->rank != 2 || t->shape[0] != p->t.rows ||
        t->shape[1] != p->t.cols)
        return err_set(e, ERR_FORMAT, "tensor %s is not F32 [%d,%d]", name, p->t.rows,
                       p->t.cols);
    for (int64_t i = 0; i < t->n; i++)
        if (!isfinite(((const float *)t->data)[i]) || ((const float *)t->data)[i] < least)
            return err_set(e, ERR_FORMAT, "tensor %s: value %" PRId64 " is %g", name, i,
                           (double)((const float *)t->data)[i]);
    memcpy(x, t->data, (size_t)t->n * sizeof *x);
    return 0;
}

int state_restore(const struct state *s, struct trainer *t, struct err *e)
{
    const struct params *ps = model_params(t->model);
    const struct safet_tensor *steps = safet_find(s->file, "steps");
    if (!steps || steps->dtype != SAFET_I64 || steps->n != params_count(ps))
        return err_set(e, ERR_FORMAT, "tensor steps is not I64 [%d]", params_count(ps));
    for (int32_t i = 0; i < params_count(ps); i++) {
        const struct param *p = params_at(ps, i);
        struct opt_state o = opt_state(t->opt, i);
        TRY(take(s, "param", p, p->t.x, -INFINITY, e));
        TRY(take(s, "m", p, o.m, -INFINITY, e));
        TRY(take(s, "v", p, o.v, 0, e));
        TRY(take(s, "average", p, o.average, -INFINITY, e));
        *o.steps = ((const int64_t *)steps->data)[i];
        if (*o.steps < 0)
            return err_set(e, ERR_FORMAT, "steps of %s: %" PRId64, p->name, *o.steps);
    }
    t->at = s->at;
    return 0;
}
