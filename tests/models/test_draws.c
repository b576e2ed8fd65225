/* What objectives draw for a batch, which the golden files give them: S3-Rec's hidden items and spans, the halves of an
 * item's features, the rank model's views. */
#include "core/base/buf.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/fields.h"
#include "models/item_ssl.h"
#include "models/obj.h"
#include "models/rank_loss.h"
#include "models/s3rec.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static struct dataset ds;
static struct fields *fields;
static struct arena *mem;
static struct tape *tp;

static const struct obj_ops *ops;
static void *cfg, *own;
static struct model *model;

static void set_up(void)
{
    num_init();
    dir = fixture_tmpdir();
    mem = arena_new("draws", 1 << 16, 0);
    tp = tape_new(mem, NULL);
}

static void tear_down(void)
{
    if (own) ops->close(own);
    free(cfg);
    if (model) model_free(model);
    fields_free(fields);
    own = cfg = NULL;
    model = NULL;
    fields = NULL;
    tape_free(tp);
    arena_free(mem);
    dataset_close(&ds);
    ds = (struct dataset){ 0 };
    fixture_rmdir(dir);
    free(dir);
}

/* The objective with "key=value" ..., NULL, for the data set. */
static void open_objective(const struct obj_ops *o, int32_t max_len, const char *const *keys)
{
    struct model_cfg c;
    struct err e = { 0 };
    ops = o;
    cfg = xcalloc(1, ops->cfg_size);
    conf_defaults(ops->opts, cfg);
    for (int i = 0; keys[i]; i += 2)
        ck_assert_msg(conf_set(ops->opts, cfg, keys[i], keys[i + 1], &e) == 0, "%s", e.msg);
    conf_defaults(model_opts, &c);
    c.width = 8;
    c.max_len = max_len;
    c.n_items = ds.n_items;
    c.item_tower = ops == &obj_item_ssl;
    model = model_new(&c, true);
    if (c.item_tower) {
        ck_assert_msg(fields_new(&fields, ds.items, &e) == 0, "%s", e.msg);
        model_add_tower(model, fields_of(fields));
    }
    own = ops->open(cfg, model, &ds);
}

static const void *draw(const struct batch *b, uint64_t key)
{
    const struct step s = {
        .tp = tp, .model = model, .batch = b, .layout = LAYOUT_C, .key = key
    };
    tape_begin(tp, GROUPS_ALL, key, true);
    return ops->draw(cfg, own, &s);
}

/* ---- S3-Rec ---- */

enum { L = 6, KEYS = 60 };

/* Whether the n items follow each other in what is trained on, users one after the other. */
static bool were_together(const int32_t *items, int32_t n)
{
    static int32_t all[2000];
    int32_t count = 0;
    for (int32_t u = 0; u < ds.n_users; u++)
        for (int32_t i = 0; i < dataset_train_len(&ds, u); i++)
            all[count++] = ds.item[ds.cu[u] + i];
    for (int32_t from = 0; from + n <= count; from++)
        if (memcmp(all + from, items, (size_t)n * sizeof *items) == 0) return true;
    return false;
}

struct seen {
    int64_t shown, hidden; /* but for last items */
    int64_t span[L];       /* by length */
};

static void check_hidden_items(const struct s3rec_drawn *d, int32_t at, int32_t n,
                               struct seen *seen)
{
    ck_assert_int_eq(d->masked[at + n - 1], EMBED_MASK);
    for (int32_t t = at; t < at + n; t++) {
        const bool hidden = d->masked[t] == EMBED_MASK;
        if (t < at + n - 1) seen->hidden += hidden, seen->shown += !hidden;
        if (!hidden) ck_assert_int_eq(d->masked[t], d->ids[t]);
        if (!hidden) continue;
        ck_assert(d->negative[t] >= 0 && d->negative[t] < ds.n_items);
        for (int32_t i = at; i < at + n; i++) ck_assert_int_ne(d->negative[t], d->ids[i]);
    }
}

