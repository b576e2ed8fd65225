#include "core/base/mem.h"
#include "core/data/batch.h"
#include "core/data/read.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static struct dataset d;

static void set_up(void) { dir = fixture_tmpdir(); }

static void tear_down(void)
{
    if (d.cu) dataset_close(&d);
    fixture_rmdir(dir);
    free(dir);
}

static struct batch_cfg config(enum layout layout, int32_t size, int32_t max_len)
{
    return (struct batch_cfg){
        .batch_size = size, .max_len = max_len, .layout = layout, .seed = 7
    };
}

/* ---- small sets, whole content ---- */

START_TEST(layout_b_has_a_row_for_every_training_event_but_the_first)
{
    /* Training parts: a b c d (u1), nothing of two events (u2: 1 event), e f (u3). */
    data_from_text(&d, dir, "u1 a b c d x y\nu2 a x y\nu3 e f\n");
    struct batch_cfg cfg = config(LAYOUT_B, 100, 2);
    cfg.future = true;
    struct batcher *bt = batcher_new(&d, &cfg);
    ck_assert_int_eq(batcher_rows(bt), 4);
    ck_assert_int_eq(batcher_batches(bt), 1);
    batcher_epoch(bt, 0, 0);
    const struct batch *b = batcher_next(bt);
    ck_assert_int_eq(b->seq.B, 4);
    /* target, inputs and future of each, items numbered a b c d x y e f from 0 */
    static const int32_t want[4][5] = {
        { 1, 0, -1, 2, 1 }, { 2, 0, 1, 3, 2 }, { 3, 1, 2, 3, -1 }, { 7, 6, -1, 7, -1 }
    };
    for (int32_t r = 0; r < 4; r++) {
        const int32_t *w = want[0];
        while (*w != b->target[r]) w += 5;
        int32_t n = w[2] < 0 ? 1 : 2, n_fut = w[4] < 0 ? 1 : 2;
        ck_assert_int_eq(b->seq.cu[r + 1] - b->seq.cu[r], n);
        ck_assert_mem_eq(b->ids + b->seq.cu[r], w + 1, (size_t)n * sizeof *w);
        ck_assert_int_eq(b->fut.cu[r + 1] - b->fut.cu[r], n_fut);
        ck_assert_mem_eq(b->fut_ids + b->fut.cu[r], w + 3, (size_t)n_fut * sizeof *w);
    }
    ck_assert_ptr_null(batcher_next(bt));
    ck_assert_ptr_null(batcher_next(bt));
    batcher_free(bt);
}
END_TEST

START_TEST(positions_follow_the_convention)
{
    data_random(&d, dir, 40, 30, 12, 1);
    for (int from = POS_FIRST; from <= POS_LAST; from++) {
        struct batch_cfg cfg = config(LAYOUT_B, 16, 5);
        cfg.positions = from;
        cfg.future = true;
        struct batcher *bt = batcher_new(&d, &cfg);
        batcher_epoch(bt, 0, 0);
        for (const struct batch *b; (b = batcher_next(bt));)
            for (int which = 0; which < 2; which++) {
                const struct seqpack *sp = which ? &b->fut : &b->seq;
                ck_assert_int_eq(sp->N, sp->cu[sp->B]);
                ck_assert_ptr_null(sp->key);
                for (int32_t r = 0; r < sp->B; r++) {
                    int32_t first = sp->cu[r], last = sp->cu[r + 1] - 1;
                    ck_assert_int_ge(last, first);
                    if (from == POS_FIRST)
                        ck_assert_int_eq(sp->pos[first], 0);
                    else
                        ck_assert_int_eq(sp->pos[last], 4);
                    ck_assert_int_eq(sp->pos[last] - sp->pos[first], last - first);
                }
            }
        batcher_free(bt);
    }
}
END_TEST

