#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/data/dataset.h"
#include "core/data/read.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include "tests/guard.h"
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *dir;
static struct err e;

static void set_up(void)
{
    dir = fixture_tmpdir();
    e = (struct err){ 0 };
}

static void tear_down(void)
{
    fixture_rmdir(dir);
    free(dir);
}

static const char *in(const char *name)
{
    static char path[2][512];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

/* Three items, users of 4, 1 and 2 events; times where asked for. */
static int write_small(const char *to, bool with_time, const char *json)
{
    struct items_builder *items = items_builder_new(), *users = items_builder_new();
    static const int64_t cu[] = { 0, 4, 5, 7 };
    static const int32_t item[] = { 0, 1, 2, 0, 1, 2, 1 };
    static const int64_t time[] = { 10, 20, 30, 40, 5, 1, 2 };
    for (int i = 0; i < 3; i++) {
        char id[] = { (char)('a' + i), 0 };
        items_add(items, id, 1);
        id[0] = (char)('x' + i);
        items_add(users, id, 1);
    }
    struct dataset_parts p = { .items = items,
                               .users = users,
                               .cu = cu,
                               .item = item,
                               .time = with_time ? time : NULL,
                               .json = json };
    int rc = dataset_write(to, &p, &e);
    items_builder_free(items);
    items_builder_free(users);
    return rc;
}

static const char *const good_json = "{\"users\": 3, \"items\": 3, \"events\": 7}";

START_TEST(a_data_set_reads_back_as_it_was_written)
{
    struct dataset d;
    ck_assert_msg(write_small(in("set"), true, good_json) == 0, "%s", e.msg);
    ck_assert_msg(dataset_open(&d, in("set"), &e) == 0, "%s", e.msg);
    ck_assert_int_eq(d.n_users, 3);
    ck_assert_int_eq(d.n_items, 3);
    ck_assert_int_eq(d.n_events, 7);
    ck_assert_int_eq(d.cu[2], 5);
    ck_assert_int_eq(d.item[5], 2);
    ck_assert_int_eq(d.time[6], 2);
    ck_assert_int_eq(items_find(d.users, "y", 1), 1);
    ck_assert_str_eq(d.name, "set");
    dataset_close(&d);
    dataset_close(&d);
}
END_TEST

START_TEST(times_are_optional)
{
    struct dataset d;
    ck_assert_int_eq(write_small(in("set"), false, good_json), 0);
    ck_assert_int_eq(dataset_open(&d, in("set/"), &e), 0);
    ck_assert_ptr_null(d.time);
    ck_assert_str_eq(d.name, "set");
    dataset_close(&d);
}
END_TEST

START_TEST(the_last_event_is_test_the_one_before_valid_the_rest_train)
{
    struct dataset d;
    const int32_t *hist;
    int32_t len, answer;
    ck_assert_int_eq(write_small(in("set"), false, good_json), 0);
    ck_assert_int_eq(dataset_open(&d, in("set"), &e), 0);
    ck_assert_int_eq(dataset_train_len(&d, 0), 2);
    ck_assert(dataset_case(&d, 0, SPLIT_TEST, &hist, &len, &answer));
    ck_assert_ptr_eq(hist, d.item);
    ck_assert_int_eq(len, 3);
    ck_assert_int_eq(answer, 0);
    ck_assert(dataset_case(&d, 0, SPLIT_VALID, &hist, &len, &answer));
    ck_assert_int_eq(len, 2);
    ck_assert_int_eq(answer, 2);
    ck_assert(!dataset_case(&d, 0, SPLIT_TRAIN, &hist, &len, &answer));
    for (int32_t u = 1; u < 3; u++) { /* too short: they only train */
        ck_assert_int_eq(dataset_train_len(&d, u), u);
        ck_assert(!dataset_case(&d, u, SPLIT_TEST, &hist, &len, &answer));
        ck_assert(!dataset_case(&d, u, SPLIT_VALID, &hist, &len, &answer));
    }
    dataset_close(&d);
}
END_TEST

static int n_entries(const char *path)
{
    DIR *x = opendir(path);
    ck_assert_ptr_nonnull(x);
    int n = 0;
    while (readdir(x)) n++;
    closedir(x);
    return n - 2;
}

START_TEST(writing_again_replaces_the_data_set_under_its_readers)
{
    struct dataset d, now;
    ck_assert_int_eq(write_small(in("set"), true, good_json), 0);
    ck_assert_int_eq(dataset_open(&d, in("set"), &e), 0);
    ck_assert_msg(write_small(in("set"), false, good_json) == 0, "%s", e.msg);
    ck_assert_int_eq(d.time[6], 2);
    ck_assert_int_eq(dataset_open(&now, in("set"), &e), 0);
    ck_assert_ptr_null(now.time);
    ck_assert_int_eq(n_entries(dir), 1);
    ck_assert_int_eq(n_entries(in("set")), 4);
    dataset_close(&d);
    dataset_close(&now);
}
END_TEST

START_TEST(an_empty_directory_is_used_and_any_other_left_alone)
{
    ck_assert_int_eq(mkdir(in("empty"), 0755), 0);
    ck_assert_msg(write_small(in("empty//"), false, good_json) == 0, "%s", e.msg);
    ck_assert_int_eq(mkdir(in("mine"), 0755), 0);
    ck_assert_int_eq(io_write_atomic(in("mine/thesis.tex"), "x", 1, &e), 0);
    ck_assert_int_eq(write_small(in("mine"), false, good_json), ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(e.msg, "is not a data set"));
    ck_assert(io_exists(in("mine/thesis.tex")));
    e = (struct err){ 0 };
    ck_assert_int_eq(write_small(in("mine/thesis.tex"), false, good_json), ERR_CONFIG);
    ck_assert_int_eq(n_entries(dir), 2);
    ck_assert_int_eq(n_entries(in("mine")), 1);
}
END_TEST

START_TEST(parent_directories_are_made)
{
    ck_assert_msg(write_small(in("a/b/c"), false, good_json) == 0, "%s", e.msg);
    ck_assert(io_exists(in("a/b/c/seqs.bin")));
}
END_TEST

START_TEST(a_missing_or_foreign_file_is_named)
{
    static const char *const file[] = { "items.bin", "users.bin", "seqs.bin", "dataset.json" };
    struct dataset d;
    for (int i = 0; i < 4; i++) {
        for (int how = 0; how < 2; how++) {
            char path[64];
            snprintf(path, sizeof path, "set/%s", file[i]);
            ck_assert_int_eq(write_small(in("set"), false, good_json), 0);
            e = (struct err){ 0 };
            if (how == 0)
                ck_assert_int_eq(remove(in(path)), 0);
            else
                ck_assert_int_eq(io_write_atomic(in(path), "nonsense", 8, &e), 0);
            ck_assert_int_lt(dataset_open(&d, in("set"), &e), 0);
            ck_assert_msg(strstr(e.msg, file[i]) != NULL, "%s", e.msg);
            e = (struct err){ 0 };
            if (i == 3 && how == 0) ck_assert_int_eq(io_write_atomic(in(path), "{}", 2, &e), 0);
        }
    }
    ck_assert_int_eq(dataset_open(&d, "/nowhere", &e), ERR_NOT_FOUND);
}
END_TEST

START_TEST(a_description_of_other_files_is_refused)
{
    struct dataset d;
    ck_assert_int_eq(
        write_small(in("set"), false, "{\"users\": 3, \"items\": 4, \"events\": 7}"), 0);
    ck_assert_int_eq(dataset_open(&d, in("set"), &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "says 3 users, 4 items, 7 events"));
}
END_TEST

/* Three users in the order of time: a 10 20 30 40, b 35 45, c 50. */
START_TEST(a_split_by_time_cuts_every_user_at_the_same_moments)
{
    static const int64_t cu[] = { 0, 4, 6, 7 }, time[] = { 10, 20, 30, 40, 35, 45, 50 };
    static const int32_t item[] = { 0, 1, 2, 0, 1, 2, 1 };
    static const float weight[] = { 1, 2, 3, 4, 5, 6, 7 };
    struct items_builder *items = items_builder_new(), *users = items_builder_new();
    for (int i = 0; i < 3; i++) {
        items_add(items, &"abc"[i], 1);
        items_add(users, &"xyz"[i], 1);
    }
    struct dataset_parts p = { items,    users, cu, item, time, weight, { SPLIT_TIME, 30, 45 },
                               good_json };
    ck_assert_msg(dataset_write(in("set"), &p, &e) == 0, "%s", e.msg);
    items_builder_free(items);
    items_builder_free(users);
    struct dataset d;
    const int32_t *hist;
    int32_t len, answer;
    ck_assert_msg(dataset_open(&d, in("set"), &e) == 0, "%s", e.msg);
    ck_assert_int_eq(d.split.kind, SPLIT_TIME);
    ck_assert(d.weight[6] == 7);
    ck_assert_int_eq(dataset_train_len(&d, 0), 2);
    ck_assert_int_eq(dataset_train_len(&d, 1), 0);
    ck_assert(dataset_case(&d, 0, SPLIT_VALID, &hist, &len, &answer));
    ck_assert_int_eq(len, 2);
    ck_assert_int_eq(answer, 2);
    ck_assert(!dataset_case(&d, 0, SPLIT_TEST, &hist, &len, &answer));
    ck_assert(!dataset_case(&d, 1, SPLIT_VALID, &hist, &len, &answer)); /* no history */
    ck_assert(dataset_case(&d, 1, SPLIT_TEST, &hist, &len, &answer));
    ck_assert_int_eq(len, 1);
    ck_assert(!dataset_case(&d, 2, SPLIT_TEST, &hist, &len, &answer));
    dataset_close(&d);
}
END_TEST

START_TEST(the_fingerprint_tells_data_sets_apart)
{
    struct dataset d;
    uint64_t sum[2];
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(write_small(in("set"), i > 0, good_json), 0);
        ck_assert_int_eq(dataset_open(&d, in("set"), &e), 0);
        sum[i] = dataset_fingerprint(&d);
        ck_assert_uint_eq(sum[i], dataset_fingerprint(&d));
        dataset_close(&d);
    }
    ck_assert_uint_ne(sum[0], sum[1]);
}
END_TEST

