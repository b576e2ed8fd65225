#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/eval/rank.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static struct dataset d;
static struct err e;

static void set_up(void)
{
    dir = fixture_tmpdir();
    e = (struct err){ 0 };
}

static void tear_down(void)
{
    if (d.cu) dataset_close(&d);
    fixture_rmdir(dir);
    free(dir);
}

/* A made-up encoder: the vectors are a function of the newest item, the length and k, with entries that
 * are small multiples of 1/8, so that scores are exact in any order of adding and ties occur. */
struct toy {
    int32_t K, D, calls, n_max;
    bool nan, fail;
};

static float toy_value(int32_t item, int32_t len, int32_t k, int32_t j)
{
    return (float)(rng_hash((uint64_t)item * 131 + (uint64_t)len,
                            (uint64_t)k * 64 + (uint64_t)j) %
                   9) /
               8 -
           0.5f;
}

static int toy_encode(void *ctx, float *q, const int32_t *const *hist, const int32_t *len,
                      int32_t n, struct err *err)
{
    struct toy *t = ctx;
    t->calls++;
    if (n > t->n_max) t->n_max = n;
    if (t->fail) return err_set(err, ERR_INTERNAL, "encoder failed");
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < t->K; k++)
            for (int32_t j = 0; j < t->D; j++)
                *q++ = t->nan ? NAN : toy_value(hist[i][len[i] - 1], len[i], k, j);
    return 0;
}

static float *toy_items(int32_t D)
{
    float *x = xmalloc((size_t)d.n_items * (size_t)D * sizeof *x);
    struct rng r = rng_make(9, RNG_TEST);
    for (int64_t i = 0; i < (int64_t)d.n_items * D; i++)
        x[i] = (float)rng_below(&r, 9) / 8 - 0.5f;
    return x;
}

static bool holds(const int32_t *h, int32_t n, int32_t v)
{
    while (n--)
        if (h[n] == v) return true;
    return false;
}

/* The definition, one user: -1 without a case. */
static int64_t plain_rank(int32_t u, const struct rank_cfg *cfg)
{
    const int32_t *hist;
    int32_t len, answer;
    if (!dataset_case(&d, u, cfg->split, &hist, &len, &answer)) return -1;
    double *s = xmalloc((size_t)d.n_items * sizeof *s);
    for (int32_t v = 0; v < d.n_items; v++) {
        s[v] = -HUGE_VAL;
        for (int32_t k = 0; k < cfg->K; k++) {
            double dot = 0;
            for (int32_t j = 0; j < cfg->D; j++)
                dot += (double)toy_value(hist[len - 1], len, k, j) *
                       (double)cfg->items[v * cfg->D + j];
            if (dot > s[v]) s[v] = dot;
        }
        if (holds(hist, len, v) && cfg->seen == SEEN_ZERO) s[v] = 0;
        if (holds(hist, len, v) && cfg->seen == SEEN_MASK) s[v] = -HUGE_VAL;
    }
    int64_t rank = 0;
    for (int32_t v = 0; v < d.n_items; v++)
        rank += s[v] > s[answer] || (s[v] == s[answer] && v < answer);
    if (s[answer] == -HUGE_VAL) rank = d.n_items;
    free(s);
    return rank;
}

static const struct {
    int32_t K, D, n_items, block;
    enum seen seen;
    enum split split;
    int threads;
} cases[] = {
    { 1, 8, 50, 0, SEEN_MASK, SPLIT_TEST, 1 },   { 1, 8, 50, 0, SEEN_KEEP, SPLIT_TEST, 2 },
    { 1, 8, 50, 7, SEEN_ZERO, SPLIT_VALID, 2 },  { 4, 8, 50, 1, SEEN_MASK, SPLIT_TEST, 2 },
    { 4, 5, 53, 0, SEEN_KEEP, SPLIT_VALID, 1 },  { 3, 8, 3000, 0, SEEN_MASK, SPLIT_TEST, 2 },
    { 1, 8, 3000, 0, SEEN_ZERO, SPLIT_TEST, 1 }, { 64, 4, 40, 0, SEEN_KEEP, SPLIT_TEST, 2 },
};

