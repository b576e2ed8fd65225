#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/fmt/ckpt.h"
#include "core/fmt/safet.h"
#include "core/num/num.h"
#include "core/serve/gen.h"
#include "core/serve/load.h"
#include "models/cmd.h"
#include "models/foreign.h"
#include "tests/child.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The items of the checkpoints of tests/vectors/gen_torch_files.py, first seen in another order than that of their
 * numbers; rows 3 1 2 5 6 4 and c a f b e d. */
static const char s3rec_text[] = "u1 3 1 2 5\nu2 6 4 3 1 2\nu3 1 2 3\n";
static const char recbole_text[] = "user_id:token\titem_id:token\ttimestamp:"
                                   "float\nu1\tc\t5\nu2\ta\t9\nu1\tf\t2\nu2\tb\t1\nu1\te\t3\n"
                                   "u2\td\t4\nu1\ta\t7\nu2\tc\t3\n";

static char *dir;
static struct dataset d;
static struct err e;

static void use_data(const char *text) { data_from_text(&d, dir, text); }

static void set_up(void)
{
    num_init();
    dir = fixture_tmpdir();
    d = (struct dataset){ 0 };
    e = (struct err){ 0 };
}

static void tear_down(void)
{
    if (d.items) dataset_close(&d);
    fixture_rmdir(dir);
    free(dir);
}

static const char *in_vectors(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "tests/vectors/torch/%s", name);
    return path;
}

static int load(struct model **m, enum foreign from, const char *name, char *setting)
{
    return foreign_model(m, from, in_vectors(name), &setting, setting ? 1 : 0, d.items, NULL,
                         &e);
}

/* States of the items with these ids, against PyTorch's. */
static void same_states(const struct model *m, const char *const *id, int32_t n,
                        const char *name)
{
    struct safet *s;
    const struct model_cfg *c = model_config(m);
    int32_t row[8], pos[8], cu[2] = { 0, n };
    ck_assert_int_eq(safet_open(&s, in_vectors("states.safetensors"), &e), 0);
    const struct safet_tensor *want = safet_find(s, name);
    ck_assert(want && want->dtype == SAFET_F32 && want->n == (int64_t)n * c->width);
    for (int32_t i = 0; i < n; i++) row[i] = items_find(d.items, id[i], strlen(id[i]));
    seqpack_positions(pos, cu, 1, c->max_len, (enum pos_from)c->positions);
    struct arena *mem = arena_new("test", 1 << 16, 0);
    struct tape *tp = tape_new(mem, NULL);
    tape_begin(tp, 0, 0, false);
    struct seqpack sp = { .B = 1, .N = n, .cu = cu, .pos = pos };
    const struct ten *x = model_states(m, tp, &sp, row);
    const float *y = want->data;
    for (int64_t i = 0; i < want->n; i++)
        ck_assert_msg(fabsf(x->x[i] - y[i]) < 2e-6f, "%s[%d]: %g, %g expected", name, (int)i,
                      (double)x->x[i], (double)y[i]);
    tape_free(tp);
    arena_free(mem);
    safet_close(s);
}

static const char *const s3rec_history[] = { "2", "5", "1", "4" };

START_TEST(s3rec_states_are_pytorchs)
{
    struct model *m;
    use_data(s3rec_text);
    ck_assert_msg(load(&m, FOREIGN_S3REC, "s3rec.pt", NULL) == 0, "%s", e.msg);
    ck_assert_int_eq(model_config(m)->positions, POS_LAST);
    ck_assert_int_eq(model_config(m)->layers, 1);
    ck_assert_int_eq(model_config(m)->max_len, 5);
    same_states(m, s3rec_history, 4, "s3rec.causal");
    model_free(m);
    ck_assert_int_eq(load(&m, FOREIGN_S3REC, "s3rec.pt", (char[]){ "causal=bidirectional" }),
                     0);
    same_states(m, s3rec_history, 4, "s3rec.bidirectional");
    model_free(m);
}
END_TEST

