#include "core/base/rng.h"
#include "core/data/augment.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { L = 10, MANY = 300, V = 1000, MASKED = -1 };

static struct arena *mem;
static int32_t similar[V];

static void set_up(void)
{
    mem = arena_new("augment", 1 << 16, 0);
    for (int32_t i = 0; i < V; i++) similar[i] = V - 1 - i;
}
static void tear_down(void) { arena_free(mem); }

static struct augment_cfg nothing(void)
{
    return (struct augment_cfg){ .crop_keep = 1, .similar = similar, .max_len = L };
}

/* B sequences of n items 100, 101, ... each. */
struct input {
    struct seqpack sp;
    int32_t cu[MANY + 1], pos[MANY * L], ids[MANY * L];
};

static const struct input *sequences(int32_t n)
{
    static struct input x;
    for (int32_t b = 0; b <= MANY; b++) x.cu[b] = b * n;
    for (int32_t i = 0; i < MANY * n; i++) x.ids[i] = 100 + i % n;
    x.sp = (struct seqpack){ .B = MANY, .N = MANY * n, .cu = x.cu, .pos = x.pos };
    return &x;
}

static const struct view *pair(const struct augment_cfg *c, const struct input *x, uint64_t key)
{
    struct view *v = ARENA_NEW(mem, struct view, 2);
    augment_pair(v, mem, c, &x->sp, x->ids, key);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(v[i].seq.B, MANY);
        ck_assert_int_eq(v[i].seq.N, v[i].seq.cu[MANY]);
        for (int32_t b = 0; b < MANY; b++)
            for (int32_t t = v[i].seq.cu[b]; t < v[i].seq.cu[b + 1]; t++) {
                int32_t from_end = v[i].seq.cu[b + 1] - t;
                ck_assert_int_eq(v[i].seq.pos[t],
                                 c->positions == POS_LAST ? L - from_end : t - v[i].seq.cu[b]);
            }
    }
    return v;
}

/* Sequence b of a view. */
static const int32_t *seq(const struct view *v, int32_t b, int32_t *n)
{
    *n = v->seq.cu[b + 1] - v->seq.cu[b];
    return v->ids + v->seq.cu[b];
}

START_TEST(crop_keeps_a_contiguous_part_from_anywhere)
{
    struct augment_cfg c = nothing();
    c.crop_keep = 0.6f;
    c.positions = POS_LAST;
    const struct view *v = pair(&c, sequences(10), 1);
    bool first[5] = { 0 };
    for (int i = 0; i < 2; i++)
        for (int32_t b = 0; b < MANY; b++) {
            int32_t n;
            const int32_t *s = seq(&v[i], b, &n);
            ck_assert_int_eq(n, 6);
            for (int32_t t = 1; t < n; t++) ck_assert_int_eq(s[t], s[0] + t);
            ck_assert(s[0] >= 100 && s[0] <= 104);
            first[s[0] - 100] = true;
        }
    for (int f = 0; f < 5; f++) ck_assert_msg(first[f], "never begins at %d", f);
}
END_TEST

START_TEST(crop_keeps_one_item_at_least)
{
    struct augment_cfg c = nothing();
    c.crop_keep = 0.2f;
    const struct view *v = pair(&c, sequences(3), 1);
    for (int32_t b = 0; b < MANY; b++) {
        int32_t n;
        (void)seq(&v[0], b, &n);
        ck_assert_int_eq(n, 1);
    }
}
END_TEST

START_TEST(mask_hides_a_part_in_its_place)
{
    struct augment_cfg c = nothing();
    c.mask = 0.3f;
    c.pad = _i;
    const struct view *v = pair(&c, sequences(10), 2);
    int at[L] = { 0 };
    for (int32_t b = 0; b < MANY; b++) {
        int32_t n, masked = 0;
        const int32_t *s = seq(&v[1], b, &n);
        ck_assert_int_eq(n, 10);
        for (int32_t t = 0; t < n; t++) {
            ck_assert(s[t] == MASKED || s[t] == 100 + t);
            masked += s[t] == MASKED;
            at[t] += s[t] == MASKED;
            if (c.pad) ck_assert_int_eq(v[1].seq.key[b * 10 + t], s[t] != MASKED);
        }
        ck_assert_int_eq(masked, 3); /* .3 is a little less than .3 */
    }
    if (!c.pad) ck_assert_ptr_null(v[1].seq.key);
    for (int t = 0; t < L; t++) /* 90 expected, deviation 8 */
        ck_assert_msg(at[t] > 50 && at[t] < 130, "place %d masked %d times", t, at[t]);
}
END_TEST