START_TEST(ranks_equal_the_definition_ties_included)
{
    data_random(&d, dir, 300, cases[_i].n_items, 12, 1);
    struct toy t = { .K = cases[_i].K, .D = cases[_i].D };
    float *items = toy_items(t.D);
    struct rank_cfg cfg = { .split = cases[_i].split,
                            .seen = cases[_i].seen,
                            .K = t.K,
                            .D = t.D,
                            .items = items,
                            .block = cases[_i].block };
    struct par *pool = par_new(cases[_i].threads);
    int64_t *rank = xcalloc((size_t)d.n_users, sizeof *rank), n = 0;
    struct metrics m, want = { 0 };
    ck_assert_msg(rank_eval(&m, rank, &d, &cfg, toy_encode, &t, pool, &e) == 0, "%s", e.msg);
    for (int32_t u = 0; u < d.n_users; u++) {
        int64_t r = plain_rank(u, &cfg);
        ck_assert_msg(rank[u] == r, "user %d: %lld, by definition %lld", u, (long long)rank[u],
                      (long long)r);
        n += r >= 0;
        if (r >= 0) metrics_add(&want, r < d.n_items ? r : -1);
    }
    metrics_mean(&want);
    ck_assert_int_eq(m.n, n);
    ck_assert_mem_eq(&m, &want, sizeof m);
    int32_t block = cfg.block ? cfg.block : 256;
    ck_assert_int_le(t.n_max, block);
    ck_assert_int_eq(t.calls, (n + block - 1) / block);
    par_free(pool);
    free(items);
    free(rank);
}
END_TEST

START_TEST(some_users_are_spread_evenly_over_all)
{
    data_random(&d, dir, 300, 40, 12, 1);
    struct toy t = { .K = 1, .D = 4 };
    float *items = toy_items(t.D);
    struct rank_cfg cfg = { .split = SPLIT_TEST, .K = 1, .D = t.D, .items = items };
    int64_t *all = xcalloc((size_t)d.n_users, sizeof *all);
    int64_t *some = xcalloc((size_t)d.n_users, sizeof *some);
    struct metrics m;
    ck_assert_int_eq(rank_eval(&m, all, &d, &cfg, toy_encode, &t, NULL, &e), 0);
    static const int32_t asked[] = { 1, 7, 150, 299, 300, 1000 };
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        cfg.users = asked[i];
        ck_assert_int_eq(rank_eval(&m, some, &d, &cfg, toy_encode, &t, NULL, &e), 0);
        int32_t n = 0, half = 0;
        for (int32_t u = 0; u < d.n_users; u++) {
            if (some[u] == -1) continue;
            ck_assert_int_eq(some[u], all[u]);
            n++;
            half += u < d.n_users / 2;
        }
        int32_t most = asked[i] < d.n_users ? asked[i] : d.n_users;
        ck_assert_int_eq(m.n, n);
        ck_assert_int_le(n, most);
        ck_assert_int_le(abs(half - n / 2), 1 + most / 20);
        if (most == d.n_users) ck_assert_mem_eq(some, all, (size_t)n * sizeof *all);
    }
    free(items);
    free(all);
    free(some);
}
END_TEST

/* How often each item is among the first of the definition's lists. */
static void plain_shown(int64_t *shown, const struct rank_cfg *cfg)
{
    for (int32_t u = 0; u < d.n_users; u++) {
        const int32_t *hist;
        int32_t len, answer;
        if (!dataset_case(&d, u, cfg->split, &hist, &len, &answer)) continue;
        float *s = xmalloc((size_t)d.n_items * sizeof *s);
        for (int32_t v = 0; v < d.n_items; v++) {
            s[v] = -INFINITY;
            for (int32_t k = 0; k < cfg->K; k++) {
                float dot = 0;
                for (int32_t j = 0; j < cfg->D; j++)
                    dot += toy_value(hist[len - 1], len, k, j) * cfg->items[v * cfg->D + j];
                if (dot > s[v]) s[v] = dot;
            }
            if (holds(hist, len, v)) s[v] = -INFINITY;
        }
        for (int n = 0; n < SHOWN_DEPTH; n++) {
            int32_t best = 0;
            for (int32_t v = 1; v < d.n_items; v++)
                if (s[v] > s[best]) best = v;
            if (s[best] == -INFINITY) break;
            shown[best]++;
            s[best] = -INFINITY;
        }
        free(s);
    }
}

