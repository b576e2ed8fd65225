#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/num/num.h"
#include "core/serve/live.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

Suite *suite_live(void);

enum { V = 40, D = 16 };

static char *dir, *store_dir;
static struct lives *all;
static struct gen *gen;
static struct live *live;
static struct live_view *view;
static struct err e;

/* ---- set-up ---- */

static struct gen *open_gen(int64_t version, uint64_t seed)
{
    struct fixture fx = fixture_defaults();
    struct gen *g;
    fx.version = version;
    fx.seed = seed;
    fixture_bundle(&fx, dir);
    char *path = xasprintf("%s/toy/%d", dir, (int)version);
    ck_assert_msg(gen_open(&g, path, &e) == 0, "%s", e.msg);
    free(path);
    return g;
}

static void refresh(void)
{
    live_drop(view);
    view = live_take(live);
}

static void open_lives(const char *store)
{
    ck_assert_msg(lives_open(&all, store, &e) == 0, "%s", e.msg);
    ck_assert_msg(lives_add(all, gen, &e) == 0, "%s", e.msg);
    live = lives_find(all, "toy", 3);
    refresh();
}

static void close_lives(void)
{
    live_drop(view);
    view = NULL;
    lives_close(all);
}

static void reopen(void)
{
    close_lives();
    open_lives(store_dir);
}

static void setup(void)
{
    num_init();
    e = (struct err){ 0 };
    dir = fixture_tmpdir();
    store_dir = xasprintf("%s/store", dir);
    gen = open_gen(1, 1);
    open_lives(store_dir);
}

static void teardown(void)
{
    close_lives();
    gen_unref(gen);
    fixture_rmdir(store_dir);
    fixture_rmdir(dir);
    free(store_dir);
    free(dir);
}

/* ---- changes ---- */

static struct str S(const char *s) {
    return (struct str){ s, (int32_t)strlen(s) };
} static bool is(struct str s, const char *want)
{
    return s.len == (int32_t)strlen(want) && memcmp(s.p, want, strlen(want)) == 0;
}

static void write_all(struct item_change *c, int32_t n)
{
    ck_assert_msg(live_write(all, live, c, n, NULL, &e) == 0, "%s", e.msg);
    refresh();
}

static struct item_change with_vector(const char *id, const float *v)
{
    return (struct item_change){ .id = S(id), .vector = v, .dim = D };
}

static struct item_change with_title(const char *id, const char *title)
{
    return (struct item_change){ .id = S(id), .has_title = true, .title = S(title) };
}

static struct item_change deleted(const char *id)
{
    return (struct item_change){ .id = S(id), .deleted = true };
}

static int32_t delta(const char *id) { return live_find(view, id, strlen(id)); }
static int32_t base(const char *id) { return items_find(gen_items(gen), id, strlen(id)); }
static const float *base_vector(int32_t row)
{
    return model_items(gen_model(gen))->t.x + row * D;
}

static const float ones[D] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };

/* ---- one change after the other ---- */

START_TEST(without_a_store_nothing_can_be_changed)
{
    close_lives();
    open_lives(NULL);
    struct item_change c = deleted("i1");
    ck_assert_int_eq(live_write(all, live, &c, 1, NULL, &e), ERR_NO_STORE);
    ck_assert_ptr_nonnull(strstr(e.msg, "--store"));
    const struct blocklist l = { S("out"), INT64_MAX, NULL, 0 };
    ck_assert_int_eq(live_put_list(all, &l, NULL), ERR_NO_STORE);
    ck_assert_int_eq(live_drop_list(all, S("out"), NULL), ERR_NO_STORE);
    ck_assert(view->n == 0 && !view->base_alive && view->V == V && view->D == D);
}
END_TEST

START_TEST(a_new_item_lies_in_the_delta_beside_the_base)
{
    const struct attr colour = { .name = S("colour"), .number = 7 };
    struct item_change c = with_vector("new", ones);
    c.has_attrs = true;
    c.attrs = (struct attrs){ &colour, 1 };
    write_all(&c, 1);
    ck_assert_int_eq(delta("new"), 0);
    ck_assert_int_eq(live_base(view, 0), -1);
    ck_assert_mem_eq(live_vector(view, 0), ones, sizeof ones);
    ck_assert(is(live_id(view, 0), "new") && live_title(view, 0).len == 0);
    ck_assert_int_eq(live_attrs(view, 0)->n, 1);
    ck_assert(is(live_attrs(view, 0)->at[0].name, "colour"));
    ck_assert(view->n_alive == 1 && view->n_base_dead == 0 && !view->base_alive);
}
END_TEST

