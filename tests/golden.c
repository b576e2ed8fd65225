#include "tests/golden.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct safet_tensor *find(const struct golden *r, const char *name)
{
    const struct safet_tensor *t = safet_find(r->file, name);
    ck_assert_msg(t, "%s: no tensor %s", r->name, name);
    return t;
}

static const void *data_of(const struct golden *r, const char *name, enum safet_dtype type,
                           int64_t n)
{
    const struct safet_tensor *t = find(r, name);
    ck_assert_msg(t->dtype == type && t->n == n,
                  "%s: %s has type %d and %lld elements, not %d and %lld", r->name, name,
                  t->dtype, (long long)t->n, type, (long long)n);
    return t->data;
}

const float *golden_f32(const struct golden *r, const char *name, int64_t n)
{
    return data_of(r, name, SAFET_F32, n);
}

const double *golden_f64(const struct golden *r, const char *name, int64_t n)
{
    return data_of(r, name, SAFET_F64, n);
}

const int32_t *golden_i32(const struct golden *r, const char *name, int64_t n)
{
    return data_of(r, name, SAFET_I32, n);
}

int64_t golden_length(const struct golden *r, const char *name)
{
    const struct safet_tensor *t = safet_find(r->file, name);
    return t ? t->n : 0;
}

float golden_config(const struct golden *r, const char *name, float otherwise)
{
    const struct safet_tensor *t = safet_find(r->file, name);
    if (!t) return otherwise;
    return t->dtype == SAFET_I32 ? (float)*golden_i32(r, name, 1) : *golden_f32(r, name, 1);
}

static int32_t rows_of(const struct golden *r, const char *name, int32_t otherwise)
{
    const struct safet_tensor *t = safet_find(r->file, name);
    return t ? (int32_t)t->shape[0] : otherwise;
}

/* The interest files hold a head alone: their encoder is the smallest there is, and never called. */
static void read_config(struct golden *r)
{
    conf_defaults(model_opts, &r->cfg);
    const char *table = safet_find(r->file, "pos.weight") ? "pos.weight" : "interest.pos";
    r->cfg.max_len = rows_of(r, table, 0);
    r->cfg.width = (int32_t)find(r, table)->shape[1];
    r->cfg.n_items = rows_of(r, "item.weight", 1);
    r->cfg.interests = rows_of(r, "interest.prototypes", 0);
    r->cfg.layers = (int32_t)golden_config(r, "config.layers", 0);
    r->cfg.heads = (int32_t)golden_config(r, "config.heads", 1);
    r->cfg.causal = (int32_t)golden_config(r, "config.causal", 1);
    r->cfg.activation = (int32_t)golden_config(r, "config.relu", 0);
    const char *from = safet_meta(r->file, "positions");
    r->cfg.positions = from && strcmp(from, "last") == 0 ? POS_LAST : POS_FIRST;
    r->cfg.dropout = r->cfg.attn_dropout = 0;
    r->cfg.active_share = 0;
    struct err e = { 0 };
    ck_assert_msg(model_check(&r->cfg, &e) == 0, "%s: %s", r->name, e.msg);
}

static struct seqpack read_pack(const struct golden *r, const char *cu, const char *pos)
{
    int32_t B = rows_of(r, cu, 1) - 1;
    if (B < 1) return (struct seqpack){ 0 };
    struct seqpack sp = { .B = B, .cu = golden_i32(r, cu, B + 1) };
    sp.N = sp.cu[B];
    sp.pos = golden_i32(r, pos, sp.N);
    int32_t *ours = xmalloc((size_t)sp.N * sizeof *ours);
    seqpack_positions(ours, sp.cu, B, r->cfg.max_len, (enum pos_from)r->cfg.positions);
    ck_assert_msg(memcmp(ours, sp.pos, (size_t)sp.N * sizeof *ours) == 0,
                  "%s: the position convention differs", r->name);
    free(ours);
    return sp;
}