START_TEST(lists_are_counted_as_the_definition_has_them)
{
    data_random(&d, dir, 200, _i ? 25 : 300, 12,
                1); /* 25: masked histories leave fewer than a list */
    struct toy t = { .K = 2, .D = 8 };
    float *items = toy_items(t.D);
    int64_t *shown = xcalloc((size_t)d.n_items, sizeof *shown);
    int64_t *want = xcalloc((size_t)d.n_items, sizeof *want);
    struct rank_cfg cfg = {
        .split = SPLIT_TEST, .seen = SEEN_MASK, .K = 2, .D = 8, .items = items, .shown = shown
    };
    struct metrics m;
    struct par *pool = par_new(2);
    ck_assert_int_eq(rank_eval(&m, NULL, &d, &cfg, toy_encode, &t, pool, &e), 0);
    plain_shown(want, &cfg);
    ck_assert_mem_eq(shown, want, (size_t)d.n_items * sizeof *want);
    par_free(pool);
    free(items);
    free(shown);
    free(want);
}
END_TEST

START_TEST(a_masked_answer_counts_as_not_found)
{
    data_from_text(&d, dir, "u1 a b c a\nu2 a b c\n");
    float items[3] = { 0 };
    struct toy t = { .K = 1, .D = 1 };
    struct rank_cfg cfg = {
        .split = SPLIT_TEST, .seen = SEEN_MASK, .K = 1, .D = 1, .items = items
    };
    struct metrics m;
    int64_t rank[2];
    ck_assert_int_eq(rank_eval(&m, rank, &d, &cfg, toy_encode, &t, NULL, &e), 0);
    ck_assert_int_eq(rank[0], 3);
    ck_assert_int_eq(rank[1], 0); /* a and b are masked, c is left */
    ck_assert(m.hr[0] == 0.5);
    cfg.seen = SEEN_KEEP;
    ck_assert_int_eq(rank_eval(&m, rank, &d, &cfg, toy_encode, &t, NULL, &e), 0);
    ck_assert_int_eq(rank[0], 0);
    ck_assert_int_eq(rank[1], 2); /* all equal: the lower rows come first */
}
END_TEST

START_TEST(a_score_that_is_not_a_number_names_the_user)
{
    data_from_text(&d, dir, "short a b\nlong a b c d\n");
    for (int32_t K = 1; K <= 3; K += 2) {
        float items[4] = { 1, 2, 3, 4 };
        struct toy t = { .K = K, .D = 1, .nan = true };
        struct rank_cfg cfg = {
            .split = SPLIT_TEST, .seen = SEEN_KEEP, .K = K, .D = 1, .items = items
        };
        struct metrics m;
        e = (struct err){ 0 };
        ck_assert_int_eq(rank_eval(&m, NULL, &d, &cfg, toy_encode, &t, NULL, &e), ERR_INTERNAL);
        ck_assert_msg(strstr(e.msg, "user long") != NULL, "%s", e.msg);
        t.nan = false;
        for (int bad = 0; bad < 4; bad++) { /* in any lane, and not only the answer's */
            float keep = items[bad];
            items[bad] = NAN;
            e = (struct err){ 0 };
            ck_assert_int_eq(rank_eval(&m, NULL, &d, &cfg, toy_encode, &t, NULL, &e),
                             ERR_INTERNAL);
            items[bad] = keep;
        }
    }
}
END_TEST

