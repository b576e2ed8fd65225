#include "core/data/text.h"
#include "tests/guard.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct span span(const char *s) { return (struct span){ s, strlen(s) }; }

static void is_text(struct span s, const char *want)
{
    ck_assert_uint_eq(s.n, strlen(want));
    ck_assert_msg(memcmp(s.p, want, s.n) == 0, "'%.*s' is not '%s'", (int)s.n, s.p, want);
}

START_TEST(lines_end_in_newline_or_crlf_or_nothing)
{
    const char *text = "\xef\xbb\xbfone\r\ntwo\n\n\r\nfive";
    struct text_lines l = text_begin(text, strlen(text));
    struct span s;
    ck_assert(text_line(&l, &s));
    is_text(s, "one");
    ck_assert(text_line(&l, &s));
    is_text(s, "two");
    ck_assert_int_eq(l.no, 2);
    ck_assert(text_line(&l, &s));
    is_text(s, "five");
    ck_assert_int_eq(l.no, 5);
    ck_assert(!text_line(&l, &s));
    ck_assert(!text_line(&l, &s));
}
END_TEST

START_TEST(no_bytes_hold_no_line)
{
    struct span s;
    struct text_lines l = text_begin(NULL, 0);
    ck_assert(!text_line(&l, &s));
    l = text_begin("\xef\xbb\xbf", 3);
    ck_assert(!text_line(&l, &s));
}
END_TEST

static const struct {
    const char *line, *field[4];
    size_t n;
} split_cases[] = {
    { "a,b", { "a", "b" }, 2 },
    { "", { "" }, 1 },
    { ",", { "", "" }, 2 },
    { "a,", { "a", "" }, 2 },
    { "\"x, y\",b", { "x, y", "b" }, 2 },
    { "\"\",b", { "", "b" }, 2 },
    { "\"say \"\"hi\"\"\",2", { "say \"hi\"", "2" }, 2 },
    { "\"\"\"\"", { "\"" }, 1 },
    { "5\" nail,b", { "5\" nail", "b" }, 2 },
    { "\"never closed,b", { NULL }, 0 },
    { "\"closed\" late,b", { NULL }, 0 },
    { "\"", { NULL }, 0 },
    { "a,b,c,d,e,f", { "a", "b", "c", "d" }, 6 },
};

START_TEST(fields_split_at_separators_outside_quotes)
{
    struct span line = span(split_cases[_i].line);
    char *p = guard_copy(line.p, line.n), buf[64];
    struct field f[4];
    size_t n = text_fields(f, 4, (struct span){ p, line.n }, ',', true);
    ck_assert_uint_eq(n, split_cases[_i].n);
    for (size_t i = 0; i < n && i < 4; i++)
        is_text(text_unquote(f[i], buf), split_cases[_i].field[i]);
    guard_free(p, line.n);
}
END_TEST

START_TEST(quotes_are_plain_bytes_where_a_format_has_none)
{
    struct field f[4];
    ck_assert_uint_eq(text_fields(f, 4, span("\"a\tb"), '\t', false), 2);
    is_text((struct span){ f[0].p, f[0].n }, "\"a");
}
END_TEST

START_TEST(words_are_separated_by_any_blanks)
{
    struct span rest = span("  u1\ta  b "), w;
    ck_assert(text_word(&rest, &w));
    is_text(w, "u1");
    ck_assert(text_word(&rest, &w));
    is_text(w, "a");
    ck_assert(text_word(&rest, &w));
    is_text(w, "b");
    ck_assert(!text_word(&rest, &w));
    is_text(text_trim(span(" \t x y\t")), "x y");
    is_text(text_trim(span(" \t ")), "");
}
END_TEST

START_TEST(numbers_are_decimal_finite_and_fill_the_field)
{
    static const char *const good[] = { "0", "-7", "964982703", "1.4e9", "+2.5", ".5" };
    static const char *const bad[] = {
        "",    "-",   "1 ",
        " 1",  "1x",  "0x10",
        "inf", "nan", "1e999",
        "1,5", "1e",  "1111111111222222222233333333334444444444555555555566666666667777"
    };
    double x;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ck_assert_msg(text_number(span(good[i]), &x), "'%s'", good[i]);
        ck_assert(x == strtod(good[i], NULL));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!text_number(span(bad[i]), &x), "'%s'", bad[i]);
    ck_assert(!text_number((struct span){ "1\0"
                                          "2",
                                          3 },
                           &x));
    char *p = guard_copy("12", 2);
    ck_assert(text_number((struct span){ p, 2 }, &x) && x == 12);
    guard_free(p, 2);
}
END_TEST