START_TEST(recbole_states_are_pytorchs)
{
    static const char *const history[] = { "b", "c", "f", "d" }; /* numbers 4 1 3 6 */
    struct model *m;
    use_data(recbole_text);
    ck_assert_msg(load(&m, FOREIGN_RECBOLE, "recbole.pth", NULL) == 0, "%s", e.msg);
    ck_assert_int_eq(model_config(m)->positions, POS_FIRST);
    ck_assert_int_eq(model_config(m)->heads, 2);
    ck_assert(model_config(m)->dropout == 0.25f);
    same_states(m, history, 4, "recbole.causal");
    model_free(m);
}
END_TEST

static const struct {
    enum foreign from;
    int code;
    const char *text, *file;
    char *setting;
    const char *why;
} bad[] = {
    { FOREIGN_RECBOLE, ERR_FORMAT, recbole_text, "nan.pth", NULL,
      "tensor trm_encoder.layer.0.feed_forward.dense_2.weight: row 1, column 2 is NaN" },
    { FOREIGN_RECBOLE, ERR_INVALID, recbole_text, "shape.pth", NULL,
      "tensor trm_encoder.layer.0.multi_head_attention.key.bias: shape [9], [8] expected" },
    { FOREIGN_RECBOLE, ERR_INVALID, recbole_text, "more.pth", NULL,
      "tensor gate.weight is none of the encoder's" },
    { FOREIGN_RECBOLE, ERR_INVALID, recbole_text, "s3rec.pt", NULL,
      "tensor item_embedding.weight is missing" },
    { FOREIGN_S3REC, ERR_INVALID, s3rec_text, "recbole.pth", NULL,
      "tensor item_embeddings.weight is missing" },
    { FOREIGN_RECBOLE, ERR_FORMAT, s3rec_text, "code.pth", NULL, "key 'run': posix.system" },
    { FOREIGN_RECBOLE, ERR_INVALID, "u1 a b c\n", "recbole.pth", NULL,
      "tensor item_embedding.weight: 7 rows, 4 expected" },
    { FOREIGN_S3REC, ERR_INVALID, "u1 1 b 2\n", "s3rec.pt", NULL,
      "item 'b' of the data set is not one of its rows 1 to 6" },
    { FOREIGN_S3REC, ERR_INVALID, "u1 1 2 3 4 5 6 7 8\n", "s3rec.pt", NULL,
      "tensor item_embeddings.weight: 8 rows, at least 10 expected" },
    { FOREIGN_S3REC, ERR_INVALID, "u1 1 2 7\n", "s3rec.pt", NULL, "item '7' of the data set" },
    { FOREIGN_S3REC, ERR_CONFIG, s3rec_text, "s3rec.pt", (char[]){ "heads=3" },
      "width = 8 is not a multiple of heads = 3" },
    { FOREIGN_S3REC, ERR_USAGE, s3rec_text, "s3rec.pt", (char[]){ "model.width=16" },
      "the file's tensors have other shapes" },
    { FOREIGN_S3REC, ERR_USAGE, s3rec_text, "s3rec.pt", (char[]){ "head=2" }, "heads" },
    { FOREIGN_S3REC, ERR_NOT_FOUND, s3rec_text, "none.pt", NULL, "none.pt" },
};

START_TEST(foreign_weights_that_do_not_fit_are_refused)
{
    struct model *m;
    use_data(bad[_i].text);
    ck_assert_int_eq(load(&m, bad[_i].from, bad[_i].file, bad[_i].setting), bad[_i].code);
    ck_assert_msg(strstr(e.msg, bad[_i].why) != NULL, "said: %s\n not: %s", e.msg, bad[_i].why);
    ck_assert_ptr_nonnull(strstr(e.msg, bad[_i].file));
}
END_TEST

