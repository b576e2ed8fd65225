/* Objectives against float64 references (tests/vectors/README.md), called as the training loop calls them. */
#include "core/base/mem.h"
#include "models/obj.h"
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
static struct ten *loss_of(struct golden *r, const struct step *s, const char *name,
                           const char *out)
{
    const struct obj_ops *ops = objective(name);
    struct err e = { 0 };
    ck_assert_msg(ops->check(&r->cfg, s->layout, &e) == 0, "%s", e.msg);
    void *cfg = xcalloc(1, ops->cfg_size ? ops->cfg_size : 1);
    conf_defaults(ops->opts, cfg);
    if (conf_find(ops->opts, "lambda")) {
        char text[32];
        snprintf(text, sizeof text, "%.9g", (double)golden_config(r, "config.keep", 0));
        ck_assert_msg(conf_set(ops->opts, cfg, "lambda", text, &e) == 0, "%s", e.msg);
    }
    struct ten *l = ops->loss(cfg, s);
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
    s.in = model_encode(m, r->tp, &b.seq, b.ids, BETA_IN);
    int64_t n = (int64_t)s.in.phi->rows * s.in.phi->cols;
    if (safet_find(r->file, "out.logits")) check_logits(r, m, s.in.phi);
    if (safet_find(r->file, "out.phi")) golden_out(r, "out.phi", s.in.phi->x, n);
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

static const char *const files[] = { "next_item", "next_item_interests", "dssrec",
                                     "next_item_dssrec" };

START_TEST(losses_and_gradients_agree_with_the_reference) { golden_run(files[_i], objectives); }
END_TEST

Suite *suite_golden_objectives(void);
Suite *suite_golden_objectives(void)
{
    Suite *s = suite_create("golden_objectives");
    TCase *t = tcase_create("objectives");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, losses_and_gradients_agree_with_the_reference, 0,
                        sizeof files / sizeof files[0]);
    suite_add_tcase(s, t);
    return s;
}