static const struct {
    const char *text;
    double want; /* -1: refused */
} times[] = {
    { "0", 0 },
    { "964982703", 964982703 },
    { "1425167637.25", 1425167637.25 },
    { "1433221332117", 1433221332.117 },
    { "1433221332117000", 1433221332.117 },
    { "1433221332117000000", 1433221332.117 },
    { "1970-01-01", 0 },
    { "2000-03-01", 951868800 },
    { "2000-02-29T23:59:59Z", 951868799 },
    { "2021-03-04 05:06:07.5", 1614834367.5 },
    { "2021-03-04T05:06:07+01:30", 1614828967 },
    { "2021-03-04T05:06-0800", 1614863160 },
    { "2099-12-31", 4102358400 },
    { "2013-02-13 21:38:04 UTC", 1360791484 },
    { "2013-02-13 21:38:04 +0100", 1360787884 },
    { "2013-02-13T21:38:04gmt", 1360791484 },
    { "2024-02-29", 1709164800 },
    { "2021-02-29", -1 },
    { "2013-02-13 21:38:04 CET", -1 },
    { "-1", -1 },
    { "2100-01-01", -1 },
    { "99999999999", -1 },
    { "1969-12-31", -1 },
    { "2021-13-01", -1 },
    { "2021-00-10", -1 },
    { "2021-02-30", -1 },
    { "2021-3-4", -1 },
    { "2021-03-04T", -1 },
    { "2021-03-04T25:00", -1 },
    { "2021-03-04 05:06:07.", -1 },
    { "2021-03-04 05:06:07+", -1 },
    { "2021-03-04x", -1 },
    { "yesterday", -1 },
    { "", -1 },
};

START_TEST(times_are_seconds_in_any_unit_or_dates)
{
    size_t n = strlen(times[_i].text);
    for (size_t cut = 0; cut <= n; cut++) {
        char *p = guard_copy(times[_i].text, cut);
        double x = -1;
        bool ok = text_time((struct span){ p, cut }, &x);
        if (cut == n && times[_i].want < 0) ck_assert_msg(!ok, "%s", times[_i].text);
        if (cut == n && times[_i].want >= 0) {
            ck_assert_msg(ok, "%s", times[_i].text);
            ck_assert_double_eq_tol(x, times[_i].want, 1e-4);
        }
        guard_free(p, cut);
    }
}
END_TEST

START_TEST(parts_are_trimmed_and_may_be_empty)
{
    struct span rest = { "a| b c ||", 9 }, part;
    static const char *const want[] = { "a", "b c", "", "" };
    for (int i = 0; i < 4; i++) {
        ck_assert(text_part(&rest, '|', &part));
        ck_assert_uint_eq(part.n, strlen(want[i]));
        ck_assert(part.n == 0 || memcmp(part.p, want[i], part.n) == 0);
    }
    ck_assert(!text_part(&rest, '|', &part));
}
END_TEST

START_TEST(utf8_is_checked_at_every_alignment_up_to_the_last_byte)
{
    static const char *const good[] = { "",
                                        "ascii and more than eight",
                                        "\xc3\xa9",
                                        "\xe2\x82\xac",
                                        "\xf0\x9f\x98\x80",
                                        "\xed\x9f\xbf",
                                        "\xf4\x8f\xbf\xbf" };
    static const char *const bad[] = { "\x80",
                                       "\xc0\x80",
                                       "\xc3",
                                       "\xe2\x82",
                                       "\xe0\x80\x80",
                                       "\xed\xa0\x80",
                                       "\xf4\x90\x80\x80",
                                       "\xf0\x80\x80\x80",
                                       "\xff",
                                       "\xc3(" };
    for (size_t pad = 0; pad < 10; pad++) {
        for (size_t i = 0; i < sizeof good / sizeof *good + sizeof bad / sizeof *bad; i++) {
            bool ok = i < sizeof good / sizeof *good;
            const char *s = ok ? good[i] : bad[i - sizeof good / sizeof *good];
            char text[64];
            size_t n = (size_t)snprintf(text, sizeof text, "%.*s%s", (int)pad, "0123456789", s);
            char *p = guard_copy(text, n);
            ck_assert_msg(text_utf8_ok(p, n) == ok, "case %zu behind %zu bytes", i, pad);
            guard_free(p, n);
        }
    }
}
END_TEST

START_TEST(a_cut_keeps_whole_characters)
{
    const char *s = "a\xe2\x82\xac"
                    "b";
    ck_assert_uint_eq(text_utf8_cut(s, 5, 9), 5);
    ck_assert_uint_eq(text_utf8_cut(s, 5, 4), 4);
    ck_assert_uint_eq(text_utf8_cut(s, 5, 3), 1);
    ck_assert_uint_eq(text_utf8_cut(s, 5, 2), 1);
    ck_assert_uint_eq(text_utf8_cut(s, 5, 0), 0);
}
END_TEST

Suite *suite_text(void);
Suite *suite_text(void)
{
    Suite *s = suite_create("text");
    TCase *t = tcase_create("text");
    tcase_add_test(t, lines_end_in_newline_or_crlf_or_nothing);
    tcase_add_test(t, no_bytes_hold_no_line);
    tcase_add_loop_test(t, fields_split_at_separators_outside_quotes, 0,
                        sizeof split_cases / sizeof *split_cases);
    tcase_add_test(t, quotes_are_plain_bytes_where_a_format_has_none);
    tcase_add_test(t, words_are_separated_by_any_blanks);
    tcase_add_test(t, numbers_are_decimal_finite_and_fill_the_field);
    tcase_add_loop_test(t, times_are_seconds_in_any_unit_or_dates, 0,
                        sizeof times / sizeof *times);
    tcase_add_test(t, parts_are_trimmed_and_may_be_empty);
    tcase_add_test(t, utf8_is_checked_at_every_alignment_up_to_the_last_byte);
    tcase_add_test(t, a_cut_keeps_whole_characters);
    suite_add_tcase(s, t);
    return s;
}