/* 64 blocks by their names alone must not take 64 blocks' memory. */
START_TEST(foreign_names_without_numbers_are_refused)
{
    enum { BLOCKS = 64 };
    static const float x[64 * 256];
    struct safet_tensor t[BLOCKS + 3] = {
        { .name = "item.weight", .rank = 2, .shape = { 6, 64 }, .data = x, .n = 6 * 64 },
        { .name = "pos.weight", .rank = 2, .shape = { 5, 64 }, .data = x, .n = 5 * 64 },
        { .name = "layers.0.ffn.up.weight",
          .rank = 2,
          .shape = { 64, 256 },
          .data = x,
          .n = 64 * 256 }
    };
    char name[BLOCKS][40], *path = xasprintf("%s/names.safetensors", dir);
    struct model *m;
    use_data(s3rec_text);
    for (int i = 0; i < BLOCKS; i++) {
        snprintf(name[i], sizeof name[i], "layers.%d.attn.qkv.weight", i);
        t[i + 3] = (struct safet_tensor){
            .name = name[i], .rank = 2, .shape = { 1, 1 }, .data = x, .n = 1
        };
    }
    ck_assert_int_eq(safet_write(path, t, BLOCKS + 3, NULL, &e), 0);
    ck_assert_int_eq(foreign_model(&m, FOREIGN_SAFETENSORS, path, NULL, 0, d.items, NULL, &e),
                     ERR_INVALID);
    ck_assert_msg(strstr(e.msg, "numbers, 6 items and 64 blocks of width 64 need 3146112"),
                  "%s", e.msg);
    free(path);
}
END_TEST

/* ---- the command ---- */

struct call {
    char **argv;
    int argc, code;
};

static void run_import(void *ctx)
{
    struct call *c = ctx;
    c->code = cmd_import(c->argc, c->argv);
}

START_TEST(import_writes_a_bundle_that_serves)
{
    struct gen *g;
    use_data(s3rec_text);
    char *data = xasprintf("%s/%s", dir, d.name), *out = xasprintf("%s/model", dir);
    char *argv[] = { (char[]){ "import" },
                     (char[]){ "--from" },
                     (char[]){ "s3rec" },
                     (char *)(uintptr_t)in_vectors("s3rec.pt"),
                     (char[]){ "--data" },
                     data,
                     (char[]){ "--out" },
                     out,
                     NULL };
    struct call c = { argv, 8, 1 };
    for (int version = 1; version <= 2; version++) {
        char *said = child_caught(run_import, &c);
        ck_assert_msg(c.code == 0, "%s", said);
        ck_assert_msg(strstr(said, "left out: attribute_embeddings.weight, aap_norm.bias\n") &&
                          strstr(said, "2 taken (--set heads=N)"),
                      "%s", said);
        free(said);
    }
    ck_assert_msg(gen_open(&g, out, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(gen_info(g)->version, 2);
    gen_unref(g);
    struct bundle b;
    ck_assert_int_eq(bundle_open(&b, out, true, &e), 0);
    ck_assert_str_eq(json_string_value(
                         json_object_get(json_object_get(b.manifest, "recipe"), "import.from")),
                     "s3rec");
    ck_assert_ptr_nonnull(json_object_get(
        json_object_get(json_object_get(b.manifest, "metrics"), "valid"), "hr@10"));
    bundle_close(&b);
    free(data);
    free(out);
}
END_TEST

START_TEST(import_of_a_bad_file_writes_nothing)
{
    use_data(recbole_text);
    char *data = xasprintf("%s/%s", dir, d.name), *out = xasprintf("%s/model", dir);
    char *argv[] = { (char[]){ "import" },
                     (char[]){ "--from=recbole" },
                     (char *)(uintptr_t)in_vectors("nan.pth"),
                     (char[]){ "--data" },
                     data,
                     (char[]){ "--out" },
                     out,
                     NULL };
    struct call c = { argv, 7, 0 };
    char *said = child_caught(run_import, &c);
    ck_assert_int_eq(c.code, 1);
    ck_assert_ptr_nonnull(strstr(said, "is NaN"));
    ck_assert(!io_exists(out));
    free(said);
    free(data);
    free(out);
}
END_TEST

Suite *suite_import(void);
Suite *suite_import(void)
{
    Suite *s = suite_create("import");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, s3rec_states_are_pytorchs);
    tcase_add_test(t, recbole_states_are_pytorchs);
    tcase_add_loop_test(t, foreign_weights_that_do_not_fit_are_refused, 0,
                        (int)(sizeof bad / sizeof bad[0]));
    tcase_add_test(t, foreign_names_without_numbers_are_refused);
    tcase_add_test(t, import_writes_a_bundle_that_serves);
    tcase_add_test(t, import_of_a_bad_file_writes_nothing);
    suite_add_tcase(s, t);
    return s;
}
