#include "core/base/mem.h"
#include "core/serve/attrs.h"
#include "tests/core/serve/fixture_attrs.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *suite_attrs(void);

static char *dir;
static struct items *it;
static struct attrs_index *ix;

static void setup(void) { dir = fixture_tmpdir(); }
static void teardown(void)
{
    fixture_rmdir(dir);
    free(dir);
}

/* Around the sizes of words and of Roaring's containers, of which five have their places
 * written down; with marks of numbers and without. */
static const int32_t sizes[] = { 1, 63, 64, 65, 700, 5000, 66000, 270000 };
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static void open_catalogue(int32_t n)
{
    struct err e = { 0 };
    it = fixture_attrs(dir, n, 7);
    ck_assert_msg(attrs_open(&ix, it, &e) == 0, "%s", e.msg);
}

static void close_catalogue(void)
{
    attrs_close(ix);
    items_close(it);
}

static struct str text(const char *s) { return (struct str){ s, (int32_t)strlen(s) }; }

/* An empty set that ends where its last word does: what is written beyond shows under ASan. */
static uint64_t *new_set(void) { return xcalloc(attrs_words(ix), sizeof(uint64_t)); }

static bool has(const uint64_t *bits, int32_t row) { return bits[row / 64] >> row % 64 & 1; }

static void no_bits_beyond(const uint64_t *bits)
{
    int32_t n = items_count(it);
    if (n % 64) ck_assert_uint_eq(bits[attrs_words(ix) - 1] >> n % 64, 0);
}

static void check_values(int32_t f)
{
    int32_t n_values = items_field_values(it, f), n;
    for (int32_t v = 0; v < n_values; v += 1 + n_values / 20) {
        uint64_t *bits = new_set(), *want = new_set();
        for (int32_t row = 0; row < items_count(it); row++) {
            const int32_t *at = items_values(it, f, row, &n);
            for (int32_t i = 0; i < n; i++)
                if (at[i] == v) want[row / 64] |= (uint64_t)1 << row % 64;
        }
        attrs_or_value(bits, ix, f, v);
        ck_assert_mem_eq(bits, want, attrs_words(ix) * sizeof *bits);
        free(bits);
        free(want);
    }
}

START_TEST(attrs_find_every_value_by_its_text_and_nothing_else)
{
    open_catalogue(5000);
    for (int32_t f = 0; f < items_fields(it); f++) {
        struct str name = items_field_name(it, f);
        ck_assert_int_eq(items_field_find(it, name.p, (size_t)name.len), f);
        if (items_field_kind(it, f) == FIELD_NUMBER) continue;
        for (int32_t v = 0; v < items_field_values(it, f); v++)
            ck_assert_int_eq(attrs_value(ix, f, items_field_value(it, f, v)), v);
        ck_assert_int_eq(attrs_value(ix, f, text("nothing is called so")), -1);
        ck_assert_int_eq(attrs_value(ix, f, text("")), -1);
    }
    ck_assert_int_eq(items_field_find(it, "pric", 4), -1);
    ck_assert_int_eq(items_field_find(it, "prices", 6), -1);
    ck_assert_int_eq(items_field_find(it, "", 0), -1);
    close_catalogue();
}
END_TEST

static const struct attrs_bounds spans[] = {
    { NAN, NAN, NAN, NAN },   { 20, NAN, 80, NAN },         { NAN, 20, NAN, 80 },
    { 1995, NAN, 1995, NAN }, { 1995, NAN, NAN, 2010 },     { NAN, 1995, 2010, NAN },
    { 50, 20, 70, 60 },       { 20, 50, 60, 70 },           { 80, NAN, 20, NAN },
    { 50.5, NAN, 50.5, NAN }, { NAN, NAN, -1, NAN },        { 1e300, NAN, NAN, NAN },
    { -0.0, NAN, 0.0, NAN },  { -INFINITY, NAN, NAN, 0.5 }, { NAN, 99.98, NAN, INFINITY },
};
enum { SPANS = sizeof spans / sizeof spans[0] };

