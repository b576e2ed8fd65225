/* The bounded cache of encoder states, and histories encoded through it. */
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/encode.h"
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { V = 50, L = 40 };
#define PAGES(n) (((n) + EXTEND_PAGE - 1) / EXTEND_PAGE)

static struct model_cfg cfg;
static struct model *m;
static struct states *s;
static struct arena *a;
static struct rng rng;

static void set_up(void)
{
    num_init();
    rng = rng_make(31, RNG_TEST);
    conf_defaults(model_opts, &cfg);
    cfg.n_items = V;
    cfg.width = 8;
    cfg.max_len = L;
    cfg.init_std = .5f;
    m = model_new(&cfg, false);
    params_init(model_params(m), 3);
    a = arena_new("states", 1 << 16, 0);
}

static void tear_down(void)
{
    states_free(s);
    s = NULL;
    model_free(m);
    arena_free(a);
}

static size_t pages(size_t n) { return n * extend_page_bytes(&cfg); }

static void random_rows(int32_t *row, int32_t n)
{
    for (int32_t i = 0; i < n; i++) row[i] = (int32_t)rng_below(&rng, V);
}

/* What stands for an encoding: each event leaves its row in its page. */
static void fill(const struct state *st)
{
    for (int32_t t = st->from; t < st->n; t++)
        st->page[t / EXTEND_PAGE][t % EXTEND_PAGE] = (float)st->row[t];
}

static void check_held(const struct state *st)
{
    for (int32_t t = 0; t < st->from; t++)
        ck_assert(st->page[t / EXTEND_PAGE][t % EXTEND_PAGE] == (float)st->row[t]);
}

/* Takes, fills and puts back; the events that were found.  Also on a first visit, as if after the one before. */
static int32_t visit(const int32_t *row, int32_t n)
{
    struct state st;
    const uint32_t ago = states_met(s, row, n);
    states_take(&st, s, a, row, n, ago ? ago : 1);
    if (!st.page) return 0;
    check_held(&st);
    fill(&st);
    states_put(s, &st);
    return st.from;
}

static struct states_stats count(void)
{
    struct states_stats c;
    states_count(&c, s);
    return c;
}

/* ---- the cache ---- */

START_TEST(the_longest_kept_beginning_of_a_history_is_found)
{
    int32_t row[L];
    s = states_new(m, pages(8 * 16));
    random_rows(row, L);
    ck_assert_int_eq(visit(row, 20), 0);
    ck_assert_int_eq(visit(row, 21), 20);
    ck_assert_int_eq(visit(row, L), 21);
    ck_assert_int_eq(visit(row, 10), 0); /* its entry moved along */
    ck_assert_int_eq(visit(row, 30), 10);
    ck_assert_int_eq(count().entries, 2);
    ck_assert_uint_eq(count().hits, 3);
    ck_assert_uint_eq(count().misses, 2);
    ck_assert_uint_eq(count().nb, pages(PAGES(L) + PAGES(30)));
    ck_assert_uint_eq(count().events, 20 + 21 + L + 10 + 30);
    ck_assert_uint_eq(count().events_kept, 20 + 21 + 10);
}
END_TEST

START_TEST(who_comes_again_with_a_few_events_more_was_met)
{
    int32_t row[L];
    s = states_new(m, pages(8 * 16));
    random_rows(row, L);
    ck_assert_uint_eq(states_met(s, row, 12), 0);
    ck_assert_uint_eq(states_met(s, row, 12), 1);
    ck_assert_uint_eq(states_met(s, row, 15), 1);
    ck_assert_uint_eq(states_met(s, row, 15 + 8), 1);
    ck_assert_uint_eq(states_met(s, row, 23 + 9), 0);
    ck_assert_uint_eq(states_met(s, row, 12), 4);
    row[0] = (row[0] + 1) % V;
    ck_assert_uint_eq(states_met(s, row, 12), 0);
    ck_assert_uint_eq(states_met(s, row, STATES_LEAST), 0);
    ck_assert_uint_eq(states_met(s, row, STATES_LEAST + 1), 1);
}
END_TEST

