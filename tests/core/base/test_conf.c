#include "core/base/conf.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "tests/child.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

struct cfg {
    bool quiet;
    int32_t batch_size;
    int64_t seed;
    float lr;
    char *out, *name;
    int32_t seen;
};

static const struct opt opts[] = {
    OPT_BOOL(struct cfg, quiet, "false", "no progress"),
    OPT_INT(struct cfg, batch_size, "256", 1, 65536, "rows of a step"),
    OPT_I64(struct cfg, seed, "1", -10, 1e15, "initial weights"),
    OPT_FLOAT(struct cfg, lr, "0.001", 1e-9, 10, "learning rate"),
    OPT_STR(struct cfg, out, NULL, "model directory"),
    OPT_STR(struct cfg, name, "beauty", "name"),
    OPT_CHOICE(struct cfg, seen, "keep", "mask|keep|zero", "history at test time"),
    OPT_END
};

static struct cfg c;
static struct err e;
static char *dir;

static void set_up(void)
{
    memset(&c, 0xa5, sizeof c);
    e = (struct err){ 0 };
    conf_defaults(opts, &c);
}
static void tear_down(void) { conf_free(opts, &c); }

START_TEST(defaults_come_from_the_table)
{
    ck_assert(!c.quiet);
    ck_assert_int_eq(c.batch_size, 256);
    ck_assert_int_eq(c.seed, 1);
    ck_assert(c.lr == 0.001f);
    ck_assert_ptr_null(c.out);
    ck_assert_str_eq(c.name, "beauty");
    ck_assert_int_eq(c.seen, 1);
}
END_TEST

START_TEST(without_a_default_values_are_zero)
{
    const struct opt bare[] = { OPT_BOOL(struct cfg, quiet, NULL, ""),
                                OPT_INT(struct cfg, batch_size, NULL, 0, 5, ""),
                                OPT_I64(struct cfg, seed, NULL, 0, 5, ""),
                                OPT_FLOAT(struct cfg, lr, NULL, 0, 5, ""), OPT_END };
    struct cfg z = { .quiet = true, .batch_size = 3, .seed = 3, .lr = 3 };
    conf_defaults(bare, &z);
    ck_assert(!z.quiet && z.batch_size == 0 && z.seed == 0 && z.lr == 0);
}
END_TEST

static void defaults_out_of_range(void *ctx)
{
    const struct opt bad[] = { OPT_INT(struct cfg, batch_size, "0", 1, 5, ""), OPT_END };
    conf_defaults(bad, ctx);
}

START_TEST(a_default_that_its_own_check_refuses_is_a_bug)
{
    child_must_abort(defaults_out_of_range, &c,
                     "default of batch_size: batch_size = 0: must be from 1 to 5");
}
END_TEST

static const struct {
    const char *key, *value, *back; /* back: as conf_get gives it */
} good[] = {
    { "quiet", "true", "true" },
    { "quiet", "yes", "true" },
    { "quiet", "on", "true" },
    { "quiet", "1", "true" },
    { "quiet", "no", "false" },
    { "quiet", "off", "false" },
    { "quiet", "0", "false" },
    { "batch_size", "1", "1" },
    { "batch-size", "65536", "65536" },
    { "batch_size", "+7", "7" },
    { "seed", "-10", "-10" },
    { "seed", "1000000000000000", "1000000000000000" },
    { "lr", "1e-9", "1e-09" },
    { "lr", "10", "10" },
    { "lr", ".5", "0.5" },
    { "out", "", "" },
    { "out", "a b=c", "a b=c" },
    { "seen", "mask", "mask" },
    { "seen", "zero", "zero" },
};

START_TEST(values_are_read_and_given_back)
{
    char text[64];
    const struct opt *o = conf_find(opts, good[_i].key);
    ck_assert_ptr_nonnull(o);
    ck_assert_msg(conf_set(opts, &c, good[_i].key, good[_i].value, &e) == 0, "%s", e.msg);
    conf_get(o, &c, text, sizeof text);
    ck_assert_str_eq(text, good[_i].back);
    ck_assert_int_eq(conf_set(opts, &c, good[_i].key, text, &e), 0); /* and is read again */
    char again[64];
    conf_get(o, &c, again, sizeof again);
    ck_assert_str_eq(again, text);
}
END_TEST

