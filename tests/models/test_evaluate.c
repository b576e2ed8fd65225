/* Evaluation against the definition: every user encoded by himself, every item scored and counted. */
#include "core/num/num.h"
#include "models/evaluate.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static struct dataset ds;

static void set_up(void)
{
    num_init();
    dir = fixture_tmpdir();
    data_random(&ds, dir, 60, 50, 12, 9);
}

static void tear_down(void)
{
    dataset_close(&ds);
    fixture_rmdir(dir);
    free(dir);
}

static struct model *small_model(int32_t interests, float active_share)
{
    struct model_cfg c;
    conf_defaults(model_opts, &c);
    c.width = 16;
    c.layers = 1;
    c.max_len = 6; /* shorter than the longest history */
    c.interests = interests;
    c.active_share = active_share;
    c.init_std = 0.3f;
    c.n_items = ds.n_items;
    struct model *m = model_new(&c, false);
    params_init(model_params(m), 2);
    return m;
}

struct user {
    float phi[8 * 16], share[8];
    int32_t K;
};

static void encode_user(struct user *u, const struct model *m, const int32_t *hist, int32_t len)
{
    struct arena *mem = arena_new("t", 1 << 14, 0);
    struct tape *tp = tape_new(mem, NULL);
    int32_t L = model_config(m)->max_len, used = len < L ? len : L, cu[2] = { 0, used }, pos[8];
    seqpack_positions(pos, cu, 1, L, (enum pos_from)model_config(m)->positions);
    struct seqpack sp = { .B = 1, .N = used, .cu = cu, .pos = pos };
    tape_begin(tp, 0, 0, false);
    struct encoded e = model_encode(m, tp, &sp, hist + len - used, BETA_IN);
    u->K = model_interests(m);
    memcpy(u->phi, e.phi->x, (size_t)u->K * 16 * sizeof(float));
    model_shares(u->share, m, &e, &sp);
    tape_free(tp);
    arena_free(mem);
}

/* Maximum over the interests that are active. */
static double score(const struct user *u, const struct model *m, int32_t item)
{
    double best = -INFINITY;
    for (int32_t k = 0; k < u->K; k++) {
        if (u->share[k] < model_config(m)->active_share) continue;
        double dot = 0;
        for (int32_t i = 0; i < 16; i++)
            dot += (double)u->phi[k * 16 + i] * (double)model_items(m)->t.x[item * 16 + i];
        best = fmax(best, dot);
    }
    return best;
}

static bool in_history(const int32_t *hist, int32_t len, int32_t item)
{
    for (int32_t i = 0; i < len; i++)
        if (hist[i] == item) return true;
    return false;
}

/* Rank of the answer: candidates with a higher score, or an equal one and a lower row; -1 when it is masked. */
static int64_t rank_of(const struct user *u, const struct model *m, const int32_t *hist,
                       int32_t len, int32_t answer, enum seen seen)
{
    int64_t rank = 0;
    bool seen_answer = in_history(hist, len, answer);
    if (seen == SEEN_MASK && seen_answer) return -1;
    double own = seen == SEEN_ZERO && seen_answer ? 0 : score(u, m, answer);
    for (int32_t v = 0; v < ds.n_items; v++) {
        bool old = in_history(hist, len, v);
        if (v == answer || (seen == SEEN_MASK && old)) continue;
        double s = seen == SEEN_ZERO && old ? 0 : score(u, m, v);
        rank += s > own || (s == own && v < answer);
    }
    return rank;
}

struct expected {
    struct metrics metrics;
    double share[8], active;
};

static struct expected by_definition(const struct model *m, enum split split, enum seen seen)
{
    struct expected x = { 0 };
    for (int32_t i = 0; i < ds.n_users; i++) {
        const int32_t *hist;
        int32_t len, answer;
        struct user u;
        if (!dataset_case(&ds, i, split, &hist, &len, &answer)) continue;
        encode_user(&u, m, hist, len);
        metrics_add(&x.metrics, rank_of(&u, m, hist, len, answer, seen));
        for (int32_t k = 0; k < u.K; k++) {
            x.share[k] += (double)u.share[k];
            x.active += u.share[k] >= model_config(m)->active_share;
        }
    }
    for (int32_t k = 0; k < 8; k++) x.share[k] /= (double)x.metrics.n;
    x.active /= (double)x.metrics.n;
    metrics_mean(&x.metrics);
    return x;
}

static void same_metrics(const struct metrics *a, const struct metrics *b, double within)
{
    ck_assert_int_eq(a->n, b->n);
    for (int c = 0; c < RANK_CUTS; c++) {
        ck_assert_double_eq_tol(a->hr[c], b->hr[c], within);
        ck_assert_double_eq_tol(a->ndcg[c], b->ndcg[c], within);
        ck_assert_double_eq_tol(a->mrr[c], b->mrr[c], within);
    }
}

