#include "core/data/schema.h"
#include "tests/guard.h"
#include <check.h>
#include <stdio.h>
#include <string.h>

static struct schema s;
static struct err e;

static void set_up(void)
{
    s = (struct schema){ 0 };
    e = (struct err){ 0 };
}

static void tear_down(void) { schema_free(&s); }

/* "section|key=value|key=value" */
static int define(const char *text)
{
    char buf[512], *save = NULL, *section, *part;
    snprintf(buf, sizeof buf, "%s", text);
    section = strtok_r(buf, ";", &save);
    while ((part = strtok_r(NULL, ";", &save))) {
        char *eq = strchr(part, '=');
        *eq = '\0';
        int rc = schema_set(&s, section, part, eq + 1, &e);
        if (rc < 0) return rc;
    }
    return 0;
}

static void good(const char *text) { ck_assert_msg(define(text) == 0, "%s", e.msg); }
static void check(void) { ck_assert_msg(schema_check(&s, &e) == 0, "%s", e.msg); }
static int32_t row(const char *feature, const char *text)
{
    return schema_row(&s, schema_find(&s, feature, strlen(feature)), text, strlen(text));
}

START_TEST(values_become_rows_by_hash_list_and_boundaries)
{
    good("feature brand;hash_buckets=1000");
    good("feature gender;vocabulary=f, m,x");
    good("feature price;kind=number;boundaries=1,2.5,10");
    check();
    ck_assert_int_eq(schema_rows(&s, 0), 1001);
    ck_assert_int_eq(row("brand", ""), 0);
    ck_assert_int_eq(row("brand", "4711"), row("brand", " 4711 "));
    ck_assert_int_gt(row("brand", "4711"), 0);
    ck_assert_int_ne(row("brand", "4711"), row("brand", "4712"));
    ck_assert_int_eq(schema_rows(&s, 1), 4);
    ck_assert_int_eq(row("gender", "f"), 1);
    ck_assert_int_eq(row("gender", "m"), 2);
    ck_assert_int_eq(row("gender", "x"), 3);
    ck_assert_int_eq(row("gender", "xx"), 0);
    ck_assert_int_eq(schema_rows(&s, 2), 5);
    ck_assert_int_eq(row("price", "0.99"), 1);
    ck_assert_int_eq(row("price", "1"), 2);
    ck_assert_int_eq(row("price", "2.5"), 3);
    ck_assert_int_eq(row("price", "1e9"), 4);
    ck_assert_int_eq(row("price", "cheap"), 0);
    ck_assert_int_eq(row("price", ""), 0);
}
END_TEST

/* The catalogue takes neither, and what is asked of it must be what was trained. */
START_TEST(what_no_catalogue_can_have_is_missing)
{
    static char much[LIMIT_ID_BYTES + 2];
    memset(much, 'a', LIMIT_ID_BYTES + 1);
    good("feature brand;hash_buckets=1000");
    check();
    ck_assert_int_eq(row("brand", "Nestl\xe9"), 0);
    ck_assert_int_gt(row("brand", "Nestl\xc3\xa9"), 0);
    ck_assert_int_eq(row("brand", much), 0);
    much[LIMIT_ID_BYTES] = '\0';
    ck_assert_int_gt(row("brand", much), 0);
    ck_assert_int_eq(schema_set(&s, "feature b", "vocabulary", "M\xfcller", &e), ERR_CONFIG);
    ck_assert_msg(strstr(e.msg, "vocabulary: the value is not UTF-8"), "%s", e.msg);
}
END_TEST

START_TEST(hashes_stay_what_they_are)
{
    good("feature id;hash_buckets=1000000"); /* XXH3_64bits("a") = 0xe6c632b61e964e1f */
    check();
    ck_assert_int_eq(row("id", "a"), 738720);
    ck_assert_int_eq(row("id", "user 12345"), 654349);
}
END_TEST

