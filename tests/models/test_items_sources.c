/* What objectives look up of items: the most similar ones, attributes, fields, mutual information. */
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/fields.h"
#include "models/attributes.h"
#include "models/mutual.h"
#include "models/similar.h"
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
}

static void tear_down(void)
{
    dataset_close(&ds);
    fixture_rmdir(dir);
    free(dir);
}

/* ---- similar items: rows a b c d e, in the order of their first events ---- */

static const char together[] =
    "u1 a b x1 x2\nu2 a b x3 x4\nu3 a c x5 x6\nu4 c d x7 x8\nu5 d c a x9\n"
    "u6 e f x10\n";

static struct model *vectors(void)
{
    struct model_cfg c;
    conf_defaults(model_opts, &c);
    c.width = 2;
    c.heads = 1;
    c.layers = 0;
    c.n_items = ds.n_items;
    struct model *m = model_new(&c, false);
    params_init(model_params(m), 1);
    return m;
}

static int32_t row(const char *id) { return items_find(ds.items, id, strlen(id)); }

START_TEST(the_most_similar_item_is_itemcfs)
{
    data_from_text(&ds, dir, together);
    struct model *m = vectors();
    struct similar *s = similar_new(m, &ds, false);
    similar_epoch(s, m, true, NULL);
    /* trained on: a b | a b | a c | c d | d c | e (the last two of each are answers) */
    ck_assert_int_eq(similar_items(s)[row("b")], row("a"));
    ck_assert_int_eq(similar_items(s)[row("a")], row("b"));
    ck_assert_int_eq(similar_items(s)[row("d")], row("c"));
    ck_assert_int_eq(similar_items(s)[row("c")], row("d"));
    int32_t lonely = similar_items(s)[row("e")];
    ck_assert(lonely >= 0 && lonely < ds.n_items);
    ck_assert_ptr_null(params_find(model_params(m), "cl4srec.similar"));
    similar_free(s);
    model_free(m);
}
END_TEST

START_TEST(hybrid_takes_vectors_where_they_are_surer)
{
    data_from_text(&ds, dir, together);
    struct model *m = vectors();
    struct similar *s = similar_new(m, &ds, true);
    float *x = model_items(m)->t.x;
    for (int32_t v = 0; v < ds.n_items; v++) x[2 * v] = .01f * (float)v, x[2 * v + 1] = 0;
    x[2 * row("e") + 1] = x[2 * row("x1") + 1] = 3; /* the largest product by far */
    similar_epoch(s, m, true, NULL);
    ck_assert_int_eq(similar_items(s)[row("e")], row("x1"));
    ck_assert_int_eq(similar_items(s)[row("x1")], row("e"));
    ck_assert_int_eq(similar_items(s)[row("b")], row("a")); /* 1 by counting */
    x[2 * row("e") + 1] = -3;
    similar_epoch(s, m, false, NULL); /* within the epoch nothing changes */
    ck_assert_int_eq(similar_items(s)[row("e")], row("x1"));
    similar_epoch(s, m, true, NULL);
    ck_assert_int_ne(similar_items(s)[row("x1")], row("e"));
    similar_free(s);
    model_free(m);
}
END_TEST

static const char catalogue[] = "item,colour,price,size\n"
                                "a,red|blue,1,S\n"
                                "b,red,2,\n"
                                "c,,2,M\n"
                                "d,green,,S\n"
                                "e,blue,7,M\n";

/* The other item of the largest product with v. */
static int32_t nearest(const struct model *m, int32_t v)
{
    const struct ten *x = &model_items(m)->t;
    int32_t best = v == 0;
    for (int32_t j = 0; j < x->rows; j++)
        if (j != v && num->vec->dot(x->x + v * x->cols, x->x + j * x->cols, x->cols) >
                          num->vec->dot(x->x + v * x->cols, x->x + best * x->cols, x->cols))
            best = j;
    return best;
}

