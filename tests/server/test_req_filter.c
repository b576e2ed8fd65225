#include "core/base/buf.h"
#include "core/base/limits.h"
#include "server/req.h"
#include "tests/guard.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

Suite *suite_req_filter(void);

static struct arena *arena;
static struct req_recommend r;
static struct faults f;
static const struct filter *filter;

static void setup(void) { arena = arena_new("test", 4096, 16 << 20); }
static void teardown(void) { arena_free(arena); }

/* Parses with the body's last byte against a page that may not be read; nothing of the
 * result may point into it. */
static int parse_as(const char *body, size_t n, bool strict)
{
    f = (struct faults){ 0 };
    arena_reset(arena);
    char *at = guard_copy(body, n);
    int rc = req_parse_recommend(&r, at, n, strict, arena, &f);
    guard_free(at, n);
    filter = r.rec.filter;
    return rc;
}

static int parse(const char *body) { return parse_as(body, strlen(body), true); }

static bool is(struct str s, const char *want)
{
    return s.len == (int32_t)strlen(want) && memcmp(s.p, want, strlen(want)) == 0;
}

#define MUST(clause) "{\"filter\":{\"must\":[" clause "]}}"
static const struct bad {
    const char *body;
    int code;
    const char *pointer, *detail; /* detail: a part of it */
} bads[] = {
    { "{\"filter\":[]}", ERR_BAD_TYPE, "/filter", "an object, got an array" },
    { "{\"filter\":null}", ERR_BAD_TYPE, "/filter", "null" },
    { "{\"filter\":{\"should\":[]}}", ERR_UNKNOWN_FIELD, "/filter/should", "must, must_not" },
    { "{\"filter\":{\"mu/st~\":[]}}", ERR_UNKNOWN_FIELD, "/filter/mu~1st~0", "must, must_not" },
    { "{\"filter\":{\"must\":{}}}", ERR_BAD_TYPE, "/filter/must", "an array, got an object" },
    { "{\"filter\":{\"must_not\":[1]}}", ERR_BAD_TYPE, "/filter/must_not/0", "an integer" },
    { MUST("{}"), ERR_INVALID, "/filter/must/0", "key is missing" },
    { MUST("{\"any\":[\"a\"]}"), ERR_INVALID, "/filter/must/0", "key is missing" },
    { MUST("{\"key\":\"a\"}"), ERR_INVALID, "/filter/must/0",
      "one of any, value, range, exists is missing" },
    { MUST("{\"key\":true,\"value\":1}"), ERR_BAD_TYPE, "/filter/must/0/key", "a boolean" },
    { MUST("{\"key\":\"\",\"value\":1}"), ERR_INVALID, "/filter/must/0/key",
      "the key is empty" },
    { MUST("{\"key\":\"a\\u0000\",\"value\":1}"), ERR_INVALID, "/filter/must/0/key", "NUL" },
    { MUST("{\"key\":\"a\",\"any\":[1],\"value\":1}"), ERR_INVALID, "/filter/must/0",
      "more than one of any, value, range, exists" },
    { MUST("{\"key\":\"a\",\"exists\":true,\"range\":{\"lt\":1}}"), ERR_INVALID,
      "/filter/must/0", "more than one" },
    { MUST("{\"key\":\"a\",\"all\":[1]}"), ERR_UNKNOWN_FIELD, "/filter/must/0/all",
      "key, any, value, range, exists" },
    { MUST("{\"key\":\"a\",\"any\":\"b\"}"), ERR_BAD_TYPE, "/filter/must/0/any", "an array" },
    { MUST("{\"key\":\"a\",\"any\":[\"b\",null]}"), ERR_BAD_TYPE, "/filter/must/0/any/1",
      "a string, a number or a boolean, got null" },
    { MUST("{\"key\":\"a\",\"any\":[[]]}"), ERR_BAD_TYPE, "/filter/must/0/any/0", "an array" },
    { MUST("{\"key\":\"a\",\"value\":\"\"}"), ERR_INVALID, "/filter/must/0/value",
      "the value is empty" },
    { MUST("{\"key\":\"a\",\"value\":{}}"), ERR_BAD_TYPE, "/filter/must/0/value", "an object" },
    { MUST("{\"key\":\"a\",\"value\":1e999}"), ERR_BAD_JSON, "", "overflow" },
    { MUST("{\"key\":\"a\",\"range\":5}"), ERR_BAD_TYPE, "/filter/must/0/range", "an integer" },
    { MUST("{\"key\":\"a\",\"range\":{}}"), ERR_INVALID, "/filter/must/0/range",
      "at least one of gte, gt, lte, lt" },
    { MUST("{\"key\":\"a\",\"range\":{\"from\":1}}"), ERR_UNKNOWN_FIELD,
      "/filter/must/0/range/from", "gte, gt, lte, lt" },
    { MUST("{\"key\":\"a\",\"range\":{\"lt\":\"9\"}}"), ERR_BAD_TYPE, "/filter/must/0/range/lt",
      "a number, got a string" },
    { MUST("{\"key\":\"a\",\"range\":{\"lt\":-1e400}}"), ERR_BAD_JSON, "", "overflow" },
    { MUST("{\"key\":\"a\",\"exists\":1}"), ERR_BAD_TYPE, "/filter/must/0/exists",
      "true or false" },
    { "{\"filter\":{\"must\":[{\"key\":\"a\",\"value\":1}],\"must_not\":[{\"key\":\"a\","
      "\"value\":1},{\"key\":\"a\",\"any\":[true,{}]}]}}",
      ERR_BAD_TYPE, "/filter/must_not/1/any/1", "an object" },
};

