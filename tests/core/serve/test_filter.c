#include "core/base/rng.h"
#include "core/serve/filter.h"
#include "tests/core/serve/fixture_attrs.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *suite_filter(void);

static char *dir;
static struct items *it;
static struct attrs_index *ix;
static struct arena *a;
static struct err e;
static struct filter_fault where;
static struct rng rng;

static void open_catalogue(int32_t n, uint64_t seed)
{
    it = fixture_attrs(dir, n, seed);
    ck_assert_msg(attrs_open(&ix, it, &e) == 0, "%s", e.msg);
}

static void close_catalogue(void)
{
    attrs_close(ix);
    items_close(it);
}

static void setup(void)
{
    dir = fixture_tmpdir();
    a = arena_new("test", 1 << 16, 0);
    e = (struct err){ 0 };
}

static void teardown(void)
{
    arena_free(a);
    fixture_rmdir(dir);
    free(dir);
}

static struct str text(const char *s) { return (struct str){ s, (int32_t)strlen(s) }; }

/* ---- random filters ---- */

static uint32_t draw(uint32_t n) { return rng_below(&rng, n); }

/* A value that some item has, mostly; now and then one that none has. */
static struct filter_value draw_value(int32_t f)
{
    static const struct filter_value numbers[] = { { { "1", 1 }, 1 },
                                                   { { "2.5", 3 }, 2.5 },
                                                   { { "10", 2 }, 10 },
                                                   { { "1e+20", 5 }, 1e20 },
                                                   { { "2003", 4 }, 2003 } };
    int32_t row = (int32_t)draw((uint32_t)items_count(it));
    if (items_field_kind(it, f) == FIELD_NUMBER) {
        double x = items_number(it, f, row);
        if (draw(4) == 0 || isnan(x)) return numbers[draw(5)];
        return (struct filter_value){ text("not compared"), x };
    }
    int32_t n_values = items_field_values(it, f);
    if (n_values == 0 || draw(8) == 0)
        return draw(2) ? numbers[draw(5)] : (struct filter_value){ text("?"), NAN };
    int32_t v = (int32_t)draw((uint32_t)n_values);
    return (struct filter_value){ items_field_value(it, f, v), NAN };
}

static double draw_bound(int32_t f)
{
    double x = items_number(it, f, (int32_t)draw((uint32_t)items_count(it)));
    return draw(3) ? x : NAN; /* which NaN it may be anyway */
}

static struct filter_clause draw_clause(void)
{
    int32_t f = (int32_t)draw((uint32_t)items_fields(it));
    bool numbers = items_field_kind(it, f) == FIELD_NUMBER;
    struct filter_clause c = { .key = items_field_name(it, f),
                               .op = (enum filter_op)draw(3),
                               .exists = draw(2),
                               .n_values = (int32_t)draw(draw(2) ? 6 : 30) };
    if (c.op == FILTER_RANGE && !numbers) c.op = FILTER_ANY;
    if (c.op == FILTER_RANGE)
        c.range =
            (struct attrs_bounds){ draw_bound(f), draw_bound(f), draw_bound(f), draw_bound(f) };
    struct filter_value *v = ARENA_NEW(a, struct filter_value, c.n_values + 1);
    if (draw(50) == 0) c.n_values = 0;
    for (int32_t i = 0; i < c.n_values; i++) v[i] = draw_value(f);
    c.value = v;
    return c;
}

static const struct filter_clause *draw_clauses(int32_t n)
{
    struct filter_clause *c = ARENA_NEW(a, struct filter_clause, n + 1);
    for (int32_t i = 0; i < n; i++) c[i] = draw_clause();
    return c;
}

static const int32_t catalogue[] = { 1, 2, 64, 100, 300, 1000 };
enum { CATALOGUES = sizeof catalogue / sizeof catalogue[0] };