START_TEST(a_history_that_is_kept_whole_lacks_its_last_event)
{
    int32_t row[L];
    s = states_new(m, pages(8 * 16));
    random_rows(row, L);
    (void)visit(row, 17);
    ck_assert_int_eq(visit(row, 17), 16);
    ck_assert_int_eq(visit(row, 17), 16);
    ck_assert_int_eq(count().entries, 1);
}
END_TEST

START_TEST(a_history_that_differs_in_one_event_is_another)
{
    int32_t row[L];
    s = states_new(m, pages(8 * 16));
    random_rows(row, L);
    (void)visit(row, 30);
    for (int32_t i = 0; i < 30; i++) {
        const int32_t was = row[i];
        row[i] = (was + 1) % V;
        ck_assert_int_eq(visit(row, 31), 0);
        row[i] = was;
    }
}
END_TEST

START_TEST(what_is_taken_is_nobody_elses_until_it_is_put_back)
{
    int32_t row[L];
    struct state one, two;
    s = states_new(m, pages(8 * 16));
    random_rows(row, L);
    (void)visit(row, 12);
    states_take(&one, s, a, row, 13, 1);
    states_take(&two, s, a, row, 13, 1);
    ck_assert_int_eq(one.from, 12);
    ck_assert_int_eq(two.from, 0);
    ck_assert_ptr_ne(one.page[0], two.page[0]);
    fill(&one);
    fill(&two);
    states_put(s, &one);
    states_put(s, &two);
    ck_assert_int_eq(count().entries, 1);
    ck_assert_uint_eq(count().nb, pages(PAGES(13)));
    ck_assert_int_eq(visit(row, 14), 13);
}
END_TEST

START_TEST(when_all_pages_are_taken_a_history_is_not_kept)
{
    int32_t row[L];
    struct state st[4];
    s = states_new(m, pages(8 * PAGES(L))); /* a shard's: one of the longest histories */
    random_rows(row, L);
    states_take(&st[0], s, a, row, 33, 1);
    ck_assert_ptr_nonnull(st[0].page);
    for (int i = 1; i < 4; i++) {
        states_take(&st[i], s, a, row, 33 - i, 1);
        ck_assert_ptr_null(st[i].page);
        ck_assert_int_eq(st[i].from, 0);
    }
    ck_assert_uint_eq(count().nb, pages(PAGES(33)));
    fill(&st[0]);
    states_put(s, &st[0]);
    ck_assert_int_eq(visit(row, 34), 33);
}
END_TEST

/* As encode_histories does: those who come for the first time are not kept.  The events that were found. */
static int32_t come(const int32_t *row, int32_t n)
{
    struct state st = { 0 };
    const uint32_t ago = states_met(s, row, n);
    if (ago) states_take(&st, s, a, row, n, ago);
    if (!st.page) return 0;
    check_held(&st);
    fill(&st);
    states_put(s, &st);
    return st.from;
}

START_TEST(the_cache_stays_within_its_bound_and_keeps_who_comes_more_often)
{
    enum { REGULARS = 40, OTHERS = 1000 };
    static int32_t regular[REGULARS][L], other[OTHERS][L];
    int32_t found = 0, asked = 0;
    s = states_new(m, pages(8 * 80)); /* the others come again too, but hardly fit */
    for (int u = 0; u < REGULARS; u++) random_rows(regular[u], L);
    for (int u = 0; u < OTHERS; u++) random_rows(other[u], L);
    for (int round = 0; round < 30; round++) {
        for (int u = 0; u < REGULARS; u++) {
            found += come(regular[u], 5 + round) == 4 + round;
            asked += round > 1;
        }
        for (int i = 0; i < 200; i++) (void)come(other[(200 * round + i) % OTHERS], 30);
        ck_assert_uint_le(count().nb, count().nb_most);
        arena_reset(a);
    }
    ck_assert_uint_gt(count().evictions, 20);
    ck_assert_msg(found > asked * 9 / 10, "%d of %d found", found, asked);
}
END_TEST

