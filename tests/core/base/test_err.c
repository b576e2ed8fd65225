#include "core/base/err.h"
#include "tests/child.h"
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

START_TEST(the_first_error_wins)
{
    struct err e = { 0 };
    ck_assert_int_eq(err_set(&e, ERR_FORMAT, "line %d", 7), ERR_FORMAT);
    int line = __LINE__ - 1;
    ck_assert_int_eq(err_set(&e, ERR_IO, "later"), ERR_FORMAT);
    ck_assert_int_eq(e.code, ERR_FORMAT);
    ck_assert_str_eq(e.msg, "line 7");
    ck_assert_int_eq(e.line, line);
    ck_assert_ptr_nonnull(strstr(e.file, "test_err.c"));
}
END_TEST

START_TEST(context_goes_before_the_message)
{
    struct err e = { 0 };
    ck_assert_int_eq(err_ctx(&e, "nothing"), 0);
    ck_assert_str_eq(e.msg, "");
    (void)err_set(&e, ERR_NOT_FOUND, "no such item");
    ck_assert_int_eq(err_ctx(&e, "row %d", 3), ERR_NOT_FOUND);
    ck_assert_int_eq(err_ctx(&e, "loading %s", "ml"), ERR_NOT_FOUND);
    ck_assert_str_eq(e.msg, "loading ml: row 3: no such item");
}
END_TEST

START_TEST(no_place_for_the_error_is_fine)
{
    ck_assert_int_eq(err_set(NULL, ERR_LIMIT, "x"), ERR_LIMIT);
    ck_assert_int_eq(err_sys(NULL, ERR_IO, "x"), ERR_IO);
    ck_assert_int_eq(err_ctx(NULL, "x"), 0);
}
END_TEST

START_TEST(long_messages_are_cut_and_terminated)
{
    struct err e = { 0 };
    char text[2000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)err_set(&e, ERR_FORMAT, "%s", text);
    ck_assert_uint_eq(strlen(e.msg), sizeof e.msg - 1);
    (void)err_ctx(&e, "file");
    ck_assert_uint_eq(strlen(e.msg), sizeof e.msg - 1);
    ck_assert_int_eq(strncmp(e.msg, "file: aaa", 9), 0);
    (void)err_ctx(&e, "%s", text); /* leaves no room for what stood */
    ck_assert_uint_eq(strlen(e.msg), sizeof e.msg - 1);
    struct err s = { 0 };
    errno = ENOSPC;
    (void)err_sys(&s, ERR_IO, "%s", text);
    ck_assert_uint_eq(strlen(s.msg), sizeof s.msg - 1);
}
END_TEST

START_TEST(sys_appends_what_errno_means)
{
    struct err e = { 0 };
    errno = ENOENT;
    ck_assert_int_eq(err_sys(&e, ERR_IO, "opening %s", "x"), ERR_IO);
    ck_assert_str_eq(e.msg, "opening x: No such file or directory");
    errno = EACCES;
    ck_assert_int_eq(err_sys(&e, ERR_FORMAT, "later"), ERR_IO);
    ck_assert_str_eq(e.msg, "opening x: No such file or directory");
}
END_TEST

START_TEST(every_code_has_its_row)
{
    static const struct {
        int code, http;
        const char *slug, *title;
    } rows[] = {
#define ROW(name, http, slug, title) { name, http, slug, title },
        ERR_MAP(ROW)
#undef ROW
    };
    enum { N = sizeof rows / sizeof rows[0] };
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(rows[i].code, -(i + 1));
        ck_assert_int_eq(err_http(rows[i].code), rows[i].http);
        ck_assert(rows[i].http >= 400 && rows[i].http < 600);
        ck_assert_str_eq(err_slug(rows[i].code), rows[i].slug);
        ck_assert_str_eq(err_title(rows[i].code), rows[i].title);
    }
    const int unknown[] = { 1, -N - 1, -100000 };
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(err_http(unknown[i]), 500);
        ck_assert_str_eq(err_slug(unknown[i]), "internal");
    }
    ck_assert_int_eq(err_http(ERR_NONE), 200);
}
END_TEST

static int twice(int first, int second, int *reached)
{
    TRY(first);
    ++*reached;
    TRY(second);
    ++*reached;
    return 0;
}

START_TEST(try_returns_the_first_failure)
{
    int reached = 0;
    ck_assert_int_eq(twice(0, 0, &reached), 0);
    ck_assert_int_eq(reached, 2);
    ck_assert_int_eq(twice(5, ERR_IO, &reached), ERR_IO); /* positive results are no errors */
    ck_assert_int_eq(reached, 3);
    ck_assert_int_eq(twice(ERR_LIMIT, 0, &reached), ERR_LIMIT);
    ck_assert_int_eq(reached, 3);
}
END_TEST

static void break_an_invariant(void *ctx)
{
    const int *rows = ctx;
    REQUIRE(rows[0] == rows[1], "[%d,4] and [%d,4]", rows[0], rows[1]);
}

START_TEST(a_broken_invariant_prints_its_values_and_aborts)
{
    int rows[] = { 3, 5 };
    child_must_abort(break_an_invariant, rows,
                     "bug: rows[0] == rows[1] is false: [3,4] and [5,4]");
    child_must_abort(break_an_invariant, rows, "test_err.c:");
    rows[1] = 3;
    struct child c = child_run(break_an_invariant, rows);
    ck_assert(child_succeeded(&c));
    ck_assert_str_eq(c.text, "");
    free(c.text);
}
END_TEST

Suite *suite_err(void);
Suite *suite_err(void)
{
    Suite *s = suite_create("err");
    TCase *t = tcase_create("err");
    tcase_add_test(t, the_first_error_wins);
    tcase_add_test(t, context_goes_before_the_message);
    tcase_add_test(t, no_place_for_the_error_is_fine);
    tcase_add_test(t, long_messages_are_cut_and_terminated);
    tcase_add_test(t, sys_appends_what_errno_means);
    tcase_add_test(t, every_code_has_its_row);
    tcase_add_test(t, try_returns_the_first_failure);
    tcase_add_test(t, a_broken_invariant_prints_its_values_and_aborts);
    suite_add_tcase(s, t);
    return s;
}
