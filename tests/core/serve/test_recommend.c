#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/recommend.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static struct gen *gen;
static struct corpus corpus;
static struct rec_worker *worker;
static struct rec_request req;
static struct rec_answer ans;

static void open_fixture(const struct fixture *fx)
{
    struct err e = { 0 };
    char *path = xasprintf("%s/%s", dir, fx->name);
    fixture_bundle(fx, dir);
    ck_assert_msg(gen_open(&gen, path, &e) == 0, "%s", e.msg);
    corpus = (struct corpus){ .gen = gen };
    free(path);
}

static void setup(void)
{
    num_init();
    dir = fixture_tmpdir();
    worker = rec_worker_new();
    gen = NULL;
    rec_request_defaults(&req);
}

static void teardown(void)
{
    rec_worker_free(worker);
    gen_unref(gen);
    fixture_rmdir(dir);
    free(dir);
}

/* The fixture's ids of rows; free_ids. */
static struct str *ids_of(const int32_t *row, int32_t n)
{
    struct str *s = xcalloc((size_t)n + 1, sizeof *s);
    for (int32_t i = 0; i < n; i++) {
        char *text = xasprintf("i%d", row[i]);
        s[i] = (struct str){ text, (int32_t)strlen(text) };
    }
    return s;
}

static void free_ids(struct str *s, int32_t n)
{
    for (int32_t i = 0; i < n; i++) free((char *)(uintptr_t)s[i].p);
    free(s);
}

static void ask(void)
{
    struct err e = { 0 };
    ck_assert_msg(recommend(&ans, worker, &corpus, &req, &e) == 0, "%s", e.msg);
}

static void ask_rows(const int32_t *row, int32_t n)
{
    struct str *s = ids_of(row, n);
    req.history = s;
    req.n_history = n;
    ask();
    req.history = NULL;
    req.n_history = 0;
    free_ids(s, n);
}

/* ---- the exact ranking, independent of index and merge ---- */

static const float *sort_score;
static int by_score(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sort_score[x] != sort_score[y]) return sort_score[x] > sort_score[y] ? -1 : 1;
    return x - y;
}

/* Rows by max over the interests of share >= threshold; left-out rows get -inf. */
static void rank_exactly(int32_t *rank, float *score, const struct rec_answer *v,
                         float threshold, const int32_t *hist, int32_t n_hist)
{
    int32_t V = gen_info(gen)->n_items;
    const float *item = model_items(gen_model(gen))->t.x;
    for (int32_t r = 0; r < V; r++) {
        rank[r] = r;
        score[r] = -INFINITY;
        for (int32_t k = 0; k < v->n_interests; k++) {
            int32_t D = gen_info(gen)->D;
            float s = num->vec->dot(v->phi + k * D, item + (size_t)r * (size_t)D, D);
            if (v->interest[k].share >= threshold && s > score[r]) score[r] = s;
        }
    }
    for (int32_t i = 0; i < n_hist; i++) score[hist[i]] = -INFINITY;
    sort_score = score;
    qsort(rank, (size_t)V, sizeof *rank, by_score);
}

static const struct {
    int32_t V, K, L, limit;
    bool hnsw, keep;
    float active_share;
} worlds[] = {
    { 40, 4, 8, 10, false, false, 0.01f },    { 40, 0, 8, 10, false, false, 0.01f },
    { 500, 4, 50, 100, false, false, 0.01f }, { 500, 4, 50, 20, false, true, 0.24f },
    { 500, 8, 20, 10, true, false, 0.05f },   { 1, 2, 3, 5, false, true, 0.01f },
    { 300, 1, 10, 300, false, false, 0.0f },
};

