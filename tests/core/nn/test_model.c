#include "core/base/mem.h"
#include "core/nn/model.h"
#include "core/num/num.h"
#include "tests/golden.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct model_cfg cfg;
static struct err e;

static void set_up(void)
{
    num_init();
    e = (struct err){ 0 };
    conf_defaults(model_opts, &cfg);
    cfg.width = 16;
    cfg.max_len = 8;
    cfg.interests = 3;
    cfg.init_std = 0.3f;
    cfg.n_items = 23;
}

static bool same_bits(const void *a, const void *b, size_t nb) { return memcmp(a, b, nb) == 0; }

/* ---- configuration ---- */

START_TEST(defaults_pass_the_check)
{
    conf_defaults(model_opts, &cfg);
    cfg.n_items = 1;
    ck_assert_msg(model_check(&cfg, &e) == 0, "%s", e.msg);
}
END_TEST

START_TEST(a_configuration_that_cannot_be_is_refused)
{
    cfg.heads = 3;
    ck_assert_int_eq(model_check(&cfg, &e), ERR_CONFIG);
    ck_assert_str_eq(e.msg, "width = 16 is not a multiple of heads = 3");
    set_up();
    cfg.n_items = 0;
    ck_assert_int_eq(model_check(&cfg, &e), ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(e.msg, "0 items"));
    set_up();
    cfg.active_share = 0.34f; /* three equal interests would all be inactive */
    ck_assert_int_eq(model_check(&cfg, &e), ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(e.msg, "active_share = 0.34"));
    cfg.interests = 0;
    ck_assert_int_eq(model_check(&cfg, NULL), 0);
}
END_TEST

static const struct {
    const char *name;
    int32_t rows, cols;
    uint32_t group;
    bool decay;
} shapes[] = {
    { "item.weight", 23, 16, GROUP_ENCODER, true },
    { "pos.weight", 8, 16, GROUP_ENCODER, true },
    { "emb_norm.weight", 1, 16, GROUP_ENCODER, false },
    { "layers.0.attn.qkv.weight", 16, 48, GROUP_ENCODER, true },
    { "layers.0.attn.qkv.bias", 1, 48, GROUP_ENCODER, false },
    { "layers.1.attn.out.weight", 16, 16, GROUP_ENCODER, true },
    { "layers.1.ffn.up.weight", 16, 64, GROUP_ENCODER, true },
    { "layers.1.ffn.down.weight", 64, 16, GROUP_ENCODER, true },
    { "layers.1.ffn_norm.bias", 1, 16, GROUP_ENCODER, false },
    { "interest.prototypes", 3, 16, GROUP_HEAD, true },
    { "interest.beta_in", 3, 16, GROUP_HEAD, true },
    { "interest.beta_out", 3, 16, GROUP_HEAD, true },
    { "interest.pos", 8, 16, GROUP_HEAD, false },
    { "interest.query_bias", 1, 16, GROUP_HEAD, false },
    { "interest.ffn.weight", 16, 16, GROUP_HEAD, true },
    { "interest.norm5.weight", 1, 16, GROUP_HEAD, false },
};

START_TEST(parameters_have_documented_names_and_shapes)
{
    struct model *m = model_new(&cfg, true);
    const struct params *ps = model_params(m);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct param *p = params_find(ps, shapes[i].name);
        ck_assert_msg(p, "no parameter %s", shapes[i].name);
        ck_assert_msg(p->t.rows == shapes[i].rows && p->t.cols == shapes[i].cols,
                      "%s is [%d,%d]", p->name, p->t.rows, p->t.cols);
        ck_assert_uint_eq(p->group, shapes[i].group);
        ck_assert_msg(p->decay == shapes[i].decay, "%s: weight decay", p->name);
        ck_assert_ptr_nonnull(p->t.g);
    }
    /* 4 tables and norms of the embedding, 12 of each block; 5 vectors, 2 of the ffn, 10 of norms of the head */
    ck_assert_int_eq(params_count(ps), 4 + 2 * 12 + 5 + 2 + 10);
    ck_assert_ptr_eq(model_items(m), params_find(ps, "item.weight"));
    model_free(m);
}
END_TEST