START_TEST(a_base_item_changed_by_its_title_keeps_its_vector)
{
    struct item_change c = with_title("i7", "Seven");
    write_all(&c, 1);
    ck_assert_int_eq(delta("i7"), 0);
    ck_assert_int_eq(live_base(view, 0), base("i7"));
    ck_assert_mem_eq(live_vector(view, 0), base_vector(base("i7")), sizeof ones);
    ck_assert(is(live_title(view, 0), "Seven"));
    ck_assert(live_dead(view, base("i7")) && !live_dead(view, base("i8")));
    ck_assert_int_eq(view->n_base_dead, 1);
    c = with_vector("i7", ones); /* replaces the change: the title is the base's again */
    write_all(&c, 1);
    ck_assert_int_eq(delta("i7"), 1);
    ck_assert(is(live_title(view, 1), "Film 7"));
    ck_assert(view->n == 2 && view->n_alive == 1 && view->n_base_dead == 1);
}
END_TEST

START_TEST(a_deleted_item_is_dead_until_it_is_put_again)
{
    struct item_change c[] = { with_vector("new", ones), deleted("new"), deleted("i3"),
                               deleted("nobody") };
    write_all(c, 4);
    ck_assert(delta("new") < 0 && delta("i3") < 0 && live_dead(view, base("i3")));
    ck_assert(view->n_deleted == 1 && view->n_alive == 0);
    c[0] = deleted("i3");
    write_all(c, 1);
    ck_assert_int_eq(view->n_deleted, 1);
    c[0] = with_title("i3", "back");
    write_all(c, 1);
    ck_assert(delta("i3") >= 0 && live_dead(view, base("i3")) && view->n_deleted == 0);
    reopen();
    ck_assert(delta("i3") >= 0 && view->n_deleted == 0 && view->n_base_dead == 1);
}
END_TEST

START_TEST(a_view_does_not_change)
{
    struct item_change c[] = { with_vector("a", ones), with_vector("b", ones) };
    write_all(c, 2);
    struct live_view *old = live_take(live);
    struct item_change more[] = { deleted("a"), with_title("i1", "x"), with_vector("c", ones) };
    write_all(more, 3);
    ck_assert(old->n == 2 && old->n_alive == 2 && !old->base_alive);
    ck_assert(live_find(old, "a", 1) == 0 && live_find(old, "c", 1) < 0);
    ck_assert(delta("a") < 0 && delta("c") >= 0 && live_dead(view, base("i1")));
    live_drop(old);
}
END_TEST

static const struct refused {
    struct item_change c;
    int code;
    const char *why;
} refused[] = {
    { { .id = { "i1", 2 }, .vector = ones, .dim = 8 }, ERR_INVALID, "8 numbers" },
    { { .id = { "new", 3 }, .has_title = true }, ERR_INVALID, "give its vector (16 numbers)" },
    { { .id = { "new", 3 }, .has_attrs = true }, ERR_INVALID, "has no item tower" },
};

START_TEST(a_batch_with_one_bad_change_does_nothing)
{
    struct item_change c[] = { with_vector("good", ones), refused[_i].c, deleted("i2") };
    int32_t at;
    ck_assert_int_eq(live_write(all, live, c, 3, &at, &e), refused[_i].code);
    ck_assert_int_eq(at, 1);
    ck_assert_msg(strstr(e.msg, refused[_i].why), "%s", e.msg);
    refresh();
    ck_assert(view->n == 0 && !live_dead(view, base("i2")));
    reopen();
    ck_assert(view->n == 0 && view->n_deleted == 0);
}
END_TEST

/* A new item with one attribute more than the base's, a number or a text. */
static struct item_change with_attr(const char *id, struct attr *a, const char *name,
                                    bool number)
{
    static const struct str text = { "x", 1 };
    *a = (struct attr){ .name = S(name), .value = &text, .n_values = 1 };
    if (number) *a = (struct attr){ .name = S(name), .number = 1 };
    struct item_change c = with_vector(id, ones);
    c.has_attrs = true;
    c.attrs = (struct attrs){ a, 1 };
    return c;
}

static void refuse(struct item_change *c, int32_t n, int32_t where, const char *why)
{
    int32_t at;
    ck_assert_int_eq(live_write(all, live, c, n, &at, &e), ERR_INVALID);
    ck_assert_int_eq(at, where);
    ck_assert_msg(strstr(e.msg, why), "%s", e.msg);
    e.code = 0;
}

