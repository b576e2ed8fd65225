#include "core/ad/tape.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/num/num.h"
#include "core/serve/gen.h"
#include "core/serve/load.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *dir;
static char at[512]; /* the version under test */

static void setup(void)
{
    num_init();
    dir = fixture_tmpdir();
    struct fixture fx = fixture_defaults();
    fixture_bundle(&fx, dir);
    snprintf(at, sizeof at, "%s/toy/1", dir);
}

static void teardown(void)
{
    fixture_rmdir(dir);
    free(dir);
}

static char *path_of(const char *file) { return xasprintf("%s/%s", at, file); }

static char *read_file(const char *file, size_t *nb)
{
    char *path = path_of(file), *data = NULL;
    struct err e = { 0 };
    ck_assert_msg(io_read_all(&data, nb, path, 1 << 24, &e) == 0, "%s", e.msg);
    free(path);
    return data;
}

static void write_file(const char *file, const void *data, size_t nb)
{
    char *path = path_of(file);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, nb, f), nb);
    ck_assert_int_eq(fclose(f), 0);
    free(path);
}

static json_t *read_manifest(void)
{
    char *path = path_of(BUNDLE_MANIFEST);
    json_t *m = json_load_file(path, 0, NULL);
    ck_assert_ptr_nonnull(m);
    free(path);
    return m;
}

static void write_manifest(json_t *m)
{
    char *path = path_of(BUNDLE_MANIFEST);
    ck_assert_int_eq(json_dump_file(m, path, JSON_INDENT(1)), 0);
    free(path);
    json_decref(m);
}

/* Makes hashes and sizes those of the files as they now are: what stands behind them is tested
 * then. */
static void reseal(void)
{
    json_t *m = read_manifest(), *file;
    const char *name;
    json_object_foreach (json_object_get(m, "files"), name, file) {
        char *path = path_of(name), hex[65];
        uint64_t nb;
        ck_assert_int_eq(bundle_sha256_file(hex, &nb, path, NULL), 0);
        json_object_set_new(file, "sha256", json_string(hex));
        json_object_set_new(file, "bytes", json_integer((json_int_t)nb));
        free(path);
    }
    write_manifest(m);
}

static void refused(const char *why)
{
    struct gen *g = NULL;
    struct err e = { 0 };
    int rc = gen_open(&g, at, &e);
    gen_unref(rc == 0 ? g : NULL);
    ck_assert_msg(rc < 0, "opened, although: %s", why);
    ck_assert_msg(strstr(e.msg, why) != NULL, "said: %s\nnot: %s", e.msg, why);
}

START_TEST(gen_opens_and_describes_a_bundle)
{
    struct gen *g;
    struct err e = { 0 };
    ck_assert_msg(gen_open(&g, at, &e) == 0, "%s", e.msg);
    const struct gen_info *info = gen_info(g);
    ck_assert_str_eq(info->name, "toy");
    ck_assert_int_eq(info->version, 1);
    ck_assert_str_eq(info->index_type, "flat");
    ck_assert_str_eq(info->recipe, "next_item");
    ck_assert_uint_eq(strlen(info->sha256), 64);
    ck_assert_int_eq(info->n_items, 40);
    ck_assert_int_eq(info->D, 16);
    ck_assert_int_eq(info->K, 4);
    ck_assert_int_eq(info->L, 8);
    ck_assert(info->recall == 1);
    ck_assert(info->load_ms > 0);
    ck_assert_int_eq(items_count(gen_items(g)), 40);
    ck_assert_int_eq(ann_count(gen_index(g)), 40);
    gen_unref(g);
    gen_unref(NULL);
}
END_TEST