START_TEST(filter_compiled_equals_a_check_of_every_item)
{
    int32_t n_rows = catalogue[_i % CATALOGUES], mixed = 0;
    rng = rng_make((uint64_t)_i, RNG_TEST);
    open_catalogue(n_rows, (uint64_t)_i);
    for (int round = 0; round < 60; round++) {
        arena_reset(a);
        struct filter f = { .n_must = (int32_t)draw(3), .n_must_not = (int32_t)draw(3) };
        f.must = draw_clauses(f.n_must);
        f.must_not = draw_clauses(f.n_must_not);
        struct filter_rows ok;
        const struct filter sorted = filter_sorted(&f, a);
        ck_assert_msg(filter_compile(&ok, a, ix, NULL, &f, &where, &e) == 0, "%s", e.msg);
        int32_t n = 0;
        for (int32_t row = 0; row < (int32_t)attrs_words(ix) * 64; row++) {
            bool want = false;
            struct attrs item;
            if (row < n_rows) {
                item = attrs_of_item(it, row, a);
                want = filter_match(&f, &item);
                ck_assert(filter_match(&sorted, &item) == want);
            }
            ck_assert_msg(filter_rows_has(&ok, row) == want, "round %d, row %d", round, row);
            n += want;
        }
        ck_assert_int_eq(ok.n, n);
        mixed += n > 0 && n < n_rows;
    }
    if (n_rows > 64) ck_assert_int_gt(mixed, 10); /* the filters do tell rows apart */
    close_catalogue();
}
END_TEST

/* ---- by hand ---- */

/* One item: genre a and b, price 5, a number of no value. */
static const struct str genre[] = { { "a", 1 }, { "b", 1 } };
static const struct attr some[] = {
    { .name = { "genre", 5 }, .value = genre, .n_values = 2, .number = NAN },
    { .name = { "price", 5 }, .number = 5 },
    { .name = { "year", 4 }, .number = NAN },
    { .name = { "tags", 4 }, .value = genre, .n_values = 0 },
};
static const struct attrs item = { some, 4 };

static bool passes(struct filter_clause c)
{
    struct filter must = { .must = &c, .n_must = 1 }, not = { .must_not = &c, .n_must_not = 1 };
    ck_assert_int_ne(filter_match(&must, &item), filter_match(&not, &item));
    return filter_match(&must, &item);
}

static bool passes_any(const char *key, struct filter_value v)
{
    return passes((struct filter_clause){ text(key), FILTER_ANY, .value = &v, .n_values = 1 });
}

static bool passes_range(const char *key, double gte, double gt, double lte, double lt)
{
    return passes(
        (struct filter_clause){ text(key), FILTER_RANGE, .range = { gte, gt, lte, lt } });
}

static bool passes_exists(const char *key, bool exists)
{
    return passes((struct filter_clause){ text(key), FILTER_EXISTS, .exists = exists });
}

START_TEST(filter_match_holds_for_one_of_an_items_values)
{
    ck_assert(passes_any("genre", (struct filter_value){ text("a"), NAN }));
    ck_assert(passes_any("genre", (struct filter_value){ text("b"), NAN }));
    ck_assert(!passes_any("genre", (struct filter_value){ text("c"), NAN }));
    ck_assert(!passes_any("genre", (struct filter_value){ text(""), NAN }));
    ck_assert(!passes_any("genres", (struct filter_value){ text("a"), NAN }));
    ck_assert(passes_any("price", (struct filter_value){ text("5"), 5 }));
    ck_assert(!passes_any("price", (struct filter_value){ text("6"), 6 }));
    ck_assert(!passes_any("price", (struct filter_value){ text("5"), NAN }));
    ck_assert(!passes_any("year", (struct filter_value){ text("5"), NAN }));
    struct filter_clause none = { text("genre"), FILTER_ANY, .n_values = 0 };
    ck_assert(!passes(none));
}
END_TEST

START_TEST(filter_match_holds_inside_all_bounds)
{
    ck_assert(passes_range("price", 5, NAN, 5, NAN));
    ck_assert(passes_range("price", NAN, 4.9, NAN, 5.1));
    ck_assert(passes_range("price", NAN, NAN, NAN, NAN));
    ck_assert(!passes_range("price", NAN, 5, NAN, NAN));
    ck_assert(!passes_range("price", NAN, NAN, NAN, 5));
    ck_assert(!passes_range("price", 5.5, NAN, NAN, NAN));
    ck_assert(!passes_range("price", NAN, NAN, 4.5, NAN));
    ck_assert(!passes_range("year", NAN, NAN, NAN, NAN));
    ck_assert(!passes_range("year", 1, NAN, NAN, NAN));
    ck_assert(!passes_range("genre", 1, NAN, NAN, NAN));
    ck_assert(!passes_range("weight", 1, NAN, NAN, NAN));
}
END_TEST

START_TEST(filter_match_takes_an_empty_field_for_a_missing_one)
{
    ck_assert(passes_exists("genre", true));
    ck_assert(passes_exists("price", true));
    ck_assert(passes_exists("year", false));
    ck_assert(passes_exists("tags", false));
    ck_assert(passes_exists("weight", false));
    ck_assert(!passes_exists("genre", false));
}
END_TEST

