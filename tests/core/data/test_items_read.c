#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/dataset.h"
#include "core/data/interact.h"
#include "core/data/items_read.h"
#include "tests/fixture_bundle.h"
#include "tests/guard.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static struct interactions *x;
static struct items_stats st;
static struct dataset d;
static struct err e;

static void set_up(void)
{
    struct read_stats rs;
    dir = fixture_tmpdir();
    x = interactions_new();
    e = (struct err){ 0 };
    ck_assert_int_eq(read_events_mem(x, "u1 a b c\n", 9, "events", NULL, &rs, &e), 0);
}

static void tear_down(void)
{
    interactions_free(x);
    fixture_rmdir(dir);
    free(dir);
}

static int read_n(const char *text, size_t nb, const struct items_opts *o)
{
    char *p = guard_copy(text, nb);
    int rc = read_items_mem(interactions_items(x), p, nb, "items", o, &st, &e);
    guard_free(p, nb);
    return rc;
}

static void open_set(void)
{
    struct read_stats rs;
    char *to = xasprintf("%s/set", dir);
    ck_assert_msg(interactions_write(x, to, &(struct write_opts){ .min_events = 1 }, &rs, &e) ==
                      0,
                  "%s", e.msg);
    ck_assert_msg(dataset_open(&d, to, &e) == 0, "%s", e.msg);
    free(to);
}

/* "title of a|title of b|title of c; field: a's values|b's|c's; ..." */
static char *known(void)
{
    struct buf out = { 0 };
    open_set();
    for (int32_t i = 0; i < 3; i++) {
        struct str t = items_title(d.items, i);
        buf_printf(&out, "%s%.*s", i ? "|" : "", t.len, t.p);
    }
    for (int32_t f = 0; f < items_fields(d.items); f++) {
        struct str name = items_field_name(d.items, f);
        buf_printf(&out, "; %.*s: ", name.len, name.p);
        ck_assert_int_eq(items_field_find(d.items, name.p, (size_t)name.len), f);
        for (int32_t i = 0; i < 3; i++) {
            int32_t n = 0;
            if (i) buf_puts(&out, "|");
            if (items_field_kind(d.items, f) == FIELD_NUMBER) {
                double v = items_number(d.items, f, i);
                if (!isnan(v)) buf_printf(&out, "%g", v);
                continue;
            }
            const int32_t *v = items_values(d.items, f, i, &n);
            for (int32_t k = 0; k < n; k++) {
                struct str s = items_field_value(d.items, f, v[k]);
                buf_printf(&out, "%s%.*s", k ? "," : "", s.len, s.p);
            }
        }
    }
    dataset_close(&d);
    return out.data;
}

