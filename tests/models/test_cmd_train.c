/* `intent train` and `intent eval`: what they print, and their exit status. */
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "models/cmd.h"
#include "tests/child.h"
#include "tests/fixture_bundle.h"
#include "tests/models/fixture_train.h"
#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static char *dir, *data;

static void set_up(void)
{
    num_init();
    dir = fixture_tmpdir();
    data = learnable_data(dir, 40, 30, 1);
}

static void tear_down(void)
{
    fixture_rmdir(dir);
    free(dir);
    free(data);
}

struct call {
    int (*cmd)(int argc, char **argv);
    char *argv[24];
    int argc, status;
};

static void call(void *ctx)
{
    struct call *c = ctx;
    c->status = c->cmd(c->argc, c->argv);
}

/* Runs a subcommand with words up to NULL, the first of them its own name; all it printed. */
static char *run(int *status, int (*cmd)(int argc, char **argv), const char *const *words)
{
    struct call c = { .cmd = cmd };
    for (; words[c.argc]; c.argc++) c.argv[c.argc] = xstrdup(words[c.argc]);
    char *text = child_caught(call, &c);
    *status = c.status;
    for (int i = 0; i < c.argc; i++) free(c.argv[i]);
    return text;
}
#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Runs, and demands the status and a part of what was printed. */
static void expect(int (*cmd)(int argc, char **argv), const char *const *words, int status,
                   const char *part)
{
    int got;
    char *text = run(&got, cmd, words);
    ck_assert_msg(got == status, "status %d, not %d:\n%s", got, status, text);
    ck_assert_msg(strstr(text, part), "no '%s' in:\n%s", part, text);
    free(text);
}

START_TEST(train_says_what_it_needs)
{
    expect(cmd_train, WORDS("train"), 2, "intent train: --data, --recipe and --out are needed");
    expect(cmd_train, WORDS("train", "--data", "x", "--recipe", "y"), 2, "are needed");
    expect(cmd_train, WORDS("train", "--dat", "x"), 2, "did you mean 'data'?");
    expect(cmd_train, WORDS("train", "more"), 2, "unexpected argument 'more'");
    expect(cmd_train, WORDS("train", "--threads", "0x"), 2, "expected a whole number");
    expect(cmd_train, WORDS("train", "--data", "x", "--set"), 2, "--set needs a value");
}
END_TEST

START_TEST(train_help_lists_options_keys_and_objectives)
{
    int status;
    char *text = run(&status, cmd_train, WORDS("train", "--help"));
    static const char *const parts[] = { "usage: intent train",
                                         "--recipe TEXT",
                                         "--set [SECTION.]KEY=VALUE",
                                         "--max-len N",
                                         "--stop-on ndcg@10|",
                                         "[next_item] the next item",
                                         "--loss softmax|sampled|bce|gbce|bpr",
                                         "--resume",
                                         "[dssrec]",
                                         "--lambda X" };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg(strstr(text, parts[i]), "no '%s'", parts[i]);
    ck_assert_int_eq(status, 0);
    free(text);
}
END_TEST

START_TEST(a_recipe_with_an_error_fails_before_anything_is_written)
{
    struct job j = job_new(dir, data, "[next_item]\nweigth = 1\n");
    expect(cmd_train, WORDS("train", "--data", data, "--recipe", j.recipe, "--out", j.out), 1,
           ".ini:13: [next_item]: unknown key 'weigth'; did you mean 'weight'?");
    expect(cmd_train,
           WORDS("train", "--data", data, "--recipe", "/nonexistent.ini", "--out", j.out), 1,
           "/nonexistent.ini: No such file");
    ck_assert(!io_exists(j.out));
    job_free(&j);
}
END_TEST

START_TEST(a_wrong_set_is_wrong_usage)
{
    struct job j = job_new(dir, data, "[next_item]\n");
    expect(cmd_train,
           WORDS("train", "--data", data, "--recipe", j.recipe, "--out", j.out, "--set",
                 "train.lr=x"),
           2, "--set train.lr=x: [train]: lr = x: expected a number");
    expect(cmd_train,
           WORDS("train", "--data", data, "--recipe", j.recipe, "--out", j.out, "--set=width"),
           2, "--set width: expected key=value");
    job_free(&j);
}
END_TEST

static double number(const json_t *o, const char *a, const char *b)
{
    const json_t *x = json_object_get(o, a);
    if (b) x = json_object_get(x, b);
    ck_assert_msg(json_is_number(x), "no number %s %s", a, b ? b : "");
    return json_number_value(x);
}

/* eval --json with further words; its object. */
static json_t *evaluated(const char *const *words)
{
    int status;
    char *text = run(&status, cmd_eval, words);
    ck_assert_msg(status == 0, "%s", text);
    const char *from = strchr(text, '{'); /* talk on standard error comes first */
    ck_assert_ptr_nonnull(from);
    json_t *o = json_loads(from, JSON_DISABLE_EOF_CHECK, NULL);
    ck_assert_msg(o, "not JSON: %s", text);
    free(text);
    return o;
}