START_TEST(hybrid_takes_the_vectors_that_a_tower_makes)
{
    /* nobody has d and e in what is trained on: only vectors tell of them */
    data_with_items(&ds, dir, "u1 a b d e\nu2 c a d e\n", catalogue);
    struct err e = { 0 };
    struct model_cfg c;
    struct fields *f;
    conf_defaults(model_opts, &c);
    c.width = 8;
    c.heads = 1;
    c.layers = 0;
    c.n_items = ds.n_items;
    c.item_tower = true;
    struct model *m = model_new(&c, false);
    ck_assert_msg(fields_new(&f, ds.items, &e) == 0, "%s", e.msg);
    model_add_tower(m, fields_of(f));
    struct similar *s = similar_new(m, &ds, true);
    int differ = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        params_init(model_params(m), seed);
        similar_epoch(s, m, true, NULL);
        for (int i = 0; i < 2; i++) {
            const int32_t v = row(i ? "e" : "d"), by_id = nearest(m, v);
            model_bake(m, NULL);
            ck_assert_int_eq(similar_items(s)[v], nearest(m, v));
            differ += by_id != nearest(m, v);
            model_bake(m, NULL);
        }
    }
    ck_assert_int_gt(differ, 5);
    similar_free(s);
    model_free(m);
    fields_free(f);
}
END_TEST

/* ---- attributes and fields ---- */

START_TEST(attributes_are_the_values_of_all_fields)
{
    data_with_items(&ds, dir, "u1 a b c d e\n", catalogue);
    struct attributes a = attributes_new(ds.items);
    ck_assert_int_eq(a.n, 5); /* red blue green, S M; prices are numbers */
    ck_assert_int_eq(attributes_count(ds.items), 5);
    const int32_t n[] = { 3, 1, 1, 2, 2 };
    for (int32_t v = 0; v < 5; v++) ck_assert_int_eq(a.cu[v + 1] - a.cu[v], n[v]);
    int32_t both[5] = { 0 };
    for (int32_t i = 0; i < a.cu[5]; i++) both[a.id[i]]++;
    const int32_t times[] = { 2, 2, 1, 2, 2 };
    ck_assert_mem_eq(both, times, sizeof times);
    attributes_free(&a);
}
END_TEST

static const struct item_field *field(const struct fields *f, const char *name)
{
    const struct item_fields *all = fields_of(f);
    for (int32_t j = 0; j < all->n; j++)
        if (strcmp(all->field[j].name, name) == 0) return &all->field[j];
    ck_abort_msg("no field %s", name);
}

START_TEST(numbers_become_buckets_and_come_back_from_the_manifest)
{
    data_with_items(&ds, dir, "u1 a b c d e\n", catalogue);
    struct err e = { 0 };
    struct fields *f, *again;
    ck_assert_msg(fields_new(&f, ds.items, &e) == 0, "%s", e.msg);
    const struct item_field *price = field(f, "price");
    ck_assert_int_eq(price->n_values, 3); /* up to 2, up to 7, from 7 */
    const int32_t want[] = { 0, 1, 1, -1, 2 };
    for (int32_t v = 0; v < 5; v++) {
        ck_assert_int_eq(price->cu[v + 1] - price->cu[v], want[v] >= 0);
        if (want[v] >= 0) ck_assert_int_eq(price->id[price->cu[v]], want[v]);
    }
    json_t *known = fields_json(f);
    struct arena *arena = arena_new("test", 1 << 12, 0);
    ck_assert_msg(fields_known(&again, ds.items, known, &e) == 0, "%s", e.msg);
    for (int32_t j = 0; j < fields_of(f)->n; j++) {
        const struct item_field *x = &fields_of(f)->field[j], *y = &fields_of(again)->field[j];
        ck_assert_str_eq(x->name, y->name);
        ck_assert_int_eq(x->n_values, y->n_values);
        for (int32_t v = 0; v < 5; v++) {
            struct attrs attrs = attrs_of_item(ds.items, v, arena);
            int32_t id[LIMIT_TAGS], n = fields_ids(id, again, j, &attrs);
            ck_assert_int_eq(n, x->cu[v + 1] - x->cu[v]);
            ck_assert_mem_eq(id, x->id + x->cu[v], (size_t)n * sizeof *id);
        }
    }
    arena_free(arena);
    fields_free(again);
    json_array_append(known, json_array_get(known, 0));
    ck_assert_int_eq(fields_known(&again, ds.items, known, &e), ERR_BAD_BUNDLE);
    ck_assert_ptr_nonnull(strstr(e.msg, "field 'colour' twice"));
    e = (struct err){ 0 };
    json_array_remove(known, json_array_size(known) - 1);
    json_object_set_new(json_array_get(known, 0), "values", json_integer(99));
    ck_assert_int_eq(fields_known(&again, ds.items, known, &e), ERR_BAD_BUNDLE);
    ck_assert_ptr_nonnull(strstr(e.msg, "colour"));
    json_object_set_new(json_array_get(known, 0), "name", json_string("smell"));
    e = (struct err){ 0 };
    ck_assert_int_eq(fields_known(&again, ds.items, known, &e), ERR_BAD_BUNDLE);
    ck_assert_ptr_nonnull(strstr(e.msg, "smell"));
    json_decref(known);
    fields_free(f);
}
END_TEST

