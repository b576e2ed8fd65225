#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/num/num.h"
#include "core/serve/load.h"
#include "models/add_items.h"
#include "tests/fixture_bundle.h"
#include "tests/models/fixture_train.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The catalogue of learnable_data: i0 .. i29 with colour, shape and year. */
static const char new_items[] = "item,colour,shape,year\n"
                                "n1,blue|green,square,1990\n"
                                "i3,blue,round,1990\n" /* is there, and stays as it is */
                                "n2,red,round,1994\n"
                                "n3,blue|green,square,1990\n"
                                "n4,,,\n"
                                "n5,purple,square,1990\n"; /* a colour nobody has seen */

static char *dir, *data;
static struct job job;

static void train(const char *sections)
{
    job = job_new(dir, data, sections);
    job_run(&job);
    ck_assert_msg(job.rc == 0, "%s\n%s", job.e.msg, job.text);
}

static void set_up(void)
{
    num_init();
    dir = fixture_tmpdir();
    data = learnable_data(dir, 40, 30, 1);
}

static void tear_down(void)
{
    job_free(&job);
    fixture_rmdir(dir);
    free(dir);
    free(data);
}

static int add(const char *text, struct err *e)
{
    char *file = xasprintf("%s/new.csv", dir);
    struct index_cfg cfg = { .type = INDEX_AUTO, .recall = 0.99f };
    ck_assert_int_eq(io_write_atomic(file, text, strlen(text), e), 0);
    int rc = add_items(job.out, file, &cfg, NULL, e);
    free(file);
    return rc;
}

struct opened {
    struct bundle b;
    struct model *m;
    struct items *it;
};

static struct opened open_version(int version)
{
    struct opened o = { .m = NULL };
    struct err e = { 0 };
    char *path = xasprintf("%s/%d", job.out, version);
    ck_assert_msg(bundle_open(&o.b, path, true, &e) == 0, "%s", e.msg);
    ck_assert_msg(load_model(&o.m, &o.it, &o.b, false, &e) == 0, "%s", e.msg);
    free(path);
    return o;
}

static void close_version(struct opened *o)
{
    model_free(o->m);
    items_close(o->it);
    bundle_close(&o->b);
}

static const float *vector(const struct opened *o, const char *id)
{
    int32_t row = items_find(o->it, id, strlen(id));
    ck_assert_msg(row >= 0, "no item %s", id);
    return model_items(o->m)->t.x + (size_t)row * (size_t)model_config(o->m)->width;
}

static double distance(const struct opened *o, const char *a, const char *b)
{
    const float *x = vector(o, a), *y = vector(o, b);
    double s = 0;
    for (int32_t i = 0; i < model_config(o->m)->width; i++)
        s += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return sqrt(s);
}

START_TEST(new_items_follow_the_old_ones_which_stay_as_they_are)
{
    struct err e = { 0 };
    train("[model]\nitem_tower = true\n[next_item]\n");
    ck_assert_msg(add(new_items, &e) == 0, "%s", e.msg);
    struct opened was = open_version(1), now = open_version(2);
    const struct ten *x = &model_items(was.m)->t, *y = &model_items(now.m)->t;
    ck_assert_int_eq(y->rows, x->rows + 5);
    ck_assert_mem_eq(y->x, x->x, (size_t)x->rows * (size_t)x->cols * sizeof *x->x);
    for (int32_t row = 0; row < x->rows; row++) {
        struct str a = items_id(was.it, row), b = items_id(now.it, row);
        ck_assert(a.len == b.len && memcmp(a.p, b.p, (size_t)a.len) == 0);
        ck_assert_int_eq(items_popularity(now.it, row), items_popularity(was.it, row));
    }
    int32_t i3 = items_find(now.it, "i3", 2), f = items_field_find(now.it, "shape", 5), n;
    const int32_t *shape = items_values(now.it, f, i3, &n);
    ck_assert_int_eq(n, 1); /* square, and not round as well */
    struct str name = items_field_value(now.it, f, shape[0]);
    ck_assert(name.len == 6 && memcmp(name.p, "square", 6) == 0);
    close_version(&was);
    close_version(&now);
}
END_TEST

START_TEST(attributes_make_the_vector_and_unknown_values_say_nothing)
{
    struct err e = { 0 };
    train("[model]\nitem_tower = true\nid_dropout = 0.5\n[next_item]\n");
    ck_assert_msg(add(new_items, &e) == 0, "%s", e.msg);
    struct opened o = open_version(2);
    ck_assert(distance(&o, "n1", "n3") == 0); /* the same attributes */
    ck_assert(distance(&o, "n1", "n2") > 1e-4);
    ck_assert(distance(&o, "n1", "n4") > 1e-4);
    ck_assert(distance(&o, "n1", "n5") > 1e-4);
    close_version(&o);
    /* purple is a value of the catalogue now, but none of the tower: as if there was none */
    ck_assert_msg(add("item,colour,shape,year\nm1,purple,square,1990\nm2,,square,1990\n", &e) ==
                      0,
                  "%s", e.msg);
    o = open_version(3);
    ck_assert_int_eq(items_count(o.it), 37);
    ck_assert(distance(&o, "m1", "m2") == 0);
    ck_assert(distance(&o, "m1", "n5") == 0);
    close_version(&o);
}
END_TEST

START_TEST(a_file_without_new_items_is_refused)
{
    struct err e = { 0 };
    train("[model]\nitem_tower = true\n[next_item]\n");
    ck_assert_int_eq(add("item,colour,shape,year\ni1,red,round,1990\n", &e), ERR_EMPTY);
    ck_assert_ptr_nonnull(strstr(e.msg, "no item that the bundle does not have"));
    e = (struct err){ 0 };
    ck_assert_int_eq(add("item,size\nx1,7\n", &e), ERR_FORMAT); /* none of the fields */
    e = (struct err){ 0 };
    ck_assert_int_eq(add("{\"x1\": [\"red\"], \"x2\": [\"round\"]}", &e), ERR_EMPTY);
    ck_assert_msg(strstr(e.msg, "has a value that the item tower was trained with (fields: "
                                "colour:values,shape:values,year:number)"),
                  "%s", e.msg);
    char *path = xasprintf("%s/2", job.out);
    ck_assert(!io_exists(path));
    free(path);
}
END_TEST

START_TEST(a_model_without_a_tower_cannot_add_items)
{
    struct err e = { 0 };
    train("[next_item]\n");
    ck_assert_int_eq(add(new_items, &e), ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(e.msg, "model.item_tower"));
}
END_TEST

Suite *suite_add_items(void);
Suite *suite_add_items(void)
{
    Suite *s = suite_create("add_items");
    TCase *t = tcase_create("add_items");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, new_items_follow_the_old_ones_which_stay_as_they_are);
    tcase_add_test(t, attributes_make_the_vector_and_unknown_values_say_nothing);
    tcase_add_test(t, a_file_without_new_items_is_refused);
    tcase_add_test(t, a_model_without_a_tower_cannot_add_items);
    suite_add_tcase(s, t);
    return s;
}
