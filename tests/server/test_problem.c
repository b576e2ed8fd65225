#include "server/problem.h"
#include <check.h>
#include <jansson.h>

Suite *suite_problem(void);

static json_t *write_and_read(const struct problem *p)
{
    struct buf b = { 0 };
    json_error_t e;
    problem_write(&b, p);
    json_t *j = json_loadb(b.data, b.len, 0, &e);
    ck_assert_msg(j != NULL, "%s in %s", e.text, b.data);
    buf_free(&b);
    return j;
}

static const char *member(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    ck_assert_msg(s != NULL, "no string %s", key);
    return s;
}

START_TEST(problem_has_the_members_of_rfc_9457_and_ours)
{
    json_t *j = write_and_read(&(struct problem){ .code = ERR_OVERLOADED,
                                                  .status = 503,
                                                  .detail = "busy",
                                                  .instance = "/v1/recommend",
                                                  .request_id = "r-1",
                                                  .retry_after_s = 2 });
    ck_assert_str_eq(member(j, "type"), "urn:intentd:error:overloaded");
    ck_assert_str_eq(member(j, "title"), err_title(ERR_OVERLOADED));
    ck_assert_str_eq(member(j, "code"), "overloaded");
    ck_assert_str_eq(member(j, "detail"), "busy");
    ck_assert_str_eq(member(j, "error"), "busy");
    ck_assert_str_eq(member(j, "instance"), "/v1/recommend");
    ck_assert_str_eq(member(j, "request_id"), "r-1");
    ck_assert_int_eq(json_integer_value(json_object_get(j, "status")), 503);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "retry_after_ms")), 2000);
    ck_assert_ptr_null(json_object_get(j, "errors"));
    json_decref(j);
}
END_TEST

START_TEST(problem_lists_faults)
{
    struct faults f = { 0 };
    fault_add(&f, ERR_INVALID, "/limit", "must be from %d", 1);
    fault_add(&f, ERR_BAD_TYPE, "/a\"b", "x");
    json_t *j = write_and_read(&(struct problem){
        .code = ERR_INVALID, .detail = "d", .instance = "/", .request_id = "r", .faults = &f });
    json_t *errors = json_object_get(j, "errors");
    ck_assert_int_eq(json_integer_value(json_object_get(j, "status")), 422);
    ck_assert_uint_eq(json_array_size(errors), 2);
    ck_assert_str_eq(member(json_array_get(errors, 0), "pointer"), "/limit");
    ck_assert_str_eq(member(json_array_get(errors, 0), "detail"), "must be from 1");
    ck_assert_str_eq(member(json_array_get(errors, 1), "pointer"), "/a\"b");
    ck_assert_str_eq(member(json_array_get(errors, 1), "code"), "bad_type");
    json_decref(j);
}
END_TEST

static const struct {
    const char *in, *want;
} texts[] = {
    { "", "\"\"" },
    { "a\"b\\c\n", "\"a\\\"b\\\\c\\n\"" },
    { "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8e\xac", "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8e\xac\"" },
    { "\xff", "\"?\"" },
    { "a\xc3", "\"a?\"" },
    { "\xc3(", "\"?(\"" },
    { "\xed\xa0\x80", "\"???\"" },      /* a surrogate */
    { "\xc0\xaf", "\"??\"" },           /* overlong */
    { "\xf4\x90\x80\x80", "\"????\"" }, /* beyond U+10FFFF */
    { "\xe2\x82", "\"??\"" },
    { "\x01", "\"\\u0001\"" },
};

START_TEST(problem_text_is_utf8_whatever_came_in)
{
    struct buf b = { 0 };
    problem_text(&b, texts[_i].in);
    ck_assert_str_eq(b.data, texts[_i].want);
    buf_free(&b);
}
END_TEST

START_TEST(problem_text_cuts_between_characters)
{
    char in[3001];
    for (int i = 0; i < 3000; i += 3) memcpy(in + i, "\xe2\x82\xac", 3);
    in[3000] = '\0';
    struct buf b = { 0 };
    json_error_t e;
    problem_text(&b, in);
    json_t *j = json_loadb(b.data, b.len, JSON_DECODE_ANY, &e);
    ck_assert_msg(j != NULL, "%s", e.text);
    json_decref(j);
    buf_free(&b);
}
END_TEST

Suite *suite_problem(void)
{
    Suite *s = suite_create("problem");
    TCase *t = tcase_create("problem");
    tcase_add_test(t, problem_has_the_members_of_rfc_9457_and_ours);
    tcase_add_test(t, problem_lists_faults);
    tcase_add_loop_test(t, problem_text_is_utf8_whatever_came_in, 0,
                        (int)(sizeof texts / sizeof *texts));
    tcase_add_test(t, problem_text_cuts_between_characters);
    suite_add_tcase(s, t);
    return s;
}