START_TEST(serving_allocates_no_gradients)
{
    struct model *m = model_new(&cfg, false);
    for (int32_t i = 0; i < params_count(model_params(m)); i++)
        ck_assert_ptr_null(params_at(model_params(m), i)->t.g);
    model_free(m);
}
END_TEST

START_TEST(the_single_head_has_no_parameters_of_its_own)
{
    cfg.interests = 0;
    struct model *m = model_new(&cfg, false);
    ck_assert_ptr_null(params_find(model_params(m), "interest.prototypes"));
    ck_assert_int_eq(model_interests(m), 1);
    model_free(m);
}
END_TEST

START_TEST(initial_weights_hang_on_seed_and_name)
{
    struct model *m = model_new(&cfg, false), *same = model_new(&cfg, false);
    cfg.layers = 1;
    struct model *shallow = model_new(&cfg, false);
    params_init(model_params(m), 5);
    params_init(model_params(same), 5);
    params_init(model_params(shallow), 5);
    const char *const names[] = { "item.weight", "layers.0.ffn.up.weight",
                                  "interest.prototypes" };
    for (int i = 0; i < 3; i++) {
        const struct ten *t = &params_find(model_params(m), names[i])->t;
        size_t nb = (size_t)t->rows * (size_t)t->cols * sizeof(float);
        ck_assert(same_bits(t->x, params_find(model_params(same), names[i])->t.x, nb));
        ck_assert(same_bits(t->x, params_find(model_params(shallow), names[i])->t.x, nb));
    }
    params_init(model_params(same), 6);
    ck_assert(model_items(m)->t.x[0] != model_items(same)->t.x[0]);
    ck_assert(params_find(model_params(m), "emb_norm.weight")->t.x[0] == 1);
    ck_assert(params_find(model_params(m), "emb_norm.bias")->t.x[0] == 0);
    model_free(m);
    model_free(same);
    model_free(shallow);
}
END_TEST

/* ---- encoding ---- */

enum { LENS = 6 };
static const int32_t lens[LENS] = { 1, 8, 3, 2, 5, 8 };

struct encoding {
    struct model *m;
    struct arena *mem;
    struct tape *tp;
    struct seqpack sp;
    int32_t cu[LENS + 1], pos[64], ids[64];
    struct encoded e;
};

static void pack(struct encoding *x, int first, int n)
{
    int32_t all = 0;
    for (int b = 0; b < first; b++) all += lens[b];
    x->cu[0] = 0;
    for (int b = 0; b < n; b++) x->cu[b + 1] = x->cu[b] + lens[first + b];
    for (int32_t i = 0; i < x->cu[n]; i++) x->ids[i] = (all + i) * 7 % 23;
    seqpack_positions(x->pos, x->cu, n, cfg.max_len, (enum pos_from)cfg.positions);
    x->sp = (struct seqpack){ .B = n, .N = x->cu[n], .cu = x->cu, .pos = x->pos };
}

/* Sequences first .. first+n-1 of the test's, without dropout. */
static struct encoding *encode(int first, int n, uint32_t groups)
{
    struct encoding *x = xcalloc(1, sizeof *x);
    x->m = model_new(&cfg, true);
    params_init(model_params(x->m), 5);
    x->mem = arena_new("t", 1 << 16, 0);
    x->tp = tape_new(x->mem, NULL);
    pack(x, first, n);
    tape_begin(x->tp, groups, 1, false);
    x->e = model_encode(x->m, x->tp, &x->sp, x->ids, BETA_IN);
    return x;
}

static void done(struct encoding *x)
{
    tape_free(x->tp);
    arena_free(x->mem);
    model_free(x->m);
    free(x);
}