static void read_batch(struct golden *r)
{
    r->in = read_pack(r, "cu", "pos");
    r->fut = read_pack(r, "future.cu", "future.pos");
    if (safet_find(r->file, "ids")) r->ids = golden_i32(r, "ids", r->in.N);
    if (r->fut.B > 0) r->fut_ids = golden_i32(r, "future.ids", r->fut.N);
    r->n_targets = (int32_t)golden_length(r, "target");
    if (r->n_targets) r->target = golden_i32(r, "target", r->n_targets);
    if (!safet_find(r->file, "key_mask")) return;
    const int32_t *mask = golden_i32(r, "key_mask", r->in.N);
    r->key_ = xmalloc((size_t)r->in.N);
    for (int32_t i = 0; i < r->in.N; i++) r->key_[i] = (uint8_t)mask[i];
    r->in.key = r->key_;
}

struct seqpack golden_pack(struct golden *r, const char *prefix, const int32_t **ids)
{
    char cu[64], pos[64], name[64];
    snprintf(cu, sizeof cu, "%s.cu", prefix);
    snprintf(pos, sizeof pos, "%s.pos", prefix);
    struct seqpack sp = read_pack(r, cu, pos);
    snprintf(name, sizeof name, "%s.ids", prefix);
    *ids = golden_i32(r, name, sp.N);
    snprintf(name, sizeof name, "%s.key_mask", prefix);
    if (!safet_find(r->file, name)) return sp;
    uint8_t *key = ARENA_NEW(tape_arena(r->tp), uint8_t, sp.N);
    for (int32_t i = 0; i < sp.N; i++) key[i] = (uint8_t)golden_i32(r, name, sp.N)[i];
    sp.key = key;
    return sp;
}

void golden_load(const struct golden *r, struct params *ps)
{
    for (int32_t i = 0; i < params_count(ps); i++) {
        struct param *p = params_at(ps, i);
        int64_t n = (int64_t)p->t.rows * p->t.cols;
        if (safet_find(r->file, p->name))
            memcpy(p->t.x, golden_f32(r, p->name, n), (size_t)n * sizeof(float));
        else
            for (int64_t j = 0; j < n; j++) p->t.x[j] = 0.5f;
    }
}

struct model *golden_model(const struct golden *r)
{
    struct model *m = model_new(&r->cfg, true);
    golden_load(r, model_params(m));
    return m;
}

/* Largest difference and largest reference of n numbers, either of which may be NaN. */
struct gap {
    double diff, ref;
};

static struct gap gap_of(const float *x, const void *ref, enum safet_dtype type, int64_t n)
{
    struct gap g = { 0, 0 };
    for (int64_t i = 0; i < n; i++) {
        double want =
            type == SAFET_F64 ? ((const double *)ref)[i] : (double)((const float *)ref)[i];
        double d = fabs((double)x[i] - want);
        if (isnan(d) || d > g.diff) g.diff = d;
        g.ref = fmax(g.ref, fabs(want));
    }
    return g;
}

void golden_out(struct golden *r, const char *name, const float *x, int64_t n)
{
    struct gap g = gap_of(x, golden_f64(r, name, n), SAFET_F64, n);
    ck_assert_msg(g.diff <= 1e-5 * g.ref, "%s (%s): %s is off by %g of %g", r->name, r->how_,
                  name, g.diff, g.ref);
    buf_put(&r->bits_, x, (size_t)n * sizeof *x);
}

static bool is_of(const char *name, const char *kind)
{
    size_t n = strlen(kind);
    return strncmp(name, kind, n) == 0 && name[n] == '.';
}

static double largest_gradient(const struct golden *r, const char *kind)
{
    double most = 0;
    for (int32_t i = 0; i < safet_count(r->file); i++) {
        const struct safet_tensor *t = safet_at(r->file, i);
        if (!is_of(t->name, kind)) continue;
        most = fmax(most, gap_of(t->data, t->data, SAFET_F32, t->n).ref);
    }
    return most;
}