/* ---- damage to seqs.bin: header of 64 bytes, cu [4], item [7], pad, time [7] ---- */

static char *seqs;
static size_t nb_seqs;

static void set_up_seqs(void)
{
    set_up();
    ck_assert_int_eq(write_small(in("set"), true, good_json), 0);
    ck_assert_int_eq(io_read_all(&seqs, &nb_seqs, in("set/seqs.bin"), 1 << 20, &e), 0);
    ck_assert_uint_eq(nb_seqs, 64 + 4 * 8 + 8 * 4 + 7 * 8);
}

static void tear_down_seqs(void)
{
    free(seqs);
    tear_down();
}

static int view(const char *p, size_t nb)
{
    struct dataset d = { .n_users = 3, .n_items = 3 };
    e = (struct err){ 0 };
    return dataset_view_seqs(&d, p, nb, &e);
}

static const struct {
    size_t at;
    int64_t value;
    int width;
    const char *reason;
} damages[] = {
    { 0, 'x', 1, "does not begin" },
    { 8, 9, 4, "version 9" },
    { 12, 0, 4, "do not make" },
    { 12, 3, 4, "do not make" },
    { 12, 4, 4, "do not make" },
    { 40, 2, 8, "unknown split 2" },
    { 40, 1, 8, "unknown split 1" }, /* by time, and no moment of test after validation's */
    { 64 + 32 + 32 + 8, 5, 8, "event 1 is older" },
    { 16, 2, 8, "2 users; users.bin has 3" },
    { 16, -1, 8, "users.bin has 3" },
    { 24, 8, 8, "do not make" },
    { 24, -1, 8, "do not make" },
    { 24, INT64_MAX / 2, 8, "do not make" },
    { 32, 0, 8, "its header says" },
    { 64, 1, 8, "do not span" },
    { 64 + 24, 8, 8, "do not span" },
    { 64 + 8, 0, 8, "events of user 0" },
    { 64 + 8, 6, 8, "events of user 1" },
    { 64 + 8, -3, 8, "events of user 0" },
    { 64 + 8, INT64_MAX, 8, "events of user 0" },
    { 64 + 32, 3, 4, "event 0: row 3 of 3" },
    { 64 + 32 + 24, -1, 4, "event 6: row -1 of 3" },
};