/* A cache that gave way to the newest would find none of them. */
START_TEST(of_users_in_turn_as_many_are_found_as_fit)
{
    enum { USERS = 800 };
    static int32_t row[USERS][L];
    s = states_new(m, pages(USERS * PAGES(12) / 2)); /* half of them */
    for (int half = 0; half < 2; half++) {           /* then others, and those make room */
        int found = 0;
        for (int u = 0; u < USERS; u++) random_rows(row[u], L);
        for (int round = 0; round < 12; round++) {
            found = 0;
            for (int u = 0; u < USERS; u++) found += come(row[u], 12) == 11;
            arena_reset(a);
        }
        ck_assert_msg(found > USERS * 4 / 10, "%d of %d found", found, USERS);
    }
    ck_assert_uint_lt(count().evictions, 1000);
}
END_TEST

START_TEST(no_cache_is_made_where_nothing_can_be_kept)
{
    ck_assert_ptr_null(states_new(m, 0));
    ck_assert_ptr_null(states_new(m, pages(8 * PAGES(L)) - 1));
    model_free(m);
    cfg.positions = POS_LAST;
    m = model_new(&cfg, false);
    ck_assert_ptr_null(states_new(m, 1 << 20));
}
END_TEST

/* Few items, so that users share beginnings. */
static void wander(struct arena *mem, struct rng *r, int steps)
{
    enum { USERS = 64 };
    int32_t row[USERS][L], len[USERS];
    memset(len, 0, sizeof len);
    for (int i = 0; i < steps; i++) {
        const uint32_t u = rng_below(r, USERS);
        if (len[u] == L || rng_below(r, 40) == 0) len[u] = 0;
        for (uint32_t k = 1 + rng_below(r, 4); k > 0 && len[u] < L; k--, len[u]++)
            row[u][len[u]] = (int32_t)rng_below(r, len[u] < 6 ? 2 : 4);
        if (len[u] < STATES_LEAST) continue;
        struct state st;
        const uint32_t ago = states_met(s, row[u], len[u]);
        states_take(&st, s, mem, row[u], len[u], ago ? ago : 1);
        if (!st.page) continue;
        check_held(&st);
        fill(&st);
        states_put(s, &st);
        if (i % 64 == 0) arena_reset(mem);
    }
}

START_TEST(a_state_is_never_another_historys)
{
    s = states_new(m, pages(8 * 30));
    wander(a, &rng, 20000);
    ck_assert_uint_gt(count().hits, 1000);
    ck_assert_uint_gt(count().evictions, 1000);
}
END_TEST

/* An entry shows 16 bits of its hash: of so many histories of one length some look like others. */
START_TEST(histories_that_look_alike_are_told_apart)
{
    int32_t row[STATES_LEAST];
    s = states_new(m, pages(8 * 200));
    for (int i = 0; i < 200000; i++) {
        random_rows(row, STATES_LEAST);
        (void)visit(row, STATES_LEAST);
        if (i % 64 == 0) arena_reset(a);
    }
    ck_assert_uint_lt(count().hits, 200); /* 1,600 of 50^4 are kept */
}
END_TEST

enum { THREADS = 4 };

static void *wander_thread(void *ctx)
{
    struct arena *mem = arena_new("thread", 1 << 14, 0);
    struct rng r = rng_make(*(int *)ctx, RNG_TEST);
    wander(mem, &r, 5000);
    arena_free(mem);
    return NULL;
}

