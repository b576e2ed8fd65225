/* Self-supervised objectives against float64 references (tests/vectors/README.md): what they would draw is in the
 * files. */
#include "core/ad/opt.h"
#include "core/base/mem.h"
#include "models/contrast.h"
#include "models/item_ssl.h"
#include "models/s3rec.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include "tests/golden.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An objective of a file's configuration with its model. */
struct trial {
    struct golden *r;
    const struct obj_ops *ops;
    void *cfg, *own;
    struct model *m;
    struct batch batch;
    struct step step;
};

static void set(struct trial *t, const char *key, const char *value)
{
    struct err e = { 0 };
    ck_assert_msg(conf_set(t->ops->opts, t->cfg, key, value, &e) == 0, "%s", e.msg);
}

static void set_number(struct trial *t, const char *key, float x)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)x);
    set(t, key, text);
}

static struct trial trial_new(struct golden *r, const struct obj_ops *ops)
{
    struct trial t = { .r = r, .ops = ops, .cfg = xcalloc(1, ops->cfg_size) };
    conf_defaults(ops->opts, t.cfg);
    t.m = model_new(&r->cfg, true);
    t.batch = (struct batch){ .seq = r->in,
                              .ids = (int32_t *)(uintptr_t)r->ids,
                              .target = (int32_t *)(uintptr_t)r->target };
    return t;
}

/* After the configuration is set. */
static void trial_open(struct trial *t, const struct dataset *d)
{
    struct obj_context x = { &t->r->cfg, LAYOUT_B, false, d, 4 };
    struct err e = { 0 };
    if (t->ops->check) ck_assert_msg(t->ops->check(t->cfg, &x, &e) == 0, "%s", e.msg);
    if (t->ops->open) t->own = t->ops->open(t->cfg, t->m, d);
    golden_load(t->r, model_params(t->m));
}

static void trial_begin(struct trial *t)
{
    t->step =
        (struct step){ .tp = t->r->tp, .model = t->m, .batch = &t->batch, .layout = LAYOUT_B };
}

static void trial_free(struct trial *t)
{
    if (t->own && t->ops->close) t->ops->close(t->own);
    free(t->cfg);
    model_free(t->m);
}

static struct ten *next_item(struct trial *t)
{
    void *cfg = xcalloc(1, obj_next_item.cfg_size);
    conf_defaults(obj_next_item.opts, cfg);
    struct ten *l = obj_next_item.loss(cfg, NULL, NULL, &t->step);
    free(cfg);
    return l;
}

/* In the tape's arena: what is recorded keeps pointing to them. */
static struct view *views_of(struct golden *r, const char *kind)
{
    struct view *v = ARENA_NEW(tape_arena(r->tp), struct view, 2);
    for (int i = 0; i < 2; i++) {
        char prefix[32];
        const int32_t *ids;
        snprintf(prefix, sizeof prefix, "%s%d", kind, i + 1);
        v[i].seq = golden_pack(r, prefix, &ids);
        v[i].ids = (int32_t *)(uintptr_t)ids;
    }
    return v;
}

/* ---- two views ---- */

static void contrast(struct golden *r, const struct obj_ops *ops, const char *kind)
{
    struct trial t = trial_new(r, ops);
    const struct view *v = views_of(r, kind);
    set(&t, "similarity", golden_config(r, "config.cosine", 0) > 0 ? "cosine" : "dot");
    set_number(&t, "temperature", golden_config(r, "config.temperature", 0));
    if (ops == &obj_cl4srec)
        set(&t, "mask_token", golden_config(r, "config.pad", 0) > 0 ? "padding" : "learned");
    trial_open(&t, NULL);
    trial_begin(&t);
    struct ten *next = next_item(&t);
    struct ten *l = ops->loss(t.cfg, t.own, v, &t.step);
    golden_out(r, "out.next_item", next->x, 1);
    golden_out(r, "out.contrast", l->x, 1);
    l = ad_add(r->tp, next, ad_scale(r->tp, l, golden_config(r, "config.cl_weight", 0)));
    golden_out(r, "out.loss", l->x, 1);
    tape_backward(r->tp, l);
    golden_grads(r, model_params(t.m));
    trial_free(&t);
}

static void cl4srec(struct golden *r) { contrast(r, &obj_cl4srec, "view"); }
static void siamese(struct golden *r) { contrast(r, &obj_siamese, "half"); }

/* ---- MCLRec ---- */

