#include "core/base/io.h"
#include "core/base/mem.h"
#include "models/rank_recipe.h"
#include "models/recipe.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

static struct recipe r;
static struct err e;
static char *dir;

static void set_up(void)
{
    recipe_defaults(&r);
    e = (struct err){ 0 };
    dir = fixture_tmpdir();
}

static void tear_down(void)
{
    recipe_free(&r);
    fixture_rmdir(dir);
    free(dir);
}

/* Loads text as the file r.ini. */
static int load(const char *text)
{
    char *path = xasprintf("%s/r.ini", dir);
    ck_assert_int_eq(io_write_atomic(path, text, strlen(text), &e), 0);
    int rc = recipe_load(&r, path, &e);
    free(path);
    return rc;
}

static int load_and_check(const char *text)
{
    int rc = load(text);
    r.model.n_items = 1000;
    return rc < 0 ? rc : recipe_check(&r, NULL, &e);
}

static const struct obj_use *used(const char *name)
{
    for (int i = 0; i < r.n_obj; i++)
        if (strcmp(r.obj[i].ops->name, name) == 0) return &r.obj[i];
    return NULL;
}

START_TEST(a_recipe_sets_model_loop_and_objectives)
{
    ck_assert_msg(
        load_and_check(
            "# K interests\n[model]\nwidth = 32\ninterests = 3\n\n[train]\nlr = 0.01\n"
            "layout = B\nseed = 9\n[next_item]\nweight = 2 ; twice\n"
            "[dssrec]\nlambda = 0.25\n") == 0,
        "%s", e.msg);
    ck_assert_int_eq(r.model.width, 32);
    ck_assert_int_eq(r.model.interests, 3);
    ck_assert_int_eq(r.model.layers, 2); /* the default */
    ck_assert(r.train.lr == 0.01f);
    ck_assert_int_eq(r.train.seed, 9);
    ck_assert_int_eq(r.n_obj, 2);
    ck_assert(used("next_item")->weight == 2);
    ck_assert(used("dssrec")->weight == 1);
    ck_assert(recipe_batches(&r).future);
}
END_TEST

START_TEST(a_section_without_keys_takes_the_objective_with_its_defaults)
{
    ck_assert_msg(load_and_check("[model]\n[train]\n[next_item]\n") == 0, "%s", e.msg);
    ck_assert_int_eq(r.n_obj, 1);
    ck_assert(used("next_item")->weight == 1);
    ck_assert(!recipe_batches(&r).future);
}
END_TEST

START_TEST(an_objective_named_twice_is_used_once)
{
    ck_assert_int_eq(
        load("[dssrec]\nweight = 3\n[model]\ninterests = 2\n[dssrec]\nlambda = 1\n"), 0);
    ck_assert_int_eq(r.n_obj, 1);
    ck_assert(used("dssrec")->weight == 3);
}
END_TEST

START_TEST(an_objective_of_weight_zero_is_left_out)
{
    /* it needs neither its model nor its data */
    ck_assert_msg(load_and_check("[next_item]\nweight = 1\n[dssrec]\nweight = 0\n") == 0, "%s",
                  e.msg);
    ck_assert(!recipe_batches(&r).future);
}
END_TEST