START_TEST(interests_are_weighted_parts_of_the_history)
{
    struct encoding *x = encode(0, LENS, 0);
    int32_t K = cfg.interests;
    ck_assert_int_eq(x->e.phi->rows, LENS * K);
    ck_assert_int_eq(x->e.phi->cols, cfg.width);
    float share[LENS * 3];
    model_shares(share, x->m, &x->e, &x->sp);
    for (int b = 0; b < LENS; b++) {
        double weights = 0, shares = 0;
        for (int32_t i = x->cu[b]; i < x->cu[b + 1]; i++) {
            double of_k = 0;
            for (int32_t k = 0; k < K; k++) of_k += (double)x->e.assign->x[i * K + k];
            ck_assert_double_eq_tol(of_k, 1, 1e-6);
            weights += (double)x->e.weight->x[i];
        }
        for (int32_t k = 0; k < K; k++) shares += (double)share[b * K + k];
        ck_assert_double_eq_tol(weights, 1, 1e-6);
        ck_assert_double_eq_tol(shares, 1, 1e-6);
    }
    done(x);
}
END_TEST

START_TEST(a_single_vector_is_the_last_state)
{
    cfg.interests = 0;
    struct encoding *x = encode(0, LENS, 0);
    ck_assert_int_eq(x->e.phi->rows, LENS);
    ck_assert_ptr_null(x->e.assign);
    const struct ten *states = model_states(x->m, x->tp, &x->sp, x->ids);
    for (int b = 0; b < LENS; b++)
        for (int c = 0; c < cfg.width; c++)
            ck_assert_double_eq_tol((double)x->e.phi->x[b * cfg.width + c],
                                    (double)states->x[(x->cu[b + 1] - 1) * cfg.width + c],
                                    1e-6);
    float share[LENS];
    model_shares(share, x->m, &x->e, &x->sp);
    for (int b = 0; b < LENS; b++) ck_assert(share[b] == 1);
    done(x);
}
END_TEST

/* Gradients of the model's parameters, one after the other, of the sum of last states weighted. */
static double *gradients(struct encoding *x, struct ten *last, int64_t *n)
{
    struct params *ps = model_params(x->m);
    double *g = xcalloc((size_t)params_size(ps), sizeof *g);
    float R[LENS * 16];
    for (int i = 0; i < last->rows * last->cols; i++) R[i] = (float)(i % 5) - 1.5f;
    tape_backward(x->tp, golden_dot(x->tp, last, R));
    *n = 0;
    for (int32_t i = 0; i < params_count(ps); i++) {
        const struct ten *t = &params_at(ps, i)->t;
        for (int64_t j = 0; j < (int64_t)t->rows * t->cols; j++) g[(*n)++] = (double)t->g[j];
    }
    params_zero_grad(ps);
    return g;
}

/* The last block works for the last states alone: nothing else may change. */
START_TEST(the_last_state_has_the_gradients_of_all_states)
{
    cfg.interests = 0;
    cfg.causal = _i;
    int64_t n;
    struct encoding *x = encode(0, LENS, GROUPS_ALL);
    double *g = gradients(x, x->e.phi, &n), most = 0;
    tape_begin(x->tp, GROUPS_ALL, 1, false);
    struct ten *states = model_states(x->m, x->tp, &x->sp, x->ids);
    double *all = gradients(x, ad_seg_last(x->tp, states, &x->sp), &n);
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(all[i]));
    ck_assert_double_gt(most, 1e-3);
    for (int64_t i = 0; i < n; i++) ck_assert_double_eq_tol(g[i], all[i], 1e-5 * most);
    free(g);
    free(all);
    done(x);
}
END_TEST

START_TEST(serving_records_nothing_and_gives_the_same_bits)
{
    struct encoding *learns = encode(0, LENS, GROUPS_ALL), *serves = encode(0, LENS, 0);
    ck_assert_int_eq(tape_nodes(serves->tp), 0);
    ck_assert_int_gt(tape_nodes(learns->tp), 10);
    ck_assert(same_bits(learns->e.phi->x, serves->e.phi->x, LENS * 3 * 16 * sizeof(float)));
    struct encoding *head =
        encode(0, LENS, GROUP_HEAD); /* the frozen encoder drops out of the tape */
    ck_assert_int_lt(tape_nodes(head->tp), tape_nodes(learns->tp) - 10);
    done(learns);
    done(serves);
    done(head);
}
END_TEST

