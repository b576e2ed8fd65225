#include "core/base/limits.h"
#include "server/header.h"
#include <check.h>
#include <stddef.h>
#include <string.h>

Suite *suite_header(void);

static const struct {
    const char *value;
    bool json;
} types[] = {
    { NULL, true },
    { "application/json", true },
    { "Application/JSON", true },
    { " application/json ; charset=utf-8", true },
    { "application/json;", true },
    { "", false },
    { "text/plain", false },
    { "application/jsonx", false },
    { "application/x-www-form-urlencoded", false },
    { "text/plain; application/json", false },
};

START_TEST(header_content_type_is_json_or_absent)
{
    ck_assert_int_eq(header_is_json(types[_i].value), types[_i].json);
}
END_TEST

static const struct {
    const char *value;
    bool json;
} accepts[] = {
    { NULL, true },
    { "", true },
    { "*/*", true },
    { "application/json", true },
    { "text/html, application/*;q=0.5", true },
    { "text/html,*/*;q=0.1", true },
    { "APPLICATION/JSON;q=1", true },
    { "text/html", false },
    { "text/html, image/png", false },
    { "application/json;q=0", false },
    { "application/json;q=0.000, */*", false }, /* the more exact range decides */
    { "*/*;q=0, application/json", true },
    { "application/json;version=1;q=0", false },
    { "application/json;q=0.001", true },
    { ",,,", false },
    { ";;;,application/json", true },
    { "application/problem+json", false },
};

START_TEST(header_accept_leaves_room_for_json)
{
    ck_assert_int_eq(header_accepts_json(accepts[_i].value), accepts[_i].json);
}
END_TEST

START_TEST(header_request_id_is_short_and_visible)
{
    char id[LIMIT_REQUEST_ID + 2];
    memset(id, 'x', sizeof id);
    id[LIMIT_REQUEST_ID] = '\0';
    ck_assert(header_good_id(id));
    id[LIMIT_REQUEST_ID] = 'x';
    id[LIMIT_REQUEST_ID + 1] = '\0';
    ck_assert(!header_good_id(id));
    ck_assert(header_good_id("7f3c2a90-!~"));
    ck_assert(!header_good_id(NULL));
    ck_assert(!header_good_id(""));
    ck_assert(!header_good_id("a b"));
    ck_assert(!header_good_id("a\tb"));
    ck_assert(!header_good_id("caf\xc3\xa9"));
    ck_assert(!header_good_id("x\x7f"));
}
END_TEST

Suite *suite_header(void)
{
    Suite *s = suite_create("header");
    TCase *t = tcase_create("header");
    tcase_add_loop_test(t, header_content_type_is_json_or_absent, 0,
                        (int)(sizeof types / sizeof *types));
    tcase_add_loop_test(t, header_accept_leaves_room_for_json, 0,
                        (int)(sizeof accepts / sizeof *accepts));
    tcase_add_test(t, header_request_id_is_short_and_visible);
    suite_add_tcase(s, t);
    return s;
}
