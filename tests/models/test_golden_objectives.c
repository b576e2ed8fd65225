/* Objectives against float64 references (tests/vectors/README.md), called as the training loop calls them. */
#include "core/base/mem.h"
#include "models/obj.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include "tests/golden.h"
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct obj_ops *objective(const char *name)
{
    for (int i = 0; i < obj_count; i++)
        if (strcmp(obj_list[i]->name, name) == 0) return obj_list[i];
    ck_abort_msg("no objective %s", name);
}

/* The objective's loss on the step, with DSSRec's lambda from the file; recorded as `out` where the file has it. */
static struct ten *loss_of(struct golden *r, struct step *s, const char *name, const char *out)
{
    const struct obj_ops *ops = objective(name);
    struct err e = { 0 };
    void *cfg = xcalloc(1, ops->cfg_size ? ops->cfg_size : 1);
    conf_defaults(ops->opts, cfg);
    struct obj_context x = { &r->cfg, s->layout, false, NULL, 4 };
    ck_assert_msg(ops->check(cfg, &x, &e) == 0, "%s", e.msg);
    if (conf_find(ops->opts, "lambda")) {
        char text[32];
        snprintf(text, sizeof text, "%.9g", (double)golden_config(r, "config.keep", 0));
        ck_assert_msg(conf_set(ops->opts, cfg, "lambda", text, &e) == 0, "%s", e.msg);
    }
    struct ten *l = ops->loss(cfg, NULL, NULL, s);
    if (safet_find(r->file, out)) golden_out(r, out, l->x, 1);
    free(cfg);
    return l;
}

/* max_k phi_k . e_v, accumulated in double. */
static void check_logits(struct golden *r, const struct model *m, const struct ten *phi)
{
    int32_t V = r->cfg.n_items, D = r->cfg.width, K = model_interests(m);
    int64_t n = (int64_t)r->in.B * V;
    float *x = xmalloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        double best = -DBL_MAX;
        for (int64_t k = 0; k < K; k++) {
            double dot = 0;
            for (int64_t d = 0; d < D; d++)
                dot += (double)phi->x[(i / V * K + k) * D + d] *
                       (double)model_items(m)->t.x[i % V * D + d];
            best = fmax(best, dot);
        }
        x[i] = (float)best;
    }
    golden_out(r, "out.logits", x, n);
    free(x);
}

static void objectives(struct golden *r)
{
    struct model *m = golden_model(r);
    struct batch b = { .seq = r->in,
                       .ids = (int32_t *)(uintptr_t)r->ids,
                       .target = (int32_t *)(uintptr_t)r->target,
                       .fut = r->fut,
                       .fut_ids = (int32_t *)(uintptr_t)r->fut_ids };
    struct step s = { .tp = r->tp, .model = m, .batch = &b, .layout = LAYOUT_B };
    struct ten *phi = step_in(&s)->phi;
    int64_t n = (int64_t)phi->rows * phi->cols;
    if (safet_find(r->file, "out.logits")) check_logits(r, m, phi);
    if (safet_find(r->file, "out.phi")) golden_out(r, "out.phi", phi->x, n);
    if (safet_find(r->file, "out.phi_future"))
        golden_out(r, "out.phi_future",
                   model_encode(m, r->tp, &b.fut, b.fut_ids, BETA_OUT).phi->x, n);

    bool future = r->fut.B > 0;
    float w_next = golden_config(r, "config.next_weight", 1);
    float w_dssrec = golden_config(r, "config.dssrec_weight", 0);
    struct ten *total = NULL;
    if (w_next > 0)
        total = ad_scale(r->tp, loss_of(r, &s, "next_item", "out.next_item"), w_next);
    if (future) {
        struct ten *l = ad_scale(r->tp, loss_of(r, &s, "dssrec", "out.dssrec"), w_dssrec);
        total = total ? ad_add(r->tp, total, l) : l;
    }
    ck_assert_ptr_nonnull(total);
    golden_out(r, "out.loss", total->x, 1);
    tape_backward(r->tp, total);
    golden_grads(r, model_params(m));
    model_free(m);
}

