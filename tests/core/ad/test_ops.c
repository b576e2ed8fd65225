/* Every row of the op-case tables: values against the double reference, gradients against central
 * differences of that reference, on every instruction set this CPU has, with 1 and 2 threads. */
#include "core/base/mem.h"
#include "core/num/num.h"
#include "tests/core/ad/ops_cases.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBES = 24, DIRECTIONS = 4 };

static const char *const op_names[] = {
#define AD_OP(name) #name,
#include "core/ad/ops.def"
#undef AD_OP
};
enum { N_OPS = sizeof op_names / sizeof *op_names };

/* A name in ops.def without a function in ops.h does not compile. */
#define AD_OP(name) _Static_assert(sizeof(&ad_##name) > 0, #name);
#include "core/ad/ops.def"
#undef AD_OP

static const struct num_ops *isa[3];
static int n_isa;
static struct par *two;
static const struct num_ops *before;

static void set_up(void)
{
    num_init();
    before = num;
    n_isa = num_available(isa);
    two = par_new(2);
}

static void tear_down(void)
{
    num = before;
    par_free(two);
}

static const struct op_case *case_at(int i)
{
    for (int32_t t = 0; t < n_op_tables; t++) {
        if (i < op_tables[t]->n) return &op_tables[t]->c[i];
        i -= op_tables[t]->n;
    }
    return NULL;
}

static int n_cases(void)
{
    int n = 0;
    for (int32_t t = 0; t < n_op_tables; t++) n += op_tables[t]->n;
    return n;
}

/* ---- one run of a row ---- */

struct outcome {
    float *y;
    float *g[OP_MAX_IN]; /* of the inputs that learn */
};

static size_t in_size(const struct op_run *r, int i)
{
    return (size_t)r->in[i].rows * (size_t)r->in[i].cols;
}
static size_t out_size(const struct op_run *r) { return (size_t)r->rows * (size_t)r->cols; }

static float *keep(const float *x, size_t n)
{
    float *c = xmalloc((n + 1) * sizeof *c);
    memcpy(c, x, n * sizeof *c);
    return c;
}

/* The name is on the tape unless the op returned its input (dropout that does nothing). */
static void check_recorded(const struct op_run *r, const struct tape *tp, const struct ten *y,
                           struct ten *const *in)
{
    for (int32_t i = 0; i < r->n_in; i++)
        if (y == in[i]) return;
    int32_t found = 0;
    for (int32_t i = 0; i < tape_nodes(tp); i++) found += strcmp(tape_op(tp, i), r->c->op) == 0;
    ck_assert_msg(found == (y->g != NULL), "%s (%s): %d nodes of that name on the tape",
                  r->c->op, r->c->what, found);
}

static struct outcome run(struct op_run *r, struct par *pool, uint32_t learn, float g0,
                          const float *w)
{
    struct arena *mem = arena_new("op run", 1 << 16, 0);
    struct tape *tp = tape_new(mem, pool);
    struct ten *in[OP_MAX_IN];
    struct outcome o = { 0 };
    tape_begin(tp, GROUPS_ALL, OP_STEP_KEY, !r->c->eval);
    op_tensors(r, tp, learn, g0, in);
    struct ten *y = r->c->build(r, tp, in);
    ck_assert_int_eq(y->rows, r->rows);
    ck_assert_int_eq(y->cols, r->cols);
    check_recorded(r, tp, y, in);
    o.y = keep(y->x, out_size(r));
    tape_backward(tp, op_loss(tp, y, w));
    for (int32_t i = 0; i < r->n_in; i++)
        if (in[i]->g) o.g[i] = keep(in[i]->g, in_size(r, i));
    tape_free(tp);
    arena_free(mem);
    return o;
}

static const float *gradient(const struct outcome *o, int i)
{
    REQUIRE(o->g[i], "input %d has no gradient", i);
    return o->g[i];
}

static void outcome_free(struct outcome *o)
{
    free(o->y);
    for (int i = 0; i < OP_MAX_IN; i++) free(o->g[i]);
}

/* ---- the reference ---- */