static const struct {
    const char *key, *value, *msg;
} bad[] = {
    { "quiet", "maybe", "quiet = maybe: expected true or false" },
    { "quiet", "", "quiet = : expected true or false" },
    { "batch_size", "0", "batch_size = 0: must be from 1 to 65536" },
    { "batch_size", "65537", "must be from 1 to 65536" },
    { "batch_size", "99999999999999999999", "expected a whole number" },
    { "batch_size", "1.5", "expected a whole number" },
    { "batch_size", "ten", "expected a whole number" },
    { "batch_size", "", "expected a whole number" },
    { "batch_size", "7 ", "expected a whole number" },
    { "seed", "-11", "must be from -10 to 1e+15" },
    { "lr", "0", "must be from 1e-09 to 10" },
    { "lr", "nan", "expected a number" },
    { "lr", "inf", "expected a number" },
    { "lr", "0.1x", "expected a number" },
    { "seen", "masked", "seen = masked: must be one of mask|keep|zero" },
    { "seen", "mas", "must be one of" },
    { "seen", "", "must be one of" },
    { "seen", "mask|keep", "must be one of" },
    { "batchsize", "1", "unknown key 'batchsize'; did you mean 'batch_size'?" },
    { "sed", "1", "did you mean 'seed'?" },
    { "warmup_epochs", "1", "unknown key 'warmup_epochs'" },
    { "", "1", "unknown key ''" },
};

/* Every option as text. */
static void all_of(char *out, size_t n)
{
    size_t at = 0;
    for (const struct opt *o = opts; o->key; o++) {
        char text[64];
        conf_get(o, &c, text, sizeof text);
        at += (size_t)snprintf(out + at, n - at, "%s=%s\n", o->key, text);
    }
}

START_TEST(a_refused_value_changes_nothing_and_says_why)
{
    char before[512], after[512];
    all_of(before, sizeof before);
    ck_assert_int_eq(conf_set(opts, &c, bad[_i].key, bad[_i].value, &e), ERR_CONFIG);
    ck_assert_msg(strstr(e.msg, bad[_i].msg), "'%s' is not in: %s", bad[_i].msg, e.msg);
    ck_assert_int_eq(conf_set(opts, &c, bad[_i].key, bad[_i].value, NULL), ERR_CONFIG);
    all_of(after, sizeof after);
    ck_assert_str_eq(before, after);
}
END_TEST

