/* Every objective of models/list.def, with every model and layout it accepts: gradients against differences. */
#include "core/ad/gradcheck.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/fields.h"
#include "models/obj.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include "tests/models/fixture_train.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static struct dataset ds;
static struct fields *fields;

static void set_up(void)
{
    num_init();
    dir = fixture_tmpdir();
    data_random(&ds, dir, 12, 11, 8, 5);
    struct err e = { 0 };
    ck_assert_msg(fields_new(&fields, ds.items, &e) == 0, "%s", e.msg);
}

static void tear_down(void)
{
    num_init();
    fields_free(fields);
    dataset_close(&ds);
    fixture_rmdir(dir);
    free(dir);
}

/* Small, and with weights large enough that differences stand out of the rounding. */
static struct model_cfg small_model(const struct obj_ops *ops, int32_t interests)
{
    struct model_cfg c;
    conf_defaults(model_opts, &c);
    c.width = 8;
    c.layers = 1;
    c.max_len = 5;
    c.interests = interests;
    c.ffn_mult = 2;
    c.dropout = c.attn_dropout = 0.2f;
    c.init_std = 0.4f;
    c.n_items = ds.n_items;
    c.item_tower = ops == &obj_item_ssl;
    c.field_width = 3;
    c.tower_width = 10;
    return c;
}

struct built {
    const struct obj_ops *ops;
    int variant;
    void *cfg, *own;
    struct model *model;
    const struct batch *batch;
    enum layout layout;
};

static struct ten *build(struct tape *tp, struct params *ps, void *ctx)
{
    (void)ps;
    const struct built *b = ctx;
    struct step s = {
        .tp = tp, .model = b->model, .batch = b->batch, .layout = b->layout, .key = 5
    };
    model_begin(b->model, tp);
    const void *drawn = b->ops->draw ? b->ops->draw(b->cfg, b->own, &s) : NULL;
    return b->ops->loss(b->cfg, b->own, drawn, &s);
}

static struct batcher *first_batch(struct built *b, const struct model_cfg *c)
{
    struct batch_cfg cfg = { .batch_size = 6,
                             .max_len = c->max_len,
                             .layout = b->layout,
                             .positions = c->positions,
                             .seed = b->layout == LAYOUT_C ? 6 : 3 };
    if (b->ops->needs) b->ops->needs(b->cfg, &cfg);
    struct batcher *batches = batcher_new(&ds, &cfg);
    batcher_epoch(batches, 1, 0);
    b->batch = batcher_next(batches);
    ck_assert_ptr_nonnull(b->batch);
    ck_assert_int_ge(b->batch->seq.B, 4);
    return batches;
}

/* A confidence threshold is a jump in the loss, which no difference can follow: with all pairs kept there
 * is none.  The golden vectors check the threshold.  Few negatives, or the differences drown in their number.  Low
 * similarities, or they are too steep. */
static void *smooth_cfg(const struct obj_ops *ops, int variant)
{
    void *cfg = xcalloc(1, ops->cfg_size ? ops->cfg_size : 1);
    struct err e = { 0 };
    conf_defaults(ops->opts, cfg);
    const char *loss = objective_variant(ops, variant);
    if (loss) ck_assert_msg(conf_set(ops->opts, cfg, "loss", loss, &e) == 0, "%s", e.msg);
    if (conf_find(ops->opts, "negatives"))
        ck_assert_msg(conf_set(ops->opts, cfg, "negatives", "3", &e) == 0, "%s", e.msg);
    if (ops == &obj_dssrec)
        ck_assert_msg(conf_set(ops->opts, cfg, "lambda", "1", &e) == 0, "%s", e.msg);
    if (ops == &obj_mclrec)
        ck_assert_msg(conf_set(ops->opts, cfg, "lambda", "0", &e) == 0 &&
                          conf_set(ops->opts, cfg, "gamma", "0", &e) == 0 &&
                          conf_set(ops->opts, cfg, "beta", "0.1", &e) == 0,
                      "%s", e.msg);
    if (conf_find(ops->opts, "temperature"))
        ck_assert_msg(conf_set(ops->opts, cfg, "temperature",
                               ops == &obj_item_ssl ? "0.5" : "8", &e) == 0,
                      "%s", e.msg);
    if (conf_find(ops->opts, "items"))
        ck_assert_msg(conf_set(ops->opts, cfg, "items", "4", &e) == 0, "%s", e.msg);
    return cfg;
}

static bool accepts(const struct built *b, const struct model_cfg *c)
{
    struct obj_context x = { c, b->layout, false, &ds, 4 };
    return !b->ops->check || b->ops->check(b->cfg, &x, NULL) == 0;
}