static const struct {
    const char *text, *fields, *want;
    int64_t matched, unknown, bad;
} tables[] = {
    { "movieId,title,genres\na,\"American President, The "
      "(1995)\",Drama|Comedy\nb,\"\"\"Hi\"\"\",Drama\nz,No,x\n",
      NULL, "American President, The (1995)|\"Hi\"|; genres: Drama,Comedy|Drama|", 2, 1, 0 },
    { "item_id\texternal_id\tattributes\nb\tB00\tOPI | Nails \r\na\tB01\t\n", "attributes",
      "|OPI | Nails|; attributes: |OPI,Nails|", 2, 0, 0 },
    { "item_id:token\tmovie_title:token_seq\tclass:token_seq\tyear:float\tkind:token\tv:float_"
      "seq\n"
      "a\tToy \"Story\"\tx y x\t1995\tone two\t1 2\nb\n",
      NULL, "Toy \"Story\"||; class: x,y||; year: 1995||; kind: one two||", 1, 0, 1 },
    { "title,item\nAm\xe9lie,a\n", NULL, "Am\xc3\xa9lie||", 1, 0, 0 },
    { "item,title\na,\"open\nb,fine\n", NULL, "|fine|", 1, 0, 1 },
    { "attributes,name,item\nx,right,a\n", NULL, "right||; attributes: x||", 1, 0, 0 },
    { "item;price;size\na;1.5;S\nb;2;M|L\nc;;\n", NULL, "||; price: 1.5|2|; size: S|M,L|", 3, 0,
      0 },
    { "item;price;size\na;1.5;S\nb;2;M\n", "price:values,size", "||; price: 1.5|2|; size: S|M|",
      2, 0, 0 },
    { "item,year\na,1995\nb,soon\na,1996\n", "year:number", "||; year: 1996||", 3, 0, 0 },
    { "item,title,empty\na,A,\n", NULL, "A||", 1, 0, 0 },
    { "item,title,x\na,A,y\n", "", "A||", 1, 0, 0 },
    /* nothing is written in many ways, and is no value */
    { "item,price,color\na,NA,red\nb,2,nan\nc,null,\\N\n", NULL, "||; price: |2|; color: red||",
      3, 0, 0 },
    /* whole numbers of a column called ...id are names */
    { "item,brand_id,size\na,7,7\nb,8,8\nc,7,7.5\n", NULL, "||; brand_id: 7|8|7; size: 7|8|7.5",
      3, 0, 0 },
    { "item:token\tyear:float\tkind:token\na\t1995\tx\n", "year,kind",
      "||; year: 1995||; kind: x||", 1, 0, 0 },
    { "item,title,brand\na,Ay,X\na,,Y\n", NULL, "Ay||; brand: X,Y||", 2, 0, 0 },
    { "{\"a\": [1, 2, 2], \"c\": [\"red\", 1], \"z\": [9], \"b\": 3}", NULL,
      "||; attributes: 1,2||1,red", 3, 1, 1 },
};

START_TEST(titles_and_fields_come_from_tables_and_json)
{
    struct items_opts o = { .fields = tables[_i].fields };
    ck_assert_msg(read_n(tables[_i].text, strlen(tables[_i].text), &o) == 0, "%s", e.msg);
    ck_assert_int_eq(st.matched, tables[_i].matched);
    ck_assert_int_eq(st.unknown, tables[_i].unknown);
    ck_assert_int_eq(st.bad, tables[_i].bad);
    char *got = known();
    ck_assert_str_eq(got, tables[_i].want);
    free(got);
}
END_TEST

START_TEST(several_files_add_up)
{
    ck_assert_int_eq(read_n("item,brand\na,X\nb,Y\n", 18, NULL), 0);
    ck_assert_int_eq(read_n("item,brand,title\nb,Z,Bee\na,X,Ay\n", 32, NULL), 0);
    char *got = known();
    ck_assert_str_eq(got, "Ay|Bee|; brand: X|Y,Z|");
    free(got);
}
END_TEST

START_TEST(a_column_of_which_every_item_has_its_own_is_no_field)
{
    struct buf events = { 0 }, text = { 0 };
    struct read_stats rs;
    buf_puts(&events, "u");
    buf_puts(&text, "item,url,brand\n");
    for (int i = 0; i < 30; i++) {
        buf_printf(&events, " i%d", i);
        buf_printf(&text, "i%d,http://%d,b%d\n", i, i, i % 3);
    }
    ck_assert_int_eq(read_events_mem(x, events.data, events.len, "more", NULL, &rs, &e), 0);
    ck_assert_int_eq(read_n(text.data, text.len, NULL), 0);
    ck_assert_str_eq(st.left_out, "url (nearly every item has its own)");
    ck_assert_int_eq(st.n_fields, 1);
    ck_assert_int_eq(st.field[0].values, 3);
    ck_assert_int_eq(read_n(text.data, text.len, &(struct items_opts){ .fields = "url" }), 0);
    ck_assert_int_eq(st.field[0].values, 30);
    buf_free(&events);
    buf_free(&text);
}
END_TEST

