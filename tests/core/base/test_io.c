#include "core/base/io.h"
#include "core/base/mem.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *dir;
static struct err e;

static void set_up(void)
{
    dir = fixture_tmpdir();
    e = (struct err){ 0 };
}

static void tear_down(void)
{
    fixture_rmdir(dir);
    free(dir);
}

/* Static places in turn: nothing to free, and two may be used at once. */
static const char *in(const char *name)
{
    static char path[2][512];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static int entries(const char *path)
{
    DIR *d = opendir(path);
    ck_assert_ptr_nonnull(d);
    int n = 0;
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;
}

START_TEST(what_is_written_is_read_and_mapped)
{
    char *text, data[5000];
    size_t nb;
    struct io_map m;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * 7);
    ck_assert_int_eq(io_write_atomic(in("f"), data, sizeof data, &e), 0);
    ck_assert_int_eq(io_read_all(&text, &nb, in("f"), sizeof data, &e), 0);
    ck_assert_uint_eq(nb, sizeof data);
    ck_assert_int_eq(memcmp(text, data, nb), 0);
    ck_assert_int_eq(text[nb], '\0');
    free(text);
    ck_assert_int_eq(io_map_open(&m, in("f"), &e), 0);
    ck_assert_uint_eq(m.nb, sizeof data);
    ck_assert_int_eq(memcmp(m.data, data, m.nb), 0);
    io_map_close(&m);
    ck_assert_ptr_null(m.data);
    io_map_close(&m); /* twice is fine */
}
END_TEST

START_TEST(an_empty_file_is_no_error)
{
    char *text;
    size_t nb = 1;
    struct io_map m;
    ck_assert_int_eq(io_write_atomic(in("empty"), NULL, 0, &e), 0);
    ck_assert_int_eq(io_read_all(&text, &nb, in("empty"), 0, &e), 0);
    ck_assert_uint_eq(nb, 0);
    ck_assert_str_eq(text, "");
    free(text);
    ck_assert_int_eq(io_map_open(&m, in("empty"), &e), 0);
    ck_assert_ptr_null(m.data);
    ck_assert_uint_eq(m.nb, 0);
    io_map_close(&m);
}
END_TEST

START_TEST(a_missing_file_is_named)
{
    char *text;
    size_t nb;
    struct io_map m;
    ck_assert_int_eq(io_map_open(&m, in("absent"), &e), ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(e.msg, "/absent: No such file"));
    ck_assert_int_eq(io_read_all(&text, &nb, in("absent"), 10, NULL), ERR_NOT_FOUND);
    ck_assert(!io_exists(in("absent")));
}
END_TEST

START_TEST(what_is_no_regular_file_is_refused)
{
    struct io_map m;
    ck_assert_int_eq(io_map_open(&m, dir, &e), ERR_IO);
    ck_assert_ptr_nonnull(strstr(e.msg, "not a regular file"));
    ck_assert_int_eq(mkfifo(in("pipe"), 0600), 0);
    e = (struct err){ 0 };
    ck_assert_int_eq(io_map_open(&m, in("pipe"), &e),
                     ERR_IO); /* and does not wait for a writer */
    ck_assert_ptr_nonnull(strstr(e.msg, "pipe: not a regular file"));
}
END_TEST

START_TEST(a_file_past_the_limit_is_not_read)
{
    char *text;
    size_t nb;
    ck_assert_int_eq(io_write_atomic(in("f"), "123456", 6, &e), 0);
    ck_assert_int_eq(io_read_all(&text, &nb, in("f"), 5, &e), ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(e.msg, "6 bytes, at most 5"));
}
END_TEST

START_TEST(a_write_replaces_and_leaves_nothing_else)
{
    char *text;
    size_t nb;
    ck_assert_int_eq(io_write_atomic(in("f"), "old and longer", 14, &e), 0);
    ck_assert_int_eq(io_write_atomic(in("f"), "new", 3, &e), 0);
    ck_assert_int_eq(io_read_all(&text, &nb, in("f"), 100, &e), 0);
    ck_assert_str_eq(text, "new");
    free(text);
    ck_assert_int_eq(entries(dir), 1);
}
END_TEST

