#include "core/base/io.h"
#include "core/data/dataset.h"
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
            items[] = "--items";

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
    says("movies.csv: 1 entries of items with events, 1 with titles; 1 of other items, "
         "the first is \"9\"");
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
    ck_assert_int_eq(prep(in("ml"), items, in("ml/movies.csv"), out, in("set"), NULL), 1);
}
END_TEST

START_TEST(titles_may_come_from_a_tsv)
{
    put("log.txt", "u1 1 2\n");
    put("items.tsv", "item_id\texternal_id\tattributes\n2\tB00\tOPI | Nails\n1\n");
    ck_assert_int_eq(prep(in("log.txt"), items, in("items.tsv"), out, in("set"), NULL), 0);
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
    says("unknown key 'ouput'; did you mean 'out'?");
    ck_assert_int_eq(prep(in("log.txt"), out, in("set"), format, (char[]){ "xml" }, NULL), 2);
    says("auto|seq|inter|csv|tsv");
    ck_assert_int_eq(prep(in("log.txt"), out, in("set"), least, (char[]){ "0" }, NULL), 2);
}
END_TEST

/* ---- columns, events, cores, splits ---- */

static const char *const clicks = "when;visitor;thing;kind\n"
                                  "2021-03-01;u1;a;view\n2021-03-02;u1;b;buy\n"
                                  "2021-03-03;u1;c;view\n2021-03-04;u1;a;hover\n"
                                  "2021-03-01;u2;a;view\n2021-03-05;u2;b;view\n";

START_TEST(columns_are_named_and_events_weighted)
{
    put("clicks.csv", clicks);
    struct call c = { .argv = { (char[]){ "prep" }, in("clicks.csv"), out, in("set"),
                                (char[]){ "--user-col=visitor" },
                                (char[]){ "--item-col=thing" }, (char[]){ "--time-col=when" },
                                NULL } };
    c.argc = 7;
    said = child_caught(run_prep, &c);
    ck_assert_msg(c.code == 0, "%s", said);
    says("clicks.csv: columns: user = visitor, item = thing, time = when");
    says("2 users, 3 items (0 with titles), 6 events");
    free(said);
    c = (struct call){ .argv = { (char[]){ "prep" }, in("clicks.csv"), out, in("set"),
                                 (char[]){ "--user-col=visitor" },
                                 (char[]){ "--item-col=thing" }, (char[]){ "--event-col=kind" },
                                 (char[]){ "--events=buy=5,view" } } };
    c.argc = 8;
    said = child_caught(run_prep, &c);
    ck_assert_msg(c.code == 0, "%s", said);
    says("event types: view 4, buy 1, hover 1");
    says("clicks.csv:5: event type not asked for: 1 dropped");
    struct dataset d;
    ck_assert_int_eq(dataset_open(&d, in("set"), &e), 0);
    ck_assert_int_eq(d.n_events, 5);
    ck_assert(d.weight[0] == 1 && d.weight[1] == 5);
    ck_assert_ptr_null(d.time);
    dataset_close(&d);
}
END_TEST

START_TEST(a_split_by_time_takes_dates_and_shares)
{
    put("t.csv", "user,item,time\nu1,a,2021-03-01\nu1,b,2021-03-03\nu1,c,2021-03-05\n"
                 "u2,a,2021-03-02\nu2,c,2021-03-04\nu3,c,2021-03-05\nu3,a,2021-03-06\n");
    char split[] = "--split=time";
    ck_assert_int_eq(prep(in("t.csv"), out, in("set"), split,
                          (char[]){ "--valid-from=2021-03-03" },
                          (char[]){ "--test-from=2021-03-05" }),
                     0);
    says("2 validation and 1 test cases");
    ck_assert_int_eq(prep(in("t.csv"), out, in("set"), split, (char[]){ "--valid-from=50%" },
                          (char[]){ "--test-from=70%" }),
                     0);
    ck_assert_int_eq(prep(in("t.csv"), out, in("set"), split,
                          (char[]){ "--valid-from=2021-02-01" },
                          (char[]){ "--test-from=2021-03-05" }),
                     1);
    says("validation from 2021-02-01 00:00:00: nothing comes before it");
    ck_assert_int_eq(
        prep(in("t.csv"), out, in("set"), split, (char[]){ "--valid-from=soon" }, NULL), 2);
    says("'soon' is not a moment");
    put("log.txt", "u1 a b c\n");
    ck_assert_int_eq(prep(in("log.txt"), out, in("set"), split, NULL, NULL), 1);
    says("needs timestamps, and the input has none");
}
END_TEST

START_TEST(users_and_items_are_dropped_until_all_have_enough)
{
    /* c has one user; without c u3 has one event, without u3 b has one user left, then u2 falls */
    put("log.txt", "u1 a a d d\nu2 a b\nu3 b c\nu4 a d\n");
    ck_assert_int_eq(prep(in("log.txt"), out, in("set"), least, (char[]){ "2" },
                          (char[]){ "--min-item-events=2" }),
                     0);
    says("set: 2 users, 2 items (0 with titles), 6 events");
    says("item with fewer than the minimum of events: 2 dropped with 2 events");
    says("user with fewer than the minimum of events: 2 dropped with 2 events");
    ck_assert_int_eq(prep(in("log.txt"), out, in("set"), least, (char[]){ "5" },
                          (char[]){ "--min-item-events=2" }),
                     1);
    says("no user has 5 events or more with items of 2 or more");
}
END_TEST

START_TEST(a_data_set_is_described)
{
    put("log.txt", "u1 a b a c\nu2 a b\nu3 c c c c c c c c c\n");
    ck_assert_int_eq(prep(in("log.txt"), out, in("set"), (char[]){ "--describe" }, NULL, NULL),
                     0);
    says("set: 3 users, 3 items, 15 events");
    says("repeats: 60.00 % of the events");
    ck_assert_int_eq(prep((char[]){ "--describe" }, in("set"), NULL, NULL, NULL, NULL), 0);
    says("events a user: 2 to 9, median 4");
    says("        4-7          1   33.3%");
    says("of the test answers 50.00 % are in their own history");
    ck_assert_int_eq(prep((char[]){ "--json" }, in("set"), NULL, NULL, NULL, NULL), 0);
    says("\"test_seen\": 1");
    ck_assert_int_eq(prep((char[]){ "--describe" }, in("log.txt"), NULL, NULL, NULL, NULL), 1);
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
    tcase_add_test(t, columns_are_named_and_events_weighted);
    tcase_add_test(t, a_split_by_time_takes_dates_and_shares);
    tcase_add_test(t, users_and_items_are_dropped_until_all_have_enough);
    tcase_add_test(t, a_data_set_is_described);
    tcase_add_test(t, help_explains_inputs_and_options);
    suite_add_tcase(s, t);
    return s;
}
