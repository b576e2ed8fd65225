/* Rank models from a recipe and a table to a bundle and back. */
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "models/rank_synth.h"
#include "models/rank_train.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir, *csv;
static struct rank_recipe r;
static struct err e;

static void set_up(void)
{
    static const char *const smaller[] = {
        "hidden=16",
        "layers=1",
        "top_1=16",
        "top_2=0",
        "epochs=1",
        "batch_size=64",
        "valid_share=0.25",
        "max_len=8",
        "feature user_id.hash_buckets=50",
        "feature adgroup_id.hash_buckets=50",
        "feature campaign_id.hash_buckets=50",
        "feature customer.hash_buckets=50",
        "feature cate_id.hash_buckets=50",
        "feature brand.hash_buckets=50",
        "feature price.buckets=5",
    };
    struct rank_synth_stats st;
    num_init();
    e = (struct err){ 0 };
    dir = fixture_tmpdir();
    csv = xasprintf("%s/clicks.csv", dir);
    struct rank_synth a = { .out = csv,
                            .users = 40,
                            .rows = 800,
                            .items = 60,
                            .themes = 4,
                            .categories = 20,
                            .brands = 20,
                            .interests = 1,
                            .steps = 4,
                            .bias = -1,
                            .match = 3,
                            .user = 1,
                            .price = 0.5f,
                            .seed = 1 };
    ck_assert_msg(rank_synth(&a, &st, &e) == 0, "%s", e.msg);
    ck_assert_double_gt(st.best, st.without + 0.1);
    ck_assert_int_gt(st.empty, 0);
    rank_recipe_defaults(&r);
    ck_assert_msg(rank_recipe_load(&r, "models/recipes/rank.ini", &e) == 0,
                  "%s (tests run in the repository's root)", e.msg);
    for (size_t i = 0; i < sizeof smaller / sizeof *smaller; i++)
        ck_assert_msg(rank_recipe_set(&r, smaller[i], &e) == 0, "%s", e.msg);
    ck_assert_msg(rank_recipe_check(&r, &e) == 0, "%s", e.msg);
}

static void tear_down(void)
{
    rank_recipe_free(&r);
    fixture_rmdir(dir);
    free(dir);
    free(csv);
}

static char *sub(const char *name) { return xasprintf("%s/%s", dir, name); }

static struct rank_result train(const char *out, int threads)
{
    struct rank_result res;
    struct par *pool = threads ? par_new(threads) : NULL;
    struct rank_train_args a = {
        .data = csv, .out = out, .recipe = &r, .pool = pool, .quiet = true
    };
    ck_assert_msg(rank_train(&a, &res, &e) == 0, "%s", e.msg);
    par_free(pool);
    return res;
}

static struct rank_model *load(const char *path, struct bundle *b)
{
    struct rank_model *m;
    ck_assert_msg(bundle_open(b, path, true, &e) == 0, "%s", e.msg);
    ck_assert_msg(rank_model_load(&m, b, &e) == 0, "%s", e.msg);
    return m;
}

START_TEST(a_bundle_scores_as_the_trained_model_did)
{
    char *out = sub("m");
    struct rank_result res = train(out, 0);
    ck_assert_int_eq(res.version, 1);
    ck_assert_int_eq(res.valid.n, 200);
    struct bundle b;
    struct rank_model *m = load(out, &b);
    struct clicks c;
    struct clicks_opts o = { .label = "clk", .user = "user_id", .max_len = 8, .strict = true };
    ck_assert_msg(clicks_read(&c, &m->schema, csv, &o, &e) == 0, "%s", e.msg);
    float score[200];
    rank_scores(score, m->ranker, &m->schema, &c, 600, 800, NULL);
    struct rank_metrics again = rank_measure(score, &c, 600, 800);
    ck_assert_double_eq(again.auc, res.valid.auc);
    ck_assert_double_eq(again.gauc, res.valid.gauc);
    ck_assert_double_eq(again.log_loss, res.valid.log_loss);
    clicks_free(&c);
    rank_model_free(m);
    bundle_close(&b);
    free(out);
}
END_TEST

START_TEST(one_seed_gives_one_model_for_any_number_of_threads)
{
    char *one = sub("one"), *two = sub("two");
    ck_assert_msg(rank_recipe_set(&r, "l2_regularization=1e-4", &e) == 0, "%s", e.msg);
    ck_assert_msg(rank_recipe_set(&r, "embedding_regularization=1e-5", &e) == 0, "%s", e.msg);
    train(one, 0);
    train(two, 2);
    char hex[2][65],
        *file[2] = { sub("one/1/model.safetensors"), sub("two/1/model.safetensors") };
    for (int i = 0; i < 2; i++) {
        uint64_t nb;
        ck_assert_msg(bundle_sha256_file(hex[i], &nb, file[i], &e) == 0, "%s", e.msg);
        free(file[i]);
    }
    ck_assert_str_eq(hex[0], hex[1]);
    free(one);
    free(two);
}
END_TEST