/* ---- the losses of next_item ---- */

static void set(const struct obj_ops *ops, void *cfg, const char *key, const char *value)
{
    struct err e = { 0 };
    ck_assert_msg(conf_set(ops->opts, cfg, key, value, &e) == 0, "%s", e.msg);
}

static void set_number(const struct obj_ops *ops, void *cfg, const char *key, float x)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)x);
    set(ops, cfg, key, text);
}

/* A tensor that a batch may write to: the batch of a test is never written. */
static void *writable(const void *x) { return (void *)(uintptr_t)x; }

static struct batch batch_of(const struct golden *r)
{
    struct batch b = { .seq = r->in, .ids = writable(r->ids), .target = writable(r->target) };
    int64_t n = golden_length(r, "neg");
    if (golden_length(r, "weight")) b.weight = writable(golden_f32(r, "weight", r->n_targets));
    if (n == 0) return b;
    b.neg = writable(golden_i32(r, "neg", n));
    b.neg_log_q = writable(golden_f32(r, "neg_log_q", n));
    b.target_log_q = writable(golden_f32(r, "target_log_q", r->n_targets));
    return b;
}

static void losses(struct golden *r)
{
    static const char *const names[] = { "softmax", "sampled", "bce", "gbce", "bpr" };
    static const char *const corrected[] = { "none", "both", "negatives" };
    const struct obj_ops *ops = objective("next_item");
    struct model *m = golden_model(r);
    struct batch b = batch_of(r);
    struct step s = { .tp = r->tp, .model = m, .batch = &b };
    s.layout = golden_config(r, "config.layout_a", 0) > 0 ? LAYOUT_A : LAYOUT_B;
    void *cfg = xcalloc(1, ops->cfg_size);
    conf_defaults(ops->opts, cfg);
    set(ops, cfg, "loss", names[(int)golden_config(r, "config.loss", 0)]);
    set(ops, cfg, "log_q", corrected[(int)golden_config(r, "config.log_q", 0)]);
    set_number(ops, cfg, "negatives", golden_config(r, "config.negatives", 0));
    set_number(ops, cfg, "temperature", golden_config(r, "config.temperature", 1));
    set_number(ops, cfg, "label_smoothing", golden_config(r, "config.smoothing", 0));
    set_number(ops, cfg, "gbce_t", golden_config(r, "config.gbce_t", 0));
    struct obj_context x = { &r->cfg, s.layout, false, NULL, 4 };
    struct err e = { 0 };
    ck_assert_msg(ops->check(cfg, &x, &e) == 0, "%s", e.msg);
    struct ten *l = ops->loss(cfg, NULL, NULL, &s);
    golden_out(r, "out.loss", l->x, 1);
    tape_backward(r->tp, l);
    golden_grads(r, model_params(m));
    free(cfg);
    model_free(m);
}

/* ---- layouts: the rows that the batcher makes of users' sequences ---- */

static struct dataset users;

/* Numbers are items' ids: they appear in their order. */
static void write_users(const struct golden *r, const char *dir)
{
    int64_t n = golden_length(r, "users.items"), n_users = golden_length(r, "users.cu") - 1;
    const int32_t *item = golden_i32(r, "users.items", n);
    const int32_t *cu = golden_i32(r, "users.cu", n_users + 1);
    struct buf text = { 0 };
    for (int64_t u = 0; u < n_users; u++) {
        buf_printf(&text, "u%d", (int)u);
        for (int32_t i = cu[u]; i < cu[u + 1]; i++) buf_printf(&text, " %d", item[i]);
        buf_puts(&text, "\n");
    }
    data_from_text(&users, dir, text.data);
    buf_free(&text);
}

