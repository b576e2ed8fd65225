#include "core/fmt/manifest.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

#define SHA      "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""
#define FILE_ROW "{\"sha256\":" SHA ",\"bytes\":3}"

static const char good[] =
    "{\"format\":1,\"name\":\"ml\",\"version\":1,\"created\":\"2026-11-22T18:04:11Z\","
    "\"encoder\":{},"
    "\"metric\":\"inner_product\",\"items\":3,\"interests\":1,\"width\":4,\"max_len\":5,"
    "\"recipe\":{\"train.lr\":\"0.001\"},\"metrics\":{\"valid\":{\"hr@10\":0.5},\"test\":{"
    "\"n\":1},\"also\":[]},"
    "\"files\":{\"model.safetensors\":" FILE_ROW ",\"items.bin\":" FILE_ROW
    ",\"index.faiss\":" FILE_ROW "},"
    "\"index\":{\"type\":\"flat\",\"ef_search\":0,\"recall\":1},\"unheard_of\":[1,2]}";

/* The member at a dotted path is replaced by a JSON text, or removed. */
static const struct {
    const char *path, *json, *why;
} bad[] = {
    { "format", NULL, "\"format\" is missing" },
    { "format", "\"1\"", "\"format\" is not an integer" },
    { "format", "2", "\"format\" is 2, this program reads 1" },
    { "name", NULL, "\"name\" is missing" },
    { "name", "\"\"", "\"name\" is not a directory's name" },
    { "name", "\"a/b\"", "\"name\" is not a directory's name" },
    { "name", "1", "\"name\" is not a string" },
    { "version", "0", "\"version\" is 0" },
    { "version", "1.0", "\"version\" is not an integer" },
    { "created", NULL, "\"created\" is missing" },
    { "created", "\"yesterday\"", "\"created\" is not a time" },
    { "created", "\"2026-11-22T18:04:11+01:00\"", "\"created\" is not a time" },
    { "created", "\"2026-11-22T18:04:11Zx\"", "\"created\" is not a time" },
    { "kind", "1", "\"kind\" is neither" },
    { "kind", "\"ranking\"", "\"kind\" is neither" },
    { "kind", "\"rank\"", "\"ranker\" is missing" },
    { "encoder", NULL, "\"encoder\" is missing" },
    { "encoder", "[]", "\"encoder\" is not an object" },
    { "metric", "\"l2\"", "only \"inner_product\" is known" },
    { "metric", "null", "\"metric\" is not a string" },
    { "items", "0", "\"items\" is 0" },
    { "items", "268435457", "\"items\" is 268435457" },
    { "interests", "65", "\"interests\" is 65" },
    { "width", "-1", "\"width\" is -1" },
    { "max_len", "4097", "\"max_len\" is 4097" },
    { "recipe", "[]", "\"recipe\" is not an object" },
    { "recipe", "{\"a\":1}", "\"recipe.a\" is not a string" },
    { "metrics", NULL, "\"metrics\" is missing" },
    { "metrics", "{\"valid\":1}", "\"metrics.valid\" is not an object" },
    { "metrics", "{\"test\":{\"hr@10\":\"x\"}}", "\"metrics.test.hr@10\" is not a number" },
    { "files", NULL, "\"files\" is missing" },
    { "files", "[]", "\"files\" is not an object" },
    { "files", "{\"items.bin\":" FILE_ROW "}", "\"files.model.safetensors\" is missing" },
    { "files", "{\"model.safetensors\":" FILE_ROW "}", "\"files.items.bin\" is missing" },
    { "files", "{\"../x\":" FILE_ROW "}", "names \"../x\"" },
    { "files", "{\"a/b\":" FILE_ROW "}", "names \"a/b\"" },
    { "files", "{\"\":" FILE_ROW "}", "names \"\"" },
    { "files", "{\"manifest.json\":" FILE_ROW "}", "names \"manifest.json\"" },
    { "files", "{\"items.bin\":1}", "\"files.items.bin\" is not an object" },
    { "files", "{\"items.bin\":{\"sha256\":\"ab\",\"bytes\":1}}",
      "\"files.items.bin.sha256\" is not 64 hex" },
    { "files", "{\"items.bin\":{\"bytes\":1}}", "\"files.items.bin.sha256\"" },
    { "files", "{\"items.bin\":{\"sha256\":" SHA "}}",
      "\"files.items.bin.bytes\" is not a size" },
    { "files", "{\"items.bin\":{\"sha256\":" SHA ",\"bytes\":-1}}",
      "\"files.items.bin.bytes\" is not a size" },
    { "index", NULL, "\"index\" is missing" },
    { "index", "null", "\"index\" is not an object" },
    { "index", "{\"ef_search\":0,\"recall\":1}", "\"index.type\" is missing" },
    { "index", "{\"type\":\"flat\",\"recall\":1}", "\"index.ef_search\" is missing" },
    { "index", "{\"type\":\"flat\",\"ef_search\":-1,\"recall\":1}",
      "\"index.ef_search\" is -1" },
    { "index", "{\"type\":\"flat\",\"ef_search\":0,\"recall\":1.5}",
      "\"index.recall\" is 1.5" },
    { "index", "{\"type\":\"flat\",\"ef_search\":0,\"recall\":\"1\"}",
      "\"index.recall\" is not a number" },
};