/* Every event but a user's first is a target once: its item is counted per (item before, item). */
START_TEST(layout_a_makes_every_event_but_the_first_a_target_once)
{
    static const int32_t lens[] = { 1, 3, 4, 5, 50 };
    int32_t L = lens[_i];
    data_random(&d, dir, 60, 25, 23, 2);
    struct batch_cfg cfg = config(LAYOUT_A, 7, L);
    struct batcher *bt = batcher_new(&d, &cfg);
    int32_t V = d.n_items, *pair = xcalloc((size_t)V * (size_t)V, sizeof *pair);
    int64_t rows = 0;
    for (int32_t u = 0; u < d.n_users; u++) {
        int32_t n = dataset_train_len(&d, u);
        rows += n > 1 ? (n - 1 + L - 1) / L : 0;
        for (int32_t i = 1; i < n; i++)
            pair[d.item[d.cu[u] + i - 1] * V + d.item[d.cu[u] + i]]++;
    }
    ck_assert_int_eq(batcher_rows(bt), rows);
    batcher_epoch(bt, 3, 0);
    for (const struct batch *b; (b = batcher_next(bt));) {
        for (int32_t i = 0; i < b->seq.N; i++) pair[b->ids[i] * V + b->target[i]]--;
        for (int32_t r = 0; r < b->seq.B; r++) {
            ck_assert_int_le(b->seq.cu[r + 1] - b->seq.cu[r], L);
            for (int32_t i = b->seq.cu[r] + 1; i < b->seq.cu[r + 1]; i++)
                ck_assert_int_eq(b->ids[i], b->target[i - 1]);
        }
    }
    for (int32_t i = 0; i < V * V; i++) ck_assert_int_eq(pair[i], 0);
    free(pair);
    batcher_free(bt);
}
END_TEST

/* ---- order ---- */

/* Hash of an epoch's content in order, and its rows. */
static uint64_t epoch_hash(struct batcher *bt, int64_t epoch, int64_t *rows)
{
    uint64_t h = 1;
    *rows = 0;
    batcher_epoch(bt, epoch, 0);
    for (const struct batch *b; (b = batcher_next(bt)); *rows += b->seq.B)
        for (int32_t r = 0; r < b->seq.B; r++) {
            h = h * 1099511628211u + (uint64_t)b->target[r];
            for (int32_t i = b->seq.cu[r]; i < b->seq.cu[r + 1]; i++)
                h = h * 1099511628211u + (uint64_t)b->ids[i];
        }
    return h;
}

START_TEST(the_order_depends_on_seed_and_epoch_only)
{
    data_random(&d, dir, 300, 50, 20, 3);
    struct batch_cfg cfg = config(LAYOUT_B, 32, 10);
    struct batcher *a = batcher_new(&d, &cfg), *b = batcher_new(&d, &cfg);
    cfg.seed++;
    struct batcher *other = batcher_new(&d, &cfg);
    int64_t n;
    uint64_t first = epoch_hash(a, 0, &n);
    ck_assert_int_eq(n, batcher_rows(a));
    uint64_t second = epoch_hash(a, 1, &n);
    ck_assert_uint_ne(first, second);
    ck_assert_uint_eq(epoch_hash(b, 1, &n), second);
    ck_assert_uint_eq(epoch_hash(b, 0, &n), first);
    ck_assert_uint_ne(epoch_hash(other, 0, &n), first);
    batcher_free(a);
    batcher_free(b);
    batcher_free(other);
}
END_TEST

START_TEST(an_epoch_may_be_left_at_any_batch)
{
    data_random(&d, dir, 100, 50, 20, 4);
    struct batch_cfg cfg = config(LAYOUT_B, 16, 10);
    struct batcher *bt = batcher_new(&d, &cfg);
    ck_assert_ptr_null(batcher_next(bt)); /* before the first epoch */
    int64_t n;
    uint64_t want = epoch_hash(bt, 5, &n);
    for (int leave = 0; leave < 12; leave++) {
        for (int again = 0; again < 3; again++) {
            batcher_epoch(bt, leave + again, 0);
            for (int i = 0; i < leave; i++) ck_assert_ptr_nonnull(batcher_next(bt));
        }
        ck_assert_uint_eq(epoch_hash(bt, 5, &n), want);
    }
    batcher_epoch(bt, 6, 0);
    batcher_free(bt); /* while the thread prepares */
}
END_TEST

START_TEST(the_last_batch_holds_the_rest)
{
    data_random(&d, dir, 100, 50, 20, 5);
    struct batch_cfg cfg = config(LAYOUT_B, 64, 10);
    struct batcher *bt = batcher_new(&d, &cfg);
    int64_t n = 0, rows = batcher_rows(bt);
    batcher_epoch(bt, 0, 0);
    for (const struct batch *b; (b = batcher_next(bt)); n++)
        ck_assert_int_eq(b->seq.B, rows - 64 * n < 64 ? rows - 64 * n : 64);
    ck_assert_int_eq(n, batcher_batches(bt));
    ck_assert_int_ne(rows % 64, 0);
    batcher_free(bt);
}
END_TEST

