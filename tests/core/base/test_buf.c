#include "core/base/buf.h"
#include "core/base/rng.h"
#include <check.h>
#include <jansson.h>
#include <string.h>

START_TEST(pieces_are_appended_and_terminated)
{
    struct buf b = { 0 };
    buf_puts(&b, "ab");
    buf_putc(&b, 'c');
    buf_put(&b, "d\0e", 3);
    buf_printf(&b, "%d-%s", 12, "x");
    ck_assert_uint_eq(b.len, 10);
    ck_assert_int_eq(memcmp(b.data, "abcd\0e12-x", 11), 0);
    ck_assert(!b.failed);
    buf_free(&b);
    ck_assert_ptr_null(b.data);
}
END_TEST

START_TEST(nothing_appended_is_still_a_string)
{
    struct buf b = { 0 };
    buf_put(&b, NULL, 0);
    ck_assert_str_eq(b.data, "");
    buf_printf(&b, "%s", "");
    ck_assert_uint_eq(b.len, 0);
    buf_free(&b);
}
END_TEST

START_TEST(it_grows_past_any_single_piece)
{
    struct buf b = { 0 };
    char piece[1001];
    memset(piece, 'p', 1000);
    piece[1000] = '\0';
    for (int i = 0; i < 50; i++) buf_printf(&b, "%s", piece);
    ck_assert_uint_eq(b.len, 50000);
    ck_assert_uint_eq(strspn(b.data, "p"), 50000);
    buf_free(&b);
}
END_TEST

START_TEST(the_cap_counts_the_terminator)
{
    struct buf b = { .cap_max = 10 };
    buf_puts(&b, "123456789");
    ck_assert(!b.failed);
    buf_puts(&b, "");
    ck_assert(!b.failed);
    buf_putc(&b, 'x');
    ck_assert(b.failed);
    ck_assert_str_eq(b.data, "123456789");
    buf_free(&b);
}
END_TEST

START_TEST(after_a_failure_nothing_more_is_appended)
{
    struct buf b = { .cap_max = 10 };
    buf_puts(&b, "12");
    buf_printf(&b, "%s", "a longer piece");
    ck_assert(b.failed);
    buf_puts(&b, "3"); /* would fit */
    ck_assert_str_eq(b.data, "12");
    const char *kept = b.data;
    buf_clear(&b);
    ck_assert(!b.failed);
    ck_assert_ptr_eq(b.data, kept);
    buf_puts(&b, "3");
    ck_assert_str_eq(b.data, "3");
    buf_put(&b, kept, (size_t)-1); /* a size that overflows is past the cap */
    ck_assert(b.failed);
    buf_free(&b);
}
END_TEST

START_TEST(clearing_an_unused_buffer_is_fine)
{
    struct buf b = { 0 };
    buf_clear(&b);
    buf_free(&b);
}
END_TEST

static const struct {
    const char *in;
    size_t n;
    const char *out;
} escapes[] = {
    { "", 0, "\"\"" },
    { "Heat (1995)", 11, "\"Heat (1995)\"" },
    { "a\"b\\c", 5, "\"a\\\"b\\\\c\"" },
    { "\n\t\r", 3, "\"\\n\\t\\u000d\"" },
    { "a\0b", 3, "\"a\\u0000b\"" },
    { "\x1f\x7f", 2, "\"\\u001f\x7f\"" },
    { "Am\xc3\xa9lie", 7, "\"Am\xc3\xa9lie\"" },
};

START_TEST(json_strings_are_escaped)
{
    struct buf b = { 0 };
    buf_json_str(&b, escapes[_i].in, escapes[_i].n);
    ck_assert_str_eq(b.data, escapes[_i].out);
    buf_free(&b);
}
END_TEST

START_TEST(json_strings_survive_a_parser)
{
    struct rng r = rng_make(3, RNG_TEST);
    struct buf b = { 0 };
    for (int i = 0; i < 500; i++) {
        char in[40];
        size_t n = rng_below(&r, sizeof in);
        for (size_t j = 0; j < n; j++) in[j] = (char)rng_below(&r, 128);
        buf_clear(&b);
        buf_json_str(&b, in, n);
        json_t *s = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        ck_assert_msg(s, "not JSON: %s", b.data);
        ck_assert_uint_eq(json_string_length(s), n);
        ck_assert_int_eq(memcmp(json_string_value(s), in, n), 0);
        json_decref(s);
    }
    buf_free(&b);
}
END_TEST

Suite *suite_buf(void);
Suite *suite_buf(void)
{
    Suite *s = suite_create("buf");
    TCase *t = tcase_create("buf");
    tcase_add_test(t, pieces_are_appended_and_terminated);
    tcase_add_test(t, nothing_appended_is_still_a_string);
    tcase_add_test(t, it_grows_past_any_single_piece);
    tcase_add_test(t, the_cap_counts_the_terminator);
    tcase_add_test(t, after_a_failure_nothing_more_is_appended);
    tcase_add_test(t, clearing_an_unused_buffer_is_fine);
    tcase_add_loop_test(t, json_strings_are_escaped, 0, sizeof escapes / sizeof escapes[0]);
    tcase_add_test(t, json_strings_survive_a_parser);
    suite_add_tcase(s, t);
    return s;
}