/* Scores within 1e-6 whatever else is in the batch. */
START_TEST(a_sequence_does_not_see_the_rest_of_its_batch)
{
    cfg.positions = _i & 1 ? POS_LAST : POS_FIRST;
    cfg.causal = (_i & 2) == 0;
    cfg.interests = _i & 4 ? 3 : 0;
    struct encoding *all = encode(0, LENS, 0);
    int32_t K = model_interests(all->m), n = K * cfg.width;
    for (int b = 0; b < LENS; b++) {
        struct encoding *one = encode(b, 1, 0);
        for (int i = 0; i < n; i++) {
            double a = (double)all->e.phi->x[b * n + i], c = (double)one->e.phi->x[i];
            if (fabs(a - c) > 1e-6)
                ck_abort_msg("sequence %d: %.9g alone, %.9g in a batch", b, c, a);
        }
        done(one);
    }
    done(all);
}
END_TEST

START_TEST(the_model_without_blocks_is_its_embedding)
{
    cfg.layers = 0;
    cfg.interests = 0;
    struct encoding *x = encode(0, LENS, GROUPS_ALL);
    double sum = 0, squares = 0; /* a layer norm has the last word */
    for (int i = 0; i < cfg.width; i++) {
        sum += (double)x->e.phi->x[i];
        squares += (double)x->e.phi->x[i] * (double)x->e.phi->x[i];
    }
    ck_assert_double_le(fabs(sum), 1e-5);
    ck_assert_double_eq_tol(squares, cfg.width, 1e-4);
    done(x);
}
END_TEST

START_TEST(dropout_hangs_on_the_key_of_the_step)
{
    struct encoding *x = encode(0, LENS, 0);
    size_t nb = LENS * 3 * 16 * sizeof(float);
    float *plain = xmalloc(nb), *first = xmalloc(nb);
    memcpy(plain, x->e.phi->x, nb);
    for (int i = 0; i < 3; i++) {
        tape_begin(x->tp, 0, i < 2 ? 7 : 8, true);
        const float *now = model_encode(x->m, x->tp, &x->sp, x->ids, BETA_IN).phi->x;
        ck_assert(!same_bits(now, plain, nb));
        if (i == 0) memcpy(first, now, nb);
        ck_assert(same_bits(now, first, nb) == (i < 2));
    }
    free(plain);
    free(first);
    done(x);
}
END_TEST

START_TEST(futures_have_default_vectors_of_their_own)
{
    struct encoding *x = encode(0, LENS, 0);
    struct encoded y = model_encode(x->m, x->tp, &x->sp, x->ids, BETA_OUT);
    ck_assert(same_bits(x->e.states->x, y.states->x, (size_t)x->sp.N * 16 * sizeof(float)));
    ck_assert(same_bits(x->e.assign->x, y.assign->x, (size_t)x->sp.N * 3 * sizeof(float)));
    ck_assert(!same_bits(x->e.phi->x, y.phi->x, 16 * sizeof(float)));
    done(x);
}
END_TEST

Suite *suite_model(void);
Suite *suite_model(void)
{
    Suite *s = suite_create("model");
    TCase *t = tcase_create("model");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, defaults_pass_the_check);
    tcase_add_test(t, a_configuration_that_cannot_be_is_refused);
    tcase_add_test(t, parameters_have_documented_names_and_shapes);
    tcase_add_test(t, serving_allocates_no_gradients);
    tcase_add_test(t, the_single_head_has_no_parameters_of_its_own);
    tcase_add_test(t, initial_weights_hang_on_seed_and_name);
    tcase_add_test(t, interests_are_weighted_parts_of_the_history);
    tcase_add_test(t, a_single_vector_is_the_last_state);
    tcase_add_loop_test(t, the_last_state_has_the_gradients_of_all_states, 0, 2);
    tcase_add_test(t, serving_records_nothing_and_gives_the_same_bits);
    tcase_add_loop_test(t, a_sequence_does_not_see_the_rest_of_its_batch, 0, 8);
    tcase_add_test(t, the_model_without_blocks_is_its_embedding);
    tcase_add_test(t, dropout_hangs_on_the_key_of_the_step);
    tcase_add_test(t, futures_have_default_vectors_of_their_own);
    suite_add_tcase(s, t);
    return s;
}