START_TEST(who_has_the_old_file_open_keeps_it)
{
    struct io_map m;
    ck_assert_int_eq(io_write_atomic(in("f"), "old", 3, &e), 0);
    ck_assert_int_eq(io_map_open(&m, in("f"), &e), 0);
    ck_assert_int_eq(io_write_atomic(in("f"), "new", 3, &e), 0);
    ck_assert_int_eq(memcmp(m.data, "old", 3), 0);
    io_map_close(&m);
}
END_TEST

START_TEST(a_write_that_fails_keeps_the_old_file)
{
    ck_assert_int_eq(io_write_atomic(in("no/f"), "x", 1, &e), ERR_IO);
    ck_assert_ptr_nonnull(strstr(e.msg, "No such file"));
    e = (struct err){ 0 };
    ck_assert_int_eq(io_mkdirs(in("taken/sub"), &e), 0); /* a directory cannot be replaced */
    ck_assert_int_eq(io_write_atomic(in("taken"), "x", 1, &e), ERR_IO);
    ck_assert_ptr_nonnull(strstr(e.msg, "renaming to"));
    ck_assert_int_eq(entries(dir), 1);
}
END_TEST

START_TEST(a_bare_name_is_in_the_working_directory)
{
    char *here = getcwd(NULL, 0);
    ck_assert_ptr_nonnull(here);
    ck_assert_int_eq(chdir(dir), 0);
    int rc = io_write_atomic("bare", "x", 1, &e);
    int rc2 = io_mkdirs("sub", &e);
    ck_assert_int_eq(chdir(here), 0);
    free(here);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(rc2, 0);
    ck_assert(io_exists(in("bare")));
    ck_assert(io_exists(in("sub")));
}
END_TEST

START_TEST(directories_are_made_with_their_parents)
{
    ck_assert_int_eq(io_mkdirs(in("a/b/c"), &e), 0);
    ck_assert(io_exists(in("a/b/c")));
    ck_assert_int_eq(io_mkdirs(in("a/b/c"), &e), 0);
    ck_assert_int_eq(io_mkdirs(in("a//d/"), &e), 0);
    ck_assert(io_exists(in("a/d")));
    ck_assert_int_eq(io_mkdirs("/", &e), 0);
}
END_TEST

START_TEST(a_file_in_the_way_of_a_directory_is_named)
{
    ck_assert_int_eq(io_write_atomic(in("f"), "x", 1, &e), 0);
    ck_assert_int_eq(io_mkdirs(in("f/sub"), &e), ERR_IO);
    e = (struct err){ 0 };
    ck_assert_int_eq(io_mkdirs(in("f"), &e), ERR_IO);
    ck_assert_ptr_nonnull(strstr(e.msg, "/f: Not a directory"));
    e = (struct err){ 0 };
    ck_assert_int_eq(io_mkdirs("", &e), ERR_IO);
}
END_TEST

START_TEST(a_tree_is_synced_and_removed)
{
    ck_assert_int_eq(io_mkdirs(in("t"), &e), 0);
    ck_assert_int_eq(io_write_atomic(in("t/one"), "1", 1, &e), 0);
    ck_assert_int_eq(io_write_atomic(in("t/two"), "2", 1, &e), 0);
    ck_assert_int_eq(io_sync_tree(in("t"), &e), 0);
    ck_assert_int_eq(io_remove_tree(in("t"), &e), 0);
    ck_assert(!io_exists(in("t")));
    ck_assert_int_eq(io_remove_tree(in("t"), &e), ERR_IO);
    e = (struct err){ 0 };
    ck_assert_int_eq(io_sync_tree(in("t"), &e), ERR_IO);
}
END_TEST

static void put(const char *path, const char *text)
{
    ck_assert_int_eq(io_write_atomic(path, text, strlen(text), &e), 0);
}