START_TEST(recommend_equals_the_exact_ranking)
{
    struct fixture fx = fixture_defaults();
    fx.V = worlds[_i].V;
    fx.K = worlds[_i].K;
    fx.L = worlds[_i].L;
    fx.hnsw = worlds[_i].hnsw;
    fx.active_share = worlds[_i].active_share;
    open_fixture(&fx);
    req.limit = worlds[_i].limit;
    req.exclude_seen = !worlds[_i].keep;
    int32_t *rank = xcalloc((size_t)fx.V, sizeof *rank),
            *hist = xcalloc((size_t)fx.L, sizeof *hist);
    float *score = xcalloc((size_t)fx.V, sizeof *score);
    struct rng rng = rng_make(5, RNG_TEST);
    struct rec_worker *other = rec_worker_new();
    for (int trial = 0; trial < 50; trial++) {
        int32_t n = 1 + (int32_t)rng_below(&rng, (uint32_t)fx.L);
        for (int32_t i = 0; i < n; i++) hist[i] = (int32_t)rng_below(&rng, (uint32_t)fx.V);
        struct str *s = ids_of(hist, n);
        struct rec_answer v;
        req.history = s;
        req.n_history = n;
        req.encode_only = true;
        ck_assert_int_eq(recommend(&v, other, &corpus, &req, NULL), 0);
        req.encode_only = false;
        free_ids(s, n);
        rank_exactly(rank, score, &v, fx.K ? fx.active_share : 0, hist,
                     req.exclude_seen ? n : 0);
        ask_rows(hist, n);
        ck_assert_ptr_null(ans.fallback);
        ck_assert_int_eq(ans.received, n);
        ck_assert_int_eq(ans.used, n);
        int32_t want = 0;
        while (want < fx.V && want < req.limit && score[rank[want]] > -INFINITY) want++;
        ck_assert_int_eq(ans.n_items, want);
        for (int32_t i = 0; i < want; i++) {
            ck_assert_int_eq(ans.item[i].row, rank[i]);
            ck_assert(ans.item[i].score == score[rank[i]]);
        }
    }
    rec_worker_free(other);
    free(rank);
    free(hist);
    free(score);
}
END_TEST

START_TEST(recommend_interest_is_the_argmax_and_explain_adds_up)
{
    struct fixture fx = fixture_defaults();
    fx.V = 200;
    open_fixture(&fx);
    req.explain = true;
    req.limit = 30;
    req.candidates = 30;
    static const int32_t hist[] = { 3, 9, 9, 27, 81, 120 };
    ask_rows(hist, 6);
    ck_assert_int_eq(ans.n_interests, 4);
    float total = 0;
    int32_t fetched = 0;
    for (int32_t k = 0; k < 4; k++) {
        const struct rec_interest *in = &ans.interest[k];
        ck_assert_int_eq(in->index, k);
        ck_assert(in->active);
        ck_assert_int_eq(in->n_events, 6); /* an item met twice is two events */
        float sum = 0;
        for (int32_t i = 0; i < 6; i++) {
            sum += in->event[i].weight;
            ck_assert(i == 0 || in->event[i].weight <= in->event[i - 1].weight);
        }
        ck_assert(fabsf(sum - 1) < 1e-5f);
        ck_assert(in->norm > 0);
        total += in->share;
        fetched += in->fetched;
    }
    ck_assert(fabsf(total - 1) < 1e-5f);
    ck_assert_int_eq(ans.plan.fetched, fetched);
    ck_assert_int_eq(fetched, 4 * 30);
    ck_assert_int_le(ans.plan.after_dedup, fetched);
    for (int32_t i = 0; i < ans.n_items; i++) {
        const struct rec_item *it = &ans.item[i];
        for (int32_t k = 0; k < 4; k++) ck_assert(it->by_interest[k] <= it->score);
        ck_assert(it->by_interest[it->interest] == it->score);
        ck_assert_int_ge(it->rank_in_interest, 1);
    }
    ck_assert_int_eq(ans.item[0].rank_in_interest, 1);
}
END_TEST