START_TEST(an_epoch_may_be_entered_at_any_batch)
{
    data_random(&d, dir, 100, 50, 20, 4);
    struct batch_cfg cfg = config(LAYOUT_B, 16, 10);
    cfg.neg = (struct negatives_cfg){ .n = 3, .per_target = true };
    struct batcher *bt = batcher_new(&d, &cfg), *late = batcher_new(&d, &cfg);
    int64_t n = batcher_batches(bt);
    for (int64_t first = 0; first <= n; first++) {
        batcher_epoch(bt, 3, 0);
        batcher_epoch(late, 3, first);
        for (int64_t i = 0; i < n; i++) {
            const struct batch *a = batcher_next(bt);
            if (i < first) continue;
            const struct batch *b = batcher_next(late);
            ck_assert_int_eq(a->seq.N, b->seq.N);
            ck_assert_mem_eq(a->ids, b->ids, (size_t)a->seq.N * sizeof *a->ids);
            ck_assert_mem_eq(a->neg, b->neg, (size_t)a->seq.B * 3 * sizeof *a->neg);
        }
        ck_assert_ptr_null(batcher_next(late));
    }
    batcher_free(bt);
    batcher_free(late);
}
END_TEST

START_TEST(layout_c_never_reaches_behind_its_window)
{
    data_from_text(&d, dir, "u1 a b c d e f g x y\nu2 a b x y\n");
    struct batch_cfg cfg = config(LAYOUT_C, 100, 3);
    struct batcher *bt = batcher_new(&d, &cfg);
    ck_assert_int_eq(batcher_rows(bt), 3); /* e -> f, e f -> g; a -> b */
    batcher_epoch(bt, 0, 0);
    const struct batch *b = batcher_next(bt);
    for (int32_t r = 0; r < 3; r++) {
        int32_t n = b->seq.cu[r + 1] - b->seq.cu[r], first = b->ids[b->seq.cu[r]];
        ck_assert_int_eq(n, b->target[r] - first); /* rows of items are in order */
        ck_assert(first == 4 || (first == 0 && n == 1));
    }
    batcher_free(bt);
}
END_TEST

/* ---- negatives ---- */

static bool trained_on(int32_t u, int32_t item)
{
    for (int32_t i = 0; i < dataset_train_len(&d, u); i++)
        if (d.item[d.cu[u] + i] == item) return true;
    return false;
}

START_TEST(negatives_of_a_target_are_never_it)
{
    data_random(&d, dir, 60, 6, 20, 8);
    for (int layout = LAYOUT_A; layout <= LAYOUT_B; layout++) {
        struct batch_cfg cfg = config((enum layout)layout, 16, 10);
        cfg.neg =
            (struct negatives_cfg){ .n = 5, .per_target = true, .how = SAMPLE_POPULARITY };
        struct batcher *bt = batcher_new(&d, &cfg);
        batcher_epoch(bt, 1, 0);
        for (const struct batch *b; (b = batcher_next(bt));) {
            int32_t T = layout == LAYOUT_A ? b->seq.N : b->seq.B;
            for (int32_t i = 0; i < T * 5; i++)
                ck_assert(b->neg[i] >= 0 && b->neg[i] < d.n_items &&
                          b->neg[i] != b->target[i / 5]);
        }
        batcher_free(bt);
    }
}
END_TEST

/* One user alone: what may be drawn is known. */
START_TEST(what_the_user_had_is_avoided_where_that_is_asked_for)
{
    data_from_text(&d, dir, "u1 a b c d e f x y\nu2 g h\n"); /* items a..h, x, y: ten */
    for (int avoid = 0; avoid < 2; avoid++) {
        struct batch_cfg cfg = config(LAYOUT_B, 4, 10);
        cfg.neg = (struct negatives_cfg){ .n = 50, .per_target = true, .avoid_seen = avoid };
        struct batcher *bt = batcher_new(&d, &cfg);
        int64_t had = 0, all = 0;
        batcher_epoch(bt, 1, 0);
        for (const struct batch *b; (b = batcher_next(bt));)
            for (int32_t r = 0; r < b->seq.B; r++)
                for (int32_t j = 0; j < 50; j++) {
                    int32_t u = b->target[r] >= 8 ? 1 : 0; /* h has row 9, of u2 */
                    had += trained_on(u, b->neg[r * 50 + j]);
                    all++;
                }
        ck_assert(avoid ? had == 0 : had > all / 4);
        batcher_free(bt);
    }
}
END_TEST