static const struct {
    int32_t interests;
    float active_share; /* .3: some interests of some users are not active */
    enum split split;
    enum seen seen;
} cases[] = {
    { 0, 0.01f, SPLIT_VALID, SEEN_MASK }, { 0, 0.01f, SPLIT_TEST, SEEN_KEEP },
    { 3, 0, SPLIT_TEST, SEEN_MASK },      { 3, 0.3f, SPLIT_TEST, SEEN_MASK },
    { 3, 0.3f, SPLIT_VALID, SEEN_ZERO },
};

START_TEST(metrics_are_those_of_the_definition)
{
    struct model *m = small_model(cases[_i].interests, cases[_i].active_share);
    struct expected want = by_definition(m, cases[_i].split, cases[_i].seen);
    struct err e = { 0 };
    for (int threads = 1; threads <= 2; threads++) {
        struct evaluation v;
        struct par *pool = par_new(threads);
        int rc = evaluate(
            &v, m, &ds,
            &(struct evaluate_opts){ .split = cases[_i].split, .seen = cases[_i].seen }, pool,
            &e);
        par_free(pool);
        ck_assert_msg(rc == 0, "%s", e.msg);
        ck_assert_int_ge(v.metrics.n, 40);
        same_metrics(&v.metrics, &want.metrics, 1e-12);
        for (int32_t k = 0; k < v.K; k++)
            ck_assert_double_eq_tol(v.share[k], want.share[k], 1e-6);
        ck_assert_double_eq_tol(v.active, want.active, 1e-12);
        ck_assert(v.K < 2 ? v.cosine == 0 : v.cosine > -1 && v.cosine < 1);
    }
    if (cases[_i].active_share > 0.1f)
        ck_assert_msg(want.active > 1 && want.active < 3, "%g active: not what is to be tested",
                      want.active);
    model_free(m);
}
END_TEST

START_TEST(json_has_every_cut_and_the_interests)
{
    struct evaluation v = { .K = 2, .share = { .25, .75 }, .cosine = .5, .active = 1.5 };
    for (int c = 0; c < RANK_CUTS; c++) v.metrics.hr[c] = .1 * c;
    json_t *o = metrics_json(&v.metrics), *i = interests_json(&v);
    ck_assert_uint_eq(json_object_size(o), 4 * RANK_CUTS);
    ck_assert_double_eq(json_number_value(json_object_get(o, "hr@20")), .2);
    ck_assert_double_eq(json_number_value(json_object_get(o, "recall@100")), .4);
    ck_assert_double_eq(json_number_value(json_object_get(o, "ndcg@5")), 0);
    ck_assert_double_eq(json_number_value(json_array_get(json_object_get(i, "share"), 1)), .75);
    ck_assert_double_eq(json_number_value(json_object_get(i, "mean_cosine")), .5);
    json_decref(o);
    json_decref(i);
    v.K = 1;
    i = interests_json(&v);
    ck_assert(json_is_null(i));
    json_decref(i);
}
END_TEST

START_TEST(noise_changes_what_is_encoded_alike_for_any_number_of_threads)
{
    struct model *m = small_model(0, 0);
    struct evaluate_opts o = { .split = SPLIT_TEST, .seen = SEEN_MASK };
    struct evaluation clean, noisy, again;
    struct err e = { 0 };
    struct par *pool = par_new(2);
    ck_assert_int_eq(evaluate(&clean, m, &ds, &o, NULL, &e), 0);
    o.noise = 0.5f;
    ck_assert_int_eq(evaluate(&noisy, m, &ds, &o, NULL, &e), 0);
    ck_assert_int_eq(evaluate(&again, m, &ds, &o, pool, &e), 0);
    ck_assert_mem_eq(&noisy.metrics, &again.metrics, sizeof noisy.metrics);
    ck_assert(memcmp(&noisy.metrics, &clean.metrics, sizeof noisy.metrics) != 0);
    par_free(pool);
    model_free(m);
}
END_TEST

Suite *suite_evaluate(void);
Suite *suite_evaluate(void)
{
    Suite *s = suite_create("evaluate");
    TCase *t = tcase_create("evaluate");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, noise_changes_what_is_encoded_alike_for_any_number_of_threads);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, metrics_are_those_of_the_definition, 0,
                        sizeof cases / sizeof cases[0]);
    tcase_add_test(t, json_has_every_cut_and_the_interests);
    suite_add_tcase(s, t);
    return s;
}