START_TEST(threads_share_the_cache)
{
    pthread_t t[THREADS];
    int seed[THREADS];
    s = states_new(m, pages(8 * 30));
    for (int i = 0; i < THREADS; i++) {
        seed[i] = i % 2; /* two by two the same histories */
        ck_assert_int_eq(pthread_create(&t[i], NULL, wander_thread, &seed[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    ck_assert_uint_gt(count().hits, 1000);
}
END_TEST

/* ---- histories through it ---- */

/* Of users that come again and again with more events, and of such that do not, in batches. */
static void check_histories(bool keeping)
{
    enum { USERS = 30, MOST = L + 10, B = 12 };
    static int32_t row[USERS][MOST];
    int32_t len[USERS] = { 0 };
    struct arena *mem[2] = { arena_new("batch", 1 << 16, 0), arena_new("alone", 1 << 16, 0) };
    struct tape *tp[2] = { tape_new(mem[0], NULL), tape_new(mem[1], NULL) };
    s = keeping ? states_new(m, pages(8 * PAGES(L))) : NULL;
    ck_assert(!keeping || s);
    for (int u = 0; u < USERS; u++) random_rows(row[u], MOST);
    for (int round = 0; round < 150; round++) {
        struct encode_in in[B];
        struct encode_out o, one;
        for (int b = 0; b < B; b++) { /* the same user may be there twice */
            const uint32_t u = rng_below(&rng, USERS);
            len[u] += len[u] < MOST - 3 ? (int32_t)rng_below(&rng, 4) : 0;
            if (len[u] == 0 || rng_below(&rng, 30) == 0) len[u] = 1;
            in[b] = (struct encode_in){ row[u], len[u] };
        }
        encode_histories(&o, s, m, tp[0], a, in, B);
        for (int b = 0; b < B; b++) {
            encode_histories(&one, NULL, m, tp[1], a, &in[b], 1);
            const size_t K = (size_t)o.K, nb = K * (size_t)o.D * sizeof(float);
            const int32_t n = one.cu[1];
            ck_assert_int_eq(n, in[b].n < L ? in[b].n : L);
            ck_assert_int_eq(o.cu[b + 1] - o.cu[b], n);
            ck_assert(memcmp(o.phi + (size_t)b * K * (size_t)o.D, one.phi, nb) == 0);
            ck_assert(memcmp(o.share + (size_t)b * K, one.share, K * sizeof(float)) == 0);
            if (!one.weight) continue;
            const size_t at = (size_t)o.cu[b], tokens = (size_t)n * sizeof(float);
            ck_assert(memcmp(o.weight + at, one.weight, tokens) == 0);
            ck_assert(memcmp(o.assign + at * K, one.assign, K * tokens) == 0);
        }
        arena_reset(a);
    }
    if (keeping) {
        ck_assert_uint_gt(count().hits, 300);
        ck_assert_uint_gt(count().evictions, 50);
    }
    for (int i = 0; i < 2; i++) {
        tape_free(tp[i]);
        arena_free(mem[i]);
    }
}

static void other_model(int32_t interests, int32_t causal, int32_t positions)
{
    model_free(m);
    cfg.interests = interests;
    cfg.causal = causal;
    cfg.positions = positions;
    m = model_new(&cfg, false);
    params_init(model_params(m), 4);
}

START_TEST(vectors_are_the_same_bits_whatever_is_kept_and_whoever_asks_beside)
{
    other_model(_i ? 3 : 0, 1, POS_FIRST);
    check_histories(true);
}
END_TEST

START_TEST(encoders_that_cannot_be_extended_encode_batches_too)
{
    other_model(_i & 1 ? 3 : 0, _i / 2, _i / 2 ? POS_LAST : POS_FIRST);
    check_histories(false);
}
END_TEST

Suite *suite_states(void);
Suite *suite_states(void)
{
    Suite *x = suite_create("states");
    TCase *t = tcase_create("states");
    tcase_set_timeout(t, 240);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_longest_kept_beginning_of_a_history_is_found);
    tcase_add_test(t, who_comes_again_with_a_few_events_more_was_met);
    tcase_add_test(t, a_history_that_is_kept_whole_lacks_its_last_event);
    tcase_add_test(t, a_history_that_differs_in_one_event_is_another);
    tcase_add_test(t, what_is_taken_is_nobody_elses_until_it_is_put_back);
    tcase_add_test(t, when_all_pages_are_taken_a_history_is_not_kept);
    tcase_add_test(t, the_cache_stays_within_its_bound_and_keeps_who_comes_more_often);
    tcase_add_test(t, of_users_in_turn_as_many_are_found_as_fit);
    tcase_add_test(t, no_cache_is_made_where_nothing_can_be_kept);
    tcase_add_test(t, a_state_is_never_another_historys);
    tcase_add_test(t, histories_that_look_alike_are_told_apart);
    tcase_add_test(t, threads_share_the_cache);
    tcase_add_loop_test(t, vectors_are_the_same_bits_whatever_is_kept_and_whoever_asks_beside,
                        0, 2);
    tcase_add_loop_test(t, encoders_that_cannot_be_extended_encode_batches_too, 0, 4);
    suite_add_tcase(x, t);
    return x;
}