START_TEST(a_user_who_had_everything_still_gets_negatives)
{
    data_from_text(&d, dir, "u1 a b a b a b\n");
    struct batch_cfg cfg = config(LAYOUT_B, 4, 10);
    cfg.neg = (struct negatives_cfg){ .n = 2, .per_target = true, .avoid_seen = true };
    struct batcher *bt = batcher_new(&d, &cfg);
    batcher_epoch(bt, 1, 0);
    const struct batch *b = batcher_next(bt);
    for (int32_t i = 0; i < b->seq.B * 2; i++)
        ck_assert_int_eq(b->neg[i], 1 - b->target[i / 2]);
    batcher_free(bt);
}
END_TEST

START_TEST(shared_negatives_follow_their_distribution_and_say_it)
{
    data_from_text(&d, dir, "u1 a a a a a a b b x y\nu2 c c b\nu3 z z\n");
    int64_t total = 0;
    for (int32_t i = 0; i < d.n_items; i++) total += items_popularity(d.items, i);
    for (int how = SAMPLE_UNIFORM; how <= SAMPLE_POPULARITY; how++) {
        struct batch_cfg cfg = config(LAYOUT_B, 1000, 10);
        cfg.neg = (struct negatives_cfg){ .n = 20000, .how = (enum sampling)how };
        struct batcher *bt = batcher_new(&d, &cfg);
        batcher_epoch(bt, 1, 0);
        const struct batch *b = batcher_next(bt);
        int64_t count[8] = { 0 };
        for (int32_t j = 0; j < 20000; j++) count[b->neg[j]]++;
        for (int32_t i = 0; i < d.n_items; i++) {
            double q = how == SAMPLE_UNIFORM
                           ? 1.0 / d.n_items
                           : (double)items_popularity(d.items, i) / (double)total;
            ck_assert_double_eq_tol((double)count[i] / 20000, q, 0.02);
            if (q == 0) ck_assert_int_eq(count[i], 0);
        }
        for (int32_t j = 0; j < 100; j++) {
            double q = how == SAMPLE_UNIFORM
                           ? 1.0 / d.n_items
                           : (double)items_popularity(d.items, b->neg[j]) / (double)total;
            ck_assert_double_eq_tol((double)b->neg_log_q[j], log(q), 1e-5);
        }
        for (int32_t r = 0; r < b->seq.B; r++) ck_assert(isfinite(b->target_log_q[r]));
        batcher_free(bt);
    }
}
END_TEST

/* ---- numbers within the batch ---- */

static void same_through_rows(const struct batch *b, const int32_t *p, const int32_t *q,
                              int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        ck_assert(q[i] >= 0 && q[i] < b->n_rows);
        ck_assert_int_eq(p[i], b->rows[q[i]]);
    }
}

START_TEST(compact_batches_are_the_same_batches_under_other_numbers)
{
    data_random(&d, dir, 80, 500, 20, 9);
    for (int layout = LAYOUT_A; layout <= LAYOUT_C; layout++)
        for (int per_target = 0; per_target < 2; per_target++) {
            struct batch_cfg cfg = config((enum layout)layout, 16, 10);
            cfg.future = layout != LAYOUT_A;
            cfg.neg = (struct negatives_cfg){ .n = 7, .per_target = per_target };
            struct batcher *plain = batcher_new(&d, &cfg);
            cfg.compact = true;
            struct batcher *small = batcher_new(&d, &cfg);
            batcher_epoch(plain, 2, 0);
            batcher_epoch(small, 2, 0);
            for (const struct batch *a; (a = batcher_next(plain));) {
                const struct batch *b = batcher_next(small);
                int32_t T = layout == LAYOUT_A ? a->seq.N : a->seq.B;
                ck_assert_ptr_null(a->rows);
                for (int32_t i = 1; i < b->n_rows; i++)
                    ck_assert_int_lt(b->rows[i - 1], b->rows[i]);
                same_through_rows(b, a->ids, b->ids, a->seq.N);
                same_through_rows(b, a->target, b->target, T);
                same_through_rows(b, a->neg, b->neg, per_target ? T * 7 : 7);
                if (cfg.future) same_through_rows(b, a->fut_ids, b->fut_ids, a->fut.N);
                ck_assert_mem_eq(a->neg_log_q, b->neg_log_q, 7 * sizeof(float));
            }
            batcher_free(plain);
            batcher_free(small);
        }
}
END_TEST