START_TEST(an_error_of_the_encoder_is_passed_on)
{
    data_from_text(&d, dir, "u a b c d\n");
    float items[4] = { 0 };
    struct toy t = { .K = 1, .D = 1, .fail = true };
    struct rank_cfg cfg = { .split = SPLIT_TEST, .K = 1, .D = 1, .items = items };
    struct metrics m;
    ck_assert_int_eq(rank_eval(&m, NULL, &d, &cfg, toy_encode, &t, NULL, &e), ERR_INTERNAL);
    ck_assert_str_eq(e.msg, "encoder failed");
}
END_TEST

START_TEST(without_cases_the_metrics_are_zero)
{
    data_from_text(&d, dir, "u a b\nv a\n");
    float items[2] = { 0 };
    struct toy t = { .K = 1, .D = 1 };
    struct rank_cfg cfg = { .split = SPLIT_TEST, .K = 1, .D = 1, .items = items };
    struct metrics m;
    int64_t rank[2];
    ck_assert_int_eq(rank_eval(&m, rank, &d, &cfg, toy_encode, &t, NULL, &e), 0);
    ck_assert_int_eq(m.n, 0);
    ck_assert_int_eq(t.calls, 0);
    ck_assert_int_eq(rank[0], -1);
    ck_assert(m.hr[0] == 0 && m.ndcg[4] == 0);
}
END_TEST

START_TEST(metrics_are_those_of_the_definition)
{
    struct metrics m = { 0 };
    metrics_add(&m, 0);
    metrics_add(&m, 4);
    metrics_add(&m, 5);
    metrics_add(&m, -1);
    metrics_add(&m, 100);
    metrics_mean(&m);
    ck_assert_int_eq(m.n, 5);
    ck_assert_double_eq_tol(m.hr[0], 2.0 / 5, 1e-15);
    ck_assert_double_eq_tol(m.hr[1], 3.0 / 5, 1e-15);
    ck_assert_double_eq_tol(m.hr[4], 3.0 / 5, 1e-15);
    ck_assert_double_eq_tol(m.ndcg[0], (1 + 1 / log2(6)) / 5, 1e-15);
    ck_assert_double_eq_tol(m.ndcg[2], (1 + 1 / log2(6) + 1 / log2(7)) / 5, 1e-15);
    ck_assert_double_eq_tol(m.mrr[1], (1 + 1 / 5.0 + 1 / 6.0) / 5, 1e-15);
}
END_TEST

START_TEST(the_table_has_a_column_for_every_cut)
{
    struct metrics m = {
        .n = 3, .hr = { .1, .2, .3, .4, .5 }, .ndcg = { .05 }, .mrr = { [4] = 1 }
    };
    char *text = NULL;
    size_t nb = 0;
    FILE *f = open_memstream(&text, &nb);
    metrics_table(&m, "itemcf", f);
    fclose(f);
    ck_assert_str_eq(text, "itemcf                @5     @10     @20     @50    @100\n"
                           "  HR              0.1000  0.2000  0.3000  0.4000  0.5000\n"
                           "  NDCG            0.0500  0.0000  0.0000  0.0000  0.0000\n"
                           "  MRR             0.0000  0.0000  0.0000  0.0000  1.0000\n");
    free(text);
}
END_TEST

Suite *suite_rank(void);
Suite *suite_rank(void)
{
    Suite *s = suite_create("rank");
    TCase *t = tcase_create("rank");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, ranks_equal_the_definition_ties_included, 0,
                        sizeof cases / sizeof *cases);
    tcase_add_loop_test(t, lists_are_counted_as_the_definition_has_them, 0, 2);
    tcase_add_test(t, some_users_are_spread_evenly_over_all);
    tcase_add_test(t, a_masked_answer_counts_as_not_found);
    tcase_add_test(t, a_score_that_is_not_a_number_names_the_user);
    tcase_add_test(t, an_error_of_the_encoder_is_passed_on);
    tcase_add_test(t, without_cases_the_metrics_are_zero);
    tcase_add_test(t, metrics_are_those_of_the_definition);
    tcase_add_test(t, the_table_has_a_column_for_every_cut);
    suite_add_tcase(s, t);
    return s;
}
