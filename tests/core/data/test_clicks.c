#include "core/data/clicks.h"
#include "tests/guard.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct schema s;
static struct clicks c;
static struct err e;
static struct items_builder *items;

static void set_up(void)
{
    static const char *const keys[][3] = {
        { "feature user", "vocabulary", "u1,u2" },
        { "feature brand", "vocabulary", "a,b,c" },
        { "feature price", "kind", "number" },
        { "feature price", "buckets", "2" },
        { "feature tags", "kind", "tags" },
        { "feature tags", "vocabulary", "x,y" },
        { "feature seq_brand", "kind", "sequence" },
        { "feature seq_brand", "of", "brand" },
        { "feature seq_price", "kind", "sequence" },
        { "feature seq_price", "of", "price" },
        { "group user", "features", "user" },
        { "group item", "features", "brand, price, tags" },
        { "group sequence", "features", "seq_brand, seq_price" },
    };
    s = (struct schema){ 0 };
    e = (struct err){ 0 };
    c = (struct clicks){ 0 };
    items = items_builder_new();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ck_assert_msg(schema_set(&s, keys[i][0], keys[i][1], keys[i][2], &e) == 0, "%s", e.msg);
    ck_assert_msg(schema_check(&s, &e) == 0, "%s", e.msg);
}

static void tear_down(void)
{
    clicks_free(&c);
    schema_free(&s);
    items_builder_free(items);
}

static struct clicks_opts opts(void)
{
    return (struct clicks_opts){ .label = "clk",
                                 .user = "user",
                                 .item = "item",
                                 .max_len = 3,
                                 .fit = true,
                                 .items = items };
}

static int read_text(const char *text, const struct clicks_opts *o)
{
    size_t n = strlen(text);
    char *p = guard_copy(text, n);
    int rc = clicks_read_mem(&c, &s, p, n, "t.csv", o, &e);
    guard_free(p, n);
    return rc;
}

#define HEADER "item,clk,user,brand,price,tags,seq_brand,seq_price,other\n"

START_TEST(lines_become_columns)
{
    struct clicks_opts o = opts();
    ck_assert_msg(read_text(HEADER "i1,1,u1,a,1,x|y,a|b,1|9,?\n"
                                   "i2,0,u2,b,9,,,,?\n"
                                   "i1,0,u1,z,5,y,a|b|c|a,1|1|1|9,?\n",
                            &o) == 0,
                  "%s", e.msg);
    ck_assert_int_eq(c.n, 3);
    ck_assert_int_eq(c.bad, 0);
    ck_assert_float_eq(c.label[0], 1);
    ck_assert_float_eq(c.label[2], 0);
    ck_assert_int_eq(c.user[0], 0);
    ck_assert_int_eq(c.user[1], 1);
    ck_assert_int_eq(c.user[2], 0);
    const int32_t brand[] = { 1, 2, 0 }, price[] = { 1, 2, 2 }, tags[] = { 1, 2, 2 },
                  tags_cu[] = { 0, 2, 2, 3 }, cu[] = { 0, 2, 2, 5 };
    const int32_t seq_brand[] = { 1, 2, 2, 3, 1 }, seq_price[] = { 1, 2, 1, 1, 2 };
    ck_assert_int_eq(memcmp(c.column[1].id, brand, sizeof brand), 0);
    ck_assert_str_eq(s.f[2]->boundaries, "5");
    ck_assert_int_eq(memcmp(c.column[2].id, price, sizeof price), 0);
    ck_assert_int_eq(memcmp(c.column[3].id, tags, sizeof tags), 0);
    ck_assert_int_eq(memcmp(c.column[3].cu, tags_cu, sizeof tags_cu), 0);
    ck_assert_int_eq(memcmp(c.seq_cu, cu, sizeof cu), 0);
    ck_assert_int_eq(memcmp(c.step[4].id, seq_brand, sizeof seq_brand), 0);
    ck_assert_int_eq(memcmp(c.step[5].id, seq_price, sizeof seq_price), 0);
    ck_assert_int_eq(items_builder_count(items), 2);
}
END_TEST