START_TEST(req_filter_refuses_what_is_wrong_and_says_where)
{
    const struct bad *b = &bads[_i];
    ck_assert_msg(parse(b->body) == b->code, "%s: %s", b->body,
                  f.n ? f.at[0].detail : "accepted");
    ck_assert_str_eq(f.at[0].pointer, b->pointer);
    ck_assert_msg(strstr(f.at[0].detail, b->detail) != NULL, "%s: %s", b->body, f.at[0].detail);
    ck_assert_ptr_null(filter);
}
END_TEST

START_TEST(req_filter_takes_every_kind_of_clause)
{
    ck_assert_int_eq(parse("{\"filter\":{\"must\":["
                           "{\"key\":\"category\",\"any\":[\"shoes\",\"bags\"]},"
                           "{\"range\":{\"gte\":20,\"lt\":80.5},\"key\":\"price\"},"
                           "{\"key\":\"in_stock\",\"value\":true}],"
                           "\"must_not\":[{\"key\":\"brand\",\"exists\":false},"
                           "{\"key\":\"rating\",\"range\":{\"gt\":-1,\"lte\":2e1}}]}}"),
                     0);
    ck_assert_int_eq(filter->n_must, 3);
    ck_assert_int_eq(filter->n_must_not, 2);
    const struct filter_clause *c = filter->must;
    ck_assert(is(c[0].key, "category") && c[0].op == FILTER_ANY && c[0].n_values == 2);
    ck_assert(is(c[0].value[0].text, "shoes") && isnan(c[0].value[0].number));
    ck_assert(is(c[0].value[1].text, "bags"));
    ck_assert(is(c[1].key, "price") && c[1].op == FILTER_RANGE);
    ck_assert(c[1].range.gte == 20 && isnan(c[1].range.gt) && isnan(c[1].range.lte) &&
              c[1].range.lt == 80.5);
    ck_assert(is(c[2].key, "in_stock") && c[2].op == FILTER_ANY && c[2].n_values == 1);
    ck_assert(is(c[2].value[0].text, "true") && isnan(c[2].value[0].number));
    c = filter->must_not;
    ck_assert(is(c[0].key, "brand") && c[0].op == FILTER_EXISTS && !c[0].exists);
    ck_assert(c[1].op == FILTER_RANGE && isnan(c[1].range.gte) && c[1].range.gt == -1 &&
              c[1].range.lte == 20 && isnan(c[1].range.lt));
}
END_TEST

static const struct {
    const char *json, *text;
    double number; /* 0.5: it is none */
} values[] = {
    { "5", "5", 5 },
    { "-7", "-7", -7 },
    { "5.0", "5", 5 },
    { "0.1", "0.1", 0.1 },
    { "2.50", "2.5", 2.5 },
    { "-0.0", "0", 0 },
    { "-0", "0", 0 },
    { "1e20", "1e+20", 1e20 },
    { "0.30000000000000004", "0.30000000000000004", 0.1 + 0.2 },
    { "1234567890.123456", "1234567890.123456", 1234567890.123456 },
    { "9007199254740993", "9007199254740993", 9007199254740992 },
    { "\"5\"", "5", 0.5 },
    { "\"caf\\u00e9\"", "caf\xc3\xa9", 0.5 },
    { "false", "false", 0.5 },
};
enum { VALUES = sizeof values / sizeof values[0] };

START_TEST(req_filter_reads_a_number_as_itself_and_as_its_shortest_text)
{
    char body[128];
    snprintf(body, sizeof body, MUST("{\"key\":7,\"any\":[%s]}"), values[_i].json);
    ck_assert_msg(parse(body) == 0, "%s", f.at[0].detail);
    ck_assert(is(filter->must[0].key, "7"));
    const struct filter_value *v = filter->must[0].value;
    ck_assert_msg(is(v->text, values[_i].text), "%.*s", v->text.len, v->text.p);
    if (values[_i].number == 0.5)
        ck_assert(isnan(v->number));
    else
        ck_assert(v->number == values[_i].number &&
                  !signbit(v->number) == !(values[_i].number < 0));
}
END_TEST