START_TEST(weights_are_those_of_the_targets)
{
    struct interactions *x = interactions_new();
    struct event_types types;
    struct read_stats st;
    struct err e = { 0 };
    static const char text[] =
        "user,item,event\nu,a,v\nu,b,buy\nu,c,v\nu,d,buy\nu,x,v\nu,y,v\n";
    ck_assert_int_eq(event_types_parse(&types, "buy=5,v", &e), 0);
    ck_assert_int_eq(read_events_mem(x, text, sizeof text - 1, "t",
                                     &(struct read_opts){ .types = &types }, &st, &e),
                     0);
    char *to = xasprintf("%s/weighted", dir);
    ck_assert_int_eq(
        interactions_write(x, to, &(struct write_opts){ .min_events = 1 }, &st, &e), 0);
    ck_assert_int_eq(dataset_open(&d, to, &e), 0);
    interactions_free(x);
    free(to);
    for (int layout = LAYOUT_A; layout <= LAYOUT_C; layout++) {
        struct batch_cfg cfg = config((enum layout)layout, 100, 10);
        struct batcher *bt = batcher_new(&d, &cfg);
        batcher_epoch(bt, 0, 0);
        const struct batch *b = batcher_next(bt);
        int32_t T = layout == LAYOUT_A ? b->seq.N : b->seq.B;
        ck_assert_int_eq(T, 3); /* b, c and d */
        for (int32_t t = 0; t < T; t++) ck_assert(b->weight[t] == (b->target[t] % 2 ? 5 : 1));
        batcher_free(bt);
    }
}
END_TEST

START_TEST(users_of_one_event_make_no_rows)
{
    data_from_text(&d, dir, "u1 a\nu2 b\n");
    struct batch_cfg cfg = config(LAYOUT_A, 4, 4);
    struct batcher *bt = batcher_new(&d, &cfg);
    ck_assert_int_eq(batcher_rows(bt), 0);
    ck_assert_int_eq(batcher_batches(bt), 0);
    batcher_epoch(bt, 0, 0);
    ck_assert_ptr_null(batcher_next(bt));
    batcher_free(bt);
}
END_TEST

START_TEST(beauty_has_131413_rows_in_layout_b)
{
    if (!data_real(&d, dir, "Beauty")) return;
    struct batch_cfg cfg = config(LAYOUT_B, 256, 50);
    cfg.future = true;
    struct batcher *bt = batcher_new(&d, &cfg);
    ck_assert_int_eq(batcher_rows(bt), 131413);
    ck_assert_int_eq(batcher_batches(bt), 514);
    int64_t n;
    epoch_hash(bt, 0, &n);
    ck_assert_int_eq(n, 131413);
    batcher_free(bt);
}
END_TEST

Suite *suite_batch(void);
Suite *suite_batch(void)
{
    Suite *s = suite_create("batch");
    TCase *t = tcase_create("batch");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, layout_b_has_a_row_for_every_training_event_but_the_first);
    tcase_add_test(t, positions_follow_the_convention);
    tcase_add_loop_test(t, layout_a_makes_every_event_but_the_first_a_target_once, 0, 5);
    tcase_add_test(t, the_order_depends_on_seed_and_epoch_only);
    tcase_add_test(t, an_epoch_may_be_left_at_any_batch);
    tcase_add_test(t, the_last_batch_holds_the_rest);
    tcase_add_test(t, an_epoch_may_be_entered_at_any_batch);
    tcase_add_test(t, layout_c_never_reaches_behind_its_window);
    tcase_add_test(t, negatives_of_a_target_are_never_it);
    tcase_add_test(t, what_the_user_had_is_avoided_where_that_is_asked_for);
    tcase_add_test(t, a_user_who_had_everything_still_gets_negatives);
    tcase_add_test(t, shared_negatives_follow_their_distribution_and_say_it);
    tcase_add_test(t, compact_batches_are_the_same_batches_under_other_numbers);
    tcase_add_test(t, weights_are_those_of_the_targets);
    tcase_add_test(t, users_of_one_event_make_no_rows);
    tcase_add_test(t, beauty_has_131413_rows_in_layout_b);
    suite_add_tcase(s, t);
    return s;
}