START_TEST(cells_are_parted_and_only_the_newest_are_kept)
{
    int32_t rows[8];
    good("feature brand;vocabulary=a,b,c");
    good("feature seq;kind=sequence;of=brand");
    good("feature tags;kind=tags;vocabulary=x,y;separator=/");
    check();
    ck_assert_int_eq(s.f[1]->table, 0);
    ck_assert_int_eq(schema_cell(&s, 1, "a|b||c|z", 8, rows, 8), 5);
    const int32_t want[] = { 1, 2, 0, 3, 0 };
    ck_assert_mem_eq(rows, want, sizeof want);
    ck_assert_int_eq(schema_cell(&s, 1, "a|b||c|z", 8, rows, 2), 2);
    ck_assert_mem_eq(rows, want + 3, 2 * sizeof *want);
    ck_assert_int_eq(schema_cell(&s, 1, "  ", 2, rows, 8), 0);
    ck_assert_int_eq(schema_cell(&s, 2, "y//x/y", 6, rows, 8), 2);
    ck_assert_int_eq(rows[0], 2);
    ck_assert_int_eq(rows[1], 1);
}
END_TEST

START_TEST(nothing_is_read_behind_the_end_of_a_cell)
{
    static const char *const cells[] = { "a|b", "|", "", " ", "a|", "||||", "a", " b|" };
    int32_t rows[4];
    good("feature brand;vocabulary=a,b");
    good("feature price;kind=number;boundaries=1");
    good("feature id;hash_buckets=7");
    good("feature seq;kind=sequence;of=brand");
    check();
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        size_t n = strlen(cells[i]);
        char *p = guard_copy(cells[i], n);
        for (int32_t f = 0; f < s.n; f++) {
            int32_t k = schema_cell(&s, f, p, n, rows, 4);
            for (int32_t j = 0; j < k; j++)
                ck_assert(rows[j] >= 0 && rows[j] < schema_rows(&s, f));
        }
        guard_free(p, n);
    }
}
END_TEST

START_TEST(boundaries_part_the_values_evenly)
{
    double value[100];
    good("feature price;kind=number;buckets=4");
    check();
    ck_assert(schema_unfitted(&s, 0));
    for (int i = 0; i < 100; i++) value[i] = 99 - i;
    schema_fit(&s, 0, value, 100);
    ck_assert_str_eq(s.f[0]->boundaries, "25,50,75");
    ck_assert_int_eq(row("price", "24.9"), 1);
    ck_assert_int_eq(row("price", "25"), 2);
    ck_assert_int_eq(row("price", "99"), 4);
    check(); /* again, from the text */
    ck_assert_int_eq(row("price", "99"), 4);
}
END_TEST

START_TEST(a_value_that_fills_buckets_makes_one_boundary)
{
    double value[10] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 5 }, same[3] = { 7, 7, 7 };
    good("feature a;kind=number;buckets=5");
    good("feature b;kind=number;buckets=5");
    check();
    schema_fit(&s, 0, value, 10);
    ck_assert_int_le(s.f[0]->n_bounds, 2);
    schema_fit(&s, 1, same, 3);
    ck_assert_str_eq(s.f[1]->boundaries, "7");
}
END_TEST

START_TEST(groups_list_features_in_their_order)
{
    good("feature a;hash_buckets=5");
    good("feature b;hash_buckets=5;context=true");
    good("feature c;kind=sequence;of=a");
    good("group item;features=b, a");
    good("group sequence;features=c");
    check();
    ck_assert_int_eq(s.n_members[SCHEMA_ITEM], 2);
    ck_assert_int_eq(s.member[SCHEMA_ITEM][0], 1);
    ck_assert_int_eq(schema_group_of(&s, 2), SCHEMA_SEQUENCE);
    ck_assert_int_eq(s.n_members[SCHEMA_USER], 0);
}
END_TEST