START_TEST(damaged_sequences_are_refused_with_the_reason)
{
    char *p = guard_copy(seqs, nb_seqs);
    ck_assert_int_eq(view(p, nb_seqs), 0);
    memcpy(p + damages[_i].at, &damages[_i].value, (size_t)damages[_i].width);
    ck_assert_int_eq(view(p, nb_seqs), ERR_FORMAT);
    ck_assert_msg(strstr(e.msg, damages[_i].reason) != NULL, "%s", e.msg);
    guard_free(p, nb_seqs);
}
END_TEST

START_TEST(truncated_sequences_are_refused)
{
    for (size_t nb = 0; nb < nb_seqs; nb++) {
        char *p = guard_copy(seqs, nb);
        ck_assert_int_eq(view(p, nb), ERR_FORMAT);
        uint64_t said = nb;
        if (nb >= 64) memcpy(p + 32, &said, sizeof said);
        ck_assert_int_eq(view(p, nb), ERR_FORMAT);
        guard_free(p, nb);
    }
}
END_TEST

Suite *suite_dataset(void);
Suite *suite_dataset(void)
{
    Suite *s = suite_create("dataset");
    TCase *t = tcase_create("directory");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_data_set_reads_back_as_it_was_written);
    tcase_add_test(t, times_are_optional);
    tcase_add_test(t, the_last_event_is_test_the_one_before_valid_the_rest_train);
    tcase_add_test(t, a_split_by_time_cuts_every_user_at_the_same_moments);
    tcase_add_test(t, the_fingerprint_tells_data_sets_apart);
    tcase_add_test(t, writing_again_replaces_the_data_set_under_its_readers);
    tcase_add_test(t, an_empty_directory_is_used_and_any_other_left_alone);
    tcase_add_test(t, parent_directories_are_made);
    tcase_add_test(t, a_missing_or_foreign_file_is_named);
    tcase_add_test(t, a_description_of_other_files_is_refused);
    suite_add_tcase(s, t);
    t = tcase_create("sequences");
    tcase_add_checked_fixture(t, set_up_seqs, tear_down_seqs);
    tcase_add_loop_test(t, damaged_sequences_are_refused_with_the_reason, 0,
                        sizeof damages / sizeof *damages);
    tcase_add_test(t, truncated_sequences_are_refused);
    suite_add_tcase(s, t);
    return s;
}