START_TEST(the_catalogue_gives_what_the_table_had)
{
    char *out = sub("m");
    train(out, 0);
    struct bundle b;
    struct clicks c;
    struct rank_model *m = load(out, &b);
    struct clicks_opts o = { .label = "clk", .max_len = 8, .strict = true };
    ck_assert_msg(clicks_read(&c, &m->schema, csv, &o, &e) == 0, "%s", e.msg);
    const char *const names[] = { "adgroup_id", "campaign_id", "cate_id",
                                  "brand",      "customer",    "price" };
    int32_t id = schema_find(&m->schema, "adgroup_id", 10);
    ck_assert_int_eq(id, m->id_feature);
    ck_assert_int_eq(m->no_history, -1);
    ck_assert_ptr_null(m->row[schema_find(&m->schema, "pid", 3)]);
    /* the first impression is of the first item */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int32_t f = schema_find(&m->schema, names[i], strlen(names[i]));
        ck_assert_ptr_nonnull(m->row[f]);
        ck_assert_msg(m->row[f][0] == c.column[f].id[0], "%s: %d, %d in the table", names[i],
                      m->row[f][0], c.column[f].id[0]);
        ck_assert_int_gt(m->row[f][0], 0);
    }
    clicks_free(&c);
    rank_model_free(m);
    bundle_close(&b);
    free(out);
}
END_TEST

START_TEST(a_loss_that_is_no_number_stops_and_names_its_term)
{
    char *out = sub("m");
    struct rank_result res;
    struct rank_train_args a = { .data = csv, .out = out, .recipe = &r, .quiet = true };
    r.train.lr = 1e30f;
    r.train.epochs = 20;
    ck_assert_int_lt(rank_train(&a, &res, &e), 0);
    ck_assert_msg(strstr(e.msg, " is nan in step") || strstr(e.msg, " is inf in step") ||
                      strstr(e.msg, "is -nan in step"),
                  "%s", e.msg);
    ck_assert_int_eq(res.version, 0);
    free(out);
}
END_TEST

/* From the second epoch on the rate is 1e30: ten batches of 64 make an epoch. */
START_TEST(numbers_that_are_none_leave_what_the_epoch_before_had)
{
    char *out = sub("m"), *one = sub("one");
    train(one, 0);
    struct rank_result res;
    struct rank_train_args a = { .data = csv, .out = out, .recipe = &r, .quiet = true };
    r.train.epochs = 4;
    r.train.lr_steps = 10;
    r.train.lr_factor = 1e33f;
    ck_assert_int_lt(rank_train(&a, &res, &e), 0);
    ck_assert_msg(strstr(e.msg, "version 1 has the weights of epoch 1: "), "%s", e.msg);
    ck_assert_int_eq(res.version, 1);
    struct bundle b[2];
    struct rank_model *m[2] = { load(out, &b[0]), load(one, &b[1]) };
    const struct params *ps[2] = { ranker_params(m[0]->ranker), ranker_params(m[1]->ranker) };
    for (int32_t i = 0; i < params_count(ps[0]); i++) {
        const struct ten *x = &params_at(ps[0], i)->t, *y = &params_at(ps[1], i)->t;
        ck_assert_mem_eq(x->x, y->x, (size_t)x->rows * (size_t)x->cols * sizeof *x->x);
    }
    for (int i = 0; i < 2; i++) {
        rank_model_free(m[i]);
        bundle_close(&b[i]);
    }
    free(out);
    free(one);
}
END_TEST

static const struct {
    const char *set, *message;
    int code; /* of rank_recipe_set; 0: of the check */
} wrong[] = {
    { "learning_rate=1", "unknown key 'learning_rate'", ERR_CONFIG },
    { "rank.batchsize=1", "did you mean 'batch_size'", ERR_CONFIG },
    { "model.lr=1", "unknown section [model]", ERR_CONFIG },
    { "lr", "expected key=value", ERR_USAGE },
    { "crop_keep=2", "must be from 0 to 1", ERR_CONFIG },
    { "batch_size=8193", "a batch has 16386 rows that are compared", 0 },
    { "rank.temperature=0", "temperature = 0: must be from 0.001", ERR_CONFIG },
    { "group user.features=\xff", "features: the value is not UTF-8", ERR_CONFIG },
    { "label=\xff", "label: the value is not UTF-8", ERR_CONFIG },
    { "heads=3", "hidden = 16 is not a multiple of heads = 3", 0 },
    { "group user.features=nobody", "no [feature nobody]", 0 },
    { "group sequence.features=", "no feature is in the group of the sequence", 0 },
};

START_TEST(a_wrong_recipe_is_refused_by_name)
{
    int rc = rank_recipe_set(&r, wrong[_i].set, &e);
    ck_assert_int_eq(rc, wrong[_i].code);
    if (rc == 0) ck_assert_int_eq(rank_recipe_check(&r, &e), ERR_CONFIG);
    ck_assert_msg(strstr(e.msg, wrong[_i].message), "%s", e.msg);
}
END_TEST

