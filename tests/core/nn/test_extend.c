/* A history that is appended to, event by event, has the vectors of one that is encoded at once.
 * EXTEND_SEQUENCES: how many random histories (default 200; `make extend-check` takes 10,000). */
#include "core/base/mem.h"
#include "core/nn/extend.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { V = 300, MOST = 160, TOP = 20 };

static struct model_cfg cfg;
static struct model *m;
static struct arena *mem[2];
static struct tape *tp, *whole; /* the second for what is encoded from scratch */
static struct rng rng;
static int n_sequences;

static void set_up(void)
{
    const char *n = getenv("EXTEND_SEQUENCES");
    n_sequences = n ? atoi(n) : 200;
    num_init();
    rng = rng_make(29, RNG_TEST);
    conf_defaults(model_opts, &cfg);
    cfg.n_items = V;
    for (int i = 0; i < 2; i++) mem[i] = arena_new("extend", 1 << 20, 0);
    tp = tape_new(mem[0], NULL);
    whole = tape_new(mem[1], NULL);
}

static void tear_down(void)
{
    tape_free(tp);
    tape_free(whole);
    for (int i = 0; i < 2; i++) arena_free(mem[i]);
    model_free(m);
    m = NULL;
}

/* Every parameter drawn, norms and biases too, so that none stands at 0 or 1. */
static void make_model(void)
{
    m = model_new(&cfg, false);
    for (int32_t i = 0; i < params_count(model_params(m)); i++) {
        const struct ten *t = &params_at(model_params(m), i)->t;
        for (int64_t j = 0; j < (int64_t)t->rows * t->cols; j++)
            t->x[j] = rng_normal(&rng) * (t->rows == 1 ? .5f : .2f) + (t->rows == 1 ? .7f : 0);
    }
}

static struct encoded encode_whole(struct seqpack *sp, const int32_t *ids, const int32_t *len,
                                   int32_t B)
{
    tape_begin(whole, 0, 0, false);
    int32_t *cu = ARENA_NEW0(mem[1], int32_t, B + 1);
    for (int32_t b = 0; b < B; b++) cu[b + 1] = cu[b] + len[b];
    int32_t *pos = ARENA_NEW(mem[1], int32_t, cu[B]);
    seqpack_positions(pos, cu, B, cfg.max_len, cfg.positions);
    *sp = (struct seqpack){ .B = B, .N = cu[B], .cu = cu, .pos = pos };
    return model_encode(m, whole, sp, ids, BETA_IN);
}

/* ---- pages ---- */

struct pages {
    float *page[MOST / EXTEND_PAGE + 1];
};

static void pages_make(struct pages *p, int32_t tokens)
{
    const size_t nb = extend_page_bytes(&cfg);
    for (int32_t i = 0; i * EXTEND_PAGE < tokens; i++) {
        p->page[i] = xaligned(nb);
        memset(p->page[i], 0xff, nb); /* NaNs */
    }
}

static void pages_free(struct pages *p, int32_t tokens)
{
    for (int32_t i = 0; i * EXTEND_PAGE < tokens; i++) free(p->page[i]);
}

/* ---- comparisons ---- */

static void same(const struct ten *a, const float *b, const char *what)
{
    ck_assert_msg(memcmp(a->x, b, (size_t)a->rows * (size_t)a->cols * sizeof *b) == 0,
                  "%s [%d,%d] differs", what, a->rows, a->cols);
}

/* The TOP items by max_k phi_k . e_v, exact. */
static void top_list(int32_t *top, const float *phi)
{
    float score[V];
    const float *item = model_items(m)->t.x;
    const int32_t K = model_interests(m), D = cfg.width;
    for (int32_t v = 0; v < V; v++) {
        score[v] = -HUGE_VALF;
        for (int32_t k = 0; k < K; k++) {
            const float s = num->vec->dot(phi + k * D, item + (ptrdiff_t)v * D, D);
            score[v] = s > score[v] ? s : score[v];
        }
    }
    for (int i = 0; i < TOP; i++) {
        top[i] = 0;
        for (int32_t v = 1; v < V; v++)
            if (score[v] > score[top[i]]) top[i] = v;
        score[top[i]] = -HUGE_VALF;
    }
}

/* ---- tests ---- */

static void check_append(const int32_t *ids, int32_t n, struct pages *p, int32_t from)
{
    struct seqpack sp, one;
    const struct extend x = { p->page, ids + from, from, n - from };
    tape_begin(tp, 0, 0, false);
    const struct encoded e = model_extend(m, tp, &sp, &x, 1);
    const struct encoded w = encode_whole(&one, ids, &n, 1);
    int32_t list[2][TOP];
    float far = 0;
    for (int32_t i = 0; i < e.phi->rows * cfg.width; i++)
        far = fmaxf(far, fabsf(e.phi->x[i] - w.phi->x[i]));
    ck_assert_msg(far <= 1e-6f, "%d events after %d: %g away", n - from, from, (double)far);
    top_list(list[0], e.phi->x);
    top_list(list[1], w.phi->x);
    ck_assert_int_eq(memcmp(list[0], list[1], sizeof *list), 0);
    same(w.phi, e.phi->x, "phi"); /* more than was asked for */
    ck_assert_int_eq(sp.N, n);
    if (!w.assign) return;
    same(w.assign, e.assign->x, "assign");
    same(w.weight, e.weight->x, "weight");
    same(w.states, e.states->x, "states");
}

