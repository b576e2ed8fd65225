#include "core/base/mem.h"
#include "core/num/num.h"
#include "models/cmd.h"
#include "tests/child.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir, *model;

static void setup(void)
{
    num_init();
    dir = fixture_tmpdir();
    model = xasprintf("%s/toy", dir);
    struct fixture fx = fixture_defaults();
    fixture_bundle(&fx, dir);
}

static void teardown(void)
{
    fixture_rmdir(dir);
    free(model);
    free(dir);
}

struct call {
    char *argv[16];
    int argc, status;
};

static void run(void *ctx)
{
    struct call *c = ctx;
    c->status = cmd_recommend(c->argc, c->argv);
}

/* intent recommend --bundle <toy> and these words, up to NULL; what it printed. */
static char *recommend_with(int *status, ...)
{
    static char name[] = "recommend", flag[] = "--bundle";
    struct call c = { .argv = { name, flag, model }, .argc = 3 };
    va_list ap;
    va_start(ap, status);
    for (const char *word; (word = va_arg(ap, const char *));) c.argv[c.argc++] = xstrdup(word);
    va_end(ap);
    char *text = child_caught(run, &c);
    *status = c.status;
    for (int i = 3; i < c.argc; i++) free(c.argv[i]);
    return text;
}

static void expect(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "no '%s' in:\n%s", part, text);
}

START_TEST(cmd_recommend_prints_titles)
{
    int status;
    char *text = recommend_with(&status, "--history", "i3, i4,zz", "-n", "5", NULL);
    ck_assert_int_eq(status, 0);
    expect(text, "3 events, 2 used, 1 unknown");
    expect(text, "  i4  Film 4\n");
    expect(text, "  zz  (unknown)\n");
    expect(text, "toy@1, flat index of 40 items");
    expect(text, "\n   5  ");
    ck_assert_ptr_null(strstr(text, "\n   6  "));
    free(text);
}
END_TEST

START_TEST(cmd_recommend_explains_by_interest)
{
    int status;
    char *text = recommend_with(&status, "--history", "i3,i4", "--explain", NULL);
    ck_assert_int_eq(status, 0);
    expect(text, "Interest 0: ");
    expect(text, "Interest 3: ");
    expect(text, "% of the attention, ");
    free(text);
}
END_TEST

START_TEST(cmd_recommend_says_why_items_are_popular)
{
    int status;
    char *text = recommend_with(&status, "--history", "", NULL);
    ck_assert_int_eq(status, 0);
    expect(text, "popular items, because of empty_history");
    expect(text, "1.0000  i7  Film 7");
    free(text);
}
END_TEST

START_TEST(cmd_recommend_prints_the_daemons_json)
{
    int status;
    char *text = recommend_with(&status, "--history", "i3,i4", "--json", "--limit=3",
                                "--exclude", "i9", NULL);
    json_t *v = json_loads(text, 0, NULL);
    ck_assert_int_eq(status, 0);
    ck_assert_ptr_nonnull(v);
    ck_assert_uint_eq(json_array_size(json_object_get(v, "items")), 3);
    json_decref(v);
    free(text);
}
END_TEST

START_TEST(cmd_recommend_answers_a_line_for_a_line)
{
    int status;
    char *path = xasprintf("%s/histories", dir);
    FILE *f = fopen(path, "w");
    fputs("i3,i4\n\ni3 i4\n i5,\ti6 \n", f);
    fclose(f);
    ck_assert_ptr_nonnull(freopen(path, "r", stdin));
    char *text = recommend_with(&status, "--stdin", NULL), *line[5] = { text };
    ck_assert_int_eq(status, 0);
    int n = 0;
    for (char *p = text; (p = strchr(p, '\n')); n++) {
        *p++ = '\0';
        ck_assert_int_lt(n, 4);
        line[n + 1] = p;
    }
    ck_assert_int_eq(n, 4);
    ck_assert_str_eq(line[0], line[2]);
    expect(line[1], "empty_history");
    expect(line[3], "\"used\":2");
    free(text);
    free(path);
}
END_TEST

START_TEST(cmd_recommend_refuses_wrong_usage)
{
    static const char *const words[][3] = { { NULL },
                                            { "--history", "i1", "more" },
                                            { "--limit", "0", NULL },
                                            { "--histroy", "i1", NULL } };
    int status;
    char *text = recommend_with(&status, words[_i][0], words[_i][1], words[_i][2], NULL);
    ck_assert_int_eq(status, 2);
    expect(text, "intent recommend: ");
    free(text);
}
END_TEST

Suite *suite_cmd_recommend(void);
Suite *suite_cmd_recommend(void)
{
    Suite *s = suite_create("cmd_recommend");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, cmd_recommend_prints_titles);
    tcase_add_test(t, cmd_recommend_explains_by_interest);
    tcase_add_test(t, cmd_recommend_says_why_items_are_popular);
    tcase_add_test(t, cmd_recommend_prints_the_daemons_json);
    tcase_add_test(t, cmd_recommend_answers_a_line_for_a_line);
    tcase_add_loop_test(t, cmd_recommend_refuses_wrong_usage, 0, 4);
    suite_add_tcase(s, t);
    return s;
}