static const struct {
    const char *text, *msg;
} unreadable[] = {
    { "[model]\nwidht = 64\n",
      "/r.ini:2: [model]: unknown key 'widht'; did you mean 'width'?" },
    { "[model]\n\nlayers = 65\n", "/r.ini:3: [model]: layers = 65: must be from 0 to 64" },
    { "[train]\nlr = 0\n", "/r.ini:2: [train]: lr = 0: must be from 1e-09 to 10" },
    { "[train]\nlayout = D\n", "/r.ini:2: [train]: layout = D: must be one of A|B|C" },
    { "[train]\nstop_on = ndcg\n", "must be one of ndcg@10|" },
    { "[train]\nepochs = 1.5\n", "epochs = 1.5: expected a whole number" },
    { "[nextitem]\nweight = 1\n", "/r.ini:1: unknown section [nextitem]; there are model, "
                                  "train, stage NAME, next_item, dssrec" },
    { "[model]\nwidth = 8\n[objective]\n", "/r.ini:3: unknown section [objective]" },
    { "width = 64\n", "/r.ini:1: []: unknown section []" },
    { "[next_item]\nweigth = 1\n",
      "/r.ini:2: [next_item]: unknown key 'weigth'; did you mean 'weight'?" },
    { "[dssrec]\nlamda = 1\n",
      "/r.ini:2: [dssrec]: unknown key 'lamda'; did you mean 'lambda'?" },
    { "[dssrec]\nlambda = 1.01\n", "/r.ini:2: [dssrec]: lambda = 1.01: must be from 0 to 1" },
    { "[dssrec]\nweight = -1\n", "/r.ini:2: [dssrec]: weight = -1: must be from 0 to 1e+06" },
    { "[cl4srec]\ntemperature = 0\n", "[cl4srec]: temperature = 0: must be from 0.001" },
    { "[siamese]\ntemperature = 0\n", "[siamese]: temperature = 0: must be from 0.001" },
    { "[item_ssl]\ntemperature = 0\n", "[item_ssl]: temperature = 0: must be from 0.001" },
    { "[next_item]\ntemperature = 0\n", "[next_item]: temperature = 0: must be from 0.001" },
    { "[stage a]\nepochs = 2\n",
      "/r.ini:2: [stage a]: 'epochs': a stage's keys are section.key" },
    { "[stage a]\ntrain.epoch = 2\n",
      "/r.ini:2: [stage a]: [train]: unknown key 'epoch'; did you mean 'epochs'?" },
    { "[stage a]\nstage b.train.epochs = 2\n", "a stage within a stage" },
    { "[stage a b]\n", "unknown section [stage a b]" },
    { "[stage 1]\n[stage 2]\n[stage 3]\n[stage 4]\n[stage 5]\n[stage 6]\n[stage 7]\n[stage 8]\n"
      "[stage 9]\n",
      "[stage 9]: at most 8 stages" },
    { "[dssrec]\nweight\n", "/r.ini:2: expected [section], key = value or # comment" },
};

START_TEST(an_unreadable_recipe_is_named_with_file_and_line)
{
    int rc = load(unreadable[_i].text);
    ck_assert_msg(rc == ERR_CONFIG, "accepted: %s", unreadable[_i].text);
    ck_assert_msg(strstr(e.msg, unreadable[_i].msg), "'%s' is not in: %s", unreadable[_i].msg,
                  e.msg);
}
END_TEST