static void append_at_random(void)
{
    int32_t ids[MOST];
    struct pages p = { 0 };
    pages_make(&p, cfg.max_len);
    for (int s = 0; s < n_sequences; s++) {
        const int32_t end = 2 + (int32_t)rng_below(&rng, (uint64_t)(cfg.max_len - 1));
        for (int32_t i = 0; i < end; i++) ids[i] = (int32_t)rng_below(&rng, V);
        for (int32_t from = 0, n; from < end; from = n) {
            n = from + 1 + (int32_t)rng_below(&rng, from == 0 ? 12 : 3);
            n = n < end ? n : end;
            check_append(ids, n, &p, from);
        }
    }
    pages_free(&p, cfg.max_len);
}

START_TEST(appended_events_give_the_vectors_and_the_list_of_the_whole_history)
{
    cfg.interests = _i ? 4 : 0;
    make_model();
    append_at_random();
}
END_TEST

/* D, heads, layers, L, K, activation: odd widths, more tokens than a block of attention, no blocks */
static const int32_t shapes[][6] = { { 6, 2, 1, 20, 0, 0 },   { 6, 2, 1, 20, 3, 1 },
                                     { 40, 1, 3, 17, 2, 0 },  { 16, 4, 2, 150, 0, 1 },
                                     { 16, 4, 2, 150, 4, 0 }, { 8, 2, 0, 9, 0, 0 },
                                     { 8, 2, 0, 9, 2, 0 } };

START_TEST(appending_works_for_every_shape_of_the_encoder)
{
    cfg.width = shapes[_i][0];
    cfg.heads = shapes[_i][1];
    cfg.layers = shapes[_i][2];
    cfg.max_len = shapes[_i][3];
    cfg.interests = shapes[_i][4];
    cfg.activation = shapes[_i][5];
    n_sequences = 4;
    make_model();
    append_at_random();
}
END_TEST

/* Some begin, some go on, some are not kept; the same again one by one. */
START_TEST(a_batch_of_histories_has_the_bits_of_each_alone)
{
    enum { B = 24 };
    static int32_t ids[B * 50];
    int32_t len[B], from[B], at[B + 1] = { 0 };
    struct pages p[B] = { 0 };
    struct extend x[B], before[B];
    cfg.interests = _i ? 4 : 0;
    make_model();
    for (int32_t i = 0; i < B * 50; i++) ids[i] = (int32_t)rng_below(&rng, V);
    for (int b = 0; b < B; b++) {
        len[b] = 2 + (int32_t)rng_below(&rng, b % 3 ? 48 : 8);
        from[b] = b % 2 ? 1 + (int32_t)rng_below(&rng, (uint64_t)(len[b] - 1)) : 0;
        at[b + 1] = at[b] + len[b];
        pages_make(&p[b], len[b]);
        before[b] = (struct extend){ p[b].page, ids + at[b], 0, from[b] };
        x[b] = (struct extend){ b % 4 == 2 ? NULL : p[b].page, ids + at[b] + from[b], from[b],
                                len[b] - from[b] };
        struct seqpack sp;
        tape_begin(tp, 0, 0, false);
        if (from[b]) (void)model_extend(m, tp, &sp, &before[b], 1);
    }
    struct seqpack sp, all, one;
    tape_begin(tp, 0, 0, false);
    const struct encoded e = model_extend(m, tp, &sp, x, B);
    same(encode_whole(&all, ids, len, B).phi, e.phi->x, "phi of the batch");
    ck_assert_int_eq(memcmp(sp.cu, at, sizeof at), 0);
    const int32_t rows = model_interests(m);
    for (int b = 0; b < B; b++)
        same(encode_whole(&one, ids + at[b], &len[b], 1).phi,
             e.phi->x + (ptrdiff_t)b * rows * cfg.width, "phi alone");
    for (int b = 0; b < B; b++) pages_free(&p[b], len[b]);
}
END_TEST

START_TEST(only_a_causal_encoder_that_counts_from_the_start_can_be_extended)
{
    ck_assert(extend_can(&cfg));
    cfg.positions = POS_LAST;
    ck_assert(!extend_can(&cfg));
    cfg.positions = POS_FIRST;
    cfg.causal = 0;
    ck_assert(!extend_can(&cfg));
}
END_TEST

Suite *suite_extend(void);
Suite *suite_extend(void)
{
    Suite *s = suite_create("extend");
    TCase *t = tcase_create("extend");
    tcase_set_timeout(t, 600);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, appended_events_give_the_vectors_and_the_list_of_the_whole_history,
                        0, 2);
    tcase_add_loop_test(t, appending_works_for_every_shape_of_the_encoder, 0,
                        sizeof shapes / sizeof *shapes);
    tcase_add_loop_test(t, a_batch_of_histories_has_the_bits_of_each_alone, 0, 2);
    tcase_add_test(t, only_a_causal_encoder_that_counts_from_the_start_can_be_extended);
    suite_add_tcase(s, t);
    return s;
}