static void check_span(const struct s3rec_drawn *d, int32_t at, int32_t n, struct seen *seen)
{
    int32_t first = at, len = 0;
    while (n > 1 && d->segment[first] != EMBED_MASK) first++;
    while (n > 1 && first + len < at + n && d->segment[first + len] == EMBED_MASK) len++;
    ck_assert(n == 1 ? len == 0 : len >= 1 && len <= n / 2);
    seen->span[len]++;
    for (int32_t t = at; t < at + n; t++) {
        const bool in = n == 1 || (t >= first && t < first + len);
        ck_assert_int_eq(d->segment[t], in && n > 1 ? EMBED_MASK : d->ids[t]);
        ck_assert_int_eq(d->positive[t], in ? d->ids[t] : EMBED_MASK);
        if (n > 1) ck_assert_int_eq(d->other[t] == EMBED_MASK, !in);
    }
    if (n > 1) ck_assert(were_together(d->other + first, len));
}

START_TEST(s3rec_hides_the_last_item_some_others_and_a_span)
{
    data_random(&ds, dir, 12, 60, 10, 5);
    open_objective(&obj_s3rec, L,
                   (const char *const[]){ "aap", "0", "map", "0", "mask", "0.3", NULL });
    const struct batch_cfg c = { .batch_size = 7, .max_len = L, .layout = LAYOUT_C, .seed = 1 };
    struct batcher *batches = batcher_new(&ds, &c);
    struct seen seen = { 0 };
    const struct batch *b;
    batcher_epoch(batches, 1, 0);
    while ((b = batcher_next(batches)))
        for (uint64_t key = 1; key <= KEYS; key++) {
            const struct s3rec_drawn *d = draw(b, key);
            ck_assert_int_eq(d->seq.B, b->seq.B);
            for (int32_t r = 0; r < d->seq.B; r++) {
                const int32_t at = d->seq.cu[r], n = d->seq.cu[r + 1] - at;
                const int32_t in = b->seq.cu[r + 1] - b->seq.cu[r], from = in == L;
                ck_assert_int_eq(n, in - from + 1);
                ck_assert_mem_eq(d->ids + at, b->ids + b->seq.cu[r] + from,
                                 (size_t)(n - 1) * sizeof *d->ids);
                ck_assert_int_eq(d->ids[at + n - 1], b->target[r]);
                check_hidden_items(d, at, n, &seen);
                check_span(d, at, n, &seen);
            }
        }
    batcher_free(batches);
    const double all = (double)(seen.hidden + seen.shown), part = (double)seen.hidden / all;
    ck_assert_msg(fabs(part - 0.3) < 5 * sqrt(0.3 * 0.7 / all), "%g of the items are hidden",
                  part);
    for (int len = 1; len <= L / 2; len++) ck_assert_int_gt(seen.span[len], 0);
    ck_assert_int_eq(seen.span[L / 2 + 1], 0);
}
END_TEST

/* ---- halves of features ---- */

enum { COLOUR, SHAPE, TONE, SIZE, TASTE, FIELDS, CATALOGUE = 48 };

/* colour, shape and tone tell each other, and so do size and taste; an item may have three notes. */
static void open_catalogue(const char *const *keys, bool notes)
{
    struct buf users = { 0 }, items = { 0 };
    buf_puts(&users, "u");
    buf_printf(&items, "item,colour,shape,tone,size,taste%s\n", notes ? ",note" : "");
    for (int i = 0; i < CATALOGUE; i++) {
        buf_printf(&users, " i%d", i);
        buf_printf(&items, "i%d,c%d,s%d,t%d,z%d,e%d", i, i % 3, i % 3, i % 3, i / 3 % 4,
                   i / 3 % 4);
        if (notes) buf_printf(&items, ",n%d|m%d|o%d", i % 5, i % 7, i % 2);
        buf_puts(&items, "\n");
    }
    buf_puts(&users, "\n");
    data_with_items(&ds, dir, users.data, items.data);
    buf_free(&users);
    buf_free(&items);
    open_objective(&obj_item_ssl, L, keys);
}