static bool inside(const struct attrs_bounds *b, double x)
{
    return !isnan(x) && (isnan(b->gte) || x >= b->gte) && (isnan(b->gt) || x > b->gt) &&
           (isnan(b->lte) || x <= b->lte) && (isnan(b->lt) || x < b->lt);
}

static void check_spans(int32_t f)
{
    for (int s = 0; s < SPANS; s++) {
        uint64_t *bits = new_set();
        attrs_or_range(bits, ix, f, &spans[s]);
        no_bits_beyond(bits);
        for (int32_t row = 0; row < items_count(it); row++) {
            double x = items_number(it, f, row);
            if (has(bits, row) != inside(&spans[s], x))
                ck_abort_msg("span %d, row %d: %g", s, row, x);
        }
        free(bits);
    }
}

static void check_exists(int32_t f)
{
    uint64_t *bits = new_set();
    attrs_or_exists(bits, ix, f);
    no_bits_beyond(bits);
    for (int32_t row = 0; row < items_count(it); row++) {
        int32_t n = 0;
        if (items_field_kind(it, f) == FIELD_NUMBER)
            n = !isnan(items_number(it, f, row));
        else
            items_values(it, f, row, &n);
        if (has(bits, row) != (n > 0)) ck_abort_msg("field %d, row %d", f, row);
    }
    free(bits);
}

START_TEST(attrs_hold_the_rows_of_values_and_spans_and_of_fields)
{
    open_catalogue(sizes[_i]);
    for (int32_t f = 0; f < items_fields(it); f++) {
        if (items_field_kind(it, f) == FIELD_NUMBER)
            check_spans(f);
        else
            check_values(f);
        check_exists(f);
    }
    close_catalogue();
}
END_TEST

START_TEST(attrs_add_to_what_a_set_has_already)
{
    open_catalogue(66000);
    for (int32_t f = 0; f < items_fields(it); f++) {
        uint64_t *bits = new_set();
        memset(bits, 0x55, attrs_words(ix) * sizeof *bits);
        if (items_field_kind(it, f) == FIELD_NUMBER)
            attrs_or_range(bits, ix, f, &(struct attrs_bounds){ 20, NAN, 2000, NAN });
        else
            attrs_or_value(bits, ix, f, 0);
        for (size_t i = 0; i < attrs_words(ix); i++)
            ck_assert_uint_eq(bits[i] & 0x5555555555555555u, 0x5555555555555555u);
        free(bits);
    }
    close_catalogue();
}
END_TEST

START_TEST(attrs_take_memory_in_proportion_to_the_items)
{
    open_catalogue(10000);
    size_t n = 10000, few = attrs_bytes(ix);
    close_catalogue();
    ck_assert_uint_lt(few, n * 8 * 22); /* eight fields, a number 20 bytes */
    open_catalogue(20000);
    ck_assert_uint_lt(attrs_bytes(ix), few * 5 / 2);
    close_catalogue();
}
END_TEST

START_TEST(attrs_of_a_catalogue_without_any_are_none)
{
    struct err e = { 0 };
    struct items_builder *b = items_builder_new();
    items_add(b, "a", 1);
    char *path = xasprintf("%s/bare.bin", dir);
    ck_assert_int_eq(items_write(b, path, &e), 0);
    items_builder_free(b);
    ck_assert_int_eq(items_open(&it, path, &e), 0);
    ck_assert_int_eq(attrs_open(&ix, it, &e), 0);
    ck_assert_int_eq(items_field_find(it, "price", 5), -1);
    ck_assert_uint_eq(attrs_words(ix), 1);
    close_catalogue();
    free(path);
}
END_TEST

Suite *suite_attrs(void)
{
    Suite *s = suite_create("attrs");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, attrs_hold_the_rows_of_values_and_spans_and_of_fields, 0, SIZES);
    tcase_add_test(t, attrs_find_every_value_by_its_text_and_nothing_else);
    tcase_add_test(t, attrs_add_to_what_a_set_has_already);
    tcase_add_test(t, attrs_take_memory_in_proportion_to_the_items);
    tcase_add_test(t, attrs_of_a_catalogue_without_any_are_none);
    suite_add_tcase(s, t);
    return s;
}