START_TEST(recommend_explains_the_place_of_an_item_in_its_interest)
{
    struct fixture fx = fixture_defaults();
    fx.V = 60;
    fx.scale = 4;
    open_fixture(&fx);
    static const int32_t hist[] = { 3, 9, 27, 40 };
    req.explain = true;
    req.exclude_seen = false;
    req.limit = 60;
    req.candidates = 60; /* every item is a candidate, and returned */
    ask_rows(hist, 4);
    ck_assert_int_eq(ans.n_items, 60);
    for (int32_t i = 0; i < 60; i++) {
        const struct rec_item *it = &ans.item[i], *other;
        int32_t rank = 1, k = it->interest;
        for (int32_t j = 0; j < 60; j++) {
            other = &ans.item[j];
            rank += other->by_interest[k] > it->score ||
                    (other->by_interest[k] == it->score && other->row < it->row);
        }
        ck_assert_int_eq(it->rank_in_interest, rank);
    }
}
END_TEST

START_TEST(recommend_does_not_depend_on_explain_or_on_what_was_asked_before)
{
    struct fixture fx = fixture_defaults();
    fx.V = 200;
    open_fixture(&fx);
    static const int32_t hist[] = { 3, 9, 27 }, other[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    struct rec_item first[20];
    ask_rows(hist, 3);
    ck_assert_int_eq(ans.n_items, 20);
    for (int32_t i = 0; i < 20; i++) first[i] = ans.item[i];
    ask_rows(other, 8);
    req.explain = true;
    ask_rows(hist, 3);
    for (int32_t i = 0; i < 20; i++) {
        ck_assert_int_eq(ans.item[i].row, first[i].row);
        ck_assert(ans.item[i].score == first[i].score);
        ck_assert_int_eq(ans.item[i].interest, first[i].interest);
    }
}
END_TEST

START_TEST(recommend_uses_the_newest_events_and_excludes_all)
{
    struct fixture fx = fixture_defaults();
    open_fixture(&fx);
    int32_t hist[20];
    for (int32_t i = 0; i < 20; i++) hist[i] = i;
    req.limit = 40;
    ask_rows(hist, 20);
    ck_assert_int_eq(ans.used, 8);
    ck_assert_int_eq(ans.truncated, 12);
    ck_assert_int_eq(ans.n_items, 20);
    for (int32_t i = 0; i < ans.n_items; i++) ck_assert_int_ge(ans.item[i].row, 20);
    float best = ans.item[0].score;
    ask_rows(hist + 12, 8);
    ck_assert_int_eq(ans.n_items, 32);
    struct str *older = ids_of(hist, 12);
    req.exclude = older;
    req.n_exclude = 12;
    ask_rows(hist + 12, 8);
    ck_assert(ans.item[0].score == best); /* the same eight events were encoded */
    req.exclude = NULL;
    req.n_exclude = 0;
    free_ids(older, 12);
}
END_TEST

START_TEST(recommend_skips_unknown_items_and_counts_them)
{
    struct fixture fx = fixture_defaults();
    open_fixture(&fx);
    static const struct str hist[] = {
        { "nope", 4 }, { "i1", 2 }, { "i1x", 3 }, { "i2", 2 }, { "i22", 1 }
    };
    static const int32_t known[] = { 1, 2 };
    ask_rows(known, 2);
    int32_t row = ans.item[0].row;
    float score = ans.item[0].score;
    req.history = hist;
    req.n_history = 5;
    ask();
    ck_assert_int_eq(ans.received, 5);
    ck_assert_int_eq(ans.used, 2);
    ck_assert_int_eq(ans.unknown, 3);
    ck_assert_int_eq(ans.truncated, 0);
    ck_assert_int_eq(ans.item[0].row, row);
    ck_assert(ans.item[0].score == score);

    struct err e = { 0 };
    req.unknown = REC_UNKNOWN_ERROR;
    ck_assert_int_eq(recommend(&ans, worker, &corpus, &req, &e), ERR_UNKNOWN_ITEMS);
    ck_assert_ptr_nonnull(strstr(e.msg, "\"nope\""));
}
END_TEST

START_TEST(recommend_keeps_the_newest_of_an_endless_history)
{
    struct fixture fx = fixture_defaults();
    open_fixture(&fx);
    int32_t n = LIMIT_HISTORY + 5, *hist = xcalloc((size_t)n, sizeof *hist);
    for (int32_t i = 0; i < n; i++) hist[i] = i < 5 ? 39 : i % 7;
    req.limit = 40;
    ask_rows(hist, n);
    ck_assert_int_eq(ans.received, n);
    ck_assert_int_eq(ans.used, 8);
    ck_assert_int_eq(ans.truncated, n - 8);
    ck_assert_int_eq(ans.n_items, 33); /* item 39 was too old even to be excluded */
    free(hist);
}
END_TEST

START_TEST(recommend_falls_back_to_popular_items)
{
    struct fixture fx = fixture_defaults();
    open_fixture(&fx);
    static const struct str unknown[] = { { "x", 1 } },
                            exclude[] = { { "i7", 2 }, { "i14", 3 }, { "nope", 4 } };
    ask();
    ck_assert_str_eq(ans.fallback, "empty_history");
    ck_assert_str_eq(ans.fallback_used, "popular");
    ck_assert_int_eq(ans.n_items, 20);
    ck_assert_int_eq(ans.n_interests, 0);
    ck_assert_int_eq(ans.item[0].row,
                     7); /* popularity (7 r) % 50: 49 at row 7, then 48 at 14 */
    ck_assert_int_eq(ans.item[1].row, 14);
    ck_assert_int_eq(ans.item[0].interest, -1);
    ck_assert(ans.item[0].score == 1);
    ck_assert(ans.item[1].score == (float)(48.0 / 49));

    req.history = unknown;
    req.n_history = 1;
    req.exclude = exclude;
    req.n_exclude = 3;
    req.limit = 2;
    ask();
    ck_assert_str_eq(ans.fallback, "all_items_unknown");
    ck_assert_int_eq(ans.item[0].row, 21);
    ck_assert_int_eq(ans.n_items, 2);

    req.fallback = REC_FALLBACK_NONE;
    ask();
    ck_assert_str_eq(ans.fallback, "all_items_unknown");
    ck_assert_str_eq(ans.fallback_used, "none");
    ck_assert_int_eq(ans.n_items, 0);
}
END_TEST

START_TEST(recommend_searches_only_active_interests)
{
    struct fixture fx = fixture_defaults();
    fx.V = 200;
    fx.active_share = 0.25f; /* about half of four random interests reach their fair share */
    open_fixture(&fx);
    static const int32_t hist[] = { 3, 9, 27 };
    req.candidates = 100;
    ask_rows(hist, 3);
    int32_t active = 0;
    for (int32_t k = 0; k < 4; k++) {
        const struct rec_interest *in = &ans.interest[k];
        ck_assert_int_eq(in->active, in->share >= 0.25f);
        ck_assert_int_eq(in->fetched, in->active ? 100 : 0);
        active += in->active;
    }
    ck_assert_int_gt(active, 0);
    ck_assert_int_lt(active, 4);
    for (int32_t i = 0; i < ans.n_items; i++)
        ck_assert(ans.interest[ans.item[i].interest].active);
}
END_TEST

START_TEST(recommend_interests_keeps_the_largest_shares)
{
    struct fixture fx = fixture_defaults();
    fx.V = 200;
    open_fixture(&fx);
    static const int32_t hist[] = { 3, 9, 27 };
    req.interests = 2;
    req.candidates = 100;
    ask_rows(hist, 3);
    float least = INFINITY, most_left_out = 0;
    int32_t active = 0;
    for (int32_t k = 0; k < 4; k++) {
        const struct rec_interest *in = &ans.interest[k];
        active += in->active;
        if (in->active && in->share < least) least = in->share;
        if (!in->active && in->share > most_left_out) most_left_out = in->share;
    }
    ck_assert_int_eq(active, 2);
    ck_assert(least >= most_left_out);
    req.interests = 99;
    ask_rows(hist, 3);
    ck_assert_int_eq(ans.plan.fetched, 400);
}
END_TEST

START_TEST(recommend_with_everything_excluded_is_empty)
{
    struct fixture fx = fixture_defaults();
    fx.V = 5;
    open_fixture(&fx);
    static const int32_t hist[] = { 0, 1, 2, 3, 4 };
    req.explain = true;
    ask_rows(hist, 5);
    ck_assert_int_eq(ans.n_items, 0);
    ck_assert_str_eq(ans.fallback, "filtered_out");
}
END_TEST

START_TEST(recommend_refuses_requests_out_of_range)
{
    struct fixture fx = fixture_defaults();
    open_fixture(&fx);
    static const struct rec_request bad[] = {
        { .limit = 0 },
        { .limit = LIMIT_RESULTS + 1 },
        { .limit = 1, .candidates = LIMIT_CANDIDATES + 1 },
        { .limit = 1, .candidates = -1 },
        { .limit = 1, .interests = -1 },
        { .limit = 1, .n_exclude = LIMIT_EXCLUDE + 1 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err e = { 0 };
        ck_assert_int_eq(recommend(&ans, worker, &corpus, &bad[i], &e), ERR_INVALID);
    }
}
END_TEST

START_TEST(recommend_takes_the_largest_request)
{
    struct fixture fx = fixture_defaults();
    fx.V = 6000;
    fx.K = 16;
    fx.L = 50;
    open_fixture(&fx);
    int32_t hist[LIMIT_HISTORY];
    for (int32_t i = 0; i < LIMIT_HISTORY; i++) hist[i] = i;
    req.limit = LIMIT_RESULTS;
    req.candidates = LIMIT_CANDIDATES;
    req.explain = true;
    ask_rows(hist, LIMIT_HISTORY);
    ck_assert_int_eq(ans.n_items, LIMIT_RESULTS);
    for (int32_t i = 1; i < ans.n_items; i++)
        ck_assert(ans.item[i].score <= ans.item[i - 1].score);
}
END_TEST

START_TEST(encode_only_gives_vectors_or_none)
{
    struct fixture fx = fixture_defaults();
    open_fixture(&fx);
    req.encode_only = true;
    ask();
    ck_assert_ptr_null(ans.phi);
    ck_assert_int_eq(ans.n_items, 0);
    static const struct str hist[] = { { "i3", 2 }, { "?", 1 } };
    req.history = hist;
    req.n_history = 2;
    ask();
    ck_assert_int_eq(ans.used, 1);
    ck_assert_int_eq(ans.unknown, 1);
    ck_assert_int_eq(ans.n_interests, 4);
    ck_assert_int_eq(ans.n_items, 0);
    for (int32_t i = 0; i < 4 * 16; i++) ck_assert(isfinite(ans.phi[i]));
}
END_TEST

/* ---- deadlines ---- */

static const int32_t hurried[] = { 3, 9, 27, 81, 120 };
enum { N_HURRIED = sizeof hurried / sizeof *hurried };

START_TEST(recommend_past_the_deadline_gives_popular_items_and_says_so)
{
    struct fixture fx = fixture_defaults();
    fx.V = 200;
    open_fixture(&fx);
    req.deadline_ns = clock_ns();
    ask_rows(hurried, N_HURRIED);
    ck_assert_str_eq(ans.degraded.reason, "deadline");
    ck_assert(ans.degraded.encode && ans.degraded.coverage == 0);
    ck_assert_str_eq(ans.fallback, "deadline");
    ck_assert_str_eq(ans.fallback_used, "popular");
    ck_assert_int_eq(ans.n_items, 20);
    ck_assert_int_eq(ans.n_interests, 0); /* nothing was encoded */
    for (int32_t i = 0; i < ans.n_items; i++) {
        ck_assert_int_eq(ans.item[i].interest, -1);
        for (int32_t j = 0; j < N_HURRIED; j++) ck_assert_int_ne(ans.item[i].row, hurried[j]);
    }
    req.fallback = REC_FALLBACK_NONE;
    ask_rows(hurried, N_HURRIED);
    ck_assert_int_eq(ans.n_items, 0);
    ck_assert_str_eq(ans.degraded.reason, "deadline");
}
END_TEST

START_TEST(recommend_past_the_deadline_fails_where_a_part_is_not_wanted)
{
    struct fixture fx = fixture_defaults();
    fx.V = 200;
    open_fixture(&fx);
    static const float vector[16] = { 1 };
    const struct rec_request whole[] = {
        { .limit = 5, .source = REC_VECTORS, .vectors = vector, .n_vectors = 1 },
        { .limit = 5 },
        { .limit = 5, .encode_only = true },
    };
    struct str *ids = ids_of(hurried, N_HURRIED);
    for (int i = 0; i < 3; i++) {
        struct err e = { 0 };
        req = whole[i];
        if (req.source == REC_HISTORY) req.history = ids, req.n_history = N_HURRIED;
        req.whole = true;
        req.deadline_ns = clock_ns();
        ck_assert_int_eq(recommend(&ans, worker, &corpus, &req, &e), ERR_DEADLINE);
        ck_assert_ptr_nonnull(strstr(e.msg, "deadline"));
        req.deadline_ns = 0;
        ck_assert_int_eq(recommend(&ans, worker, &corpus, &req, NULL), 0);
    }
    free_ids(ids, N_HURRIED);
}
END_TEST

START_TEST(recommend_vectors_past_the_deadline_were_not_to_be_encoded)
{
    struct fixture fx = fixture_defaults();
    open_fixture(&fx);
    static const float vectors[32] = { 1 };
    req.source = REC_VECTORS;
    req.vectors = vectors;
    req.n_vectors = 2;
    req.fallback = REC_FALLBACK_NONE;
    req.deadline_ns = clock_ns();
    ask();
    ck_assert_str_eq(ans.degraded.reason, "deadline");
    ck_assert(!ans.degraded.encode);
    ck_assert_int_eq(ans.degraded.n_interests, 2);
    ck_assert_int_eq(ans.n_items, 0);
    ck_assert_str_eq(ans.fallback, "deadline");
}
END_TEST

/* Whatever there was time for, the answer is that of the interests it says were searched. */
START_TEST(recommend_near_the_deadline_is_what_it_says)
{
    struct fixture fx = fixture_defaults();
    fx.V = 3000;
    fx.K = 8;
    open_fixture(&fx);
    struct rec_worker *calm = rec_worker_new();
    struct str *ids = ids_of(hurried, N_HURRIED);
    int popular = 0;
    req.history = ids;
    req.n_history = N_HURRIED;
    for (int i = 0; i < 20; i++) ask(); /* learns what the steps take */
    for (int trial = 0; trial < 400; trial++) {
        struct rec_request some = req;
        struct rec_answer want;
        req.deadline_ns = clock_ns() + (uint64_t)trial * 5000;
        ask();
        req.deadline_ns = 0;
        if (ans.fallback) {
            ck_assert_str_eq(ans.fallback, "deadline");
            ck_assert(ans.degraded.coverage == 0);
            ck_assert(ans.degraded.encode || ans.degraded.n_interests == 8);
            popular++;
            continue;
        }
        const int32_t searched = 8 - ans.degraded.n_interests;
        ck_assert(ans.degraded.coverage == (ans.degraded.reason ? searched / 8.0 : 1));
        some.interests = searched;
        ck_assert_int_eq(recommend(&want, calm, &corpus, &some, NULL), 0);
        ck_assert_int_eq(ans.n_items, want.n_items);
        for (int32_t i = 0; i < want.n_items; i++) {
            ck_assert_int_eq(ans.item[i].row, want.item[i].row);
            ck_assert(ans.item[i].score == want.item[i].score);
        }
        for (int32_t k = 0; k < ans.degraded.n_interests; k++)
            ck_assert(!want.interest[ans.degraded.interest[k]].active);
    }
    ck_assert_int_gt(popular, 0);
    req.deadline_ns = clock_ns() + 60000000000u;
    ask();
    ck_assert_ptr_null(ans.degraded.reason);
    req.history = NULL;
    free_ids(ids, N_HURRIED);
    rec_worker_free(calm);
}
END_TEST

/* What a step took once must not keep those in a hurry away for ever. */
START_TEST(recommend_tries_again_what_there_was_no_time_for)
{
    struct fixture fx = fixture_defaults();
    fx.V = 100000;
    open_fixture(&fx);
    for (int i = 0; i < 30; i++) ask_rows(hurried, N_HURRIED);
    /* half of what a search of one interest takes */
    const uint64_t ns = (uint64_t)(1e6 * (2 * ans.encode_ms + ans.search_ms / 8));
    int tries = 0;
    do {
        req.deadline_ns = clock_ns() + ns;
        ask_rows(hurried, N_HURRIED);
    } while (ans.degraded.reason && ans.degraded.coverage == 0 && ++tries < 300);
    ck_assert_int_lt(tries, 300);
}
END_TEST

START_TEST(recommend_wants_a_weight_for_each_query)
{
    struct fixture fx = fixture_defaults();
    open_fixture(&fx);
    static const float weights[4] = { 1, 0, 0, 0 }, vectors[32] = { 1, [17] = 1 };
    static const struct str items[] = { { "nope", 4 }, { "i3", 2 }, { "i5", 2 } };
    req.merge = MERGE_RRF;
    req.weights = weights;
    for (int source = REC_HISTORY; source <= REC_ITEMS; source++) {
        const int32_t queries = source == REC_HISTORY ? 4 : source == REC_VECTORS ? 2 : 3;
        req.source = (enum rec_source)source;
        req.history = items;
        req.n_history = 3;
        req.vectors = vectors;
        req.n_vectors = 2;
        for (int32_t n = 1; n <= 4; n++) {
            req.n_weights = n;
            ck_assert_int_eq(recommend(&ans, worker, &corpus, &req, NULL),
                             n == queries ? 0 : ERR_INVALID);
        }
    }
    static const float second[] = { 9, 1, 0 }; /* the first item that is known */
    req.weights = second;
    req.n_weights = 3;
    ask();
    ck_assert_int_eq(ans.unknown, 1);
    ck_assert_ptr_eq(ans.unknown_item[0].p, items[0].p);
    for (int32_t i = 0; i < 5; i++) {
        ck_assert_int_eq(ans.item[i].interest, 1);
        ck_assert(ans.item[i].score > 0);
    }
}
END_TEST

Suite *suite_recommend(void);
Suite *suite_recommend(void)
{
    Suite *s = suite_create("recommend");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, recommend_equals_the_exact_ranking, 0,
                        (int)(sizeof worlds / sizeof worlds[0]));
    tcase_add_test(t, recommend_interest_is_the_argmax_and_explain_adds_up);
    tcase_add_test(t, recommend_explains_the_place_of_an_item_in_its_interest);
    tcase_add_test(t, recommend_does_not_depend_on_explain_or_on_what_was_asked_before);
    tcase_add_test(t, recommend_uses_the_newest_events_and_excludes_all);
    tcase_add_test(t, recommend_skips_unknown_items_and_counts_them);
    tcase_add_test(t, recommend_keeps_the_newest_of_an_endless_history);
    tcase_add_test(t, recommend_falls_back_to_popular_items);
    tcase_add_test(t, recommend_searches_only_active_interests);
    tcase_add_test(t, recommend_interests_keeps_the_largest_shares);
    tcase_add_test(t, recommend_with_everything_excluded_is_empty);
    tcase_add_test(t, recommend_refuses_requests_out_of_range);
    tcase_add_test(t, recommend_takes_the_largest_request);
    tcase_add_test(t, encode_only_gives_vectors_or_none);
    tcase_add_test(t, recommend_past_the_deadline_gives_popular_items_and_says_so);
    tcase_add_test(t, recommend_past_the_deadline_fails_where_a_part_is_not_wanted);
    tcase_add_test(t, recommend_vectors_past_the_deadline_were_not_to_be_encoded);
    tcase_add_test(t, recommend_near_the_deadline_is_what_it_says);
    tcase_add_test(t, recommend_tries_again_what_there_was_no_time_for);
    tcase_add_test(t, recommend_wants_a_weight_for_each_query);
    suite_add_tcase(s, t);
    return s;
}