/* Each row of the file is in the batch once, whatever the order. */
static void check_rows(const struct golden *r, const struct batch *b, bool per_token)
{
    ck_assert_int_eq(b->seq.B, r->in.B);
    ck_assert_int_eq(b->seq.N, r->in.N);
    bool *used = xcalloc((size_t)b->seq.B, sizeof *used);
    for (int32_t i = 0; i < r->in.B; i++) {
        int32_t at = r->in.cu[i], n = r->in.cu[i + 1] - at, found = -1;
        for (int32_t j = 0; j < b->seq.B && found < 0; j++) {
            int32_t to = b->seq.cu[j];
            if (used[j] || b->seq.cu[j + 1] - to != n ||
                memcmp(b->ids + to, r->ids + at, (size_t)n * sizeof *b->ids) != 0)
                continue;
            size_t targets = per_token ? (size_t)n : 1;
            if (memcmp(b->target + (per_token ? to : j), r->target + (per_token ? at : i),
                       targets * sizeof *b->target) == 0)
                found = j;
        }
        ck_assert_msg(found >= 0, "%s: row %d is not there", r->name, i);
        used[found] = true;
    }
    free(used);
}

static void layouts(struct golden *r)
{
    const struct obj_ops *ops = objective("next_item");
    struct model *m = golden_model(r);
    struct batch_cfg cfg = { .batch_size = 1000,
                             .max_len = r->cfg.max_len,
                             .layout = (int32_t)golden_config(r, "config.layout", 0),
                             .positions = r->cfg.positions };
    struct batcher *bt = batcher_new(&users, &cfg);
    batcher_epoch(bt, 1, 0);
    struct step s = { .tp = r->tp, .model = m, .batch = batcher_next(bt) };
    s.layout = (enum layout)cfg.layout;
    ck_assert_ptr_nonnull(s.batch);
    check_rows(r, s.batch, s.layout == LAYOUT_A);
    void *opts = xcalloc(1, ops->cfg_size);
    conf_defaults(ops->opts, opts);
    struct ten *l = ops->loss(opts, NULL, NULL, &s);
    golden_out(r, "out.loss", l->x, 1);
    tape_backward(r->tp, l);
    golden_grads(r, model_params(m));
    free(opts);
    batcher_free(bt);
    model_free(m);
}

static const char *const files[] = { "next_item", "next_item_interests", "dssrec",
                                     "next_item_dssrec" };
static const char *const loss_files[] = {
    "loss_softmax_smooth",
    "loss_softmax_smooth_interests",
    "loss_softmax_all",
    "loss_sampled",
    "loss_sampled_interests",
    "loss_sampled_importance",
    "loss_sampled_uncorrected",
    "loss_bce",
    "loss_bce_interests",
    "loss_gbce",
    "loss_bpr",
    "loss_bpr_interests",
};
static const char *const layout_files[] = { "layout_a", "layout_b", "layout_c" };

START_TEST(losses_and_gradients_agree_with_the_reference) { golden_run(files[_i], objectives); }
END_TEST

START_TEST(every_loss_of_next_item_agrees_with_the_reference)
{
    golden_run(loss_files[_i], losses);
}
END_TEST

static void write_users_once(struct golden *r)
{
    if (users.cu) return layouts(r);
    char *dir = fixture_tmpdir();
    write_users(r, dir);
    layouts(r);
    fixture_rmdir(dir); /* what is mapped stays */
    free(dir);
}

START_TEST(every_layout_agrees_with_the_reference)
{
    golden_run(layout_files[_i], write_users_once);
    dataset_close(&users);
}
END_TEST

Suite *suite_golden_objectives(void);
Suite *suite_golden_objectives(void)
{
    Suite *s = suite_create("golden_objectives");
    TCase *t = tcase_create("objectives");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, losses_and_gradients_agree_with_the_reference, 0,
                        sizeof files / sizeof files[0]);
    tcase_add_loop_test(t, every_loss_of_next_item_agrees_with_the_reference, 0,
                        sizeof loss_files / sizeof loss_files[0]);
    tcase_add_loop_test(t, every_layout_agrees_with_the_reference, 0,
                        sizeof layout_files / sizeof layout_files[0]);
    suite_add_tcase(s, t);
    return s;
}