START_TEST(manifest_accepts_a_complete_one_and_ignores_what_it_does_not_know)
{
    json_t *m;
    struct err e = { 0 };
    ck_assert_msg(manifest_parse(&m, good, strlen(good), &e) == 0, "%s", e.msg);
    json_object_del(m, "index");
    json_object_del(json_object_get(m, "files"), "index.faiss");
    ck_assert_int_eq(manifest_check(m, &e), 0);
    json_decref(m);
}
END_TEST

START_TEST(manifest_refuses_a_bad_member_by_name)
{
    json_t *m = json_loads(good, 0, NULL);
    struct err e = { 0 };
    json_object_del(m, bad[_i].path);
    if (bad[_i].json)
        json_object_set_new(m, bad[_i].path, json_loads(bad[_i].json, JSON_DECODE_ANY, NULL));
    ck_assert_int_eq(manifest_check(m, &e), ERR_BAD_BUNDLE);
    ck_assert_msg(strstr(e.msg, bad[_i].why) != NULL, "%s, not %s", e.msg, bad[_i].why);
    json_decref(m);
}
END_TEST

static const char good_rank[] =
    "{\"format\":1,\"kind\":\"rank\",\"name\":\"ads\",\"version\":1,"
    "\"created\":\"2026-11-22T18:04:11Z\",\"ranker\":{},\"schema\":{},\"columns\":{},\"items\":"
    "3,"
    "\"recipe\":{},\"metrics\":{},"
    "\"files\":{\"model.safetensors\":" FILE_ROW ",\"items.bin\":" FILE_ROW "}}";

START_TEST(manifest_of_a_rank_model_needs_other_members_and_has_no_index)
{
    static const char *const needed[] = { "ranker", "schema", "columns", "items", "files" };
    json_t *m;
    struct err e = { 0 };
    ck_assert_msg(manifest_parse(&m, good_rank, strlen(good_rank), &e) == 0, "%s", e.msg);
    ck_assert(manifest_is_rank(m));
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        json_t *cut = json_copy(m);
        json_object_del(cut, needed[i]);
        e = (struct err){ 0 };
        ck_assert_int_eq(manifest_check(cut, &e), ERR_BAD_BUNDLE);
        ck_assert_msg(strstr(e.msg, needed[i]), "%s", e.msg);
        json_decref(cut);
    }
    json_object_set_new(json_object_get(m, "files"), "index.faiss",
                        json_loads(FILE_ROW, 0, NULL));
    e = (struct err){ 0 };
    ck_assert_int_eq(manifest_check(m, &e), ERR_BAD_BUNDLE);
    ck_assert_msg(strstr(e.msg, "a rank model has not"), "%s", e.msg);
    /* and one that retrieves is not let off what it needs */
    json_object_del(json_object_get(m, "files"), "index.faiss");
    json_object_del(m, "kind");
    ck_assert(!manifest_is_rank(m));
    e = (struct err){ 0 };
    ck_assert_int_eq(manifest_check(m, &e), ERR_BAD_BUNDLE);
    ck_assert_msg(strstr(e.msg, "\"encoder\" is missing"), "%s", e.msg);
    json_decref(m);
}
END_TEST

START_TEST(manifest_refuses_an_index_without_its_file)
{
    json_t *m = json_loads(good, 0, NULL);
    struct err e = { 0 };
    json_object_del(json_object_get(m, "files"), "index.faiss");
    ck_assert_int_eq(manifest_check(m, &e), ERR_BAD_BUNDLE);
    ck_assert_ptr_nonnull(strstr(e.msg, "index.faiss is not among"));
    json_decref(m);
}
END_TEST

START_TEST(manifest_refuses_text_cut_anywhere)
{
    json_t *m;
    for (size_t cut = 0; cut < sizeof good - 1; cut++) {
        struct err e = { 0 };
        char *copy = malloc(cut ? cut : 1);
        memcpy(copy, good, cut);
        ck_assert_int_eq(manifest_parse(&m, copy, cut, &e), ERR_BAD_BUNDLE);
        ck_assert(e.msg[0] != '\0');
        free(copy);
    }
    ck_assert_int_eq(manifest_parse(&m, "[]", 2, NULL), ERR_BAD_BUNDLE);
    ck_assert_int_eq(manifest_parse(&m, "{\"a\":1,\"a\":1}", 13, NULL), ERR_BAD_BUNDLE);
}
END_TEST

Suite *suite_manifest(void);
Suite *suite_manifest(void)
{
    Suite *s = suite_create("manifest");
    TCase *t = tcase_create("all");
    tcase_add_test(t, manifest_accepts_a_complete_one_and_ignores_what_it_does_not_know);
    tcase_add_loop_test(t, manifest_refuses_a_bad_member_by_name, 0,
                        (int)(sizeof bad / sizeof bad[0]));
    tcase_add_test(t, manifest_of_a_rank_model_needs_other_members_and_has_no_index);
    tcase_add_test(t, manifest_refuses_an_index_without_its_file);
    tcase_add_test(t, manifest_refuses_text_cut_anywhere);
    suite_add_tcase(s, t);
    return s;
}