START_TEST(req_filter_may_have_nothing_in_it)
{
    ck_assert_int_eq(parse("{}"), 0);
    ck_assert_ptr_null(filter);
    ck_assert_int_eq(parse("{\"filter\":{}}"), 0);
    ck_assert(filter && filter->n_must == 0 && filter->n_must_not == 0);
    ck_assert_int_eq(parse(MUST("")), 0);
    ck_assert_int_eq(filter->n_must, 0);
    ck_assert_int_eq(parse(MUST("{\"key\":\"a\",\"any\":[]}")), 0);
    ck_assert(filter->n_must == 1 && filter->must[0].n_values == 0);
}
END_TEST

START_TEST(req_filter_ignores_unknown_members_when_not_strict)
{
    const char *body = "{\"filter\":{\"should\":1,\"must\":[{\"key\":\"a\",\"note\":2,"
                       "\"range\":{\"lt\":1,\"step\":3}}]}}";
    ck_assert_int_eq(parse(body), ERR_UNKNOWN_FIELD);
    ck_assert_int_eq(parse_as(body, strlen(body), false), 0);
    ck_assert(filter->n_must == 1 && filter->must[0].range.lt == 1);
    body = MUST("{\"key\":\"a\",\"range\":{\"step\":3}}"); /* no bound is left */
    ck_assert_int_eq(parse_as(body, strlen(body), false), ERR_INVALID);
}
END_TEST

/* n clauses of m values each. */
static int parse_many(int n, int m)
{
    struct buf b = { 0 };
    buf_puts(&b, "{\"filter\":{\"must_not\":[");
    for (int i = 0; i < n; i++) {
        buf_puts(&b, i ? ",{\"key\":\"k\",\"any\":[" : "{\"key\":\"k\",\"any\":[");
        for (int j = 0; j < m; j++) buf_puts(&b, j ? ",0.5" : "0.5");
        buf_puts(&b, "]}");
    }
    buf_puts(&b, "]}}");
    int rc = parse_as(b.data, b.len, true);
    buf_free(&b);
    return rc;
}

START_TEST(req_filter_takes_as_many_clauses_and_values_as_may_be)
{
    ck_assert_int_eq(parse_many(LIMIT_FILTER_CLAUSES, 1), 0);
    ck_assert_int_eq(parse_many(LIMIT_FILTER_CLAUSES + 1, 1), ERR_INVALID);
    ck_assert_str_eq(f.at[0].pointer, "/filter/must_not");
    ck_assert_str_eq(f.at[0].detail, "filter/must_not: 65 elements, the limit is 64");
    ck_assert_int_eq(parse_many(1, LIMIT_FILTER_VALUES), 0);
    ck_assert_int_eq(parse_many(1, LIMIT_FILTER_VALUES + 1), ERR_INVALID);
    ck_assert_str_eq(f.at[0].pointer, "/filter/must_not/0/any");
    ck_assert_int_eq(parse_many(LIMIT_FILTER_CLAUSES, LIMIT_FILTER_VALUES), ERR_LIMIT);
}
END_TEST

START_TEST(req_filter_reads_no_byte_beyond_a_body_cut_anywhere)
{
    const char *body = "{\"filter\":{\"must\":[{\"key\":\"a\",\"any\":[\"b\",1.5,true]},"
                       "{\"key\":\"c\",\"range\":{\"gte\":1}}]}}";
    size_t n = strlen(body);
    for (size_t i = 0; i < n; i++) ck_assert_int_eq(parse_as(body, i, true), ERR_BAD_JSON);
    ck_assert_int_eq(parse_as(body, n, true), 0);
}
END_TEST

Suite *suite_req_filter(void)
{
    Suite *s = suite_create("req_filter");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, req_filter_refuses_what_is_wrong_and_says_where, 0,
                        sizeof bads / sizeof bads[0]);
    tcase_add_test(t, req_filter_takes_every_kind_of_clause);
    tcase_add_loop_test(t, req_filter_reads_a_number_as_itself_and_as_its_shortest_text, 0,
                        VALUES);
    tcase_add_test(t, req_filter_may_have_nothing_in_it);
    tcase_add_test(t, req_filter_ignores_unknown_members_when_not_strict);
    tcase_add_test(t, req_filter_takes_as_many_clauses_and_values_as_may_be);
    tcase_add_test(t, req_filter_reads_no_byte_beyond_a_body_cut_anywhere);
    suite_add_tcase(s, t);
    return s;
}