static struct trial mclrec_trial(struct golden *r, const char *updates)
{
    struct trial t = trial_new(r, &obj_mclrec);
    set_number(&t, "lambda", golden_config(r, "config.lambda", 0));
    set_number(&t, "beta", golden_config(r, "config.beta", 0));
    set(&t, "updates", updates);
    trial_open(&t, NULL);
    return t;
}

/* L_0, or in the augmenters' turn L_1. */
static struct ten *turn_loss(struct trial *t, int turn)
{
    const struct view *v = views_of(t->r, "view");
    trial_begin(t);
    t->step.turn = turn;
    struct ten *l = turn == 1 ? NULL : next_item(t);
    struct ten *own = t->ops->loss(t->cfg, t->own, v, &t->step);
    return l ? ad_add(t->r->tp, l, own) : own;
}

/* Each term by itself. */
static void mclrec_terms(struct trial *t)
{
    static const struct {
        const char *name, *lambda, *beta, *gamma;
    } terms[] = { { "out.cl1", "1", "0", "0" }, { "out.cl2", "0", "1", "0" } };
    struct golden *r = t->r;
    tape_begin(r->tp, GROUPS_ALL, 1, false);
    const struct view *v = views_of(r, "view");
    trial_begin(t);
    golden_out(r, "out.next_item", next_item(t)->x, 1);
    for (int i = 0; i < 2; i++) {
        set(t, "lambda", terms[i].lambda);
        set(t, "beta", terms[i].beta);
        set(t, "gamma", terms[i].gamma);
        golden_out(r, terms[i].name, t->ops->loss(t->cfg, t->own, v, &t->step)->x, 1);
    }
    struct ten *without = t->ops->loss(t->cfg, t->own, v, &t->step);
    set(t, "gamma", "1");
    struct ten *with = t->ops->loss(t->cfg, t->own, v, &t->step);
    const float reg = with->x[0] - without->x[0];
    golden_out(r, "out.reg", &reg, 1);
}

static void mclrec(struct golden *r)
{
    bool joint = golden_config(r, "config.joint", 0) > 0;
    struct trial t = mclrec_trial(r, joint ? "joint" : "three");
    struct turn turn[MAX_TURNS];
    ck_assert_int_eq(t.ops->turns(t.cfg, turn), joint ? 1 : 3);
    for (int i = 0; i < (joint ? 1 : 2); i++) {
        params_zero_grad(model_params(t.m));
        tape_begin(r->tp, turn[i].groups, 1, false);
        struct ten *l = turn_loss(&t, i);
        golden_out(r, i ? "out.l1" : "out.l0", l->x, 1);
        tape_backward(r->tp, l);
        golden_grads_named(r, model_params(t.m), i ? "grad1" : "grad");
    }
    mclrec_terms(&t);
    trial_free(&t);
}

/* Moments to 1e-4 of the largest; a weight as well, but where its gradient is next to nothing, which Adam
 * makes large steps of: there to two of them. */
static void check_moved(struct golden *r, const struct param *p, int step,
                        const struct opt_state *o)
{
    const float *const ours[] = { o->m, o->v, p->t.x };
    static const char *const kind[] = { "m", "v", "param" };
    char name[128];
    snprintf(name, sizeof name, "step%d.m.%s", step, p->name);
    if (!safet_find(r->file, name)) return;
    const float *m = golden_f32(r, name, o->n);
    for (int k = 0; k < 3; k++) {
        snprintf(name, sizeof name, "step%d.%s.%s", step, kind[k], p->name);
        const float *want = golden_f32(r, name, o->n);
        double largest = 0, most_m = 0;
        for (int64_t i = 0; i < o->n; i++) {
            largest = fmax(largest, fabs((double)want[i]));
            most_m = fmax(most_m, fabs((double)m[i]));
        }
        for (int64_t i = 0; i < o->n; i++) {
            bool weak = fabs((double)m[i]) < 1e-3 * fmax(most_m, 1e-2);
            double tol = k == 2 && weak ? 2.1e-3 : 1e-4 * fmax(largest, k == 2 ? 0 : 1e-5);
            ck_assert_msg(fabs((double)ours[k][i] - (double)want[i]) <= tol,
                          "%s: %s [%lld] is %g, not %g", r->name, name, (long long)i,
                          (double)ours[k][i], (double)want[i]);
        }
        buf_put(&r->bits_, ours[k], (size_t)o->n * sizeof(float));
    }
}