/* Whether the view has all of field j, or nothing of it. */
static bool has_field(const struct item_view *v, int32_t j)
{
    const bool any = v->bag[j].cu[v->n] > 0;
    for (int32_t i = 0; i < v->n; i++)
        ck_assert_int_eq(v->bag[j].cu[i + 1] - v->bag[j].cu[i], any);
    return any;
}

static bool has_id(const struct item_view *v)
{
    for (int32_t i = 0; i < v->n; i++)
        ck_assert_int_eq(v->ids[i] == EMBED_MASK, v->ids[0] == EMBED_MASK);
    return v->ids[0] != EMBED_MASK;
}

/* The values are those of one item in either view; the ids of the one that has them. */
static void check_complement(const struct item_view *v, bool first[FIELDS + 1], int64_t *drawn)
{
    const struct item_view *known = &v[!has_id(&v[0])];
    first[FIELDS] = has_id(&v[0]);
    ck_assert_int_ne(has_id(&v[0]), has_id(&v[1]));
    for (int32_t j = 0; j < FIELDS; j++) {
        const struct item_field *all = &fields_of(fields)->field[j];
        first[j] = has_field(&v[0], j);
        ck_assert_int_ne(first[j], has_field(&v[1], j));
        for (int32_t i = 0; i < v[0].n; i++)
            ck_assert_int_eq(v[!first[j]].bag[j].id[i], all->id[all->cu[known->ids[i]]]);
    }
    for (int32_t i = 0; i < v[0].n; i++) drawn[known->ids[i]]++;
}

START_TEST(cfm_masks_together_what_tells_of_each_other)
{
    open_catalogue((const char *const[]){ "value_dropout", "0", "items", "64", NULL }, false);
    int64_t drawn[CATALOGUE] = { 0 }, triples = 0, with_id = 0;
    enum { TIMES = 300 };
    for (uint64_t key = 1; key <= TIMES; key++) {
        bool first[FIELDS + 1];
        check_complement(draw(NULL, key), first, drawn);
        const int three = !first[COLOUR] + !first[SHAPE] + !first[TONE];
        const int two = !first[SIZE] + !first[TASTE];
        /* a field and floor(5 / 2) more: those that it tells of first */
        ck_assert_msg((three == 3 && two == 0) || (three == 1 && two == 2), "%d and %d", three,
                      two);
        triples += three == 3;
        with_id += first[FIELDS];
    }
    ck_assert(triples > TIMES / 2 && triples < 7 * TIMES / 10); /* three fields in five */
    ck_assert(with_id > TIMES / 3 && with_id < 2 * TIMES / 3);
    const double mean = 64.0 * TIMES / CATALOGUE;
    for (int v = 0; v < CATALOGUE; v++)
        ck_assert_msg(fabs((double)drawn[v] - mean) < 5 * sqrt(mean), "item %d: %lld times", v,
                      (long long)drawn[v]);
}
END_TEST

START_TEST(rfm_masks_any_half)
{
    open_catalogue(
        (const char *const[]){ "masking", "rfm", "value_dropout", "0", "items", "8", NULL },
        false);
    int64_t drawn[CATALOGUE] = { 0 }, masked[FIELDS + 1] = { 0 };
    enum { TIMES = 400 };
    for (uint64_t key = 1; key <= TIMES; key++) {
        bool first[FIELDS + 1];
        int n = 0;
        check_complement(draw(NULL, key), first, drawn);
        for (int j = 0; j <= FIELDS; j++) n += !first[j], masked[j] += !first[j];
        ck_assert_int_eq(n, 3); /* of five fields and the id */
    }
    for (int j = 0; j <= FIELDS; j++)
        ck_assert_msg(fabs((double)masked[j] - .5 * TIMES) < 5 * sqrt(.25 * TIMES),
                      "feature %d is masked %lld times", j, (long long)masked[j]);
}
END_TEST