static const struct {
    const char *text, *msg;
} unfit[] = {
    { "[model]\nwidth = 64\n", "no objective: add a section such as [next_item]" },
    { "[next_item]\nweight = 0\n", "every objective has weight = 0" },
    { "[model]\nwidth = 10\nheads = 4\n[next_item]\n",
      "width = 10 is not a multiple of heads = 4" },
    { "[dssrec]\n", "dssrec: needs interests; set model.interests" },
    { "[model]\ninterests = 4\n[train]\nlayout = A\n[dssrec]\n",
      "dssrec: needs prefixes; set train.layout = B or C" },
    { "[model]\ninterests = 4\n[train]\nlayout = A\n[next_item]\n", "next_item: layout A" },
    { "[model]\ncausal = bidirectional\n[train]\nlayout = A\n[next_item]\n",
      "would see its targets" },
    { "[train]\nitem_update = touched\n[next_item]\n", "set next_item.loss = sampled" },
    { "[train]\nitem_update = touched\naccumulate = 2\n[next_item]\nloss = bce\n",
      "raise train.batch_size instead" },
    { "[next_item]\nloss = bpr\nlabel_smoothing = 0.1\n",
      "label_smoothing is for the softmax" },
    { "[next_item]\n[stage a]\nmodel.width = 32\n",
      "[stage a]: model.width = 32: the weights go from stage to stage" },
    { "[next_item]\nloss = bce\n[stage a]\ntrain.item_update = touched\n[stage b]\n",
      "[stage a]: train.item_update: all stages" },
    { "[next_item]\n[stage a]\n[stage b]\nnext_item.weight = 0\n",
      "[stage b]: nothing to train" },
    { "[model]\ninterests = 4\n[dssrec]\nseq2item = 0\nseq2seq = 0\n", "nothing to train" },
    { "[train]\nbatch_size = 8193\n[next_item]\n[cl4srec]\n", "16386 rows that are compared" },
    { "[train]\nbatch_size = 8193\n[next_item]\n[siamese]\n", "lower train.batch_size" },
    { "[next_item]\n[item_ssl]\n",
      "item_ssl: trains the item tower, which this model has not" },
    { "[next_item]\n[cl4srec]\ncrop_keep = 1\nmask = 0\nreorder = 0\n",
      "cl4srec: no operator is left" },
    { "[next_item]\n[mclrec]\ncrop_keep = 1\nmask = 0\nreorder = 0\n",
      "mclrec: no operator is left" },
    { "[next_item]\n[mclrec]\nlambda = 0\nbeta = 0\n", "lambda and beta are 0" },
    { "[s3rec]\naap = 0\nmip = 0\nmap = 0\nsp = 0\n", "aap, mip, map and sp are 0" },
    { "[model]\ninterests = 4\nactive_share = 0.3\n[dssrec]\n",
      "active_share = 0.3: with 4 interests" },
};

START_TEST(a_recipe_that_cannot_be_trained_says_what_to_change)
{
    int rc = load_and_check(unfit[_i].text);
    ck_assert_msg(rc == ERR_CONFIG, "accepted: %s", unfit[_i].text);
    ck_assert_msg(strstr(e.msg, unfit[_i].msg), "'%s' is not in: %s", unfit[_i].msg, e.msg);
}
END_TEST

START_TEST(what_needs_attributes_is_refused_without_any)
{
    struct dataset d;
    data_from_text(&d, dir, "u1 a b c d\nu2 b c d e\n");
    ck_assert_int_eq(load("[s3rec]\n"), 0);
    r.model.n_items = d.n_items;
    ck_assert_int_eq(recipe_check(&r, &d, &e), ERR_CONFIG);
    ck_assert_msg(strstr(e.msg, "has no attributes: prepare it with --items FILE"), "%s",
                  e.msg);
    e = (struct err){ 0 };
    ck_assert_int_eq(recipe_set(&r, "s3rec.aap=0", &e), 0);
    ck_assert_int_eq(recipe_set(&r, "s3rec.map=0", &e), 0);
    ck_assert_msg(recipe_check(&r, &d, &e) == 0, "%s", e.msg);
    dataset_close(&d);
}
END_TEST