static const struct {
    const char *lines[3], *message;
} wrong[] = {
    { { "feature a;kind=id" }, "[feature a]: needs one of hash_buckets, vocabulary and of" },
    { { "feature a;hash_buckets=5;vocabulary=x" }, "needs one of hash_buckets" },
    { { "feature a;vocabulary=x,,y" }, "vocabulary: an empty value" },
    { { "feature a;vocabulary=x,y,x" }, "vocabulary: 'x' twice" },
    { { "feature a;kind=number" }, "a number needs boundaries or buckets" },
    { { "feature a;kind=number;boundaries=1,1" }, "they must ascend" },
    { { "feature a;kind=number;boundaries=1,zwei" }, "'zwei' is not a number" },
    { { "feature a;kind=number;buckets=5;hash_buckets=4" }, "not hash_buckets" },
    { { "feature a;hash_buckets=5;buckets=3" }, "buckets is for kind = number" },
    { { "feature a;hash_buckets=5;separator=||" }, "separator: expected one character" },
    { { "feature a;of=b" }, "of = b: no such feature" },
    { { "feature a;hash_buckets=5", "feature b;kind=number;of=a;buckets=0" },
      "a number has boundaries or buckets of its own" },
    { { "feature a;kind=number;buckets=4", "feature b;kind=sequence;of=a",
        "group sequence;features=b" },
      "[feature b]: of = a, which is in no group" },
    { { "feature a;hash_buckets=5", "feature b;of=a;hash_buckets=3" }, "leave hash_buckets" },
    { { "feature a;hash_buckets=5", "feature b;of=a", "feature c;of=b" }, "itself of a" },
    { { "feature a;hash_buckets=5", "group item;features=a,b" }, "[group item]: features: no" },
    { { "feature a;hash_buckets=5", "group item;features=a", "group user;features=a" },
      "is in [group user] already" },
    { { "feature a;hash_buckets=5", "group sequence;features=a" }, "a is not a sequence" },
    { { "feature a;kind=sequence;hash_buckets=5", "group user;features=a" },
      "a is a sequence" },
    { { "feature a;hash_buckets=5;context=yes", "group user;features=a" }, "context is for" },
};

START_TEST(what_does_not_fit_together_is_named)
{
    for (int i = 0; i < 3 && wrong[_i].lines[i]; i++) good(wrong[_i].lines[i]);
    ck_assert_int_eq(schema_check(&s, &e), ERR_CONFIG);
    ck_assert_msg(strstr(e.msg, wrong[_i].message), "%s", e.msg);
}
END_TEST

START_TEST(sections_and_keys_that_are_unknown_are_named)
{
    ck_assert(schema_section("feature x") && schema_section("group user"));
    ck_assert(!schema_section("features") && !schema_section("model"));
    ck_assert_int_eq(schema_set(&s, "feature a", "hash_bucket", "5", &e), ERR_CONFIG);
    ck_assert_msg(strstr(e.msg, "[feature a]") && strstr(e.msg, "hash_buckets"), "%s", e.msg);
    e = (struct err){ 0 };
    ck_assert_int_eq(schema_set(&s, "feature a b", "width", "5", &e), ERR_CONFIG);
    e = (struct err){ 0 };
    ck_assert_int_eq(schema_set(&s, "group users", "features", "a", &e), ERR_CONFIG);
    ck_assert_msg(strstr(e.msg, "user, item and sequence"), "%s", e.msg);
}
END_TEST

Suite *suite_schema(void);
Suite *suite_schema(void)
{
    Suite *suite = suite_create("schema");
    TCase *t = tcase_create("schema");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, values_become_rows_by_hash_list_and_boundaries);
    tcase_add_test(t, hashes_stay_what_they_are);
    tcase_add_test(t, what_no_catalogue_can_have_is_missing);
    tcase_add_test(t, cells_are_parted_and_only_the_newest_are_kept);
    tcase_add_test(t, nothing_is_read_behind_the_end_of_a_cell);
    tcase_add_test(t, boundaries_part_the_values_evenly);
    tcase_add_test(t, a_value_that_fills_buckets_makes_one_boundary);
    tcase_add_test(t, groups_list_features_in_their_order);
    tcase_add_loop_test(t, what_does_not_fit_together_is_named, 0,
                        sizeof wrong / sizeof *wrong);
    tcase_add_test(t, sections_and_keys_that_are_unknown_are_named);
    suite_add_tcase(suite, t);
    return suite;
}