static const struct {
    const char *text;
    struct items_opts o;
    const char *reason;
} refused[] = {
    { "a,b\nx,y\n", { .header = NULL }, "items:1: the header names no item column" },
    { "item\na\n", { .header = NULL }, "no title column and no field" },
    { "item,title\nnobody,b\n", { .header = NULL }, "none of its 1 entries is of an item" },
    { "{\"nobody\": [1]}", { .header = NULL }, "none of its 1 entries is of an item" },
    { "", { .header = NULL }, "items: empty" },
    { "item,title\na,b\n", { .fields = "price" }, "items:1: no column 'price' (--fields)" },
    { "item,x,x\na,b,c\n",
      { .fields = "x" },
      "items:1: several columns are called 'x' (--fields)" },
    { "item,title\na,b\n",
      { .fields = "title:text" },
      "after the colon comes values or number" },
    { "item,item\na,b\n", { .header = NULL }, "columns 1 and 2 are both called 'item'" },
    { "item,x,title,x\na,1,b,2\n",
      { .header = NULL },
      "items:1: columns 2 and 4 are both called 'x'" },
    { "id,title\na,b\n",
      { .columns = { { [COL_ITEM] = "nr" } } },
      "no column 'nr' (--item-col)" },
    { "{\"a\": [1}", { .header = NULL }, "items:1: " },
};

START_TEST(what_cannot_be_read_is_refused_with_the_reason)
{
    ck_assert_int_lt(read_n(refused[_i].text, strlen(refused[_i].text), &refused[_i].o), 0);
    ck_assert_msg(strstr(e.msg, refused[_i].reason), "%s", e.msg);
}
END_TEST

START_TEST(a_file_without_header_is_told_its_columns)
{
    struct items_opts o = { .header = "item,title,genres",
                            .columns = { { [COL_TITLE] = "title" } } };
    ck_assert_msg(read_n("a\tAy\tx|y\nb\tBee\tx\n", 18, &o) == 0, "%s", e.msg);
    char *got = known();
    ck_assert_str_eq(got, "Ay|Bee|; genres: x,y|x|");
    free(got);
}
END_TEST

START_TEST(bad_values_are_counted)
{
    struct buf text = { 0 };
    buf_puts(&text, "item,brand\na,");
    for (int i = 0; i < LIMIT_ID_BYTES + 1; i++) buf_putc(&text, 'x');
    buf_puts(&text, "\nb,y\x01z|ok\n");
    ck_assert_int_eq(read_n(text.data, text.len, NULL), 0);
    ck_assert_int_eq(st.bad_values, 2);
    char *got = known();
    ck_assert_str_eq(got, "||; brand: |ok|");
    free(got);
    buf_free(&text);
}
END_TEST

START_TEST(every_prefix_stays_inside)
{
    for (size_t nb = 0; nb <= strlen(tables[_i].text); nb++) {
        struct interactions *y = interactions_new();
        struct read_stats rs;
        (void)!read_events_mem(y, "u1 a b c\n", 9, "events", NULL, &rs, NULL);
        char *p = guard_copy(tables[_i].text, nb);
        (void)!read_items_mem(interactions_items(y), p, nb, "items", NULL, &st, NULL);
        guard_free(p, nb);
        interactions_free(y);
    }
}
END_TEST

Suite *suite_items_read(void);
Suite *suite_items_read(void)
{
    Suite *s = suite_create("items_read");
    TCase *t = tcase_create("items_read");
    const int n_tables = sizeof tables / sizeof *tables;
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, titles_and_fields_come_from_tables_and_json, 0, n_tables);
    tcase_add_test(t, several_files_add_up);
    tcase_add_test(t, a_column_of_which_every_item_has_its_own_is_no_field);
    tcase_add_loop_test(t, what_cannot_be_read_is_refused_with_the_reason, 0,
                        sizeof refused / sizeof *refused);
    tcase_add_test(t, a_file_without_header_is_told_its_columns);
    tcase_add_test(t, bad_values_are_counted);
    tcase_add_loop_test(t, every_prefix_stays_inside, 0, n_tables);
    suite_add_tcase(s, t);
    return s;
}
