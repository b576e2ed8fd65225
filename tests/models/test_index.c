#include "core/ann/ann.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/num/num.h"
#include "core/serve/gen.h"
#include "models/index.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *dir, *model;

static void setup(void)
{
    num_init();
    dir = fixture_tmpdir();
    model = xasprintf("%s/toy", dir);
}

static void teardown(void)
{
    fixture_rmdir(dir);
    free(model);
    free(dir);
}

static ino_t inode_of(const char *file)
{
    char *path = xasprintf("%s/1/%s", model, file);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    free(path);
    return st.st_ino;
}

static const struct {
    enum index_type type;
    int32_t V;
    const char *made;
} wanted[] = {
    { INDEX_AUTO, 40, NULL }, /* flat or scan: what is faster */
    { INDEX_FLAT, 40, "flat" },  { INDEX_SCAN, 40, "scan" },  { INDEX_HNSW, 400, "hnsw32" },
    { INDEX_HNSW, 1, "hnsw32" }, { INDEX_IVF, 400, "ivf25" }, { INDEX_IVF, 1, "ivf1" },
};

START_TEST(index_bundle_adds_an_index_to_the_same_version)
{
    struct fixture fx = fixture_defaults();
    struct err e = { 0 };
    struct gen *g;
    fx.index = false;
    fx.V = wanted[_i].V;
    fixture_bundle(&fx, dir);
    ino_t weights = inode_of(BUNDLE_WEIGHTS);
    struct index_cfg cfg = { .type = wanted[_i].type, .recall = 0.9f };
    ck_assert_msg(index_bundle(model, &cfg, NULL, &e) == 0, "%s", e.msg);
    ck_assert_uint_eq(inode_of(BUNDLE_WEIGHTS), weights); /* linked, not copied */
    ck_assert_msg(gen_open(&g, model, &e) == 0, "%s", e.msg);
    const char *made = gen_info(g)->index_type;
    if (wanted[_i].made)
        ck_assert_str_eq(made, wanted[_i].made);
    else
        ck_assert(strcmp(made, "flat") == 0 || strcmp(made, "scan") == 0);
    ck_assert_int_eq(gen_info(g)->version, 1);
    gen_unref(g);
}
END_TEST

START_TEST(index_bundle_replaces_an_index_and_reports)
{
    struct fixture fx = fixture_defaults();
    struct err e = { 0 };
    fixture_bundle(&fx, dir);
    char text[256] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    struct index_cfg cfg = { .type = INDEX_HNSW, .recall = 0.5f };
    char *version = xasprintf("%s/1/", model);
    ck_assert_msg(index_bundle(version, &cfg, f, &e) == 0, "%s", e.msg);
    fclose(f);
    ck_assert_ptr_nonnull(
        strstr(text, "index of toy@1: hnsw32, 40 items, width 32, recall@100"));
    struct bundle b;
    ck_assert_int_eq(bundle_open(&b, model, true, &e), 0);
    const json_t *index = json_object_get(b.manifest, "index");
    ck_assert_str_eq(json_string_value(json_object_get(index, "type")), "hnsw32");
    ck_assert_int_eq(json_integer_value(json_object_get(index, "ef_search")), 32);
    ck_assert(json_number_value(json_object_get(index, "recall")) >= 0.5);
    bundle_close(&b);
    free(version);
}
END_TEST

START_TEST(index_bundle_tells_what_it_chose_from)
{
    struct fixture fx = fixture_defaults();
    char text[1024] = "";
    fixture_bundle(&fx, dir);
    FILE *f = fmemopen(text, sizeof text, "w");
    struct index_cfg cfg = { .type = INDEX_AUTO, .recall = 0.9f };
    ck_assert_int_eq(index_bundle(model, &cfg, f, NULL), 0);
    fclose(f);
    ck_assert_ptr_nonnull(strstr(text, " flat "));
    ck_assert_ptr_nonnull(strstr(text, " scan "));
    ck_assert_ptr_nonnull(strchr(text, '*'));
}
END_TEST

START_TEST(index_bundle_makes_the_same_bytes_again)
{
    struct fixture fx = fixture_defaults();
    struct index_cfg cfg = { .type = INDEX_HNSW, .recall = 0.5f };
    char hex[2][65], *path = xasprintf("%s/1/" BUNDLE_INDEX, model);
    uint64_t nb;
    fx.V = 300;
    fixture_bundle(&fx, dir);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(index_bundle(model, &cfg, NULL, NULL), 0);
        ck_assert_int_eq(bundle_sha256_file(hex[i], &nb, path, NULL), 0);
    }
    ck_assert_str_eq(hex[0], hex[1]);
    free(path);
}
END_TEST

START_TEST(index_bundle_refuses_what_is_no_version_directory)
{
    struct fixture fx = fixture_defaults();
    struct index_cfg cfg = { .type = INDEX_FLAT };
    struct err e = { 0 };
    fixture_bundle(&fx, dir);
    char *from = xasprintf("%s/1", model), *to = xasprintf("%s/somewhere", model);
    ck_assert_int_eq(rename(from, to), 0);
    ck_assert_int_eq(index_bundle(to, &cfg, NULL, &e), ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(e.msg, "is not MODEL/1"));
    e = (struct err){ 0 };
    ck_assert_int_eq(index_bundle(model, &cfg, NULL, &e), ERR_NOT_FOUND);
    free(from);
    free(to);
}
END_TEST

Suite *suite_index(void);
Suite *suite_index(void)
{
    Suite *s = suite_create("index");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, index_bundle_adds_an_index_to_the_same_version, 0,
                        (int)(sizeof wanted / sizeof wanted[0]));
    tcase_add_test(t, index_bundle_replaces_an_index_and_reports);
    tcase_add_test(t, index_bundle_tells_what_it_chose_from);
    tcase_add_test(t, index_bundle_makes_the_same_bytes_again);
    tcase_add_test(t, index_bundle_refuses_what_is_no_version_directory);
    suite_add_tcase(s, t);
    return s;
}