static int compile(struct filter_rows *ok, struct filter_clause c, bool must_not)
{
    struct filter_clause two[] = { { text("genre"), FILTER_EXISTS, .exists = true }, c };
    struct filter f = { .must = two, .n_must = must_not ? 1 : 2 };
    if (must_not) f.must_not = two + 1, f.n_must_not = 1;
    e = (struct err){ 0 };
    return filter_compile(ok, a, ix, NULL, &f, &where, &e);
}

START_TEST(filter_without_clauses_passes_every_item)
{
    struct filter_rows ok;
    for (int32_t n = 1; n < 200; n += 63) {
        open_catalogue(n, 1);
        ck_assert_int_eq(filter_compile(&ok, a, ix, NULL, &(struct filter){ 0 }, &where, &e),
                         0);
        ck_assert_int_eq(ok.n, n);
        close_catalogue();
    }
}
END_TEST

START_TEST(filter_names_the_nearest_attribute)
{
    static const struct {
        const char *key, *says;
    } wrong[] = {
        { "genres", "no attribute \"genres\"; did you mean \"genre\"?" },
        { "Brand", "no attribute \"Brand\"; did you mean \"brand\"?" },
        { "instock", "no attribute \"instock\"; did you mean \"in_stock\"?" },
        { "manufacturer", "no attribute \"manufacturer\"; there are genre, brand, shelf" },
    };
    struct filter_rows ok;
    open_catalogue(100, 1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct filter_clause c = { text(wrong[i].key), FILTER_EXISTS, .exists = true };
        ck_assert_int_eq(compile(&ok, c, i % 2), ERR_UNKNOWN_ATTRIBUTE);
        ck_assert_msg(strstr(e.msg, wrong[i].says), "%s", e.msg);
        ck_assert_int_eq(where.clause, i % 2 ? 0 : 1);
        ck_assert_int_eq(where.must_not, i % 2);
        ck_assert(where.key);
    }
    close_catalogue();
}
END_TEST

START_TEST(filter_refuses_a_clause_for_the_other_kind_of_field)
{
    struct filter_rows ok;
    struct filter_value five = { text("5"), 5 }, cheap[] = { five, { text("cheap"), NAN } };
    open_catalogue(100, 1);
    ck_assert_int_eq(
        compile(&ok, (struct filter_clause){ text("brand"), FILTER_RANGE, .n_values = 0 },
                false),
        ERR_INVALID);
    ck_assert_msg(strstr(e.msg, "\"brand\" has values, not numbers"), "%s", e.msg);
    ck_assert(!where.key && where.clause == 1 && !where.must_not);
    struct filter_clause any = { text("price"), FILTER_ANY, .value = cheap, .n_values = 2 };
    ck_assert_int_eq(compile(&ok, any, true), ERR_INVALID);
    ck_assert_msg(strstr(e.msg, "\"price\" has numbers; \"cheap\" is a text"), "%s", e.msg);
    ck_assert(!where.key && where.clause == 0 && where.must_not);
    any.n_values = 1;
    ck_assert_int_eq(compile(&ok, any, false), 0);
    close_catalogue();
}
END_TEST

START_TEST(filter_refuses_when_the_request_has_no_room)
{
    struct filter_rows ok;
    open_catalogue(1000, 1);
    struct arena *small = arena_new("small", 64, 200); /* 128 bytes hold one set of rows */
    ck_assert_int_eq(filter_compile(&ok, small, ix, NULL, &(struct filter){ 0 }, &where, &e),
                     ERR_LIMIT);
    arena_free(small);
    close_catalogue();
}
END_TEST

Suite *suite_filter(void)
{
    Suite *s = suite_create("filter");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, filter_compiled_equals_a_check_of_every_item, 0, 4 * CATALOGUES);
    tcase_add_test(t, filter_match_holds_for_one_of_an_items_values);
    tcase_add_test(t, filter_match_holds_inside_all_bounds);
    tcase_add_test(t, filter_match_takes_an_empty_field_for_a_missing_one);
    tcase_add_test(t, filter_without_clauses_passes_every_item);
    tcase_add_test(t, filter_names_the_nearest_attribute);
    tcase_add_test(t, filter_refuses_a_clause_for_the_other_kind_of_field);
    tcase_add_test(t, filter_refuses_when_the_request_has_no_room);
    suite_add_tcase(s, t);
    return s;
}