START_TEST(gen_opens_every_shape_of_model)
{
    static const struct {
        int32_t V, K, D, L, layers;
        bool hnsw, titles;
    } shape[] = { { 1, 0, 2, 1, 0, false, false },
                  { 2, 1, 4, 1, 1, false, true },
                  { 90, 3, 24, 5, 2, true, false } };
    struct fixture fx = fixture_defaults();
    fx.version = 2;
    fx.V = shape[_i].V;
    fx.K = shape[_i].K;
    fx.D = shape[_i].D;
    fx.L = shape[_i].L;
    fx.layers = shape[_i].layers;
    fx.hnsw = shape[_i].hnsw;
    fx.titles = shape[_i].titles;
    fixture_bundle(&fx, dir);
    char *path = xasprintf("%s/toy", dir);
    struct gen *g;
    struct err e = { 0 };
    ck_assert_msg(gen_open(&g, path, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(gen_info(g)->version, 2);
    ck_assert_int_eq(gen_info(g)->K, fx.K ? fx.K : 1);
    gen_unref(g);
    free(path);
}
END_TEST

/* ---- every file: missing, cut, longer, one byte changed ---- */

static const char *const files[] = { BUNDLE_MANIFEST, BUNDLE_WEIGHTS, BUNDLE_ITEMS,
                                     BUNDLE_INDEX };
enum { N_FILES = 4 };

START_TEST(gen_refuses_a_missing_file)
{
    char *path = path_of(files[_i]);
    ck_assert_int_eq(unlink(path), 0);
    free(path);
    refused(_i == 0 ? "no bundle" : files[_i]);
}
END_TEST

START_TEST(gen_refuses_a_directory_in_place_of_a_file)
{
    char *path = path_of(files[_i]);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    free(path);
    refused("not a regular file");
}
END_TEST

START_TEST(gen_refuses_a_file_of_another_length)
{
    size_t nb;
    char *data = read_file(files[_i], &nb);
    for (int more = -1; more <= 1; more += 2) {
        write_file(files[_i], data,
                   more < 0 ? nb - 1 : nb + 1); /* io_read_all ends data with a zero byte */
        if (_i > 0) refused("bytes, the manifest says");
        if (_i == 0) refused("manifest.json: line");
    }
    write_file(files[_i], data, 0);
    refused(files[_i]);
    free(data);
}
END_TEST

START_TEST(gen_refuses_a_changed_byte_anywhere)
{
    size_t nb;
    char *data = read_file(files[_i], &nb);
    for (size_t i = 0; i < nb; i += nb / 50 + 1) {
        data[i] ^= 0x10;
        write_file(files[_i], data, nb);
        refused("sha256 is not the manifest's");
        data[i] ^= 0x10;
    }
    free(data);
}
END_TEST

/* The manifest has no hash of its own: a change is refused or harmless. */
START_TEST(gen_survives_a_changed_byte_of_the_manifest)
{
    size_t nb;
    char *data = read_file(BUNDLE_MANIFEST, &nb);
    for (size_t i = 0; i < nb; i++) {
        struct gen *g;
        data[i] ^= 0x05;
        write_file(BUNDLE_MANIFEST, data, nb);
        if (gen_open(&g, at, NULL) == 0) gen_unref(g);
        data[i] ^= 0x05;
    }
    free(data);
}
END_TEST

/* ---- behind the hashes ---- */

START_TEST(gen_refuses_a_resealed_file_cut_anywhere)
{
    size_t nb;
    char *data = read_file(files[_i], &nb);
    for (size_t cut = 0; cut < nb; cut += nb / 40 + 1) {
        write_file(files[_i], data, cut);
        reseal();
        refused(at);
    }
    free(data);
}
END_TEST

START_TEST(gen_survives_a_resealed_file_with_changed_bytes)
{
    size_t nb;
    char *data = read_file(files[_i], &nb);
    struct rng rng = rng_make(3, RNG_TEST);
    for (int trial = 0; trial < 200; trial++) {
        size_t i = rng_below(&rng, (uint32_t)nb);
        char kept = data[i];
        struct gen *g;
        data[i] = (char)rng_u64(&rng);
        write_file(files[_i], data, nb);
        reseal();
        if (gen_open(&g, at, NULL) == 0) gen_unref(g);
        data[i] = kept;
    }
    free(data);
}
END_TEST

/* A member of the manifest, or of its encoder, set to a JSON text or removed (NULL). */
static const struct {
    const char *object, *key, *json, *why;
} lies[] = {
    { NULL, "format", "2", "\"format\" is 2" },
    { NULL, "version", "2", "the directory is 1" },
    { NULL, "items", "41", "\"items\" is 41, items.bin has 40" },
    { NULL, "items", "39", "\"items\" is 39, items.bin has 40" },
    { NULL, "interests", "5", "\"interests\" is 5, the encoder has 4" },
    { NULL, "width", "32", "\"width\" is 32, the encoder has 16" },
    { NULL, "max_len", "9", "\"max_len\" is 9, the encoder has 8" },
    { NULL, "index", NULL, "\"index\" is missing" },
    { NULL, "metric", "\"cosine\"", "only \"inner_product\"" },
    { "encoder", "heads", NULL, "manifest.json: encoder: \"heads\" is missing" },
    { "encoder", "heads", "3", "width = 16 is not a multiple of heads = 3" },
    { "encoder", "heads", "\"2\"", "\"heads\" is not an integer" },
    { "encoder", "layers", "65", "layers = 65" },
    { "encoder", "layers", "64", "64 blocks of width 16 need" },
    { "encoder", "layers", "0", "is not one of the model's" },
    { "encoder", "max_len", "4096", "\"max_len\" is 8, the encoder has 4096" },
    { "encoder", "causal", "\"sideways\"", "causal" },
    { "encoder", "activation", "1", "\"activation\" is not a string" },
    { "encoder", "active_share", "0.9", "all could be inactive" },
    { "encoder", "new_idea", "1", "\"new_idea\" is not a known option" },
    { "index", "type", "\"hnsw32\"", "said to be \"hnsw32\", it is flat" },
    { "files", "index.faiss", NULL, "index.faiss is not among" },
    { "files", "items.bin", NULL, "\"files.items.bin\" is missing" },
    { "files", "extra.bin",
      "{\"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\","
      "\"bytes\":1}",
      "extra.bin: No such file" },
};

START_TEST(gen_refuses_a_manifest_that_lies)
{
    json_t *m = read_manifest(),
           *obj = lies[_i].object ? json_object_get(m, lies[_i].object) : m;
    json_object_del(obj, lies[_i].key);
    if (lies[_i].json)
        json_object_set_new(obj, lies[_i].key,
                            json_loads(lies[_i].json, JSON_DECODE_ANY, NULL));
    write_manifest(m);
    refused(lies[_i].why);
}
END_TEST

/* One file comes from a bundle that differs in one thing; hashes are right. */
static const struct {
    const char *file;
    int32_t V, K, D, L, layers;
    uint64_t seed;
    const char *why;
} swaps[] = {
    { BUNDLE_INDEX, 41, 4, 16, 8, 1, 1, "index" },
    { BUNDLE_INDEX, 40, 4, 32, 8, 1, 1, "index" },
    { BUNDLE_INDEX, 40, 4, 16, 8, 1, 2, "row 0 is not the model's item vector" },
    { BUNDLE_ITEMS, 41, 4, 16, 8, 1, 1, "\"items\" is 40, items.bin has 41" },
    { BUNDLE_WEIGHTS, 41, 4, 16, 8, 1, 1, "shape [41,16], [40,16] expected" },
    { BUNDLE_WEIGHTS, 40, 4, 32, 8, 1, 1, "expected" },
    { BUNDLE_WEIGHTS, 40, 5, 16, 8, 1, 1, "shape [5,16], [4,16] expected" },
    { BUNDLE_WEIGHTS, 40, 4, 16, 9, 1, 1, "shape [9,16], [8,16] expected" },
    { BUNDLE_WEIGHTS, 40, 4, 16, 8, 2, 1, "is not one of the model's" },
    { BUNDLE_WEIGHTS, 40, 0, 16, 8, 1, 1, "is missing" },
    { BUNDLE_WEIGHTS, 40, 4, 16, 8, 1, 2, "is not the model's item vector" },
};

START_TEST(gen_refuses_a_file_of_another_bundle)
{
    struct fixture fx = fixture_defaults();
    fx.name = "other";
    fx.V = swaps[_i].V;
    fx.K = swaps[_i].K;
    fx.D = swaps[_i].D;
    fx.L = swaps[_i].L;
    fx.layers = swaps[_i].layers;
    fx.seed = swaps[_i].seed;
    fixture_bundle(&fx, dir);
    char *from = xasprintf("%s/other/1/%s", dir, swaps[_i].file), *to = path_of(swaps[_i].file);
    ck_assert_int_eq(rename(from, to), 0);
    free(from);
    free(to);
    reseal();
    refused(swaps[_i].why);
}
END_TEST

START_TEST(gen_refuses_a_weight_that_is_not_finite)
{
    static const uint32_t bits[] = { 0x7fc00000u, 0x7f800000u, 0xff800000u };
    size_t nb;
    char *data = read_file(BUNDLE_WEIGHTS, &nb);
    memcpy(data + nb - sizeof bits[0], &bits[_i], sizeof bits[0]);
    write_file(BUNDLE_WEIGHTS, data, nb);
    reseal();
    refused(_i ? "is infinite" : "is NaN");
    free(data);
}
END_TEST

START_TEST(gen_refuses_weights_that_compute_nan)
{
    /* Finite weights whose products overflow. */
    size_t nb;
    char *data = read_file(BUNDLE_WEIGHTS, &nb);
    float huge = 3e38f;
    size_t header = 0;
    memcpy(&header, data, sizeof header);
    for (size_t i = 8 + header; i + sizeof huge <= nb; i += sizeof huge)
        memcpy(data + i, &huge, sizeof huge);
    write_file(BUNDLE_WEIGHTS, data, nb);
    reseal();
    struct gen *g;
    struct err e = { 0 };
    ck_assert_int_eq(gen_open(&g, at, &e), ERR_BAD_BUNDLE);
    free(data);
}
END_TEST

START_TEST(gen_refuses_a_bundle_without_an_index)
{
    struct fixture fx = fixture_defaults();
    fx.index = false;
    fixture_bundle(&fx, dir);
    refused("no index.faiss: run `intent index");
    struct bundle b;
    struct model *m;
    struct items *it;
    struct err e = { 0 };
    ck_assert_int_eq(bundle_open(&b, at, false, &e), 0);
    ck_assert_msg(load_model(&m, &it, &b, true, &e) == 0, "%s",
                  e.msg); /* it can still be evaluated */
    ck_assert_ptr_nonnull(model_items(m)->t.g);
    model_free(m);
    items_close(it);
    bundle_close(&b);
}
END_TEST

/* ---- shared by threads ---- */

static void *hold_and_release(void *arg)
{
    struct gen *g = arg;
    for (int i = 0; i < 1000; i++) gen_unref(gen_ref(g));
    gen_unref(g);
    return NULL;
}

START_TEST(gen_is_freed_with_its_last_user)
{
    struct gen *g;
    pthread_t thread[4];
    ck_assert_int_eq(gen_open(&g, at, NULL), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, hold_and_release, gen_ref(g)), 0);
    gen_unref(g);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
}
END_TEST

Suite *suite_gen(void);
Suite *suite_gen(void)
{
    Suite *s = suite_create("gen");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, gen_opens_and_describes_a_bundle);
    tcase_add_loop_test(t, gen_opens_every_shape_of_model, 0, 3);
    tcase_add_loop_test(t, gen_refuses_a_missing_file, 0, N_FILES);
    tcase_add_loop_test(t, gen_refuses_a_directory_in_place_of_a_file, 0, N_FILES);
    tcase_add_loop_test(t, gen_refuses_a_file_of_another_length, 0, N_FILES);
    tcase_add_loop_test(t, gen_refuses_a_changed_byte_anywhere, 1, N_FILES);
    tcase_add_test(t, gen_survives_a_changed_byte_of_the_manifest);
    tcase_add_loop_test(t, gen_refuses_a_resealed_file_cut_anywhere, 1, N_FILES);
    tcase_add_loop_test(t, gen_survives_a_resealed_file_with_changed_bytes, 1, N_FILES);
    tcase_add_loop_test(t, gen_refuses_a_manifest_that_lies, 0,
                        (int)(sizeof lies / sizeof lies[0]));
    tcase_add_loop_test(t, gen_refuses_a_file_of_another_bundle, 0,
                        (int)(sizeof swaps / sizeof swaps[0]));
    tcase_add_loop_test(t, gen_refuses_a_weight_that_is_not_finite, 0, 3);
    tcase_add_test(t, gen_refuses_weights_that_compute_nan);
    tcase_add_test(t, gen_refuses_a_bundle_without_an_index);
    tcase_add_test(t, gen_is_freed_with_its_last_user);
    suite_add_tcase(s, t);
    return s;
}