struct reference {
    double *in[OP_MAX_IN], *y;
    float *w; /* [rows, cols] weights of the scalar that is differentiated */
    int32_t at[OP_MAX_IN][PROBES];
    double g[OP_MAX_IN][PROBES], top[OP_MAX_IN]; /* top: the largest of them */
    int n[OP_MAX_IN];
    double along[OP_MAX_IN]
                [DIRECTIONS]; /* derivatives along direction(): no entry is left out */
};

/* +1 or -1 for entry j. */
static double direction(int k, size_t j) { return rng_hash((uint64_t)k, j) & 1 ? 1 : -1; }

static double scalar(const struct op_run *r, struct reference *ref)
{
    double s = 0;
    r->c->ref(r, ref->y, ref->in);
    for (size_t i = 0; i < out_size(r); i++) s += ref->y[i] * (double)ref->w[i];
    return s;
}

static void step_along(const struct op_run *r, struct reference *ref, int i, int k, double h)
{
    for (size_t j = 0; j < in_size(r, i); j++) ref->in[i][j] += h * direction(k, j);
}

static void differentiate_along(const struct op_run *r, struct reference *ref, int i)
{
    const double h = 1e-6;
    for (int k = 0; k < DIRECTIONS; k++) {
        step_along(r, ref, i, k, h);
        double up = scalar(r, ref);
        step_along(r, ref, i, k, -2 * h);
        double down = scalar(r, ref);
        for (size_t j = 0; j < in_size(r, i); j++) ref->in[i][j] = (double)r->in[i].x[j];
        ref->along[i][k] = (up - down) / (2 * h);
    }
}

static void differentiate(const struct op_run *r, struct reference *ref, int i, struct rng *rng)
{
    const double h = 1e-5;
    size_t n = in_size(r, i);
    ref->n[i] = n < PROBES ? (int)n : PROBES;
    for (int k = 0; k < ref->n[i]; k++) {
        int32_t at = n <= PROBES ? k : (int32_t)rng_below(rng, (uint32_t)n);
        double *x = ref->in[i] + at, x0 = *x;
        *x = x0 + h;
        double up = scalar(r, ref);
        *x = x0 - h;
        double down = scalar(r, ref);
        *x = x0;
        ref->at[i][k] = at;
        ref->g[i][k] = (up - down) / (2 * h);
        ref->top[i] = fmax(ref->top[i], fabs(ref->g[i][k]));
    }
    differentiate_along(r, ref, i);
}

static void reference_init(struct reference *ref, const struct op_run *r)
{
    struct rng rng = rng_make(1, RNG_TEST);
    memset(ref, 0, sizeof *ref);
    ref->y = xcalloc(out_size(r) + 1, sizeof *ref->y);
    ref->w = xcalloc(out_size(r) + 1, sizeof *ref->w);
    for (size_t i = 0; i < out_size(r); i++) ref->w[i] = 0.5f + (float)rng_f64(&rng);
    for (int32_t i = 0; i < r->n_in; i++) {
        ref->in[i] = xcalloc(in_size(r, i) + 1, sizeof *ref->in[i]);
        for (size_t j = 0; j < in_size(r, i); j++) ref->in[i][j] = (double)r->in[i].x[j];
    }
    for (int32_t i = 0; i < r->n_in; i++) differentiate(r, ref, i, &rng);
    (void)scalar(r, ref);
}

static void reference_free(struct reference *ref)
{
    free(ref->y);
    free(ref->w);
    for (int i = 0; i < OP_MAX_IN; i++) free(ref->in[i]);
}

/* ---- comparisons ---- */

#define WHERE      "%s (%s), %s: "
#define WHERE_ARGS r->c->op, r->c->what, num->isa

static void check_values(const struct op_run *r, const struct reference *ref,
                         const struct outcome *o)
{
    double tol = r->c->tol_y > 0 ? r->c->tol_y : OP_TOL_Y, top = 0;
    for (size_t i = 0; i < out_size(r); i++) top = fmax(top, fabs(ref->y[i]));
    for (size_t i = 0; i < out_size(r); i++) {
        double off = fabs((double)o->y[i] - ref->y[i]);
        ck_assert_msg(off <= tol * fmax(top, 1e-2), WHERE "y[%zu] = %.9g, reference %.9g",
                      WHERE_ARGS, i, (double)o->y[i], ref->y[i]);
    }
}