START_TEST(what_is_trained_can_be_measured)
{
    struct job j = job_new(dir, data, "epochs = 100\nvalid_seen = keep\n[next_item]\n");
    char *version = xasprintf("%s/1", j.out);
    /* the later --set wins, and both forms are read */
    expect(cmd_train,
           WORDS("train", "--data", data, "--recipe", j.recipe, "--out", j.out, "--set",
                 "epochs=50", "--set=epochs=2", "--threads=1", "--index", "flat"),
           0, version);
    double epoch[3];
    ck_assert_int_eq(job_log(&j, 1, "epoch", "epoch", epoch, 3), 2);

    char *path = xasprintf("%s/manifest.json", version), *text;
    size_t nb;
    ck_assert_int_eq(io_read_all(&text, &nb, path, 1 << 20, NULL), 0);
    json_t *manifest = json_loads(text, 0, NULL);
    ck_assert_str_eq(
        json_string_value(json_object_get(json_object_get(manifest, "recipe"), "train.epochs")),
        "2");

    /* the test metrics of the manifest (12 digits) are those of `intent eval`, for the version and for the model */
    const json_t *test = json_object_get(json_object_get(manifest, "metrics"), "test");
    const char *const bundles[] = { version, j.out };
    for (int i = 0; i < 2; i++) {
        json_t *o = evaluated(
            WORDS("eval", "--data", data, "--bundle", bundles[i], "--seen", "keep", "--json"));
        ck_assert_double_eq_tol(number(o, "metrics", "hr@10"), number(test, "hr@10", NULL),
                                1e-11);
        ck_assert_double_eq_tol(number(o, "metrics", "ndcg@20"), number(test, "ndcg@20", NULL),
                                1e-11);
        ck_assert(number(o, "users", NULL) == 40);
        ck_assert_uint_eq(
            json_array_size(json_object_get(json_object_get(o, "interests"), "share")), 2);
        json_decref(o);
    }
    expect(cmd_eval, WORDS("eval", "--data", data, "--bundle", j.out, "--split", "valid"), 0,
           "validation answer, history masked, 40 users");
    json_decref(manifest);
    free(text);
    free(path);
    free(version);
    job_free(&j);
}
END_TEST

START_TEST(baselines_are_measured_the_same_way)
{
    static const char *const names[] = { "pop", "markov", "itemcf", "history" };
    for (int i = 0; i < 4; i++) {
        json_t *o = evaluated(
            WORDS("eval", "--data", data, "--baseline", names[i], "--seen=keep", "--json"));
        ck_assert_str_eq(json_string_value(json_object_get(o, "model")), names[i]);
        ck_assert(number(o, "metrics", "hr@100") > 0);
        ck_assert(json_is_null(json_object_get(o, "interests")));
        json_decref(o);
    }
    expect(cmd_eval, WORDS("eval", "--data", data, "--baseline", "random"), 2,
           "baseline = random: must be one of pop|markov|itemcf|history");
}
END_TEST

START_TEST(eval_says_what_it_needs)
{
    expect(cmd_eval, WORDS("eval"), 2, "--data is needed");
    expect(cmd_eval, WORDS("eval", "--data", data), 2,
           "one of --bundle and --baseline is needed");
    expect(cmd_eval, WORDS("eval", "--data", data, "--bundle", "x", "--baseline", "pop"), 2,
           "one of --bundle");
    expect(cmd_eval, WORDS("eval", "--help"), 0, "usage: intent eval");
    expect(cmd_eval, WORDS("eval", "--data", "/nonexistent", "--baseline", "pop"), 1,
           "/nonexistent");
    expect(cmd_eval, WORDS("eval", "--data", data, "--bundle", "/nonexistent"), 1,
           "/nonexistent");
}
END_TEST

START_TEST(a_bundle_of_other_items_is_refused)
{
    struct fixture fx = fixture_defaults();
    fixture_bundle(&fx, dir);
    char *toy = xasprintf("%s/toy", dir);
    expect(cmd_eval, WORDS("eval", "--data", data, "--bundle", toy), 1,
           "the bundle has 40 items and the data set 30: it was trained on other data");
    fx.V = 30; /* as many, of other names */
    fx.version = 2;
    fixture_bundle(&fx, dir);
    expect(cmd_eval, WORDS("eval", "--data", data, "--bundle", toy), 1,
           "it was trained on other data");
    free(toy);
}
END_TEST

START_TEST(an_index_without_any_recall_is_wrong_usage)
{
    expect(cmd_index, WORDS("index", "--bundle", "x", "--recall", "0"), 2, "recall = 0");
}
END_TEST

Suite *suite_cmd_train(void);
Suite *suite_cmd_train(void)
{
    Suite *s = suite_create("cmd_train");
    TCase *t = tcase_create("cmd_train");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, train_says_what_it_needs);
    tcase_add_test(t, train_help_lists_options_keys_and_objectives);
    tcase_add_test(t, a_recipe_with_an_error_fails_before_anything_is_written);
    tcase_add_test(t, a_wrong_set_is_wrong_usage);
    tcase_add_test(t, what_is_trained_can_be_measured);
    tcase_add_test(t, baselines_are_measured_the_same_way);
    tcase_add_test(t, eval_says_what_it_needs);
    tcase_add_test(t, a_bundle_of_other_items_is_refused);
    tcase_add_test(t, an_index_without_any_recall_is_wrong_usage);
    suite_add_tcase(s, t);
    return s;
}