START_TEST(damaged_lines_are_dropped_and_counted)
{
    struct clicks_opts o = opts();
    const char *text = HEADER "i1,1,u1,a,1,x,a,1,?\n"
                              "i1,2,u1,a,1,x,a,1,?\n"
                              "i1,yes,u1,a,1,x,a,1,?\n"
                              "i1,1,u1,a,1,x,a|b,1,?\n"
                              "i1,1,,a,1,x,a,1,?\n"
                              ",1,u1,a,1,x,a,1,?\n"
                              "i1,1,u1,a\n"
                              "i1,1,u1,\"a,1,x,a,1,?\n";
    ck_assert_msg(read_text(text, &o) == 0, "%s", e.msg);
    ck_assert_int_eq(c.n, 1);
    ck_assert_int_eq(c.bad, 7);
    ck_assert_int_eq(c.first_bad, 3);
    ck_assert_msg(strstr(c.why, "from 0 to 1"), "%s", c.why);
    clicks_free(&c);
    o.strict = true;
    ck_assert_int_eq(read_text(text, &o), ERR_FORMAT);
    ck_assert_msg(strstr(e.msg, "t.csv:3: the label"), "%s", e.msg);
}
END_TEST

START_TEST(cells_that_are_not_utf8_are_counted)
{
    struct clicks_opts o = opts();
    ck_assert_msg(read_text(HEADER "i1,1,u1,Nestl\xe9,1,x,a,1,?\n"
                                   "i1,1,u1,a,1,x|\xff|y,a,1,\xff\n",
                            &o) == 0,
                  "%s", e.msg);
    ck_assert_int_eq(c.n, 2);
    ck_assert_int_eq(c.not_utf8, 2); /* nobody reads the other column */
    ck_assert_int_eq(c.column[1].id[0], 0);
    ck_assert_int_eq(c.column[3].cu[2] - c.column[3].cu[1], 3);
}
END_TEST

static const struct {
    const char *text, *message;
    int code;
} wrong[] = {
    { "", "empty", ERR_EMPTY },
    { HEADER, "no number", ERR_FORMAT },
    { "item,clk,user,brand,tags,seq_brand,seq_price\n1,1,1,1,1,1,1\n", "no column 'price'",
      ERR_FORMAT },
    { "item,clk,clk,user,brand,price,tags,seq_brand,seq_price\n", "two columns", ERR_FORMAT },
    { HEADER "i1,9,u1,a,1,x,a,1,?\n", "no line is usable: the first: the label", ERR_EMPTY },
};

START_TEST(what_cannot_be_read_is_named)
{
    struct clicks_opts o = opts();
    ck_assert_int_eq(read_text(wrong[_i].text, &o), wrong[_i].code);
    ck_assert_msg(strstr(e.msg, wrong[_i].message), "%s", e.msg);
}
END_TEST

START_TEST(a_catalogue_has_the_items_and_their_first_features)
{
    struct clicks_opts o = opts();
    char path[] = "/tmp/clicks-XXXXXX";
    struct items *it;
    ck_assert_int_ge(mkstemp(path), 0);
    ck_assert_msg(read_text(HEADER "i1,1,u1,a,1.5,x|y,a,1,?\n"
                                   "i1,0,u1,b,2,,,,?\n"
                                   "i2,0,u1,,,,,,?\n",
                            &o) == 0,
                  "%s", e.msg);
    ck_assert_msg(items_write(items, path, &e) == 0, "%s", e.msg);
    ck_assert_msg(items_open(&it, path, &e) == 0, "%s", e.msg);
    int32_t brand = items_field_find(it, "brand", 5), price = items_field_find(it, "price", 5),
            n;
    ck_assert_int_eq(items_fields(it), 3);
    const int32_t *v = items_values(it, brand, 0, &n);
    ck_assert_int_eq(n, 1);
    ck_assert_int_eq(items_field_value(it, brand, v[0]).p[0], 'a');
    ck_assert_double_eq(items_number(it, price, 0), 1.5);
    ck_assert(items_number(it, price, 1) != items_number(it, price, 1));
    items_values(it, items_field_find(it, "tags", 4), 0, &n);
    ck_assert_int_eq(n, 2);
    items_values(it, brand, 1, &n);
    ck_assert_int_eq(n, 0);
    items_close(it);
    unlink(path);
}
END_TEST

Suite *suite_clicks(void);
Suite *suite_clicks(void)
{
    Suite *suite = suite_create("clicks");
    TCase *t = tcase_create("clicks");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, lines_become_columns);
    tcase_add_test(t, damaged_lines_are_dropped_and_counted);
    tcase_add_test(t, cells_that_are_not_utf8_are_counted);
    tcase_add_loop_test(t, what_cannot_be_read_is_named, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(t, a_catalogue_has_the_items_and_their_first_features);
    suite_add_tcase(suite, t);
    return suite;
}