static void holds(const char *path, const char *text)
{
    char *found;
    size_t nb;
    ck_assert_msg(io_read_all(&found, &nb, path, 100, &e) == 0, "%s", e.msg);
    ck_assert_str_eq(found, text);
    free(found);
}

START_TEST(a_copy_has_the_bytes_and_is_another_file)
{
    put(in("a"), "one");
    ck_assert_int_eq(io_copy_file(in("b"), in("a"), &e), 0);
    put(in("a"), "two");
    holds(in("b"), "one");
    ck_assert_int_eq(io_copy_file(in("c"), in("none"), &e), ERR_NOT_FOUND);
    ck_assert(!io_exists(in("c")));
}
END_TEST

/* Both ways; the second is what a file system gets that can't exchange two names. */
typedef int exchange_fn(const char *fresh, const char *dir, const char *aside, struct err *e);
static exchange_fn *const exchanges[] = { io_exchange_dir, io_exchange_aside };

START_TEST(directories_change_places)
{
    char *fresh = xasprintf("%s/fresh", dir), *old = xasprintf("%s/old", dir);
    ck_assert_int_eq(io_mkdirs(fresh, &e), 0);
    ck_assert_int_eq(io_mkdirs(old, &e), 0);
    put(in("fresh/f"), "new");
    put(in("old/f"), "old");
    ck_assert_msg(exchanges[_i](fresh, old, in("aside"), &e) == 0, "%s", e.msg);
    holds(in("old/f"), "new");
    holds(in("fresh/f"), "old");
    ck_assert_int_eq(entries(dir), 2);
    free(fresh);
    free(old);
}
END_TEST

START_TEST(a_directory_stays_where_it_is_when_nothing_can_replace_it)
{
    char *old = xasprintf("%s/old", dir);
    ck_assert_int_eq(io_mkdirs(old, &e), 0);
    put(in("old/f"), "old");
    ck_assert_int_eq(exchanges[_i](in("none"), old, in("aside"), &e), ERR_IO);
    ck_assert_ptr_nonnull(strstr(e.msg, "replacing "));
    e = (struct err){ 0 };
    holds(in("old/f"), "old");
    ck_assert_int_eq(entries(dir), 1);
    free(old);
}
END_TEST

START_TEST(a_file_that_is_shorter_than_it_says_ended_early)
{
    /* sysfs says a page for every file, whatever it holds */
    static const char path[] = "/sys/kernel/mm/transparent_hugepage/enabled";
    char *text;
    size_t nb;
    if (!io_exists(path)) return;
    ck_assert_int_eq(io_read_all(&text, &nb, path, 1 << 20, &e), ERR_IO);
    ck_assert_ptr_nonnull(strstr(e.msg, "ended early"));
}
END_TEST

Suite *suite_io(void);
Suite *suite_io(void)
{
    Suite *s = suite_create("io");
    TCase *t = tcase_create("io");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, what_is_written_is_read_and_mapped);
    tcase_add_test(t, an_empty_file_is_no_error);
    tcase_add_test(t, a_missing_file_is_named);
    tcase_add_test(t, what_is_no_regular_file_is_refused);
    tcase_add_test(t, a_file_past_the_limit_is_not_read);
    tcase_add_test(t, a_write_replaces_and_leaves_nothing_else);
    tcase_add_test(t, who_has_the_old_file_open_keeps_it);
    tcase_add_test(t, a_write_that_fails_keeps_the_old_file);
    tcase_add_test(t, a_bare_name_is_in_the_working_directory);
    tcase_add_test(t, directories_are_made_with_their_parents);
    tcase_add_test(t, a_file_in_the_way_of_a_directory_is_named);
    tcase_add_test(t, a_tree_is_synced_and_removed);
    tcase_add_test(t, a_copy_has_the_bytes_and_is_another_file);
    tcase_add_loop_test(t, directories_change_places, 0, 2);
    tcase_add_loop_test(t, a_directory_stays_where_it_is_when_nothing_can_replace_it, 0, 2);
    tcase_add_test(t, a_file_that_is_shorter_than_it_says_ended_early);
    suite_add_tcase(s, t);
    return s;
}