static void check_directions(const struct op_run *r, const struct reference *ref, int i,
                             const float *g, double tol)
{
    for (int k = 0; k < DIRECTIONS; k++) {
        double got = 0, want = ref->along[i][k], top = ref->top[i];
        for (size_t j = 0; j < in_size(r, i); j++) {
            got += (double)g[j] * direction(k, j);
            top = fmax(top, (double)fabsf(g[j]));
        }
        ck_assert_msg(fabs(got - want) <= tol * sqrt((double)in_size(r, i)) * fmax(top, 1e-2),
                      WHERE "slope along direction %d of input %d is %.9g, reference %.9g",
                      WHERE_ARGS, k, i, got, want);
    }
}

static void check_gradients(const struct op_run *r, const struct reference *ref,
                            const struct outcome *o)
{
    double tol = r->c->tol_g > 0 ? r->c->tol_g : OP_TOL_G;
    for (int32_t i = 0; i < r->n_in; i++) {
        const float *g = gradient(o, i);
        for (int k = 0; k < ref->n[i]; k++) {
            double got = (double)g[ref->at[i][k]], want = ref->g[i][k];
            ck_assert_msg(fabs(got - want) <= tol * fmax(ref->top[i], 1e-2),
                          WHERE "gradient of input %d at %d is %.9g, reference %.9g",
                          WHERE_ARGS, i, ref->at[i][k], got, want);
        }
        check_directions(r, ref, i, g, tol);
    }
}

static void check_bits(const struct op_run *r, const struct outcome *a, const struct outcome *b)
{
    ck_assert_msg(memcmp(a->y, b->y, out_size(r) * sizeof(float)) == 0,
                  WHERE "2 threads give other values than 1", WHERE_ARGS);
    for (int32_t i = 0; i < r->n_in; i++)
        ck_assert_msg(memcmp(gradient(a, i), gradient(b, i), in_size(r, i) * sizeof(float)) ==
                          0,
                      WHERE "2 threads give another gradient of input %d", WHERE_ARGS, i);
}

/* Gradients are added to what is there, and do not hang on which other inputs learn. */
static void check_alone(struct op_run *r, const struct reference *ref,
                        const struct outcome *full)
{
    double tol = r->c->tol_g > 0 ? r->c->tol_g : OP_TOL_G;
    for (int32_t i = 0; i < r->n_in; i++) {
        struct outcome o = run(r, NULL, 1u << i, 1, ref->w);
        for (size_t j = 0; j < in_size(r, i); j++) {
            double got = (double)gradient(&o, i)[j] - 1, want = (double)gradient(full, i)[j];
            ck_assert_msg(fabs(got - want) <= tol * fmax(ref->top[i], 1),
                          WHERE "input %d alone: gradient at %zu is %.9g, with the others %.9g",
                          WHERE_ARGS, i, j, got, want);
        }
        outcome_free(&o);
    }
}

static void check_constant(struct op_run *r, const struct reference *ref)
{
    struct outcome o = run(r, NULL, 0, 0, ref->w);
    check_values(r, ref, &o);
    outcome_free(&o);
}

static void check_inputs_unchanged(const struct op_run *r, const struct reference *ref)
{
    for (int32_t i = 0; i < r->n_in; i++)
        for (size_t j = 0; j < in_size(r, i); j++)
            ck_assert_msg((double)r->in[i].x[j] == ref->in[i][j], WHERE "input %d was changed",
                          WHERE_ARGS, i);
}

static void check_case(const struct op_case *c)
{
    struct op_run run_state, *r = &run_state;
    struct reference ref;
    op_run_init(r, c);
    reference_init(&ref, r);
    for (int i = 0; i < n_isa; i++) {
        num = isa[i];
        struct outcome one = run(r, NULL, GROUPS_ALL, 0, ref.w);
        struct outcome both = run(r, two, GROUPS_ALL, 0, ref.w);
        check_values(r, &ref, &one);
        check_gradients(r, &ref, &one);
        check_bits(r, &one, &both);
        check_alone(r, &ref, &one);
        check_constant(r, &ref);
        check_inputs_unchanged(r, &ref);
        outcome_free(&one);
        outcome_free(&both);
    }
    reference_free(&ref);
    op_run_free(r);
}