START_TEST(a_new_attribute_has_one_kind_as_long_as_an_item_has_it)
{
    struct attr a[3];
    struct item_change c[3] = { with_attr("a", &a[0], "stock", true),
                                with_attr("b", &a[1], "stock", false) };
    refuse(c, 2, 1, "\"stock\": other changed items have a number");
    write_all(c, 1);
    refuse(&c[1], 1, 0, "\"stock\": other changed items have a number");
    reopen();
    refuse(&c[1], 1, 0, "\"stock\"");
    c[2] = with_attr("a", &a[2], "stock", false); /* the only one may change */
    write_all(&c[2], 1);
    write_all(&c[1], 1);
    refuse(c, 1, 0, "\"stock\": other changed items have text");
    c[0] = deleted("a");
    c[1] = deleted("b");
    c[2] = with_attr("c", &a[2], "stock", true);
    write_all(c, 3);
    ck_assert(view->names->n == 1 && view->names->at[0].number);
}
END_TEST

START_TEST(new_attributes_are_as_many_as_a_catalogue_may_have)
{
    const int32_t room = LIMIT_FIELDS - items_fields(gen_items(gen));
    struct attr a;
    char id[16], name[16];
    for (int32_t i = 0; i <= room; i++) {
        snprintf(id, sizeof id, "new%d", i);
        snprintf(name, sizeof name, "field%d", i);
        struct item_change c = with_attr(id, &a, name, true);
        if (i < room)
            write_all(&c, 1);
        else
            refuse(&c, 1, 0, "the limit");
    }
    ck_assert_int_eq(view->names->n, room);
    struct item_change c = deleted("new0");
    write_all(&c, 1);
    c = with_attr(id, &a, name, true);
    write_all(&c, 1);
}
END_TEST

START_TEST(the_delta_has_a_limit_that_says_what_to_do)
{
    enum { N = LIMIT_DELTA, PART = 10000 };
    static char id[PART][16];
    static struct item_change c[PART];
    for (int first = 0; first < N; first += PART) {
        for (int i = 0; i < PART; i++) {
            snprintf(id[i], sizeof id[i], "n%d", first + i);
            c[i] = with_vector(id[i], ones);
        }
        write_all(c, PART);
    }
    struct item_change more = with_vector("more", ones), again = with_vector("n5", ones);
    ck_assert_int_eq(live_write(all, live, &more, 1, NULL, &e), ERR_DELTA_FULL);
    ck_assert_ptr_nonnull(strstr(e.msg, "intent index --compact"));
    ck_assert_int_eq(live_write(all, live, &again, 1, NULL, NULL), 0); /* no further item */
    struct item_change gone = deleted("n7");
    e = (struct err){ 0 };
    write_all(&gone, 1);
    write_all(&more, 1);
    ck_assert_int_eq(view->n_alive, N);
    reopen();
    ck_assert_int_eq(view->n_alive, N);
    ck_assert(delta("n5") >= 0 && delta("n199999") >= 0 && delta("more") >= 0 &&
              delta("n7") < 0);
}
END_TEST

START_TEST(rows_that_died_are_given_back)
{
    struct item_change c = with_vector("same", ones);
    for (int i = 0; i < 3000; i++) ck_assert_int_eq(live_write(all, live, &c, 1, NULL, &e), 0);
    refresh();
    ck_assert(view->n_alive == 1 && view->n < 1200);
    ck_assert(is(live_id(view, delta("same")), "same"));
}
END_TEST

/* ---- random changes beside a plain table ---- */

enum { IDS = 900 }; /* i0 .. i39 are of the base */
static struct plain {
    char id[16], title[16];
    bool there, changed;
    float vector[D];
} plain[IDS];

static void plain_setup(void)
{
    for (int i = 0; i < IDS; i++) {
        plain[i] = (struct plain){ .there = i < V };
        snprintf(plain[i].id, sizeof plain[i].id, "i%d", i);
        if (i >= V) continue;
        snprintf(plain[i].title, sizeof plain[i].title, "Film %d", i);
        memcpy(plain[i].vector, base_vector(i), sizeof ones);
    }
}

/* A change of plain[i] and what it makes of it; what it points to lives as long as c's
 * batch. */
