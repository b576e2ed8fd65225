#include "core/base/io.h"
#include "models/cmd.h"
#include "tests/child.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *dir, *said;
static struct err e;

static void set_up(void)
{
    dir = fixture_tmpdir();
    said = NULL;
    e = (struct err){ 0 };
}

static void tear_down(void)
{
    free(said);
    fixture_rmdir(dir);
    free(dir);
}

static char *in(const char *name)
{
    static char path[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static void put(const char *name, const char *text)
{
    ck_assert_msg(io_write_atomic(in(name), text, strlen(text), &e) == 0, "%s", e.msg);
}

struct call {
    char *argv[8];
    int argc, code;
};

static void run_prep(void *ctx)
{
    struct call *c = ctx;
    c->code = cmd_prep(c->argc, c->argv);
}

/* Runs `prep` with up to six arguments; what it prints is in said. */
static int prep(char *a, char *b, char *c, char *d, char *f, char *g)
{
    struct call call = { .argv = { (char[]){ "prep" }, a, b, c, d, f, g } };
    while (call.argv[call.argc]) call.argc++;
    free(said);
    said = child_caught(run_prep, &call);
    return call.code;
}

static void says(const char *what) { ck_assert_msg(strstr(said, what) != NULL, "%s", said); }

static char out[] = "--out", format[] = "--format", least[] = "--min-events",
            titles[] = "--titles";

START_TEST(a_file_becomes_a_data_set)
{
    put("log.txt", "u1 a b c\nu2 only\nu3\nu4 b a\n");
    ck_assert_int_eq(prep(in("log.txt"), out, in("set"), NULL, NULL, NULL), 0);
    says("log.txt: seq, 4 lines, 7 events, 6 kept");
    says("log.txt:3: wrong number of fields: 1 dropped, the first here");
    says("log.txt:2: user with fewer than the minimum of events: 1 dropped with 1 events");
    says("set: 2 users, 3 items (0 with titles), 5 events");
    struct dataset d;
    ck_assert_int_eq(dataset_open(&d, in("set"), &e), 0);
    ck_assert_int_eq(d.n_events, 5);
    dataset_close(&d);
}
END_TEST

START_TEST(a_movielens_directory_stands_for_its_files)
{
    ck_assert_int_eq(mkdir(in("ml"), 0755), 0);
    put("ml/ratings.csv", "userId,movieId,rating,timestamp\n1,7,4,20\n1,8,4,10\n");
    put("ml/movies.csv", "movieId,title,genres\n7,\"Seven, the\",x\n9,Nine,x\n");
    ck_assert_int_eq(prep(in("ml"), out, in("set"), NULL, NULL, NULL), 0);
    says("titles for 1 items, 1 lines for items without events");
    says("1 users, 2 items (1 with titles), 2 events");
    ck_assert_int_eq(prep(dir, out, in("set"), NULL, NULL, NULL), 1);
    says("a directory without ratings.csv");
}
END_TEST

START_TEST(odd_titles_beside_good_ratings_are_said_and_gone_past)
{
    static const char *const odd[] = { "", "7,Seven\n9,Nine\n", "\xff\xfe\n" };
    ck_assert_int_eq(mkdir(in("ml"), 0755), 0);
    put("ml/ratings.csv", "userId,movieId,rating,timestamp\n1,7,4,20\n1,8,4,10\n");
    put("ml/movies.csv", odd[_i]);
    ck_assert_int_eq(prep(in("ml"), out, in("set"), NULL, NULL, NULL), 0);
    says("intent prep: ");
    says("movies.csv");
    says("1 users, 2 items (0 with titles), 2 events");
    /* asked for by name they are needed */
    ck_assert_int_eq(prep(in("ml"), titles, in("ml/movies.csv"), out, in("set"), NULL), 1);
}
END_TEST

START_TEST(titles_may_come_from_a_tsv)
{
    put("log.txt", "u1 1 2\n");
    put("items.tsv", "item_id\texternal_id\tattributes\n2\tB00\tOPI | Nails\n1\n");
    ck_assert_int_eq(prep(in("log.txt"), titles, in("items.tsv"), out, in("set"), NULL), 0);
    says("items.tsv:3: wrong number of fields: 1 dropped");
    says("(1 with titles)");
}
END_TEST

START_TEST(an_input_of_unknown_format_does_not_stop_the_others)
{
    put("log.txt", "u1 a b c\n");
    put("other.json", "{\"a\": [1, 2]}\n");
    put("empty.txt", "");
    ck_assert_int_eq(
        prep(in("other.json"), in("empty.txt"), in("log.txt"), out, in("set"), NULL), 0);
    says("other.json:1: unknown format");
    says("empty.txt: empty");
    says("1 users, 3 items");
}
END_TEST

START_TEST(nothing_usable_fails_and_says_why)
{
    put("other.json", "{\"a\": [1, 2]}\n");
    put("short.txt", "u1 a\nu2 b\n");
    ck_assert_int_eq(prep(in("other.json"), out, in("set"), NULL, NULL, NULL), 1);
    says("intent prep: no usable event in the input");
    ck_assert_int_eq(prep(in("short.txt"), out, in("set"), NULL, NULL, NULL), 1);
    says("no user has 2 events or more");
    ck_assert_int_eq(prep(in("absent"), out, in("set"), NULL, NULL, NULL), 1);
    says("absent: No such file");
    ck_assert(!io_exists(in("set")));
    ck_assert_int_eq(prep(in("short.txt"), out, in("set"), least, (char[]){ "1" }, NULL), 0);
    says("2 users, 2 items");
}
END_TEST

START_TEST(another_directory_is_never_replaced)
{
    put("log.txt", "u1 a b c\n");
    ck_assert_int_eq(prep(in("log.txt"), out, dir, NULL, NULL, NULL), 1);
    says("is not a data set");
    ck_assert(io_exists(in("log.txt")));
}
END_TEST

START_TEST(wrong_usage_exits_with_2)
{
    put("log.txt", "u1 a b c\n");
    ck_assert_int_eq(prep(NULL, NULL, NULL, NULL, NULL, NULL), 2);
    says("no input given");
    ck_assert_int_eq(prep(in("log.txt"), NULL, NULL, NULL, NULL, NULL), 2);
    says("--out DATASET is missing");
    ck_assert_int_eq(prep(in("log.txt"), (char[]){ "--ouput" }, in("set"), NULL, NULL, NULL),
                     2);
    says("usage: intent prep INPUT...");
    ck_assert_int_eq(prep(in("log.txt"), out, in("set"), format, (char[]){ "xml" }, NULL), 2);
    says("auto|seq|inter|movielens");
    ck_assert_int_eq(prep(in("log.txt"), out, in("set"), least, (char[]){ "0" }, NULL), 2);
}
END_TEST

START_TEST(help_explains_inputs_and_options)
{
    ck_assert_int_eq(prep((char[]){ "--help" }, NULL, NULL, NULL, NULL, NULL), 0);
    says("usage: intent prep INPUT... --out DATASET");
    says("--min-events N");
    says("RecBole");
}
END_TEST

Suite *suite_cmd_prep(void);
Suite *suite_cmd_prep(void)
{
    Suite *s = suite_create("cmd_prep");
    TCase *t = tcase_create("cmd_prep");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_file_becomes_a_data_set);
    tcase_add_test(t, a_movielens_directory_stands_for_its_files);
    tcase_add_loop_test(t, odd_titles_beside_good_ratings_are_said_and_gone_past, 0, 3);
    tcase_add_test(t, titles_may_come_from_a_tsv);
    tcase_add_test(t, an_input_of_unknown_format_does_not_stop_the_others);
    tcase_add_test(t, nothing_usable_fails_and_says_why);
    tcase_add_test(t, another_directory_is_never_replaced);
    tcase_add_test(t, wrong_usage_exits_with_2);
    tcase_add_test(t, help_explains_inputs_and_options);
    suite_add_tcase(s, t);
    return s;
}