/* A feature that is described and not used needs no boundaries, and its column none. */
START_TEST(a_number_that_no_group_lists_is_left_alone)
{
    char *out = sub("m");
    struct bundle b;
    ck_assert_msg(rank_recipe_set(&r, "group item.features=adgroup_id,cate_id,pid", &e) == 0 &&
                      rank_recipe_set(&r, "group sequence.features=tag_category_list", &e) == 0,
                  "%s", e.msg);
    ck_assert_msg(rank_recipe_check(&r, &e) == 0, "%s", e.msg);
    train(out, 0);
    struct rank_model *m = load(out, &b);
    ck_assert(schema_unfitted(&m->schema, schema_find(&m->schema, "price", 5)));
    rank_model_free(m);
    bundle_close(&b);
    free(out);
}
END_TEST

START_TEST(where_nothing_can_be_written_nothing_is_trained)
{
    struct rank_result res;
    struct rank_train_args a = { .data = "/nowhere", .out = csv, .recipe = &r, .quiet = true };
    ck_assert_int_lt(rank_train(&a, &res, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.msg, csv)); /* a file, and not what is to be read */
}
END_TEST

START_TEST(a_contrast_without_an_operator_is_refused)
{
    static const char *const off[] = { "crop_keep=1", "mask_rate=0", "reorder_rate=0" };
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(rank_recipe_check(&r, &e), 0);
        ck_assert_int_eq(rank_recipe_set(&r, off[i], &e), 0);
    }
    ck_assert_int_eq(rank_recipe_check(&r, &e), ERR_CONFIG);
    ck_assert_msg(strstr(e.msg, "[rank]: contrastive loss: no operator is left"), "%s", e.msg);
    ck_assert_int_eq(rank_recipe_set(&r, "contrast_weight=0", &e), 0);
    ck_assert_int_eq(rank_recipe_check(&r, &e), 0);
}
END_TEST

/* The manifest's schema is put through a change, and must be refused with a reason. */
static const struct {
    const char *path, *json, *message;
} damage[] = {
    { "schema", "{}", "are not both objects" },
    { "schema.features.brand", NULL, "no such feature" },
    { "schema.features.brand.hash_buckets", "70000000", "hash_buckets" },
    { "schema.features.brand.hash_buckets", "60000000", "the schema needs" },
    { "schema.features.brand.hash_buckets", "49", "shape" },
    { "schema.features.price.boundaries", "null", "price has no boundaries" },
    { "schema.groups.user", "\"brand\"", "brand is in [group" },
    { "schema.groups.item", "7", "is not a string" },
    { "ranker.hidden", "17", "heads" },
    { "ranker.hidden", NULL, "\"hidden\" is missing" },
    { "columns.item", NULL, "\"item\" is missing" },
    { "columns.item", "\"brand\"", "no field \"adgroup_id\"" },
    { "items", "3", "\"items\" is 3" },
};

static void change(json_t *o, const char *path, const char *json)
{
    char step[64];
    const char *dot;
    for (; (dot = strchr(path, '.')); path = dot + 1) {
        snprintf(step, sizeof step, "%.*s", (int)(dot - path), path);
        o = json_object_get(o, step);
        ck_assert_ptr_nonnull(o);
    }
    if (json)
        json_object_set_new(o, path, json_loads(json, JSON_DECODE_ANY, NULL));
    else
        json_object_del(o, path);
}

START_TEST(a_bundle_that_does_not_fit_together_is_refused)
{
    char *out = sub("m");
    train(out, 0);
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        struct bundle b;
        struct rank_model *m;
        e = (struct err){ 0 };
        ck_assert_msg(bundle_open(&b, out, true, &e) == 0, "%s", e.msg);
        change(b.manifest, damage[i].path, damage[i].json);
        ck_assert_msg(rank_model_load(&m, &b, &e) == ERR_BAD_BUNDLE, "%s = %s: %s",
                      damage[i].path, damage[i].json, e.msg);
        ck_assert_msg(strstr(e.msg, damage[i].message), "%s = %s: %s", damage[i].path,
                      damage[i].json, e.msg);
        bundle_close(&b);
    }
    free(out);
}
END_TEST

Suite *suite_rank_train(void);
Suite *suite_rank_train(void)
{
    Suite *s = suite_create("rank_train");
    TCase *t = tcase_create("rank_train");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_bundle_scores_as_the_trained_model_did);
    tcase_add_test(t, one_seed_gives_one_model_for_any_number_of_threads);
    tcase_add_test(t, the_catalogue_gives_what_the_table_had);
    tcase_add_test(t, a_loss_that_is_no_number_stops_and_names_its_term);
    tcase_add_test(t, numbers_that_are_none_leave_what_the_epoch_before_had);
    tcase_add_loop_test(t, a_wrong_recipe_is_refused_by_name, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(t, a_number_that_no_group_lists_is_left_alone);
    tcase_add_test(t, where_nothing_can_be_written_nothing_is_trained);
    tcase_add_test(t, a_contrast_without_an_operator_is_refused);
    tcase_add_test(t, a_bundle_that_does_not_fit_together_is_refused);
    suite_add_tcase(s, t);
    return s;
}