START_TEST(op_matches_its_double_reference_in_value_and_gradient)
{
    const struct op_case *c = case_at(_i);
    if (!c->bench) check_case(c);
}
END_TEST

START_TEST(every_op_has_a_row)
{
    const char *op = op_names[_i];
    int rows = 0;
    for (int i = 0; i < n_cases(); i++)
        rows += strcmp(case_at(i)->op, op) == 0 && !case_at(i)->bench;
    ck_assert_msg(rows > 0, "op %s has no row in a case table", op);
}
END_TEST

START_TEST(every_row_is_of_a_listed_op)
{
    for (int i = 0; i < n_cases(); i++) {
        bool listed = false;
        for (int o = 0; o < N_OPS; o++) listed |= strcmp(op_names[o], case_at(i)->op) == 0;
        ck_assert_msg(listed, "row of %s (%s): no such line in ops.def", case_at(i)->op,
                      case_at(i)->what);
    }
}
END_TEST

START_TEST(every_function_of_ops_h_is_in_ops_def)
{
    FILE *f = fopen("core/ad/ops.h", "r");
    if (!f) {
        fprintf(stderr, "skipped: core/ad/ops.h is not below the working directory\n");
        return;
    }
    char line[256], name[64];
    int found = 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "struct ten *ad_%63[a-z_](", name) != 1) continue;
        bool listed = false;
        for (int o = 0; o < N_OPS; o++) listed |= strcmp(op_names[o], name) == 0;
        ck_assert_msg(listed, "ad_%s has no line in ops.def", name);
        found++;
    }
    fclose(f);
    ck_assert_int_eq(found, N_OPS);
}
END_TEST

/* ---- what a reference cannot say ---- */

#define SAME(a, b) ck_assert_double_eq((double)(a), (double)(b))

struct small {
    struct arena *mem;
    struct tape *tp;
};

static struct small small_new(struct par *pool)
{
    struct arena *mem = arena_new("small", 1 << 12, 0);
    struct small s = { mem, tape_new(mem, pool) };
    tape_begin(s.tp, GROUPS_ALL, 1, true);
    return s;
}

static void small_free(struct small *s)
{
    tape_free(s->tp);
    arena_free(s->mem);
}

static struct ten *learned(struct small *s, const float *x, int32_t rows, int32_t cols)
{
    struct ten *t = tape_ten(s->tp, rows, cols, true);
    memcpy(t->x, x, (size_t)rows * (size_t)cols * sizeof *x);
    return t;
}

START_TEST(trimmed_sum_keeps_all_that_tie_with_the_threshold)
{
    struct small s = small_new(NULL);
    struct ten *x = learned(&s, (float[]){ 5, 1, 3, 3, 3, 9 }, 6, 1);
    struct ten *y = ad_trimmed_sum(s.tp, x, 2);
    SAME(y->x[0], 10);
    tape_backward(s.tp, y);
    const float want[6] = { 0, 1, 1, 1, 1, 0 };
    for (int i = 0; i < 6; i++) SAME(x->g[i], want[i]);
    small_free(&s);
}
END_TEST

START_TEST(xent_gives_the_gradient_of_a_tie_to_the_first_vector)
{
    struct small s = small_new(NULL);
    /* both vectors of the one user are equal */
    struct ten *q = learned(&s, (float[]){ 1, 2, 1, 2 }, 2, 2);
    struct ten *table = learned(&s, (float[]){ 1, 0, 0, 1, 1, 1 }, 3, 2);
    tape_backward(s.tp, ad_xent(s.tp, q, table, (int32_t[]){ 2 }, 2, NULL));
    ck_assert(q->g[0] != 0);
    SAME(q->g[2], 0);
    SAME(q->g[3], 0);
    small_free(&s);
}
END_TEST

