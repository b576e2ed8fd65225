#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/live.h"
#include "models/add_items.h"
#include "models/compact.h"
#include "tests/fixture_bundle.h"
#include "tests/models/fixture_train.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

Suite *suite_compact(void);

static char *dir, *data, *store_dir;
static struct job job;
static struct lives *all;
static struct live_view *view;
static struct gen *gen;
static struct err e;

static void set_up(void)
{
    num_init();
    e = (struct err){ 0 };
    dir = fixture_tmpdir();
    store_dir = xasprintf("%s/store", dir);
    data = learnable_data(dir, 40, 30, 1); /* i0 .. i29 with colour, shape and year */
    job = job_new(dir, data, "[model]\nitem_tower = true\n[next_item]\n");
    job_run(&job);
    ck_assert_msg(job.rc == 0, "%s\n%s", job.e.msg, job.text);
}

static void tear_down(void)
{
    job_free(&job);
    fixture_rmdir(dir);
    free(dir);
    free(data);
    free(store_dir);
}

static struct gen *open_version(int version)
{
    struct gen *g;
    char *path = xasprintf("%s/%d", job.out, version);
    ck_assert_msg(gen_open(&g, path, &e) == 0, "%s", e.msg);
    free(path);
    return g;
}

static struct live *live_of(void)
{
    const char *name = gen_info(gen)->name;
    return lives_find(all, name, strlen(name));
}

static void serve(int version)
{
    gen = open_version(version);
    if (!all) ck_assert_msg(lives_open(&all, store_dir, &e) == 0, "%s", e.msg);
    ck_assert_msg(lives_add(all, gen, &e) == 0, "%s", e.msg);
    view = live_take(live_of());
}

static void leave(void)
{
    live_drop(view);
    view = NULL;
    gen_unref(gen);
}

static void shut(void)
{
    leave();
    lives_close(all);
    all = NULL;
}

static struct str S(const char *s) {
    return (struct str){ s, (int32_t)strlen(s) };
}

static void
write_all(struct item_change *c, int32_t n)
{
    ck_assert_msg(live_write(all, live_of(), c, n, NULL, &e) == 0, "%s", e.msg);
    live_drop(view);
    view = live_take(live_of());
}

static int compact_it(char **told)
{
    struct index_cfg cfg = { .type = INDEX_FLAT, .recall = 0.99f };
    size_t nb;
    FILE *report = open_memstream(told, &nb);
    int rc = compact(job.out, store_dir, &cfg, report, &e);
    fclose(report);
    return rc;
}

static const float *item_vector(const char *id)
{
    const int32_t row = items_find(gen_items(gen), id, strlen(id));
    ck_assert_msg(row >= 0, "no item %s", id);
    return model_items(gen_model(gen))->t.x + (size_t)row * (size_t)gen_info(gen)->D;
}

static const struct str blue_green[] = { { "blue", 4 }, { "green", 5 } },
                        square = { "square", 6 }, mint = { "mint", 4 };
static const struct attr
    n1[] = { { .name = { "colour", 6 }, .value = blue_green, .n_values = 2 },
             { .name = { "shape", 5 }, .value = &square, .n_values = 1 },
             { .name = { "year", 4 }, .number = 1990 } },
    with_mint[] = { { .name = { "flavour", 7 }, .value = &mint, .n_values = 1 } };

START_TEST(the_daemon_and_add_items_make_the_same_vectors)
{
    static const char file[] = "item,colour,shape,year\nn1,blue|green,square,1990\n";
    struct index_cfg cfg = { .type = INDEX_FLAT };
    serve(1);
    struct item_change c = { .id = S("n1"), .has_attrs = true, .attrs = { n1, 3 } };
    write_all(&c, 1);
    const size_t nb = (size_t)view->D * sizeof(float);
    float *live_one = xmalloc(nb);
    memcpy(live_one, live_vector(view, live_find(view, "n1", 2)), nb);
    shut();
    char *path = xasprintf("%s/new.csv", dir);
    ck_assert_int_eq(io_write_atomic(path, file, strlen(file), &e), 0);
    ck_assert_msg(add_items(job.out, path, &cfg, NULL, &e) == 0, "%s", e.msg);
    serve(2);
    ck_assert_mem_eq(item_vector("n1"), live_one, nb);
    shut();
    serve(1); /* and so they are after a restart */
    ck_assert_mem_eq(live_vector(view, live_find(view, "n1", 2)), live_one, nb);
    shut();
    free(live_one);
    free(path);
}
END_TEST