/* The tolerance is that of float32: a gradient that is zero by algebra (interest.norm2.bias) comes out of the
 * differences as one unit in the last place of the loss / eps.  The seed is one without a kink nearby (ReLU, the
 * maximum over interests).  tests/vectors is what checks gradients to 1e-4. */
static void check_objective(struct built *b, const struct model_cfg *c)
{
    b->model = model_new(c, true);
    if (c->item_tower) model_add_tower(b->model, fields_of(fields));
    if (b->ops->open) b->own = b->ops->open(b->cfg, b->model, &ds);
    params_init(model_params(b->model), 3);
    struct batcher *batches = first_batch(b, c);
    double worst = ad_gradcheck(model_params(b->model), build, b, 8e-3f, 12, 6);
    ck_assert_msg(worst < 5e-2,
                  "%s (variant %d, %d interests, layout %s): gradient off by %g of its largest",
                  b->ops->name, b->variant, c->interests, layout_name[b->layout], worst);
    batcher_free(batches);
    if (b->own && b->ops->close) b->ops->close(b->own);
    model_free(b->model);
}

static int check_every_model(const struct obj_ops *ops, int variant)
{
    int accepted = 0;
    for (int32_t interests = 0; interests <= 3; interests += 3) {
        for (int layout = LAYOUT_A; layout <= LAYOUT_C; layout++) {
            struct model_cfg c = small_model(ops, interests);
            struct built b = { .ops = ops, .variant = variant, .layout = (enum layout)layout };
            b.cfg = smooth_cfg(ops, variant);
            if (accepts(&b, &c)) {
                check_objective(&b, &c);
                accepted++;
            }
            free(b.cfg);
        }
    }
    return accepted;
}

START_TEST(gradients_agree_with_differences)
{
    const struct num_ops *have[3];
    for (int i = 0, n = num_available(have); i < n; i++) {
        num = have[i];
        for (int v = 0; v < objective_variants(obj_list[_i]); v++)
            ck_assert_msg(check_every_model(obj_list[_i], v) > 0, "%s accepts no model",
                          obj_list[_i]->name);
    }
}
END_TEST

START_TEST(the_loss_is_finite_and_has_gradients_everywhere_it_should)
{
    const struct obj_ops *ops = obj_list[_i];
    struct model_cfg c = small_model(ops, 3);
    struct built b = { .ops = ops, .layout = LAYOUT_B, .cfg = smooth_cfg(ops, 0) };
    struct batch_cfg needs = { 0 };
    if (ops->needs) ops->needs(b.cfg, &needs);
    ck_assert(accepts(&b, &c));
    b.model = model_new(&c, true);
    if (c.item_tower) model_add_tower(b.model, fields_of(fields));
    if (ops->open) b.own = ops->open(b.cfg, b.model, &ds);
    params_init(model_params(b.model), 4);
    struct batcher *batches = first_batch(&b, &c);
    struct arena *mem = arena_new("t", 1 << 16, 0);
    struct tape *tp = tape_new(mem, NULL);
    tape_begin(tp, GROUPS_ALL, 1, true);
    struct ten *l = build(tp, model_params(b.model), &b);
    ck_assert(isfinite(l->x[0]) && l->x[0] > 0);
    tape_backward(tp, l);
    for (int32_t i = 0; i < params_count(model_params(b.model)); i++) {
        const struct param *p = params_at(model_params(b.model), i);
        if (p->group == 0) continue; /* a constant */
        /* parts of the model that are not its business */
        if (ops == &obj_s3rec && strncmp(p->name, "interest.", 9) == 0) continue;
        if (ops == &obj_item_ssl && strncmp(p->name, "tower.", 6) != 0) continue;
        /* default vectors of futures are for objectives that have futures */
        if (!needs.future && strcmp(p->name, "interest.beta_out") == 0) continue;
        double sum = 0;
        for (int64_t j = 0; j < (int64_t)p->t.rows * p->t.cols; j++)
            sum += fabs((double)p->t.g[j]);
        ck_assert_msg(isfinite(sum) && sum > 0, "%s: %s got a gradient of size %g", ops->name,
                      p->name, sum);
    }
    tape_free(tp);
    arena_free(mem);
    batcher_free(batches);
    if (b.own && ops->close) ops->close(b.own);
    model_free(b.model);
    free(b.cfg);
}
END_TEST

Suite *suite_objectives(void);
Suite *suite_objectives(void)
{
    Suite *s = suite_create("objectives");
    TCase *t = tcase_create("objectives");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, gradients_agree_with_differences, 0, obj_count);
    tcase_add_loop_test(t, the_loss_is_finite_and_has_gradients_everywhere_it_should, 0,
                        obj_count);
    suite_add_tcase(s, t);
    return s;
}
