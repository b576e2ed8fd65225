#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/fmt/manifest.h"
#include "tests/child.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *dir, *model;

static void setup(void)
{
    dir = fixture_tmpdir();
    model = xasprintf("%s/toy", dir);
}

static void teardown(void)
{
    fixture_rmdir(dir);
    free(model);
    free(dir);
}

/* The path of a file below dir; the last few calls stay valid. */
static PRINTF_LIKE(1, 2) const char *in(const char *fmt, ...)
{
    static char paths[8][512];
    static int at;
    char *p = paths[at++ % 8];
    va_list ap;
    va_start(ap, fmt);
    int n = snprintf(p, sizeof paths[0], "%s/", dir);
    vsnprintf(p + n, sizeof paths[0] - (size_t)n, fmt, ap);
    va_end(ap);
    return p;
}

/* No assertions: children run it (child.h). */
static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    REQUIRE(f, "no %s", path);
    fputs(text, f);
    REQUIRE(fclose(f) == 0, "writing %s", path);
}

/* Entries of the model directory, hidden ones too. */
static int count_entries(void)
{
    DIR *d = opendir(model);
    ck_assert_ptr_nonnull(d);
    int n = -2;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static json_t *plain_manifest(void)
{
    return json_pack("{s:{}, s:s, s:i, s:i, s:i, s:i, s:{s:s}, s:{s:{s:f}}}", "encoder",
                     "metric", "inner_product", "items", 3, "interests", 1, "width", 4,
                     "max_len", 5, "recipe", "a", "b", "metrics", "test", "hr@10", 0.5);
}

/* Writes a version whose weights are this text. */
static int write_version(int64_t version, const char *weights, struct err *e)
{
    struct bundle_writer w;
    TRY(bundle_begin(&w, model, version, e));
    char *path = xasprintf("%s/%s", w.tmp_dir, BUNDLE_WEIGHTS),
         *items = xasprintf("%s/%s", w.tmp_dir, BUNDLE_ITEMS);
    put(path, weights);
    put(items, "items");
    free(path);
    free(items);
    json_t *m = plain_manifest();
    int rc = bundle_commit(&w, m, e);
    json_decref(m);
    return rc;
}

static void must_write(int64_t version, const char *weights)
{
    struct err e = { 0 };
    ck_assert_msg(write_version(version, weights, &e) == 0, "%s", e.msg);
}

static void weights_are(const char *path, const char *want)
{
    struct bundle b;
    struct err e = { 0 };
    ck_assert_msg(bundle_open(&b, path, false, &e) == 0, "%s", e.msg);
    char *file = bundle_path(&b, BUNDLE_WEIGHTS), *text;
    size_t nb;
    ck_assert_int_eq(io_read_all(&text, &nb, file, 100, &e), 0);
    ck_assert_str_eq(text, want);
    free(text);
    free(file);
    bundle_close(&b);
}

START_TEST(bundle_opens_what_was_committed)
{
    must_write(3, "abc");
    struct bundle b;
    struct err e = { 0 };
    ck_assert_msg(bundle_open(&b, in("toy/3/"), false, &e) == 0, "%s", e.msg);
    ck_assert_str_eq(b.name, "toy");
    ck_assert_int_eq(b.version, 3);
    ck_assert_uint_eq(strlen(b.sha256), 64);
    ck_assert(bundle_is_current(&b));
    const json_t *file = json_object_get(json_object_get(b.manifest, "files"), BUNDLE_WEIGHTS);
    ck_assert_str_eq(
        json_string_value(json_object_get(file, "sha256")),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); /* FIPS 180's "abc" */
    ck_assert_int_eq(json_integer_value(json_object_get(file, "bytes")), 3);
    bundle_close(&b);
}
END_TEST

START_TEST(bundle_open_takes_the_highest_version_of_a_model_directory)
{
    must_write(2, "two");
    must_write(10, "ten");
    ck_assert_int_eq(mkdir(in("toy/0011"), 0755), 0); /* not a version's name */
    ck_assert_int_eq(mkdir(in("toy/.tmp-99-1-0"), 0755), 0);
    put(in("toy/77"), "a file");
    weights_are(model, "ten");
    int64_t v;
    ck_assert_int_eq(bundle_latest(model, &v, NULL), 0);
    ck_assert_int_eq(v, 10);
}
END_TEST

START_TEST(bundle_begin_numbers_the_next_version)
{
    must_write(0, "first");
    must_write(0, "second");
    weights_are(in("toy/1"), "first");
    weights_are(in("toy/2"), "second");
}
END_TEST

START_TEST(bundle_open_says_what_is_not_there)
{
    struct bundle b;
    struct err e = { 0 };
    ck_assert_int_eq(bundle_open(&b, in("none"), false, &e), ERR_NOT_FOUND);
    e = (struct err){ 0 };
    ck_assert_int_eq(bundle_open(&b, dir, false, &e), ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(e.msg, "neither manifest.json nor a numbered version"));
    must_write(1, "x");
    e = (struct err){ 0 };
    ck_assert_int_eq(bundle_open(&b, model, true, &e), ERR_BAD_BUNDLE);
    ck_assert_ptr_nonnull(strstr(e.msg, "no index.faiss"));
}
END_TEST

START_TEST(bundle_open_refuses_a_version_under_another_number)
{
    must_write(1, "x");
    ck_assert_int_eq(rename(in("toy/1"), in("toy/2")), 0);
    struct bundle b;
    struct err e = { 0 };
    ck_assert_int_eq(bundle_open(&b, model, false, &e), ERR_BAD_BUNDLE);
    ck_assert_ptr_nonnull(strstr(e.msg, "\"version\" is 1, the directory is 2"));
}
END_TEST

START_TEST(bundle_commit_replaces_a_version_in_place)
{
    must_write(1, "old");
    struct bundle b;
    ck_assert_int_eq(bundle_open(&b, model, false, NULL), 0);
    must_write(1, "new");
    ck_assert(!bundle_is_current(&b));
    bundle_close(&b);
    weights_are(in("toy/1"), "new");
    ck_assert_int_eq(count_entries(), 1);
}
END_TEST

START_TEST(bundle_commit_refuses_an_incomplete_manifest_and_keeps_the_old)
{
    must_write(1, "old");
    struct bundle_writer w;
    struct err e = { 0 };
    ck_assert_int_eq(bundle_begin(&w, model, 1, &e), 0);
    json_t *m = plain_manifest();
    ck_assert_int_eq(bundle_commit(&w, m, &e), ERR_BAD_BUNDLE);
    ck_assert_msg(strstr(e.msg, "model.safetensors\" is missing") != NULL, "%s", e.msg);
    json_decref(m);
    weights_are(model, "old");
    bundle_abort(&w); /* harmless after commit */
}
END_TEST

START_TEST(bundle_abort_leaves_nothing)
{
    struct bundle_writer w;
    ck_assert_int_eq(bundle_begin(&w, model, 1, NULL), 0);
    char *tmp = xstrdup(w.tmp_dir);
    ck_assert(io_exists(tmp));
    bundle_abort(&w);
    ck_assert(!io_exists(tmp));
    free(tmp);
}
END_TEST

START_TEST(bundle_begin_removes_what_dead_writers_left_and_spares_the_living)
{
    struct bundle_writer living;
    ck_assert_int_eq(bundle_begin(&living, model, 1, NULL), 0);
    ck_assert_int_eq(mkdir(in("toy/.tmp-1-4242-0"), 0755), 0);
    put(in("toy/.tmp-1-4242-0/model.safetensors"), "half");
    must_write(2, "x");
    ck_assert(!io_exists(in("toy/.tmp-1-4242-0")));
    ck_assert(io_exists(living.tmp_dir));
    bundle_abort(&living);
}
END_TEST

START_TEST(bundle_begin_puts_back_a_version_that_was_set_aside)
{
    must_write(1, "old");
    ck_assert_int_eq(rename(in("toy/1"), in("toy/.old-1-4242")), 0);
    must_write(2, "x");
    weights_are(in("toy/1"), "old");
    /* With its successor in place it is rubbish. */
    ck_assert_int_eq(mkdir(in("toy/.old-1-4243"), 0755), 0);
    must_write(3, "x");
    ck_assert(!io_exists(in("toy/.old-1-4243")));
}
END_TEST

START_TEST(bundle_reuse_keeps_the_bytes)
{
    must_write(1, "weights");
    struct bundle b;
    struct bundle_writer w;
    struct err e = { 0 };
    ck_assert_int_eq(bundle_open(&b, model, false, &e), 0);
    ck_assert_int_eq(bundle_begin(&w, model, 1, &e), 0);
    ck_assert_int_eq(bundle_reuse(&w, &b, BUNDLE_WEIGHTS, &e), 0);
    ck_assert_int_eq(bundle_reuse(&w, &b, BUNDLE_ITEMS, &e), 0);
    ck_assert_int_eq(bundle_commit(&w, b.manifest, &e), 0);
    json_t *created = json_incref(json_object_get(b.manifest, "created"));
    bundle_close(&b);
    weights_are(model, "weights");
    ck_assert_int_eq(bundle_open(&b, model, false, &e), 0);
    ck_assert(json_equal(created, json_object_get(b.manifest, "created")));
    json_decref(created);
    bundle_close(&b);
}
END_TEST

/* ---- killed at any moment ---- */

static void rewrite_for_ever(void *ctx)
{
    (void)ctx;
    for (int i = 0;; i++)
        if (write_version(1, i % 2 ? "odd" : "even", NULL) < 0) _exit(1);
}

START_TEST(bundle_is_whole_whenever_its_writer_is_killed)
{
    must_write(1, "even");
    for (int i = 0; i < 40; i++) {
        pid_t pid = child_start(rewrite_for_ever, NULL);
        usleep((useconds_t)(500 + i * 397 % 7919));
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        child_wait(pid, 10);
        struct bundle b;
        struct err e = { 0 };
        ck_assert_msg(bundle_open(&b, model, false, &e) == 0, "%s", e.msg);
        bundle_close(&b);
    }
    must_write(2, "last");
    ck_assert_int_eq(count_entries(), 2);
}
END_TEST

static void rewrite_now_and_then(void *ctx)
{
    (void)ctx;
    for (int i = 0;; i++) {
        if (write_version(1, i % 2 ? "odd" : "even", NULL) < 0) _exit(1);
        usleep(5000);
    }
}

START_TEST(bundle_open_succeeds_while_a_writer_exchanges)
{
    must_write(1, "even");
    pid_t pid = child_start(rewrite_now_and_then, NULL);
    for (int i = 0; i < 300; i++) {
        struct bundle b;
        struct err e = { 0 };
        ck_assert_msg(bundle_open(&b, in("toy/1"), false, &e) == 0, "%s", e.msg);
        bundle_close(&b);
    }
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    child_wait(pid, 10);
}
END_TEST

/* ---- options ---- */

struct opts {
    bool flag;
    int32_t n, mode;
    int64_t big;
    float x;
    char *text, *none;
};
static const struct opt table[] = {
    OPT_BOOL(struct opts, flag, "false", ""),      OPT_INT(struct opts, n, "3", 1, 9, ""),
    OPT_I64(struct opts, big, "4", 0, 9e18, ""),   OPT_FLOAT(struct opts, x, "0.1", 0, 1, ""),
    OPT_CHOICE(struct opts, mode, "a", "a|b", ""), OPT_STR(struct opts, text, "t", ""),
    OPT_STR(struct opts, none, NULL, ""),          OPT_END
};

START_TEST(bundle_opts_come_back_from_json)
{
    struct opts a, b;
    struct err e = { 0 };
    conf_defaults(table, &a);
    a.flag = true;
    a.mode = 1;
    a.big = INT64_C(1) << 53;
    json_t *obj = bundle_opts_to_json(table, &a);
    char *text = json_dumps(obj, JSON_REAL_PRECISION(12));
    ck_assert_str_eq(
        text,
        "{\"flag\": true, \"n\": 3, \"big\": 9007199254740992, \"x\": 0.1, \"mode\": \"b\", "
        "\"text\": \"t\", \"none\": null}");
    ck_assert_msg(bundle_opts_from_json(table, &b, obj, &e) == 0, "%s", e.msg);
    ck_assert(b.flag && b.n == 3 && b.big == a.big && b.x == 0.1f && b.mode == 1 && !b.none);
    ck_assert_str_eq(b.text, "t");
    conf_free(table, &a);
    conf_free(table, &b);
    json_decref(obj);
    free(text);
}
END_TEST

static const struct {
    const char *key, *json, *why;
} bad_opt[] = {
    { "n", NULL, "\"n\" is missing" },
    { "flag", "1", "\"flag\" is not a boolean" },
    { "n", "1.5", "\"n\" is not an integer" },
    { "n", "0", "n = 0" },
    { "n", "10", "n = 10" },
    { "x", "\"0.1\"", "\"x\" is not a number" },
    { "x", "2", "x = 2" },
    { "mode", "\"c\"", "mode" },
    { "mode", "0", "\"mode\" is not a string" },
    { "text", "[]", "\"text\" is not a string" },
    { "more", "1", "\"more\" is not a known option" },
};

START_TEST(bundle_opts_from_json_names_the_bad_key)
{
    struct opts a;
    struct err e = { 0 };
    conf_defaults(table, &a);
    json_t *obj = bundle_opts_to_json(table, &a);
    conf_free(table, &a);
    json_object_del(obj, bad_opt[_i].key);
    if (bad_opt[_i].json)
        json_object_set_new(obj, bad_opt[_i].key,
                            json_loads(bad_opt[_i].json, JSON_DECODE_ANY, NULL));
    ck_assert_int_eq(bundle_opts_from_json(table, &a, obj, &e), ERR_BAD_BUNDLE);
    ck_assert_msg(strstr(e.msg, bad_opt[_i].why) != NULL, "%s, not %s", e.msg, bad_opt[_i].why);
    json_decref(obj);
}
END_TEST

Suite *suite_bundle(void);
Suite *suite_bundle(void)
{
    Suite *s = suite_create("bundle");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, bundle_opens_what_was_committed);
    tcase_add_test(t, bundle_open_takes_the_highest_version_of_a_model_directory);
    tcase_add_test(t, bundle_begin_numbers_the_next_version);
    tcase_add_test(t, bundle_open_says_what_is_not_there);
    tcase_add_test(t, bundle_open_refuses_a_version_under_another_number);
    tcase_add_test(t, bundle_commit_replaces_a_version_in_place);
    tcase_add_test(t, bundle_commit_refuses_an_incomplete_manifest_and_keeps_the_old);
    tcase_add_test(t, bundle_abort_leaves_nothing);
    tcase_add_test(t, bundle_begin_removes_what_dead_writers_left_and_spares_the_living);
    tcase_add_test(t, bundle_begin_puts_back_a_version_that_was_set_aside);
    tcase_add_test(t, bundle_reuse_keeps_the_bytes);
    tcase_add_test(t, bundle_is_whole_whenever_its_writer_is_killed);
    tcase_add_test(t, bundle_open_succeeds_while_a_writer_exchanges);
    tcase_add_test(t, bundle_opts_come_back_from_json);
    tcase_add_loop_test(t, bundle_opts_from_json_names_the_bad_key, 0,
                        (int)(sizeof bad_opt / sizeof bad_opt[0]));
    suite_add_tcase(s, t);
    return s;
}