static struct item_change draw(struct rng *r, int i, float vector[D], char title[16])
{
    struct plain *p = &plain[i];
    if (rng_below(r, 4) == 0) {
        p->there = false;
        return deleted(p->id);
    }
    struct item_change c = { .id = S(p->id) };
    p->there = p->changed = true;
    p->title[0] = '\0';
    if (i < V) snprintf(p->title, sizeof p->title, "Film %d", i);
    if (i < V) memcpy(p->vector, base_vector(i), sizeof ones);
    if (i >= V || rng_below(r, 2)) {
        for (int d = 0; d < D; d++) vector[d] = (float)rng_below(r, 5);
        c.vector = memcpy(p->vector, vector, sizeof ones);
        c.vector = vector;
        c.dim = D;
    }
    if (rng_below(r, 2)) {
        snprintf(title, 16, "t%u", rng_below(r, 1000));
        c.has_title = true;
        c.title = S(title);
        snprintf(p->title, sizeof p->title, "%s", title);
    }
    return c;
}

static void compare(void)
{
    int alive = 0, dead = 0;
    for (int i = 0; i < IDS; i++) {
        const int32_t row = delta(plain[i].id);
        const bool in_base = i < V && !live_dead(view, i);
        ck_assert_msg((row >= 0) + in_base == plain[i].there, "%s", plain[i].id);
        alive += row >= 0;
        dead += i < V && !in_base;
        if (row < 0) continue;
        ck_assert_int_eq(live_base(view, row), i < V ? i : -1);
        ck_assert_mem_eq(live_vector(view, row), plain[i].vector, sizeof ones);
        ck_assert(is(live_title(view, row), plain[i].title));
    }
    ck_assert_int_eq(view->n_alive, alive);
    ck_assert_int_eq(view->n_base_dead, dead);
}

/* The best by going through all that is there. */
static void check_search(struct rng *r)
{
    enum { Q = 2, K = 7 };
    float query[Q * D], scores[Q * K];
    uint64_t allow[128];
    int32_t ids[Q * K];
    for (int i = 0; i < Q * D; i++) query[i] = (float)rng_below(r, 3) - 1;
    for (int w = 0; w < 128; w++) allow[w] = rng_u64(r);
    const bool limited = rng_below(r, 2);
    live_search(ids, scores, view, query, Q, K, limited ? allow : NULL);
    for (int q = 0; q < Q; q++) {
        float last = INFINITY;
        int32_t last_row = -1;
        for (int k = 0; k < K; k++) {
            int32_t best = -1;
            float best_score = 0;
            for (int32_t i = 0; i < view->n; i++) {
                if (!(view->alive[i / 64] >> i % 64 & 1)) continue;
                if (limited && !(allow[i / 64] >> i % 64 & 1)) continue;
                float s = num->vec->dot(query + q * D, live_vector(view, i), D);
                if (s > last || (s == last && i <= last_row)) continue;
                if (best >= 0 && s <= best_score) continue;
                best = i;
                best_score = s;
            }
            ck_assert_int_eq(ids[q * K + k], best < 0 ? -1 : V + best);
            if (best < 0) break;
            ck_assert(scores[q * K + k] == best_score);
            last = best_score;
            last_row = best;
        }
    }
}

START_TEST(random_changes_are_those_of_a_plain_table)
{
    enum { MOST = 60 };
    struct rng r = rng_make(3, RNG_TEST);
    float vector[MOST][D];
    char title[MOST][16];
    struct item_change c[MOST];
    plain_setup();
    for (int step = 0; step < 600; step++) {
        const int n = 1 + (int)rng_below(&r, MOST);
        for (int i = 0; i < n; i++)
            c[i] = draw(&r, (int)rng_below(&r, IDS), vector[i], title[i]);
        write_all(c, n);
        if (step % 25 == 0) compare();
        if (step % 25 == 0) check_search(&r);
        if (step % 100 == 99) reopen();
    }
    compare();
    reopen();
    compare();
    check_search(&r);
}
END_TEST

/* ---- blocklists ---- */

static void put_list(const char *name, int64_t expires_ms, const struct str *id, int32_t n)
{
    const struct blocklist l = { S(name), expires_ms, id, n };
    ck_assert_msg(live_put_list(all, &l, &e) == 0, "%s", e.msg);
    refresh();
}

static bool in_list(const char *name, int32_t row)
{
    const struct live_list *l = live_list(view, name, strlen(name));
    for (int32_t i = 0; l && i < l->n_rows; i++) {
        ck_assert(i == 0 || l->row[i] > l->row[i - 1]);
        if (l->row[i] == row) return true;
    }
    return false;
}