START_TEST(a_stage_is_the_recipe_with_its_own_keys)
{
    struct recipe one;
    ck_assert_msg(
        load_and_check("[model]\ninterests = 2\n[train]\nlr = 0.01\nepochs = 7\n[next_item]\n"
                       "negatives = 9\n[stage first]\ntrain.lr = 0.5\ndssrec.weight = 2\n"
                       "next_item.weight = 0\nmodel.dropout = 0\n[stage second]\n") == 0,
        "%s", e.msg);
    ck_assert_int_eq(recipe_stages(&r), 2);
    recipe_stage(&one, &r, 0);
    ck_assert(one.train.lr == 0.5f && one.train.epochs == 7 && one.model.dropout == 0);
    ck_assert_int_eq(one.n_obj, 2);
    ck_assert(one.obj[0].weight == 0 && one.obj[1].weight == 2);
    ck_assert(recipe_batches(&one).future);
    recipe_free(&one);
    recipe_stage(&one, &r, 1);
    ck_assert(one.train.lr == 0.01f && one.model.dropout == 0.5f && one.n_obj == 1);
    ck_assert(!recipe_batches(&one).future);
    recipe_free(&one);
    json_t *o = recipe_json(&r), *again;
    recipe_free(&r);
    ck_assert_msg(recipe_from_json(&r, o, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(r.n_stages, 2);
    again = recipe_json(&r);
    ck_assert(json_equal(o, again));
    json_decref(o);
    json_decref(again);
}
END_TEST

START_TEST(a_missing_recipe_is_named)
{
    ck_assert_int_eq(recipe_load(&r, "/nonexistent.ini", &e), ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(e.msg, "/nonexistent.ini: No such file"));
}
END_TEST

/* ---- --set ---- */

START_TEST(set_takes_section_and_key_or_a_key_of_one_section)
{
    ck_assert_int_eq(load("[next_item]\n"), 0);
    static const char *const sets[] = {
        "model.width=128", "lr=0.5",  "train.batch-size=7", "weight=3", "dssrec.lambda=0.75",
        "stop_on=mrr@10",  "lambda=1"
    };
    for (int i = 0; i < 7; i++) ck_assert_msg(recipe_set(&r, sets[i], &e) == 0, "%s", e.msg);
    ck_assert_int_eq(r.model.width, 128);
    ck_assert(r.train.lr == 0.5f);
    ck_assert_int_eq(r.train.batch_size, 7);
    ck_assert_int_eq(r.train.stop_on, STOP_MRR10);
    ck_assert(used("next_item")->weight == 3);
    ck_assert(used("dssrec")->weight == 1); /* taken into use by its key */
}
END_TEST

static const struct {
    const char *set, *msg;
    int code;
} wrong_sets[] = {
    { "width", "--set width: expected key=value", ERR_USAGE },
    { "weight=2", "'weight' is in no section, or in several; write section.key=value",
      ERR_CONFIG },
    { "widht=2", "no section has 'widht'; did you mean 'width'?", ERR_CONFIG },
    { "=2", "--set =2", ERR_CONFIG },
    { "", "expected key=value", ERR_USAGE },
    { "model.widht=2",
      "--set model.widht=2: [model]: unknown key 'widht'; did you mean 'width'?", ERR_CONFIG },
    { "modle.width=2", "unknown section [modle]", ERR_CONFIG },
    { "model.width=", "[model]: width = : expected a whole number", ERR_CONFIG },
    { "train.lr=11", "lr = 11: must be from", ERR_CONFIG },
    { ".width=2", "unknown section []", ERR_CONFIG },
    { "stage B.train.lr=1", "--set stage B.train.lr=1: the recipe has no such stage",
      ERR_CONFIG },
};

START_TEST(a_wrong_set_is_repeated_in_the_message)
{
    ck_assert_int_eq(load("[next_item]\n[dssrec]\n[stage a]\n"), 0);
    ck_assert_int_eq(recipe_set(&r, wrong_sets[_i].set, &e), wrong_sets[_i].code);
    ck_assert_msg(strstr(e.msg, wrong_sets[_i].msg), "'%s' is not in: %s", wrong_sets[_i].msg,
                  e.msg);
    ck_assert_int_eq(r.n_stages, 1);
}
END_TEST

/* ---- as JSON ---- */

START_TEST(json_holds_all_that_set_needs_to_make_the_recipe_again)
{
    ck_assert_int_eq(
        load("[model]\ninterests = 3\ndropout = 0.95\n[train]\nlr = 1e-9\nbeta2=0.99999\n"
             "seed = 1000000000000000\n[next_item]\n[dssrec]\nweight = 0.1\n"),
        0);
    json_t *first = recipe_json(&r);
    recipe_free(&r);
    recipe_defaults(&r);
    const char *key;
    json_t *value;
    json_object_foreach (first, key, value) {
        char *set = xasprintf("%s=%s", key, json_string_value(value));
        ck_assert_msg(recipe_set(&r, set, &e) == 0, "%s", e.msg);
        free(set);
    }
    json_t *again = recipe_json(&r);
    ck_assert(json_equal(first, again));
    ck_assert_str_eq(json_string_value(json_object_get(first, "dssrec.weight")), "0.1");
    json_decref(first);
    json_decref(again);
}
END_TEST

/* ---- the recipes that come with it ---- */

START_TEST(every_recipe_of_the_repository_can_be_trained)
{
    glob_t g;
    ck_assert_msg(glob("models/recipes/*.ini", 0, NULL, &g) == 0,
                  "no recipes (tests run in the repository's root)");
    ck_assert_uint_ge(g.gl_pathc, 1);
    for (size_t i = 0; i < g.gl_pathc; i++) {
        if (strstr(g.gl_pathv[i], "rank")) { /* of `intent rank` */
            struct rank_recipe rank;
            rank_recipe_defaults(&rank);
            ck_assert_msg(rank_recipe_load(&rank, g.gl_pathv[i], &e) == 0, "%s", e.msg);
            ck_assert_msg(rank_recipe_check(&rank, &e) == 0, "%s", e.msg);
            rank_recipe_free(&rank);
            continue;
        }
        recipe_free(&r);
        recipe_defaults(&r);
        ck_assert_msg(recipe_load(&r, g.gl_pathv[i], &e) == 0, "%s", e.msg);
        r.model.n_items = 1000;
        ck_assert_msg(recipe_check(&r, NULL, &e) == 0, "%s: %s", g.gl_pathv[i], e.msg);
    }
    globfree(&g);
}
END_TEST

START_TEST(every_objective_is_documented_and_complete)
{
    for (int i = 0; i < obj_count; i++) {
        const struct obj_ops *o = obj_list[i];
        ck_assert(o->name && o->help && o->opts && o->loss);
        ck_assert_msg(!conf_find(o->opts, "weight"), "%s has a weight of its own", o->name);
        ck_assert_msg(strcmp(o->name, "model") != 0 && strcmp(o->name, "train") != 0,
                      "%s is taken", o->name);
        /* options are copied byte by byte from stage to stage */
        for (const struct opt *x = o->opts; x->key; x++) ck_assert_int_ne(x->type, OPT_T_STR);
        for (int j = 0; j < i; j++) ck_assert_str_ne(o->name, obj_list[j]->name);
    }
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

Suite *suite_recipe(void);
Suite *suite_recipe(void)
{
    Suite *s = suite_create("recipe");
    TCase *t = tcase_create("recipe");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_recipe_sets_model_loop_and_objectives);
    tcase_add_test(t, a_section_without_keys_takes_the_objective_with_its_defaults);
    tcase_add_test(t, an_objective_named_twice_is_used_once);
    tcase_add_test(t, an_objective_of_weight_zero_is_left_out);
    tcase_add_loop_test(t, an_unreadable_recipe_is_named_with_file_and_line, 0,
                        COUNT(unreadable));
    tcase_add_loop_test(t, a_recipe_that_cannot_be_trained_says_what_to_change, 0,
                        COUNT(unfit));
    tcase_add_test(t, what_needs_attributes_is_refused_without_any);
    tcase_add_test(t, a_stage_is_the_recipe_with_its_own_keys);
    tcase_add_test(t, a_missing_recipe_is_named);
    tcase_add_test(t, set_takes_section_and_key_or_a_key_of_one_section);
    tcase_add_loop_test(t, a_wrong_set_is_repeated_in_the_message, 0, COUNT(wrong_sets));
    tcase_add_test(t, json_holds_all_that_set_needs_to_make_the_recipe_again);
    tcase_add_test(t, every_recipe_of_the_repository_can_be_trained);
    tcase_add_test(t, every_objective_is_documented_and_complete);
    suite_add_tcase(s, t);
    return s;
}