START_TEST(reorder_shuffles_one_block)
{
    struct augment_cfg c = nothing();
    c.reorder = 0.4f;
    const struct view *v = pair(&c, sequences(10), 3);
    int changed = 0;
    for (int32_t b = 0; b < MANY; b++) {
        int32_t n, first = -1, last = -1;
        const int32_t *s = seq(&v[0], b, &n);
        bool seen[L] = { 0 };
        ck_assert_int_eq(n, 10);
        for (int32_t t = 0; t < n; t++) {
            ck_assert(s[t] >= 100 && s[t] < 110 && !seen[s[t] - 100]);
            seen[s[t] - 100] = true;
            if (s[t] == 100 + t) continue;
            first = first < 0 ? t : first;
            last = t;
        }
        ck_assert_int_le(last - first + 1, 4);
        changed += first >= 0;
    }
    ck_assert_int_gt(changed, MANY * 9 / 10); /* 23 of 24 orders differ */
}
END_TEST

START_TEST(insert_puts_the_similar_item_before_and_keeps_the_newest)
{
    struct augment_cfg c = nothing();
    const int32_t n0 = _i ? 10 : 6;
    c.insert = 0.5f;
    const struct view *v = pair(&c, sequences(n0), 4);
    for (int32_t b = 0; b < MANY; b++) {
        int32_t n, inserted = 0, items = 0;
        const int32_t *s = seq(&v[0], b, &n);
        ck_assert_int_eq(n, _i ? 10 : 9);
        for (int32_t t = 0; t < n; t++) {
            bool old = s[t] < 100 + n0;
            inserted += !old;
            items += old;
            if (!old && t + 1 < n) ck_assert_int_eq(s[t], similar[s[t + 1]]);
        }
        if (!_i) ck_assert_int_eq(inserted, 3);
        if (!_i) ck_assert_int_eq(items, 6);
        ck_assert_int_eq(s[n - 1], 100 + n0 - 1);
    }
}
END_TEST

START_TEST(substitute_replaces_by_the_similar_item)
{
    struct augment_cfg c = nothing();
    c.substitute = 0.05f; /* one at least */
    const struct view *v = pair(&c, sequences(10), 5);
    for (int32_t b = 0; b < MANY; b++) {
        int32_t n, replaced = 0;
        const int32_t *s = seq(&v[0], b, &n);
        for (int32_t t = 0; t < n; t++) {
            ck_assert(s[t] == 100 + t || s[t] == similar[100 + t]);
            replaced += s[t] != 100 + t;
        }
        ck_assert_int_eq(replaced, 1);
    }
}
END_TEST

/* 0: crop, 1: mask, 2: reorder; -1: it can't be told */
static int operator_of(const struct view *v, int32_t b)
{
    int32_t n;
    const int32_t *s = seq(v, b, &n);
    if (n < 10) return 0;
    for (int32_t t = 0; t < n; t++)
        if (s[t] == MASKED) return 1;
    for (int32_t t = 0; t < n; t++)
        if (s[t] != 100 + t) return 2;
    return -1;
}

START_TEST(a_pair_is_made_by_two_operators_or_by_any)
{
    struct augment_cfg c = nothing();
    c.crop_keep = 0.6f;
    c.mask = 0.3f;
    c.reorder = 0.9f;
    c.two_operators = _i;
    const struct view *v = pair(&c, sequences(10), 6);
    int same = 0, count[3][3] = { { 0 } };
    for (int32_t b = 0; b < MANY; b++) {
        int x = operator_of(&v[0], b), y = operator_of(&v[1], b);
        ck_assert(x >= 0 && y >= 0);
        same += x == y;
        count[x][y]++;
    }
    if (c.two_operators) ck_assert_int_eq(same, 0);
    for (int x = 0; x < 3; x++)
        for (int y = 0; y < 3; y++)
            if (x != y || !c.two_operators)
                ck_assert_msg(count[x][y] > 12, "%d, %d: %d times", x, y, count[x][y]);
}
END_TEST

START_TEST(a_single_item_is_its_own_views)
{
    struct augment_cfg c = nothing();
    c.mask = c.insert = c.substitute = 1;
    c.crop_keep = 0.5f;
    const struct view *v = pair(&c, sequences(1), 7);
    for (int32_t b = 0; b < MANY; b++) {
        int32_t n;
        ck_assert_int_eq(*seq(&v[0], b, &n), 100);
        ck_assert_int_eq(n, 1);
        ck_assert_int_eq(*seq(&v[1], b, &n), 100);
    }
}
END_TEST

START_TEST(short_sequences_are_not_cropped_where_there_is_something_else)
{
    struct augment_cfg c = nothing();
    c.crop_keep = 0.5f;
    c.mask = 0.5f;
    c.short_length = 4;
    const struct view *v = pair(&c, sequences(4), 8);
    ck_assert_int_eq(v[0].seq.N, 4 * MANY);
    v = pair(&c, sequences(5), 8);
    ck_assert_int_lt(v[0].seq.N, 5 * MANY);
    c.mask = 0; /* nothing else */
    v = pair(&c, sequences(4), 8);
    ck_assert_int_eq(v[0].seq.N, 2 * MANY);
    ck_assert_int_eq(augment_operators(&c), 1);
}
END_TEST