START_TEST(a_blocklist_names_rows_of_the_base_and_of_the_delta)
{
    struct item_change c[] = { with_vector("new", ones), with_vector("late", ones),
                               with_title("i5", "x") };
    const struct str id[] = { S("late"), S("new"), S("i5"), S("i6"), S("new"), S("nobody") };
    write_all(c, 1);
    put_list("out", INT64_MAX, id, 6);
    const struct live_list *l = live_list(view, "out", 3);
    ck_assert(l->n_ids == 5 && l->n_rows == 3 && is(l->id[0], "late"));
    ck_assert(in_list("out", base("i5")) && in_list("out", V + delta("new")));
    write_all(c + 1, 2); /* what comes later is blocked as well */
    ck_assert(in_list("out", V + delta("late")) && in_list("out", V + delta("i5")));
    ck_assert(!in_list("out", base("i7")) && !live_list(view, "ou", 2));
    reopen();
    ck_assert(in_list("out", V + delta("late")) && in_list("out", V + delta("i5")));
    ck_assert_int_eq(live_list(view, "out", 3)->expires_ms == INT64_MAX, 1);
    put_list("out", INT64_MAX, id + 3, 1);
    ck_assert(!in_list("out", base("i5")) && in_list("out", base("i6")));
    ck_assert_int_eq(live_drop_list(all, S("out"), &e), 0);
    ck_assert_int_eq(live_drop_list(all, S("out"), &e), 0);
    refresh();
    ck_assert_ptr_null(live_list(view, "out", 3));
    reopen();
    ck_assert_ptr_null(live_list(view, "out", 3));
}
END_TEST

START_TEST(blocklists_follow_rows_that_move)
{
    const struct str id[] = { S("same"), S("other") };
    struct item_change c = with_vector("other", ones);
    write_all(&c, 1);
    put_list("out", INT64_MAX, id, 2);
    c = with_vector("same", ones);
    for (int i = 0; i < 2500; i++) ck_assert_int_eq(live_write(all, live, &c, 1, NULL, &e), 0);
    refresh();
    ck_assert(in_list("out", V + delta("same")) && in_list("out", V + delta("other")));
}
END_TEST

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

START_TEST(a_blocklist_that_is_over_does_not_exist)
{
    const struct str id[] = { S("i5") };
    put_list("short", now_ms() + 100, id, 1);
    put_list("long", now_ms() + 100000, id, 1);
    ck_assert(in_list("short", base("i5")));
    usleep(150000);
    ck_assert_ptr_null(live_list(view, "short", 5)); /* the same view */
    ck_assert(in_list("long", base("i5")));
    reopen();
    ck_assert_ptr_null(live_list(view, "short", 5));
    ck_assert(in_list("long", base("i5")));
}
END_TEST

/* ---- another generation ---- */

START_TEST(another_generation_serves_what_fits_it_and_keeps_the_rest)
{
    struct item_change c[] = { with_vector("new", ones), with_title("i3", "x"), deleted("i4"),
                               with_vector("i5", ones) };
    const struct str blocked[] = { S("i3") };
    put_list("out", INT64_MAX, blocked, 1);
    write_all(c, 4);
    struct live_view *old = live_take(live);
    struct gen *next = open_gen(2, 2);
    ck_assert_int_eq(lives_add(all, next, &e), 0);
    ck_assert_ptr_eq(lives_find(all, "toy", 3), live);
    refresh();
    ck_assert(view->gen == next && old->gen == gen && live_find(old, "new", 3) >= 0);
    live_drop(old);
    /* vectors of the first weights mean nothing here: the base answers for i5 */
    ck_assert(view->n_other == 2 && delta("new") < 0 && delta("i5") < 0 && !live_dead(view, 5));
    ck_assert(delta("i3") >= 0 && live_dead(view, 4) && view->n_deleted == 1);
    ck_assert_mem_eq(live_vector(view, delta("i3")), model_items(gen_model(next))->t.x + 3 * D,
                     sizeof ones);
    ck_assert(in_list("out", V + delta("i3")));
    c[0] = with_vector("new", ones);
    write_all(c, 1);
    ck_assert(view->n_other == 1 && delta("new") >= 0);
    struct item_change gone = deleted("i5");
    write_all(&gone, 1);
    ck_assert(view->n_other == 0 && view->n_deleted == 2);
    ck_assert_int_eq(lives_add(all, gen, &e), 0); /* and back */
    refresh();
    ck_assert(view->n_other == 1 && delta("new") < 0 && live_dead(view, 5));
    live_drop(view);
    view = NULL;
    gen_unref(next);
}
END_TEST