START_TEST(an_attribute_of_the_other_kind_and_an_item_of_nothing_are_refused)
{
    const struct attr year = { .name = S("year"), .value = &mint, .n_values = 1 };
    serve(1);
    struct item_change c = { .id = S("x"), .has_attrs = true, .attrs = { &year, 1 } };
    ck_assert_int_eq(live_write(all, live_of(), &c, 1, NULL, &e), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.msg, "\"year\""));
    e = (struct err){ 0 };
    c = (struct item_change){ .id = S("x"), .has_title = true, .title = S("X") };
    ck_assert_int_eq(live_write(all, live_of(), &c, 1, NULL, &e), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.msg, "its vector or its attributes"));
    shut();
}
END_TEST

START_TEST(compacting_makes_the_changes_part_of_the_next_version)
{
    char *told = NULL;
    serve(1);
    const int32_t D = view->D, V = view->V;
    float *v = xcalloc((size_t)D, sizeof *v), *n1_vector = xcalloc((size_t)D, sizeof *v);
    v[0] = 3;
    struct item_change c[] = {
        { .id = S("n1"), .has_attrs = true, .attrs = { n1, 3 } },
        { .id = S("n2"), .has_attrs = true, .attrs = { with_mint, 1 }, .vector = v, .dim = D },
        { .id = S("i7"),
          .has_title = true,
          .title = S("Seven"),
          .has_attrs = true,
          .attrs = { with_mint, 1 } },
        { .id = S("i8"), .vector = v, .dim = D },
        { .id = S("i3"), .deleted = true },
        { .id = S("nobody"), .deleted = true },
    };
    write_all(c, 6);
    memcpy(n1_vector, live_vector(view, live_find(view, "n1", 2)), (size_t)D * sizeof *v);
    float *old = xcalloc((size_t)V * (size_t)D, sizeof *old);
    memcpy(old, model_items(gen_model(gen))->t.x, (size_t)V * (size_t)D * sizeof *old);
    shut(); /* one process opens a store once */
    ck_assert_msg(compact_it(&told) == 0, "%s", e.msg);
    ck_assert_ptr_nonnull(strstr(told, "2 new items, 2 changed, 1 deleted\n"));
    free(told);

    serve(1); /* the daemon still has the old version; then it loads the new one */
    float later[64] = { 5 };
    struct item_change more[] = {
        { .id = S("n3"), .vector = later, .dim = D },
        { .id = S("n2"), .has_title = true, .title = S("Two"), .vector = later, .dim = D }
    };
    write_all(more, 2);
    leave();
    serve(2);
    const struct items *it = gen_items(gen);
    ck_assert_int_eq(view->V, V - 1 + 2);
    ck_assert(items_find(it, "i3", 2) < 0);
    ck_assert_mem_eq(item_vector("n1"), n1_vector, (size_t)D * sizeof *v);
    ck_assert_mem_eq(item_vector("n2"), v, (size_t)D * sizeof *v);
    ck_assert_mem_eq(item_vector("i8"), v, (size_t)D * sizeof *v);
    struct gen *first = open_version(1);
    for (int32_t row = 0; row < V; row++) {
        struct str id = items_id(gen_items(first), row);
        char name[16];
        snprintf(name, sizeof name, "%.*s", (int)id.len, id.p);
        const int32_t now = items_find(it, name, strlen(name));
        if (now < 0) continue;
        ck_assert_int_eq(items_popularity(it, now), items_popularity(gen_items(first), row));
        if (strcmp(name, "i8") != 0)
            ck_assert_mem_eq(item_vector(name), old + row * D, (size_t)D * sizeof *old);
    }
    gen_unref(first);
    const int32_t i7 = items_find(it, "i7", 2), flavour = items_field_find(it, "flavour", 7);
    int32_t n;
    ck_assert(items_title(it, i7).len == 5 && flavour >= 0);
    ck_assert_int_eq(items_values(it, flavour, i7, &n)[0], 0);
    ck_assert_int_eq(n, 1);
    (void)items_values(it, items_field_find(it, "shape", 5), i7, &n);
    ck_assert_int_eq(n, 0); /* attributes are replaced, not added to */

    /* What the version has is gone from the store; what came later is served beside it. */
    ck_assert(view->n_alive == 2 && view->n_deleted == 0 && view->n_other == 0);
    ck_assert(live_find(view, "n3", 2) >= 0 && live_find(view, "n2", 2) >= 0);
    ck_assert_mem_eq(live_vector(view, live_find(view, "n3", 2)), later, (size_t)D * sizeof *v);
    shut();

    ck_assert_msg(compact_it(&told) == 0, "%s", e.msg); /* and once more, from version 2 */
    ck_assert_ptr_nonnull(strstr(told, "1 new items, 1 changed, 0 deleted\n"));
    free(told);
    ck_assert_int_eq(compact_it(&told),
                     ERR_EMPTY); /* of what version 3 has already nothing is made */
    free(told);
    serve(3);
    ck_assert(view->V == V + 2 && view->n_alive == 0 && !view->base_alive);
    shut();
    free(v);
    free(n1_vector);
    free(old);
}
END_TEST

