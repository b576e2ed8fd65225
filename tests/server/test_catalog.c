#include "core/base/mem.h"
#include "core/num/num.h"
#include "server/catalog.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *suite_catalog(void);

static char *dir;
static struct catalog *cat;
static struct err e;

static void setup(void)
{
    num_init();
    dir = fixture_tmpdir();
    cat = NULL;
    e = (struct err){ 0 };
}

static void teardown(void)
{
    catalog_free(cat);
    fixture_rmdir(dir);
    free(dir);
}

static void make(const char *name, int64_t version, bool index)
{
    struct fixture fx = fixture_defaults();
    fx.name = name;
    fx.version = version;
    fx.index = index;
    fixture_bundle(&fx, dir);
}

static void load(void) { ck_assert_msg(catalog_load(&cat, dir, NULL, &e) == 0, "%s", e.msg); }

START_TEST(catalog_serves_the_highest_version_that_loads)
{
    make("films", 1, true);
    make("films", 2, true);
    make("films", 9, false); /* not indexed yet */
    char *reserved = xasprintf("%s/films/10", dir);
    ck_assert_int_eq(mkdir(reserved, 0755), 0);
    load();
    ck_assert_int_eq(catalog_count(cat), 1);
    ck_assert_int_eq(gen_info(catalog_at(cat, 0))->version, 2);
    ck_assert_str_eq(catalog_default(cat), "films");
    ck_assert_int_eq(catalog_failed(cat), 2);
    ck_assert_int_eq(catalog_failed_version(cat, 0), 10);
    ck_assert_int_eq(catalog_failed_version(cat, 1), 9);
    ck_assert_str_eq(catalog_failed_name(cat, 1), "films");
    ck_assert_ptr_nonnull(strstr(catalog_failed_reason(cat, 1), "index.faiss"));
    free(reserved);
}
END_TEST

START_TEST(catalog_refuses_a_name_that_is_not_the_directorys)
{
    make("films", 1, true);
    char *from = xasprintf("%s/films", dir), *to = xasprintf("%s/copy", dir);
    ck_assert_int_eq(rename(from, to), 0);
    make("films", 1, true);
    load();
    ck_assert_int_eq(catalog_count(cat), 1);
    ck_assert_str_eq(catalog_default(cat), "films");
    ck_assert_int_eq(catalog_failed(cat), 1);
    ck_assert_str_eq(catalog_failed_name(cat, 0), "copy");
    ck_assert_str_eq(
        catalog_failed_reason(cat, 0),
        "bundle copy/1: the manifest's name is \"films\", the directory's \"copy\"");
    free(from);
    free(to);
}
END_TEST

START_TEST(catalog_reasons_do_not_show_where_the_models_lie)
{
    make("films", 1, true);
    make("books", 1, false);
    make("songs", 3, true);
    char *manifest = xasprintf("%s/songs/3/manifest.json", dir);
    ck_assert_int_eq(unlink(manifest), 0);
    char *slash = xasprintf("%s//", dir);
    ck_assert_msg(catalog_load(&cat, slash, NULL, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(catalog_failed(cat), 2);
    for (int i = 0; i < 2; i++)
        ck_assert_msg(!strstr(catalog_failed_reason(cat, i), dir), "%s",
                      catalog_failed_reason(cat, i));
    ck_assert_ptr_nonnull(strstr(catalog_failed_reason(cat, 1), "songs/3"));
    free(manifest);
    free(slash);
}
END_TEST

START_TEST(catalog_reasons_stay_whole_when_the_models_lie_in_a_dot)
{
    char *home = get_current_dir_name();
    make("books", 1, false);
    make("films", 1, true);
    ck_assert_int_eq(chdir(dir), 0);
    int rc = catalog_load(&cat, ".", NULL, &e);
    ck_assert_int_eq(chdir(home), 0);
    ck_assert_msg(rc == 0, "%s", e.msg);
    ck_assert_str_eq(catalog_failed_reason(cat, 0),
                     "bundle books/1: no index.faiss: run `intent index --bundle books/1`");
    free(home);
}
END_TEST

START_TEST(catalog_with_nothing_to_serve_says_why)
{
    make("books", 4, false);
    ck_assert_int_eq(catalog_load(&cat, dir, NULL, &e), ERR_BAD_BUNDLE);
    ck_assert_ptr_nonnull(strstr(e.msg, "books"));
    ck_assert_ptr_nonnull(strstr(e.msg, "index.faiss"));
}
END_TEST

Suite *suite_catalog(void)
{
    Suite *s = suite_create("catalog");
    TCase *t = tcase_create("catalog");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, catalog_serves_the_highest_version_that_loads);
    tcase_add_test(t, catalog_refuses_a_name_that_is_not_the_directorys);
    tcase_add_test(t, catalog_reasons_do_not_show_where_the_models_lie);
    tcase_add_test(t, catalog_reasons_stay_whole_when_the_models_lie_in_a_dot);
    tcase_add_test(t, catalog_with_nothing_to_serve_says_why);
    suite_add_tcase(s, t);
    return s;
}