/* ---- threads ---- */

static atomic_bool stop;

/* Every view is whole: what is alive is found, has its texts and its vector, and pairs come
 * and go together. */
static void *read_views(void *ctx)
{
    const char *const pair[] = { "left", "right" };
    long *n_read = ctx;
    while (!atomic_load(&stop)) {
        struct live_view *v = live_take(live);
        int32_t alive = 0, row[2];
        for (int32_t i = 0; i < v->n; i++) {
            if (!(v->alive[i / 64] >> i % 64 & 1)) continue;
            struct str id = live_id(v, i), title = live_title(v, i);
            alive++;
            if (live_find(v, id.p, (size_t)id.len) != i) abort();
            if ((float)atoi(title.p + 1) != live_vector(v, i)[0]) abort();
        }
        for (int k = 0; k < 2; k++) row[k] = live_find(v, pair[k], strlen(pair[k]));
        if (alive != v->n_alive || (row[0] < 0) != (row[1] < 0)) abort();
        if (row[0] >= 0 && live_vector(v, row[0])[0] != live_vector(v, row[1])[0]) abort();
        const struct live_list *l = live_list(v, "out", 3);
        if (l && row[0] >= 0 && l->row[l->n_rows - 1] < v->V) abort();
        live_drop(v);
        ++*n_read;
    }
    return NULL;
}

START_TEST(readers_see_whole_states_while_others_write)
{
    enum { READERS = 3 };
    pthread_t thread[READERS];
    long n_read[READERS] = { 0 };
    float vector[D] = { 0 };
    char title[16];
    const struct str blocked[] = { S("left") };
    atomic_store(&stop, false);
    for (int i = 0; i < READERS; i++) pthread_create(&thread[i], NULL, read_views, &n_read[i]);
    for (int step = 0; step < 2500; step++) {
        vector[0] = (float)step;
        snprintf(title, sizeof title, "t%d.", step);
        struct item_change c[] = { with_vector("left", vector), with_vector("right", vector),
                                   with_vector(step % 3 ? "i3" : "more", vector) };
        for (int i = 0; i < 3; i++) {
            c[i].has_title = true;
            c[i].title = S(title);
            c[i].deleted = step % 7 == 6;
        }
        for (int i = 0; i < 3 && c[i].deleted; i++)
            c[i] = deleted(i == 0 ? "left" : i == 1 ? "right" : "more");
        ck_assert_int_eq(live_write(all, live, c, 3, NULL, &e), 0);
        if (step % 100 == 50) put_list("out", INT64_MAX, blocked, 1);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(thread[i], NULL);
        ck_assert_int_gt(n_read[i], 0);
    }
}
END_TEST

Suite *suite_live(void)
{
    Suite *s = suite_create("live");
    TCase *t = tcase_create("live");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, without_a_store_nothing_can_be_changed);
    tcase_add_test(t, a_new_item_lies_in_the_delta_beside_the_base);
    tcase_add_test(t, a_base_item_changed_by_its_title_keeps_its_vector);
    tcase_add_test(t, a_deleted_item_is_dead_until_it_is_put_again);
    tcase_add_test(t, a_new_attribute_has_one_kind_as_long_as_an_item_has_it);
    tcase_add_test(t, new_attributes_are_as_many_as_a_catalogue_may_have);
    tcase_add_test(t, a_view_does_not_change);
    tcase_add_loop_test(t, a_batch_with_one_bad_change_does_nothing, 0,
                        (int)(sizeof refused / sizeof *refused));
    tcase_add_test(t, the_delta_has_a_limit_that_says_what_to_do);
    tcase_add_test(t, rows_that_died_are_given_back);
    tcase_add_test(t, random_changes_are_those_of_a_plain_table);
    tcase_add_test(t, a_blocklist_names_rows_of_the_base_and_of_the_delta);
    tcase_add_test(t, blocklists_follow_rows_that_move);
    tcase_add_test(t, a_blocklist_that_is_over_does_not_exist);
    tcase_add_test(t, another_generation_serves_what_fits_it_and_keeps_the_rest);
    tcase_add_test(t, readers_see_whole_states_while_others_write);
    suite_add_tcase(s, t);
    return s;
}