/* Whether there was one to compare with. */
static bool check_grad(struct golden *r, const struct param *p, const char *kind, double floor)
{
    char name[LIMIT_TENSOR_NAME + 16];
    int64_t n = (int64_t)p->t.rows * p->t.cols;
    buf_put(&r->bits_, p->t.g, (size_t)n * sizeof(float));
    snprintf(name, sizeof name, "%s.%s", kind, p->name);
    if (!safet_find(r->file, name)) {
        for (int64_t i = 0; i < n; i++)
            ck_assert_msg(p->t.g[i] == 0, "%s (%s): %s takes no part and got a gradient",
                          r->name, r->how_, p->name);
        return false;
    }
    struct gap g = gap_of(p->t.g, golden_f32(r, name, n), SAFET_F32, n);
    if (g.ref < 1e-6 * floor) floor *= 10; /* zero by algebra: a sum of what cancels */
    ck_assert_msg(g.diff <= 1e-4 * fmax(g.ref, floor),
                  "%s (%s): %s is off by %g of %g (largest %g)", r->name, r->how_, name, g.diff,
                  g.ref, floor * 1e3);
    return true;
}

void golden_grads_named(struct golden *r, const struct params *ps, const char *kind)
{
    double floor = 1e-3 * largest_gradient(r, kind);
    int32_t checked = 0, there = 0;
    for (int32_t i = 0; i < params_count(ps); i++)
        checked += check_grad(r, params_at(ps, i), kind, floor);
    for (int32_t i = 0; i < safet_count(r->file); i++)
        there += is_of(safet_at(r->file, i)->name, kind);
    ck_assert_msg(checked == there, "%s: %d gradients in the file, %d were compared", r->name,
                  there, checked);
}

void golden_grads(struct golden *r, const struct params *ps)
{
    golden_grads_named(r, ps, "grad");
}

struct dot {
    struct ten *x;
    const float *R;
};

static void backward_dot(struct tape *tp, const struct ten *y, void *saved)
{
    const struct dot *s = saved;
    grad_open(tp, s->x);
    for (int64_t i = 0; i < (int64_t)s->x->rows * s->x->cols; i++)
        s->x->g[i] += y->g[0] * s->R[i];
}

struct ten *golden_dot(struct tape *tp, struct ten *x, const float *R)
{
    struct dot *s = ARENA_NEW(tape_arena(tp), struct dot, 1);
    *s = (struct dot){ x, R };
    struct ten *y = tape_ten(tp, 1, 1, x->g != NULL);
    double sum = 0;
    for (int64_t i = 0; i < (int64_t)x->rows * x->cols; i++)
        sum += (double)x->x[i] * (double)R[i];
    y->x[0] = (float)sum;
    tape_push(tp, y, backward_dot, s, "golden_dot");
    return y;
}

/* One run; what it compared is left in r->bits_. */
static void run_once(struct golden *r, golden_fn *fn, int threads)
{
    char how[32];
    snprintf(how, sizeof how, "%s, %d threads", num->isa, threads);
    r->how_ = how;
    struct arena *mem = arena_new("golden", 1 << 16, 0);
    struct par *pool = threads ? par_new(threads) : NULL;
    r->tp = tape_new(mem, pool);
    tape_begin(r->tp, GROUPS_ALL, 1, false);
    buf_clear(&r->bits_);
    fn(r);
    tape_free(r->tp);
    par_free(pool);
    arena_free(mem);
}

static void same_bits_for_every_pool(struct golden *r, golden_fn *fn)
{
    struct buf first = { 0 };
    run_once(r, fn, 0);
    ck_assert_uint_gt(r->bits_.len, 0);
    buf_put(&first, r->bits_.data, r->bits_.len);
    for (int threads = 1; threads <= 2; threads++) {
        run_once(r, fn, threads);
        ck_assert_msg(first.len == r->bits_.len &&
                          memcmp(first.data, r->bits_.data, first.len) == 0,
                      "%s (%s): other bits with %d threads than without a pool", r->name,
                      num->isa, threads);
    }
    buf_free(&first);
}

void golden_run(const char *name, golden_fn *fn)
{
    char path[256];
    struct err e = { 0 };
    struct golden r = { .name = name };
    snprintf(path, sizeof path, "tests/vectors/%s.safetensors", name);
    ck_assert_msg(safet_open(&r.file, path, &e) == 0, "%s (tests run in the repository's root)",
                  e.msg);
    read_config(&r);
    read_batch(&r);
    const struct num_ops *have[3], *before = num;
    for (int i = 0, n = num_available(have); i < n; i++) {
        num = have[i];
        same_bits_for_every_pool(&r, fn);
    }
    num = before;
    safet_close(r.file);
    buf_free(&r.bits_);
    free(r.key_);
}
