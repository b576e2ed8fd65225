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
    struct ten *states = model_states(m, r->tp, &r->in, r->ids);
    golden_out(r, "out.states", states->x, n);
    tape_backward(r->tp, golden_dot(r->tp, states, golden_f32(r, "R", n)));
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
    struct opt_adam *o = opt_new(ps, (struct opt_cfg){ .lr = setting(f, "lr"),
                                                       .beta1 = setting(f, "beta1"),
                                                       .beta2 = setting(f, "beta2"),
                                                       .eps = setting(f, "eps") });
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

/* ---- the optimiser's options ---- */

static const struct {
    const char *name;
    struct opt_cfg cfg;
    bool touched;
} variants[] = {
    { "l2", { .weight_decay = 0.1f }, false },
    { "adamw", { .weight_decay = 0.1f, .decoupled = true }, false },
    { "clip", { .clip_norm = 1.5f }, false },
    { "ema", { .ema = 0.4f }, false },
    { "touched", { .weight_decay = 0.1f, .decoupled = true, .ema = 0.9f }, true },
};
enum { MOVES = 6, A_ROWS = 5, A_COLS = 4, A_SIZE = A_ROWS * A_COLS, B_SIZE = 3 };

static void close_to(const float *x, const struct safet *f, const char *variant,
                     const char *what, int step, int n)
{
    char name[64];
    snprintf(name, sizeof name, "out.%s.%s", variant, what);
    const struct safet_tensor *t = safet_find(f, name);
    if (!t) return;
    ck_assert_int_eq(t->n, MOVES * n);
    for (int i = 0; i < n; i++) {
        double want = ((const double *)t->data)[step * n + i];
        ck_assert_msg(fabs((double)x[i] - want) <= 1e-6 * fmax(fabs(want), 0.1),
                      "%s (%s): step %d, entry %d: %.9g, not %.9g", name, num->isa, step + 1, i,
                      (double)x[i], want);
    }
}

/* The step's gradient of a: all of it, or of the rows that the file names, through the tape. */
static void give_gradient(struct tape *tp, struct param *a, const struct safet *f, int step,
                          bool touched, int32_t *row)
{
    const float *g = (const float *)safet_find(f, "grads.a")->data + step * A_SIZE;
    const int32_t *use = (const int32_t *)safet_find(f, "rows")->data + step * A_ROWS;
    if (!touched) {
        memcpy(a->t.g, g, A_SIZE * sizeof *g);
        return;
    }
    int32_t n = 0;
    for (int32_t i = 0; i < A_ROWS; i++)
        if (use[i]) row[n++] = i;
    tape_begin(tp, GROUPS_ALL, 1, true);
    tape_bind(tp, a, row, n);
    ck_assert_int_eq(ad_param(tp, a)->rows, n);
    for (int32_t i = 0; i < n; i++)
        memcpy(ad_param(tp, a)->g + (size_t)i * A_COLS, g + (size_t)row[i] * A_COLS,
               A_COLS * sizeof *g);
}

static void follow_variant(const struct safet *f, int v, struct par *pool)
{
    struct params *ps = params_new(true);
    struct param *a = params_add(ps, "a", A_ROWS, A_COLS, 1, INIT_NORMAL, 1);
    struct param *b = params_add(ps, "b", 1, B_SIZE, 1, INIT_ZERO, 0);
    memcpy(a->t.x, safet_find(f, "a")->data, A_SIZE * sizeof(float));
    memcpy(b->t.x, safet_find(f, "b")->data, B_SIZE * sizeof(float));
    struct opt_cfg cfg = variants[v].cfg;
    cfg.beta1 = 0.9f;
    cfg.beta2 = 0.99f;
    cfg.eps = 1e-8f;
    struct opt_adam *o = opt_new(ps, cfg);
    struct arena *mem = arena_new("t", 1 << 12, 0);
    struct tape *tp = tape_new(mem, pool);
    if (variants[v].touched) params_part(a);
    for (int s = 0; s < MOVES; s++) {
        int32_t row[A_ROWS];
        give_gradient(tp, a, f, s, variants[v].touched, row);
        memcpy(b->t.g, (const float *)safet_find(f, "grads.b")->data + s * B_SIZE,
               B_SIZE * sizeof(float));
        opt_set_lr(o, ((const float *)safet_find(f, "rates")->data)[s]);
        opt_step(o, ps, GROUPS_ALL, pool);
        ck_assert_ptr_null(a->part.g);
        close_to(a->t.x, f, variants[v].name, "a", s, A_SIZE);
        close_to(b->t.x, f, variants[v].name, "b", s, B_SIZE);
        opt_swap_average(o, ps);
        close_to(a->t.x, f, variants[v].name, "average.a", s, A_SIZE);
        close_to(b->t.x, f, variants[v].name, "average.b", s, B_SIZE);
        opt_swap_average(o, ps);
    }
    tape_free(tp);
    arena_free(mem);
    opt_free(o);
    params_free(ps);
}

START_TEST(every_option_of_the_optimiser_follows_the_reference)
{
    struct safet *f;
    struct err e = { 0 };
    ck_assert_msg(safet_open(&f, "tests/vectors/optimizers.safetensors", &e) == 0, "%s", e.msg);
    struct par *pool = par_new(2);
    const struct num_ops *have[3], *before = num;
    for (int i = 0, n = num_available(have); i < n; i++) {
        num = have[i];
        follow_variant(f, _i, NULL);
        follow_variant(f, _i, pool);
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
    tcase_add_loop_test(t, every_option_of_the_optimiser_follows_the_reference, 0,
                        sizeof variants / sizeof variants[0]);
    suite_add_tcase(s, t);
    return s;
}