START_TEST(the_tower_knows_its_values_after_items_left)
{
    char *told = NULL;
    serve(1);
    struct item_change gone[25], c = { .id = S("n1"), .has_attrs = true, .attrs = { n1, 3 } };
    char id[25][8];
    for (int i = 0; i < 25; i++) {
        snprintf(id[i], sizeof id[i], "i%d", i);
        gone[i] = (struct item_change){ .id = S(id[i]), .deleted = true };
    }
    write_all(&c, 1);
    const size_t nb = (size_t)view->D * sizeof(float);
    float *before = xmalloc(nb);
    memcpy(before, live_vector(view, live_find(view, "n1", 2)), nb);
    c = (struct item_change){ .id = S("n1"), .deleted = true };
    write_all(&c, 1);
    write_all(gone, 25);
    shut();
    ck_assert_msg(compact_it(&told) == 0, "%s", e.msg);
    free(told);
    serve(2);
    c = (struct item_change){ .id = S("n1"), .has_attrs = true, .attrs = { n1, 3 } };
    write_all(&c, 1);
    ck_assert_mem_eq(live_vector(view, live_find(view, "n1", 2)), before, nb);
    shut();
    free(before);
}
END_TEST

START_TEST(a_store_without_changes_makes_no_version)
{
    char *told = NULL;
    serve(1);
    shut();
    ck_assert_int_eq(compact_it(&told), ERR_EMPTY);
    free(told);
    char *path = xasprintf("%s/2", job.out);
    ck_assert(!io_exists(path));
    free(path);
}
END_TEST

Suite *suite_compact(void)
{
    Suite *s = suite_create("compact");
    TCase *t = tcase_create("compact");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_daemon_and_add_items_make_the_same_vectors);
    tcase_add_test(t, an_attribute_of_the_other_kind_and_an_item_of_nothing_are_refused);
    tcase_add_test(t, compacting_makes_the_changes_part_of_the_next_version);
    tcase_add_test(t, the_tower_knows_its_values_after_items_left);
    tcase_add_test(t, a_store_without_changes_makes_no_version);
    suite_add_tcase(s, t);
    return s;
}
