/* Encoder, K-interest head and Adam against float64 references (tests/vectors/README.md). */
#include "core/ad/opt.h"
#include "core/nn/encoder.h"
#include "core/nn/interest.h"
#include "core/num/num.h"
#include "tests/golden.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void encoder(struct golden *r)
{
    struct model *m = golden_model(r);
    int64_t n = (int64_t)r->in.N * r->cfg.width;
    struct encoded e = model_encode(m, r->tp, &r->in, r->ids, BETA_IN);
    golden_out(r, "out.states", e.states->x, n);
    tape_backward(r->tp, golden_dot(r->tp, e.states, golden_f32(r, "R", n)));
    golden_grads(r, model_params(m));
    model_free(m);
}

/* The head alone, on states that are a parameter, so that their gradient can be looked at. */
static void interests(struct golden *r)
{
    struct params *ps = params_new(true);
    struct interest_head head;
    interest_declare(&head, ps, &r->cfg);
    struct param *states =
        params_add(ps, "states", r->in.N, r->cfg.width, GROUP_HEAD, INIT_ZERO, 0);
    golden_load(r, ps);
    struct encoded e = { .states = ad_param(r->tp, states) };
    enum beta beta = golden_config(r, "config.beta_out", 0) > 0 ? BETA_OUT : BETA_IN;
    interest_forward(&head, &r->cfg, r->tp, &r->in, beta, &e);
    int64_t n = (int64_t)r->in.B * r->cfg.interests * r->cfg.width;
    golden_out(r, "out.assign", e.assign->x, (int64_t)r->in.N * r->cfg.interests);
    golden_out(r, "out.importance", e.weight->x, r->in.N);
    golden_out(r, "out.phi", e.phi->x, n);
    tape_backward(r->tp, golden_dot(r->tp, e.phi, golden_f32(r, "R", n)));
    golden_grads(r, ps);
    params_free(ps);
}

static const struct {
    const char *file;
    golden_fn *fn;
} cases[] = {
    { "encoder", encoder },        { "encoder_bidirectional", encoder },
    { "encoder_masked", encoder }, { "interest_in", interests },
    { "interest_out", interests },
};

START_TEST(forward_and_gradients_agree_with_the_reference)
{
    golden_run(cases[_i].file, cases[_i].fn);
}
END_TEST

/* ---- Adam: the file has no model, so it is read by itself ---- */

enum { STEPS = 5, SIZE = 12 };

static float setting(struct safet *f, const char *key)
{
    const char *text = safet_meta(f, key);
    ck_assert_msg(text, "adam: no %s", key);
    return strtof(text, NULL);
}

static void follow_adam(struct safet *f, struct par *pool)
{
    const float *start = safet_find(f, "param")->data, *grads = safet_find(f, "grads")->data;
    const double *want = safet_find(f, "out.params")->data;
    struct params *ps = params_new(true);
    struct param *p = params_add(ps, "param", 3, 4, 1, INIT_ZERO, 0);
    memcpy(p->t.x, start, SIZE * sizeof(float));
    struct opt_adam *o =
        opt_new(ps, (struct opt_cfg){ setting(f, "lr"), setting(f, "beta1"),
                                      setting(f, "beta2"), setting(f, "eps"), 0 });
    for (int s = 0; s < STEPS; s++) {
        memcpy(p->t.g, grads + (size_t)s * SIZE, SIZE * sizeof(float));
        opt_step(o, ps, GROUPS_ALL, pool);
        for (int i = 0; i < SIZE; i++) {
            double ref = want[s * SIZE + i];
            ck_assert_msg(fabs((double)p->t.x[i] - ref) <= 1e-6 * fmax(fabs(ref), 0.1),
                          "adam (%s): step %d, entry %d: %.9g, not %.9g", num->isa, s + 1, i,
                          (double)p->t.x[i], ref);
            ck_assert(p->t.g[i] == 0);
        }
    }
    opt_free(o);
    params_free(ps);
}

START_TEST(adam_follows_the_reference)
{
    struct safet *f;
    struct err e = { 0 };
    ck_assert_msg(safet_open(&f, "tests/vectors/adam.safetensors", &e) == 0, "%s", e.msg);
    ck_assert_int_eq(safet_find(f, "grads")->n, STEPS * SIZE);
    struct par *pool = par_new(2);
    const struct num_ops *have[3], *before = num;
    for (int i = 0, n = num_available(have); i < n; i++) {
        num = have[i];
        follow_adam(f, NULL);
        follow_adam(f, pool);
    }
    num = before;
    par_free(pool);
    safet_close(f);
}
END_TEST

Suite *suite_golden(void);
Suite *suite_golden(void)
{
    Suite *s = suite_create("golden");
    TCase *t = tcase_create("nn");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, forward_and_gradients_agree_with_the_reference, 0,
                        sizeof cases / sizeof cases[0]);
    tcase_add_test(t, adam_follows_the_reference);
    suite_add_tcase(s, t);
    return s;
}