static void mclrec_steps(struct golden *r)
{
    struct trial t = mclrec_trial(r, "three");
    struct params *ps = model_params(t.m);
    struct opt_adam *opt = opt_new(
        ps, (struct opt_cfg){ .lr = 1e-3f, .beta1 = .9f, .beta2 = .999f, .eps = 1e-8f });
    struct turn turn[MAX_TURNS];
    int n = t.ops->turns(t.cfg, turn), moved = 0;
    ck_assert_int_eq(n, 3);
    for (int i = 0; i < n; i++) {
        char name[32];
        tape_begin(r->tp, turn[i].groups, 1, false);
        struct ten *l = turn_loss(&t, i);
        snprintf(name, sizeof name, "out.step%d", i + 1);
        golden_out(r, name, l->x, 1);
        tape_backward(r->tp, l);
        opt_step(opt, ps, turn[i].groups, tape_pool(r->tp));
        for (int32_t k = 0; k < params_count(ps); k++) {
            struct opt_state o = opt_state(opt, k);
            check_moved(r, params_at(ps, k), i + 1, &o);
            moved += (params_at(ps, k)->group & turn[i].groups) != 0;
        }
    }
    ck_assert_int_gt(moved, 0);
    opt_free(opt);
    trial_free(&t);
}

/* ---- S3-Rec ---- */

static struct dataset items; /* with the attributes of the file */

/* Item rows in the order of their numbers; the first line names all attributes, in their order. */
static void write_items(const struct golden *r, const char *dir)
{
    int32_t V = r->cfg.n_items;
    const int32_t *cu = golden_i32(r, "attributes.cu", V + 1);
    const int32_t *id = golden_i32(r, "attributes.ids", cu[V]);
    struct buf users = { 0 }, text = { 0 };
    buf_puts(&users, "u");
    for (int32_t v = 0; v <= V; v++) buf_printf(&users, " %d", v);
    buf_printf(&text, "{\"%d\": [0, 1, 2, 3, 4, 5, 6]", V);
    for (int32_t v = 0; v < V; v++) {
        buf_printf(&text, ", \"%d\": [", v);
        for (int32_t i = cu[v]; i < cu[v + 1]; i++)
            buf_printf(&text, "%s%d", i > cu[v] ? ", " : "", id[i]);
        buf_puts(&text, "]");
    }
    buf_puts(&users, "\n");
    buf_puts(&text, "}");
    data_with_items(&items, dir, users.data, text.data);
    buf_free(&users);
    buf_free(&text);
}

static const int32_t *tokens(const struct golden *r, const char *name)
{
    return golden_i32(r, name, r->in.N);
}

static void s3rec(struct golden *r)
{
    static const char *const part[] = { "aap", "mip", "map", "sp" };
    if (!items.cu) {
        char *dir = fixture_tmpdir();
        write_items(r, dir);
        fixture_rmdir(dir); /* what is mapped stays */
        free(dir);
    }
    struct trial t = trial_new(r, &obj_s3rec);
    struct s3rec_drawn d = { r->in,
                             r->ids,
                             tokens(r, "masked.ids"),
                             tokens(r, "negative"),
                             tokens(r, "segment.ids"),
                             tokens(r, "positive.ids"),
                             tokens(r, "other.ids") };
    set(&t, "form", golden_config(r, "config.paper", 0) > 0 ? "paper" : "code");
    trial_open(&t, &items);
    for (int only = 0; only <= 4; only++) { /* each by itself, then all */
        char name[32];
        for (int k = 0; k < 4; k++) {
            snprintf(name, sizeof name, "config.%s_weight", part[k]);
            set_number(&t, part[k], only == 4 ? golden_config(r, name, 0) : (float)(only == k));
        }
        tape_begin(r->tp, GROUPS_ALL, 1, false);
        trial_begin(&t);
        struct ten *l = t.ops->loss(t.cfg, t.own, &d, &t.step);
        snprintf(name, sizeof name, "out.%s", only == 4 ? "loss" : part[only]);
        golden_out(r, name, l->x, 1);
        if (only == 4) tape_backward(r->tp, l);
    }
    golden_grads(r, model_params(t.m));
    trial_free(&t);
}

/* ---- the item tower ---- */

enum { FIELDS = 3 };

static struct item_fields read_fields(const struct golden *r, struct item_field field[FIELDS])
{
    static const char *const names[FIELDS] = { "f0", "f1", "f2" };
    for (int j = 0; j < FIELDS; j++) {
        char name[32];
        snprintf(name, sizeof name, "tower.%s.weight", names[j]);
        int32_t n_values = (int32_t)safet_find(r->file, name)->shape[0];
        snprintf(name, sizeof name, "%s.cu", names[j]);
        const int32_t *cu = golden_i32(r, name, r->cfg.n_items + 1);
        snprintf(name, sizeof name, "%s.values", names[j]);
        field[j] = (struct item_field){ names[j], n_values, cu,
                                        golden_i32(r, name, cu[r->cfg.n_items]) };
    }
    return (struct item_fields){ r->cfg.n_items, FIELDS, field };
}