START_TEST(the_nearest_key_is_near)
{
    ck_assert_str_eq(conf_nearest(opts, "lrr"), "lr");
    ck_assert_str_eq(conf_nearest(opts, "qiet"), "quiet");
    ck_assert_str_eq(conf_nearest(opts, "batch-sise"), "batch_size");
    ck_assert_ptr_null(conf_nearest(opts, "temperature"));
    char endless[5000];
    memset(endless, 'k', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    (void)conf_nearest(opts, endless);
}
END_TEST

START_TEST(a_string_is_replaced_and_freed)
{
    ck_assert_int_eq(conf_set(opts, &c, "name", "sports", &e), 0);
    ck_assert_int_eq(conf_set(opts, &c, "name", "yelp", &e), 0);
    ck_assert_str_eq(c.name, "yelp");
    conf_free(opts, &c);
    ck_assert_ptr_null(c.name);
}
END_TEST

START_TEST(get_cuts_at_the_buffer)
{
    char text[4];
    ck_assert_int_eq(conf_set(opts, &c, "name", "a long name", &e), 0);
    conf_get(conf_find(opts, "name"), &c, text, sizeof text);
    ck_assert_str_eq(text, "a l");
}
END_TEST

/* ---- command line ---- */

static int parse(const char *const *argv, char **pos, int *n_pos)
{
    char *copy[16]; /* conf_args keeps pointers to positional arguments, but writes to none */
    int argc = 0;
    for (; argv[argc]; argc++) copy[argc] = (char *)(uintptr_t)argv[argc];
    return conf_args(opts, &c, argc, copy, pos, n_pos, &e);
}
#define ARGS(...) ((const char *const[]){ "intent", __VA_ARGS__, NULL })

START_TEST(flags_have_four_forms_and_the_rest_is_positional)
{
    char *pos[16];
    int n;
    ck_assert_int_eq(parse(ARGS("a", "--batch-size", "8", "--lr=0.5", "b", "--quiet", "--seed",
                                "-3", "-", "--seen=zero", "--", "--out", "-x"),
                           pos, &n),
                     0);
    ck_assert_int_eq(c.batch_size, 8);
    ck_assert(c.lr == 0.5f && c.quiet);
    ck_assert_int_eq(c.seed, -3);
    ck_assert_int_eq(c.seen, 2);
    ck_assert_ptr_null(c.out);
    static const char *const want[] = { "a", "b", "-", "--out", "-x" };
    ck_assert_int_eq(n, 5);
    for (int i = 0; i < n; i++) ck_assert_str_eq(pos[i], want[i]);
    ck_assert_int_eq(parse(ARGS("--no-quiet", "--batch_size=9"), pos, &n), 0);
    ck_assert(!c.quiet && c.batch_size == 9 && n == 0);
    ck_assert_int_eq(parse(ARGS("--quiet=on", "--out="), pos, &n), 0);
    ck_assert(c.quiet);
    ck_assert_str_eq(c.out, "");
}
END_TEST

START_TEST(help_stops_reading)
{
    char *pos[8];
    int n;
    ck_assert_int_eq(parse(ARGS("--help", "--wrong"), pos, &n), 1);
    ck_assert_int_eq(parse(ARGS("-h"), pos, &n), 1);
    ck_assert_int_eq(parse(ARGS("--", "-h"), pos, &n), 0);
    ck_assert_int_eq(n, 1);
}
END_TEST

static const struct {
    const char *arg[3], *msg;
} usage[] = {
    { { "--batchsize", "8" },
      "--batchsize: unknown key 'batchsize'; did you mean 'batch_size'?" },
    { { "--batch-size" }, "--batch-size needs a value" },
    { { "--batch-size", "many" }, "--batch-size: batch_size = many: expected a whole number" },
    { { "--no-batch-size" }, "unknown key 'no-batch-size'" },
    { { "--quiet=perhaps" }, "--quiet: quiet = perhaps: expected true or false" },
    { { "-q" }, "unknown option -q" },
    { { "--aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggg=1" },
      "unknown option --aaaa" },
};

START_TEST(wrong_usage_is_named)
{
    const char *const argv[] = { "intent", usage[_i].arg[0], usage[_i].arg[1], usage[_i].arg[2],
                                 NULL };
    char *pos[8];
    int n;
    ck_assert_int_eq(parse(argv, pos, &n), ERR_USAGE);
    ck_assert_int_eq(e.code, ERR_USAGE);
    ck_assert_msg(strstr(e.msg, usage[_i].msg), "'%s' is not in: %s", usage[_i].msg, e.msg);
}
END_TEST

/* ---- environment ---- */

START_TEST(the_environment_sets_keys_in_upper_case)
{
    setenv("TEST_CONF_BATCH_SIZE", "12", 1);
    setenv("TEST_CONF_OUT", "here", 1);
    int rc = conf_env(opts, &c, "TEST_CONF", &e);
    setenv("TEST_CONF_BATCH_SIZE", "", 1); /* as if not set */
    setenv("TEST_CONF_OUT", "", 1);
    int rc1 = conf_env(opts, &c, "TEST_CONF", &e);
    setenv("TEST_CONF_LR", "fast", 1);
    int rc2 = conf_env(opts, &c, "TEST_CONF", &e);
    unsetenv("TEST_CONF_BATCH_SIZE");
    unsetenv("TEST_CONF_OUT");
    unsetenv("TEST_CONF_LR");
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(rc1, 0);
    ck_assert_int_eq(c.batch_size, 12);
    ck_assert_str_eq(c.out, "here");
    ck_assert_int_eq(rc2, ERR_CONFIG);
    ck_assert_str_eq(e.msg, "environment TEST_CONF_LR: lr = fast: expected a number");
}
END_TEST

/* ---- INI files ---- */

static void ini_set_up(void)
{
    set_up();
    dir = fixture_tmpdir();
}
static void ini_tear_down(void)
{
    fixture_rmdir(dir);
    free(dir);
    tear_down();
}

static char seen_sections[256];

static int on_pair(void *ctx, const char *section, const char *key, const char *value, int line,
                   struct err *er)
{
    size_t at = strlen(seen_sections);
    snprintf(seen_sections + at, sizeof seen_sections - at, "%s%s%s@%d ", section,
             key ? "." : "", key ? key : "", line);
    if (key) return conf_set(opts, ctx, key, value, er);
    return strcmp(section, "bad") == 0 ? err_set(er, ERR_CONFIG, "no such section") : 0;
}

/* Reads text as a file named t.ini. */
static int read_ini(const char *text, size_t nb)
{
    char *path = xasprintf("%s/t.ini", dir);
    ck_assert_int_eq(io_write_atomic(path, text, nb, &e), 0);
    seen_sections[0] = '\0';
    int rc = conf_ini(path, on_pair, &c, &e);
    free(path);
    return rc;
}
static int read_text(const char *text) { return read_ini(text, strlen(text)); }

START_TEST(an_ini_file_gives_sections_keys_values_and_lines)
{
    ck_assert_msg(
        read_text("# a comment\n\n[train]\nbatch_size = 32 ; why\n  \nlr=0.25\r\n[other]\n"
                  "; more\nname = two words  \nout:x") == 0,
        "%s", e.msg);
    ck_assert_int_eq(c.batch_size, 32);
    ck_assert(c.lr == 0.25f);
    ck_assert_str_eq(c.name, "two words");
    ck_assert_str_eq(c.out, "x");
    ck_assert_str_eq(
        seen_sections,
        "train@3 train.batch_size@4 train.lr@6 other@7 other.name@9 other.out@10 ");
}
END_TEST

START_TEST(a_key_before_any_section_has_an_empty_one)
{
    ck_assert_int_eq(read_text("\xef\xbb\xbfseed = 4\n"), 0); /* with a byte order mark */
    ck_assert_str_eq(seen_sections, ".seed@1 ");
}
END_TEST

START_TEST(an_empty_ini_file_sets_nothing)
{
    ck_assert_int_eq(read_text(""), 0);
    ck_assert_int_eq(read_text("\n\n# only\n"), 0);
    ck_assert_str_eq(seen_sections, "");
}
END_TEST

static const struct {
    const char *text, *msg;
} broken[] = {
    { "[a]\nlr = 1\n\nseed = x\nlr = y\n",
      "t.ini:4: seed = x: expected a whole number" }, /* the first one */
    { "[a]\nbatchsize = 8\n", "t.ini:2: unknown key 'batchsize'; did you mean 'batch_size'?" },
    { "[a]\n\nnot a pair\n", "t.ini:3: expected [section], key = value or # comment" },
    { "[a\nlr = 1\n", "t.ini:1: expected [section]" },
    { "[a]\n[bad] ; empty\n[b]\n", "t.ini:2: no such section" },
    { "\xef\xbb\xbf[bad]\n", "t.ini:1: no such section" },
    { "[a]\nlr = 1\n  2 more\n",
      "t.ini:3: begins with a blank" }, /* a continued value, to inih */
    { "[a]\nlr = 1\n\tseed = 2\n", "t.ini:3: begins with a blank" },
};

START_TEST(a_broken_ini_file_is_named_with_its_line)
{
    ck_assert_int_eq(read_text(broken[_i].text), ERR_CONFIG);
    ck_assert_msg(strstr(e.msg, broken[_i].msg), "'%s' is not in: %s", broken[_i].msg, e.msg);
}
END_TEST

START_TEST(a_long_comment_is_a_comment)
{
    char text[4000];
    size_t at = (size_t)snprintf(text, sizeof text, "[a]\n# ");
    for (int i = 0; i < 300; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "lr = 9 ");
    snprintf(text + at, sizeof text - at, "\nseed = 5\n");
    ck_assert_msg(read_text(text) == 0, "%s", e.msg);
    ck_assert_str_eq(seen_sections, "a@1 a.seed@3 ");
    ck_assert(c.lr == 0.001f);
}
END_TEST

START_TEST(a_line_too_long_to_read_is_refused)
{
    char text[4000];
    size_t at = (size_t)snprintf(text, sizeof text, "[a]\nname = ");
    memset(text + at, 'n', 3000);
    snprintf(text + at + 3000, sizeof text - at - 3000, "\nseed = 5\n");
    ck_assert_int_eq(read_text(text), ERR_CONFIG);
    ck_assert_msg(strstr(e.msg, "t.ini:2: the line is longer than"), "%s", e.msg);
}
END_TEST

START_TEST(a_line_as_long_as_may_be_is_read)
{
    for (int n = 180; n < 188; n++) { /* inih's own buffer has 200 bytes */
        char text[300];
        size_t at = (size_t)snprintf(text, sizeof text, "[a]\nname = ");
        memset(text + at, 'n', (size_t)n);
        snprintf(text + at + n, sizeof text - at - (size_t)n, "\nseed = %d\n", n % 7);
        ck_assert_msg(read_text(text) == 0, "%d: %s", n, e.msg);
        ck_assert_uint_eq(strlen(c.name), (size_t)n);
        ck_assert_int_eq(c.seed, n % 7);
    }
}
END_TEST

START_TEST(zero_bytes_do_not_break_the_reader)
{
    static const char text[] = "[a]\nname = x\0y\nseed = 3\n\0\0\0\nlr = 0.5\n";
    (void)read_ini(text, sizeof text - 1);
    ck_assert_int_eq(c.seed, 3);
}
END_TEST

START_TEST(what_cannot_be_read_is_an_error)
{
    ck_assert_int_eq(conf_ini("/nonexistent/x.ini", on_pair, &c, &e), ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(e.msg, "/nonexistent/x.ini: No such file or directory"));
    e = (struct err){ 0 };
    ck_assert_int_eq(conf_ini(dir, on_pair, &c, &e), ERR_CONFIG); /* a directory opens */
    ck_assert_ptr_nonnull(strstr(e.msg, "Is a directory"));
    ck_assert_int_eq(conf_ini("/nonexistent/x.ini", on_pair, &c, NULL), ERR_CONFIG);
}
END_TEST

START_TEST(help_has_a_line_for_every_key)
{
    char *text = NULL;
    size_t nb = 0;
    FILE *f = open_memstream(&text, &nb);
    conf_help(opts, f);
    fclose(f);
    static const char *const lines[] = {
        "  --quiet                            no progress\n",
        "  --batch-size N                     rows of a step (default 256, 1 to 65536)\n",
        "  --lr X                             learning rate (default 0.001, 1e-09 to 10)\n",
        "  --out TEXT                         model directory\n",
        "  --seen mask|keep|zero              history at test time (default keep)\n",
    };
    for (int i = 0; i < 5; i++)
        ck_assert_msg(strstr(text, lines[i]), "'%s' is not in:\n%s", lines[i], text);
    free(text);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

Suite *suite_conf(void);
Suite *suite_conf(void)
{
    Suite *s = suite_create("conf");
    TCase *t = tcase_create("options");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, defaults_come_from_the_table);
    tcase_add_test(t, without_a_default_values_are_zero);
    tcase_add_test(t, a_default_that_its_own_check_refuses_is_a_bug);
    tcase_add_loop_test(t, values_are_read_and_given_back, 0, COUNT(good));
    tcase_add_loop_test(t, a_refused_value_changes_nothing_and_says_why, 0, COUNT(bad));
    tcase_add_test(t, the_nearest_key_is_near);
    tcase_add_test(t, a_string_is_replaced_and_freed);
    tcase_add_test(t, get_cuts_at_the_buffer);
    tcase_add_test(t, flags_have_four_forms_and_the_rest_is_positional);
    tcase_add_test(t, help_stops_reading);
    tcase_add_loop_test(t, wrong_usage_is_named, 0, COUNT(usage));
    tcase_add_test(t, the_environment_sets_keys_in_upper_case);
    tcase_add_test(t, help_has_a_line_for_every_key);
    suite_add_tcase(s, t);
    TCase *i = tcase_create("ini");
    tcase_add_checked_fixture(i, ini_set_up, ini_tear_down);
    tcase_add_test(i, an_ini_file_gives_sections_keys_values_and_lines);
    tcase_add_test(i, a_key_before_any_section_has_an_empty_one);
    tcase_add_test(i, an_empty_ini_file_sets_nothing);
    tcase_add_loop_test(i, a_broken_ini_file_is_named_with_its_line, 0, COUNT(broken));
    tcase_add_test(i, a_long_comment_is_a_comment);
    tcase_add_test(i, a_line_too_long_to_read_is_refused);
    tcase_add_test(i, a_line_as_long_as_may_be_is_read);
    tcase_add_test(i, zero_bytes_do_not_break_the_reader);
    tcase_add_test(i, what_cannot_be_read_is_an_error);
    suite_add_tcase(s, i);
    return s;
}