START_TEST(a_field_cannot_be_called_as_a_part_of_the_tower)
{
    data_with_items(&ds, dir, "u1 a b c d e\n", "item,mlp.0\na,x\nb,y\n");
    struct err e = { 0 };
    struct fields *f;
    ck_assert_int_eq(fields_new(&f, ds.items, &e), ERR_CONFIG);
    ck_assert_msg(strstr(e.msg, "a part called 'mlp.0'"), "%s", e.msg);
}
END_TEST

START_TEST(without_fields_there_is_no_tower)
{
    data_from_text(&ds, dir, together);
    struct err e = { 0 };
    struct fields *f;
    ck_assert_int_eq(fields_new(&f, ds.items, &e), ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(e.msg, "--items"));
}
END_TEST

/* ---- mutual information ---- */

START_TEST(mutual_information_is_that_of_the_pairs)
{
    data_from_text(&ds, dir, together);
    /* x and y are the same up to names, z is independent of both, w has two values for an item and none for another */
    static const int32_t cu[] = { 0, 1, 2, 3, 4 }, x[] = { 0, 0, 1, 1 }, y[] = { 1, 1, 0, 0 },
                         z[] = { 0, 1, 0, 1 }, wcu[] = { 0, 2, 2, 3, 4 }, w[] = { 0, 1, 0, 1 };
    const struct item_field f[] = {
        { "x", 2, cu, x }, { "y", 2, cu, y }, { "z", 2, cu, z }, { "w", 2, wcu, w }
    };
    const struct item_fields all = { 4, 4, f };
    double mi[16];
    mutual_information(mi, &all);
    ck_assert(fabs(mi[0 * 4 + 1] - log(2)) < 1e-12);
    ck_assert(fabs(mi[0 * 4 + 2]) < 1e-12);
    ck_assert(mi[1] == mi[4]);
    /* P(x,w): (0,0) 1/8, (0,1) 1/8, (0,none) 1/4, (1,0) 1/4, (1,1) 1/4; P(w): 3/8, 3/8, 1/4 */
    double want = 2 * .125 * log(.125 / (.5 * .375)) + .25 * log(.25 / (.5 * .25)) +
                  2 * .25 * log(.25 / (.5 * .375));
    ck_assert_msg(fabs(mi[3] - want) < 1e-12, "%g, not %g", mi[3], want);
}
END_TEST

Suite *suite_items_sources(void);
Suite *suite_items_sources(void)
{
    Suite *s = suite_create("items_sources");
    TCase *t = tcase_create("items_sources");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_most_similar_item_is_itemcfs);
    tcase_add_test(t, hybrid_takes_vectors_where_they_are_surer);
    tcase_add_test(t, hybrid_takes_the_vectors_that_a_tower_makes);
    tcase_add_test(t, attributes_are_the_values_of_all_fields);
    tcase_add_test(t, numbers_become_buckets_and_come_back_from_the_manifest);
    tcase_add_test(t, a_field_cannot_be_called_as_a_part_of_the_tower);
    tcase_add_test(t, without_fields_there_is_no_tower);
    tcase_add_test(t, mutual_information_is_that_of_the_pairs);
    suite_add_tcase(s, t);
    return s;
}