START_TEST(xent_stays_finite_for_logits_of_ten_thousand)
{
    struct small s = small_new(NULL);
    struct ten *q = learned(&s, (float[]){ 100, -100 }, 2, 1);
    struct ten *table = learned(&s, (float[]){ 100, -100, 1 }, 3, 1);
    struct ten *y = ad_xent(s.tp, q, table, (int32_t[]){ 0, 0 }, 1, NULL);
    SAME(y->x[0], 10000); /* 0 for the first, 20000 for the second */
    tape_backward(s.tp, y);
    for (int i = 0; i < 2; i++) ck_assert(isfinite(q->g[i]));
    for (int i = 0; i < 3; i++) ck_assert(isfinite(table->g[i]));
    small_free(&s);
}
END_TEST

/* A score whose exponential is 0 has its part of the smoothing all the same. */
START_TEST(sampled_softmax_smooths_over_hopeless_negatives_too)
{
    struct small s = small_new(NULL);
    struct ten *q = learned(&s, (float[]){ 1 }, 1, 1);
    struct ten *table = learned(&s, (float[]){ 200, -200, 198 }, 3, 1);
    struct sampled_opts o = {
        .kind = SAMPLED_SOFTMAX,
        .target = (int32_t[]){ 0 },
        .neg = (int32_t[]){ 1, 0, 2 }, /* the target among them does not count */
        .n = 3,
        .shared = true,
        .smoothing = 0.3f,
        .beta = 1,
        .scale = 1
    };
    tape_backward(s.tp, ad_sampled(s.tp, q, table, 1, &o));
    double p = 1 / (1 + exp(2));
    ck_assert_double_eq_tol((double)table->g[0], 1 - p - 0.7 - 0.1, 1e-6);
    ck_assert_double_eq_tol((double)table->g[1], -0.1, 1e-6);
    ck_assert_double_eq_tol((double)table->g[2], p - 0.1, 1e-6);
    small_free(&s);
}
END_TEST

START_TEST(xent_group_gives_the_gradient_of_a_tie_to_the_first_vector)
{
    struct small s = small_new(NULL);
    struct ten *x = learned(&s, (float[]){ 1, 2, 1, 2 }, 2, 2);
    struct ten *y = ad_xent_group(s.tp, x, (int32_t[]){ 1 }, 2);
    tape_backward(s.tp, op_loss(s.tp, y, NULL));
    ck_assert_double_eq_tol((double)(x->g[3] - x->g[1]), 1, 1e-6);
    small_free(&s);
}
END_TEST

START_TEST(xent_scratch_does_not_grow_with_the_batch)
{
    float *x = xcalloc(4096, sizeof *x);
    int32_t *target = xcalloc(4096, sizeof *target);
    size_t peak[2];
    for (int i = 0; i < 2; i++) {
        struct small s = small_new(NULL);
        struct ten *table = learned(&s, x, 4096, 1);
        tape_backward(s.tp,
                      ad_xent(s.tp, learned(&s, x, i ? 4096 : 512, 1), table, target, 1, NULL));
        peak[i] = arena_peak(s.mem);
        small_free(&s);
    }
    ck_assert_uint_le(peak[1], peak[0] + 4096 * 4 * sizeof(float));
    free(x);
    free(target);
}
END_TEST

Suite *suite_ops(void);
Suite *suite_ops(void)
{
    Suite *s = suite_create("ops");
    TCase *t = tcase_create("cases");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, op_matches_its_double_reference_in_value_and_gradient, 0, n_cases());
    suite_add_tcase(s, t);
    t = tcase_create("table");
    tcase_add_loop_test(t, every_op_has_a_row, 0, N_OPS);
    tcase_add_test(t, every_row_is_of_a_listed_op);
    tcase_add_test(t, every_function_of_ops_h_is_in_ops_def);
    suite_add_tcase(s, t);
    t = tcase_create("edges");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, trimmed_sum_keeps_all_that_tie_with_the_threshold);
    tcase_add_test(t, xent_gives_the_gradient_of_a_tie_to_the_first_vector);
    tcase_add_test(t, xent_stays_finite_for_logits_of_ten_thousand);
    tcase_add_test(t, sampled_softmax_smooths_over_hopeless_negatives_too);
    tcase_add_test(t, xent_group_gives_the_gradient_of_a_tie_to_the_first_vector);
    tcase_add_test(t, xent_scratch_does_not_grow_with_the_batch);
    suite_add_tcase(s, t);
    return s;
}