/* Masked features are empty bags, a masked id is none. */
static struct item_view read_view(struct golden *r, const struct item_field *field, int side)
{
    const int32_t n = (int32_t)golden_length(r, "items");
    const int32_t *item = golden_i32(r, "items", n);
    char name[32];
    snprintf(name, sizeof name, "view%d.mask", side);
    const int32_t *mask = golden_i32(r, name, (int64_t)n * (FIELDS + 1));
    struct arena *mem = tape_arena(r->tp);
    struct item_field *bag = ARENA_NEW(mem, struct item_field, FIELDS);
    int32_t *ids = ARENA_NEW(mem, int32_t, n);
    for (int32_t i = 0; i < n; i++) ids[i] = mask[i * (FIELDS + 1)] ? EMBED_MASK : item[i];
    for (int j = 0; j < FIELDS; j++) {
        snprintf(name, sizeof name, "view%d.f%d.cu", side, j);
        const int32_t *from = golden_i32(r, name, n + 1);
        snprintf(name, sizeof name, "view%d.f%d.values", side, j);
        const int32_t *values = golden_i32(r, name, from[n]);
        int32_t *cu = ARENA_NEW(mem, int32_t, n + 1),
                *id = ARENA_NEW(mem, int32_t, from[n] + 1);
        cu[0] = 0;
        for (int32_t i = 0; i < n; i++) {
            int32_t size = mask[i * (FIELDS + 1) + 1 + j] ? 0 : from[i + 1] - from[i];
            memcpy(id + cu[i], values + from[i], (size_t)size * sizeof *id);
            cu[i + 1] = cu[i] + size;
        }
        bag[j] = (struct item_field){ field[j].name, field[j].n_values, cu, id };
    }
    return (struct item_view){ n, ids, bag };
}

static void tower(struct golden *r)
{
    const bool ssl = golden_length(r, "items") > 0;
    struct item_field field[FIELDS];
    struct item_fields fields = read_fields(r, field);
    r->cfg.item_tower = true;
    r->cfg.field_width = (int32_t)safet_find(r->file, "tower.f0.weight")->shape[1];
    r->cfg.tower_width = (int32_t)safet_find(r->file, "tower.mlp.1.weight")->shape[0];
    struct trial t = trial_new(r, &obj_item_ssl);
    model_add_tower(t.m, &fields);
    if (ssl) set_number(&t, "temperature", golden_config(r, "config.temperature", 0));
    trial_open(&t, NULL);
    tape_begin(r->tp, GROUPS_ALL, 1, false);
    model_begin(t.m, r->tp);
    trial_begin(&t);
    struct ten *l = next_item(&t);
    golden_out(r, "out.next_item", l->x, 1);
    if (ssl) {
        struct item_view v[] = { read_view(r, field, 1), read_view(r, field, 2) };
        struct ten *self = t.ops->loss(t.cfg, t.own, v, &t.step);
        golden_out(r, "out.self", self->x, 1);
        l = ad_add(r->tp, l, ad_scale(r->tp, self, golden_config(r, "config.ssl_weight", 0)));
    }
    golden_out(r, "out.loss", l->x, 1);
    tape_backward(r->tp, l);
    golden_grads(r, model_params(t.m));
    trial_free(&t);
}

/* ---- */

static const struct {
    const char *file;
    golden_fn *fn;
} cases[] = {
    { "cl4srec", cl4srec },
    { "cl4srec_pad", cl4srec },
    { "cl4srec_interests", cl4srec },
    { "siamese", siamese },
    { "siamese_interests", siamese },
    { "mclrec", mclrec },
    { "mclrec_joint", mclrec },
    { "mclrec_interests", mclrec },
    { "mclrec_steps", mclrec_steps },
    { "s3rec", s3rec },
    { "s3rec_paper", s3rec },
    { "tower", tower },
    { "item_ssl", tower },
};

START_TEST(losses_and_gradients_agree_with_the_reference)
{
    golden_run(cases[_i].file, cases[_i].fn);
    if (items.cu) dataset_close(&items);
    items = (struct dataset){ 0 };
}
END_TEST

Suite *suite_golden_selfsup(void);
Suite *suite_golden_selfsup(void)
{
    Suite *s = suite_create("golden_selfsup");
    TCase *t = tcase_create("objectives");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, losses_and_gradients_agree_with_the_reference, 0,
                        sizeof cases / sizeof *cases);
    suite_add_tcase(s, t);
    return s;
}