START_TEST(a_field_of_several_values_loses_some_never_all)
{
    open_catalogue((const char *const[]){ "value_dropout", "0.4", "items", "64", NULL }, true);
    int64_t kept = 0, of = 0;
    for (uint64_t key = 1; key <= 40; key++) {
        const struct item_view *v = draw(NULL, key);
        const struct item_field *f = &v[v[0].bag[FIELDS].cu[v[0].n] == 0].bag[FIELDS];
        for (int32_t i = 0; i < v[0].n; i++) {
            const int32_t n = f->cu[i + 1] - f->cu[i];
            ck_assert(n >= 1 && n <= 3);
            kept += n;
            of += 3;
        }
    }
    /* one stays, of the two others .6 */
    ck_assert(fabs((double)kept / (double)of - 2.2 / 3) < .02);
}
END_TEST

/* ---- the rank model's views ---- */

/* Sequences of 5, 0, 1, 0 and 4 steps. */
static const int32_t cu[] = { 0, 5, 5, 6, 6, 10 }, full_from[] = { 0, 5, 6 },
                     full_len[] = { 5, 1, 4 };

static void rank_draw(struct view v[2], struct rank_loss_cfg c, uint64_t key)
{
    const struct seqpack seq = { .B = 5, .N = 10, .cu = cu };
    tape_begin(tp, GROUPS_ALL, key, true);
    rank_views(v, mem, &c, &seq, 8, key);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(v[i].seq.B, 3);
        for (int32_t b = 0; b < 3; b++)
            for (int32_t t = v[i].seq.cu[b]; t < v[i].seq.cu[b + 1]; t++)
                ck_assert(
                    v[i].ids[t] == EMBED_MASK ||
                    (v[i].ids[t] >= full_from[b] && v[i].ids[t] < full_from[b] + full_len[b]));
    }
}

START_TEST(views_of_the_rank_model_are_of_the_sequences_that_have_steps)
{
    struct view v[2];
    int moved = 0, masked = 0;
    for (uint64_t key = 1; key <= 50; key++) {
        rank_draw(v, (struct rank_loss_cfg){ 1, 1, .4f, 0, 0, 0, 0 }, key); /* crop */
        for (int32_t b = 0; b < 3; b++) {
            const int32_t n = v[0].seq.cu[b + 1] - v[0].seq.cu[b], at = v[0].seq.cu[b];
            ck_assert_int_eq(n, full_len[b] == 5 ? 2 : 1);
            for (int32_t t = 1; t < n; t++)
                ck_assert_int_eq(v[0].ids[at + t], v[0].ids[at] + t);
        }
        rank_draw(v, (struct rank_loss_cfg){ 1, 1, 1, .6f, 0, 0, 0 }, key); /* mask */
        for (int32_t t = 0; t < 10; t++)
            ck_assert(v[0].ids[t] == t || v[0].ids[t] == EMBED_MASK);
        for (int32_t t = 0; t < 10; t++) masked += v[0].ids[t] == EMBED_MASK;
        rank_draw(v, (struct rank_loss_cfg){ 1, 1, 1, 0, .8f, 0, 0 }, key); /* reorder */
        int32_t sum = 0;
        for (int32_t t = 0; t < 10; t++) sum += 1 << v[1].ids[t], moved += v[1].ids[t] != t;
        ck_assert_int_eq(sum, (1 << 10) - 1);
    }
    ck_assert_int_eq(masked, 50 * (3 + 2)); /* floor(.6 n); one step is its own view */
    ck_assert_int_gt(moved, 100);
}
END_TEST

Suite *suite_draws(void);
Suite *suite_draws(void)
{
    Suite *s = suite_create("draws");
    TCase *t = tcase_create("draws");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, s3rec_hides_the_last_item_some_others_and_a_span);
    tcase_add_test(t, cfm_masks_together_what_tells_of_each_other);
    tcase_add_test(t, rfm_masks_any_half);
    tcase_add_test(t, a_field_of_several_values_loses_some_never_all);
    tcase_add_test(t, views_of_the_rank_model_are_of_the_sequences_that_have_steps);
    suite_add_tcase(s, t);
    return s;
}