START_TEST(views_depend_on_key_and_place_and_leave_the_sequences_alone)
{
    struct augment_cfg c = nothing();
    c.mask = 0.5f;
    c.reorder = 0.5f;
    c.crop_keep = 0.5f;
    const struct input *x = sequences(8);
    struct input before = *x;
    const struct view *a = pair(&c, x, 9), *b = pair(&c, x, 9), *other = pair(&c, x, 10);
    ck_assert_mem_eq(x->ids, before.ids, sizeof before.ids);
    ck_assert_int_eq(a[0].seq.N, b[0].seq.N);
    ck_assert_mem_eq(a[0].ids, b[0].ids, (size_t)a[0].seq.N * sizeof *a[0].ids);
    ck_assert(other[0].seq.N != a[0].seq.N ||
              memcmp(a[0].ids, other[0].ids, (size_t)a[0].seq.N * sizeof *a[0].ids) != 0);
    struct view one[2]; /* the first sequence by itself: the same views */
    struct seqpack first = { .B = 1, .N = 8, .cu = x->cu, .pos = x->pos };
    augment_pair(one, mem, &c, &first, x->ids, 9);
    ck_assert_int_eq(one[1].seq.N, a[1].seq.cu[1]);
    ck_assert_mem_eq(one[1].ids, a[1].ids, (size_t)one[1].seq.N * sizeof *one[1].ids);
}
END_TEST

START_TEST(halves_share_every_item_among_them_in_order)
{
    const struct input *x = sequences(_i);
    struct view v[2];
    augment_halves(v, mem, &x->sp, x->ids, L, POS_FIRST, 11);
    for (int32_t b = 0; b < MANY; b++) {
        int32_t n[2], at[2] = { 0, 0 };
        const int32_t *s[2] = { seq(&v[0], b, &n[0]), seq(&v[1], b, &n[1]) };
        ck_assert(n[0] >= 1 && n[1] >= 1);
        if (_i == 1) continue; /* it is in both */
        for (int32_t t = 0; t < _i; t++) {
            int h = at[0] < n[0] && s[0][at[0]] == 100 + t ? 0 : 1;
            ck_assert(at[h] < n[h] && s[h][at[h]] == 100 + t);
            at[h]++;
        }
        ck_assert(at[0] == n[0] && at[1] == n[1]);
    }
}
END_TEST

START_TEST(noise_is_foreign_items_among_a_history_in_its_order)
{
    int32_t ids[10], total = 0, at[12] = { 0 };
    for (int32_t i = 0; i < 10; i++) ids[i] = i;
    for (uint64_t key = 0; key < MANY; key++) {
        int32_t n = 10, next = 0;
        const int32_t *out = augment_noise(mem, ids, &n, 0.15f, 40, key);
        ck_assert(n == 11 || n == 12); /* 1.5 more */
        total += n - 10;
        for (int32_t i = 0; i < n; i++) {
            if (out[i] == next)
                next++;
            else
                at[i]++;
            ck_assert(out[i] < 10 ? out[i] == next - 1 : out[i] < 40);
        }
        ck_assert_int_eq(next, 10);
    }
    ck_assert_msg(total > 400 && total < 500, "%d", total); /* 450 expected, deviation 9 */
    for (int i = 0; i < 11; i++) ck_assert_msg(at[i] > 15, "place %d: %d", i, at[i]);
    int32_t n = 10;
    (void)augment_noise(mem, ids, &n, 0, 40, 1);
    ck_assert_int_eq(n, 10);
}
END_TEST

Suite *suite_augment(void);
Suite *suite_augment(void)
{
    Suite *s = suite_create("augment");
    TCase *t = tcase_create("augment");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, crop_keeps_a_contiguous_part_from_anywhere);
    tcase_add_test(t, crop_keeps_one_item_at_least);
    tcase_add_loop_test(t, mask_hides_a_part_in_its_place, 0, 2);
    tcase_add_test(t, reorder_shuffles_one_block);
    tcase_add_loop_test(t, insert_puts_the_similar_item_before_and_keeps_the_newest, 0, 2);
    tcase_add_test(t, substitute_replaces_by_the_similar_item);
    tcase_add_loop_test(t, a_pair_is_made_by_two_operators_or_by_any, 0, 2);
    tcase_add_test(t, a_single_item_is_its_own_views);
    tcase_add_test(t, short_sequences_are_not_cropped_where_there_is_something_else);
    tcase_add_test(t, views_depend_on_key_and_place_and_leave_the_sequences_alone);
    tcase_add_test(t, noise_is_foreign_items_among_a_history_in_its_order);
    tcase_add_loop_test(t, halves_share_every_item_among_them_in_order, 1, 6);
    suite_add_tcase(s, t);
    return s;
}
