#include "core/base/buf.h"
#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/dataset.h"
#include "core/data/interact.h"
#include "core/data/items_read.h"
#include "core/data/read.h"
#include "tests/core/data/fixture_data.h"
#include "tests/fixture_bundle.h"
#include "tests/guard.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static struct interactions *x;
static struct read_stats st;
static struct err e;

static void set_up(void)
{
    dir = fixture_tmpdir();
    x = interactions_new();
    e = (struct err){ 0 };
}

static void tear_down(void)
{
    interactions_free(x);
    fixture_rmdir(dir);
    free(dir);
}

static const char *in(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* The text ends at an unreadable page. */
static int read_n(const char *text, size_t nb, enum read_format f)
{
    char *p = guard_copy(text, nb);
    int rc = read_events_mem(x, p, nb, "input", &(struct read_opts){ .format = f }, &st, &e);
    guard_free(p, nb);
    int64_t dropped = 0;
    for (int k = 0; k < DROP_KINDS; k++) dropped += st.dropped[k];
    ck_assert_int_eq(st.events, st.kept + dropped);
    return rc;
}

static int read_text(const char *text) { return read_n(text, strlen(text), READ_AUTO); }

static int write_least(int min_events, const char *to)
{
    return interactions_write(x, in(to), &(struct write_opts){ .min_events = min_events }, &st,
                              &e);
}

/* All sequences as "user:item item;user:..." after writing and opening. */
static char *written(int min_events)
{
    struct dataset d;
    struct buf out = { 0 };
    struct write_opts o = { .min_events = min_events };
    ck_assert_msg(interactions_write(x, in("set"), &o, &st, &e) == 0, "%s", e.msg);
    ck_assert_msg(dataset_open(&d, in("set"), &e) == 0, "%s", e.msg);
    for (int32_t u = 0; u < d.n_users; u++) {
        struct str s = items_id(d.users, u);
        buf_printf(&out, "%s%.*s:", u ? ";" : "", s.len, s.p);
        for (int64_t i = d.cu[u]; i < d.cu[u + 1]; i++) {
            s = items_id(d.items, d.item[i]);
            buf_printf(&out, "%s%.*s", i > d.cu[u] ? " " : "", s.len, s.p);
        }
    }
    dataset_close(&d);
    return out.data;
}

static void becomes(int min_events, const char *want)
{
    char *got = written(min_events);
    ck_assert_str_eq(got, want);
    free(got);
}

/* ---- formats ---- */

static const struct {
    const char *text;
    enum read_format format;
    const char *want;
} formats[] = {
    { "u1 a b c\nu2 b a\n", READ_SEQ, "u1:a b c;u2:b a" },
    { "u1 a b c\r\nu2 b a", READ_SEQ, "u1:a b c;u2:b a" },
    { "\xef\xbb\xbfu1 a b\n\n   \n\nu2 b a\n\n", READ_SEQ, "u1:a b;u2:b a" },
    { "u1  a   b \nu1 c\n", READ_SEQ, "u1:a b c" },
    { "u1 a\nu1 b\nu2 a\nu1 a\n", READ_SEQ, "u1:a b a;u2:a" },
    { "user_id:token\titem_id:token\ttimestamp:float\nu1\ta\t2\nu1\tb\t1.5\n", READ_INTER,
      "u1:b a" },
    { "user_id:token\titem_id:token\nu1\tb\nu1\ta\n", READ_INTER, "u1:b a" },
    { "rating:float\titem_id:token\tsession_id:token\r\n5\tb\tu1\r\n3\ta\tu1", READ_INTER,
      "u1:b a" },
    { "userId,movieId,rating,timestamp\n1,10,4.0,200\n1,20,3.5,100\n2,10,1,50", READ_CSV,
      "1:20 10;2:10" },
    { "item;user;price\nb;u1;1,5\na;u1;2\n", READ_CSV, "u1:b a" },
    { "ITEM\tuser\tx\nb\tu1\t\na\tu1\t\n", READ_TSV, "u1:b a" },
    { "\"user\",\"item\",\"note\"\n\"u,1\",\"say \"\"x\"\"\",\n\"u,1\",b,\n", READ_CSV,
      "u,1:say \"x\" b" },
    { "user,item\nu1,b\nu1,a\n", READ_CSV, "u1:b a" },
    { "u\xc3\xa9 \xe2\x82\xac b\n", READ_SEQ, "u\xc3\xa9:\xe2\x82\xac b" },
};

START_TEST(the_format_is_found_by_content)
{
    ck_assert_msg(read_text(formats[_i].text) == 0, "%s", e.msg);
    ck_assert_int_eq(st.format, formats[_i].format);
    becomes(1, formats[_i].want);
}
END_TEST

static const struct {
    const char *text;
    size_t nb;
    const char *reason;
} unknown[] = {
    { "1,2,3.5,964982703\n", 18, "input:1: unknown format (begins with '1,2,3.5,964982703')" },
    { "1\t2\t3\n", 6, "input:1: unknown format (begins with '1?2?3')" },
    { "\n\n{\"a\": [1, 2]}\n", 16, "input:3: unknown format" },
    { "one\ntwo\nthree\n", 14, "unknown format" },
    { "\x89PNG\r\n\x1a\n\0\0 a b", 14, "unknown format" },
    { "movieId,title,genres\n1,Toy Story,x\n", 34, "unknown format" },
    { "user item time\nu1 a 5\nu1 b 6\n", 29, "input:1: unknown format" },
    { "user,item,user\nu1,a,u1\n", 23, "columns 1 and 3 are both called 'user'" },
};

START_TEST(an_unknown_format_is_refused_with_file_and_line)
{
    ck_assert_int_eq(read_n(unknown[_i].text, unknown[_i].nb, READ_AUTO), ERR_FORMAT);
    ck_assert_msg(strstr(e.msg, unknown[_i].reason) != NULL, "%s", e.msg);
}
END_TEST

START_TEST(a_forced_format_needs_its_columns)
{
    ck_assert_int_eq(read_n("a,b\n1,2\n", 8, READ_CSV), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "input:1: the header names no user column"));
    e = (struct err){ 0 };
    ck_assert_int_eq(read_n("user_id\tx\n1\t2\n", 14, READ_INTER), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "no item column"));
    e = (struct err){ 0 };
    ck_assert_int_eq(read_n("u1\ta,b\tc\n", 9, READ_SEQ), 0);
    becomes(1, "u1:a,b c");
}
END_TEST

/* ---- order and numbering ---- */

START_TEST(events_are_ordered_by_time_and_ties_keep_file_order)
{
    ck_assert_int_eq(
        read_text("userId,movieId,timestamp\nu,a,5\nu,b,5\nu,c,1\nu,d,5\nu,e,1\nu,f,0.5\n"), 0);
    becomes(1, "u:f c e a b d");
}
END_TEST

START_TEST(rows_are_numbered_by_first_appearance_in_the_file)
{
    struct dataset d;
    ck_assert_int_eq(read_text("userId,movieId,timestamp\nv,late,9\nu,mid,5\nv,early,1\n"), 0);
    ck_assert_int_eq(write_least(1, "set"), 0);
    ck_assert_int_eq(dataset_open(&d, in("set"), &e), 0);
    ck_assert_int_eq(items_find(d.items, "late", 4), 0);
    ck_assert_int_eq(items_find(d.items, "mid", 3), 1);
    ck_assert_int_eq(items_find(d.items, "early", 5), 2);
    ck_assert_int_eq(items_find(d.users, "v", 1), 0);
    ck_assert_int_eq(d.time[0], 1);
    ck_assert_int_eq(d.time[1], 9);
    dataset_close(&d);
}
END_TEST

START_TEST(times_are_whole_seconds_rounded_down)
{
    struct dataset d;
    ck_assert_int_eq(read_text("user,item,time\nu,a,1.9\nu,b,0.5\nu,c,1e9\n"), 0);
    ck_assert_int_eq(write_least(1, "set"), 0);
    ck_assert_int_eq(dataset_open(&d, in("set"), &e), 0);
    ck_assert_int_eq(d.time[0], 0);
    ck_assert_int_eq(d.time[1], 1);
    ck_assert_int_eq(d.time[2], 1000000000);
    dataset_close(&d);
}
END_TEST

START_TEST(popularity_counts_the_training_part_only)
{
    struct dataset d;
    ck_assert_int_eq(read_text("u1 a b c d\nu2 a b\nu3 d\n"), 0);
    ck_assert_int_eq(write_least(1, "set"), 0);
    ck_assert_int_eq(dataset_open(&d, in("set"), &e), 0);
    static const int64_t want[] = { 2, 2, 0, 1 }; /* u2 and u3 have no test event */
    for (int32_t i = 0; i < 4; i++) ck_assert_int_eq(items_popularity(d.items, i), want[i]);
    ck_assert_int_eq(items_popularity(d.users, 0), 4);
    dataset_close(&d);
}
END_TEST

START_TEST(several_files_make_one_data_set)
{
    ck_assert_int_eq(read_text("u1 a b\nu2 c\n"), 0);
    ck_assert_int_eq(read_text("user_id:token\titem_id:token\nu2\ta\nu3\td\n"), 0);
    ck_assert_int_eq(x->n, 5);
    becomes(1, "u1:a b;u2:c a;u3:d");
}
END_TEST

START_TEST(files_with_and_without_timestamps_do_not_mix)
{
    ck_assert_int_eq(read_text("user,item,time\nu1,a,1\n"), 0);
    ck_assert_int_eq(read_text("u1 a b\n"), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "has no timestamps, unlike"));
    e = (struct err){ 0 };
    ck_assert_int_eq(read_text("user,item\nu1,a\n"), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "input:1: has no timestamps"));
}
END_TEST

/* ---- what is dropped ---- */

static const struct {
    const char *text;
    size_t nb; /* 0: strlen */
    enum read_drop why;
    int64_t line, n, kept;
} drops[] = {
    { "user,item\n,a\nu,a\nu,\n", 0, DROP_EMPTY_ID, 2, 2, 1 },
    { "user,item\nu,a\nu\nu,b,c\nu,b\n\"u,c\n", 0, DROP_FIELDS, 3, 3, 2 },
    { "user,item,time\nu,a,x\nu,b,1\nu,c,\nu,d,inf\nu,e,1e300\nu,f,-1\nu,g,99999999999\n", 0,
      DROP_TIME, 2, 6, 1 },
    { "u1 a b\nu2\nu3 a b\n", 0, DROP_FIELDS, 2, 1, 4 },
    { "u1 a b\nu1 c\0d e\n", 16, DROP_CONTROL, 2, 1, 3 },
    { "u1 a b\nu\0"
      "2 c d e\n",
      17, DROP_CONTROL, 2, 3, 2 },
    { "u1 a b\nu2 \xff c\n", 0, DROP_UTF8, 2, 1, 3 },
    { "user,item\nu,a\nu,b\tc\n\"u\t\",d\nu,\x7f\n", 0, DROP_CONTROL, 3, 2, 2 },
};

START_TEST(bad_events_are_counted_by_reason_with_their_first_line)
{
    size_t nb = drops[_i].nb ? drops[_i].nb : strlen(drops[_i].text);
    /* Control bytes would hide the format. */
    enum read_format f = strncmp(drops[_i].text, "user,", 5) == 0 ? READ_CSV : READ_SEQ;
    ck_assert_msg(read_n(drops[_i].text, nb, f) == 0, "%s", e.msg);
    ck_assert_int_eq(st.dropped[drops[_i].why], drops[_i].n);
    ck_assert_int_eq(st.first_line[drops[_i].why], drops[_i].line);
    ck_assert_int_eq(st.kept, drops[_i].kept);
}
END_TEST

START_TEST(an_id_of_10_megabytes_is_dropped_and_the_rest_kept)
{
    struct buf text = { 0 };
    char *big = xmalloc(10 << 20);
    memset(big, 'x', 10 << 20);
    buf_puts(&text, "u1 a b\nu2 a ");
    buf_put(&text, big, 10 << 20);
    buf_puts(&text, " b\n");
    buf_put(&text, big, 10 << 20);
    buf_puts(&text, " a b\nu3 b\n");
    ck_assert_msg(read_n(text.data, text.len, READ_AUTO) == 0, "%s", e.msg);
    ck_assert_int_eq(st.dropped[DROP_LONG_ID], 3);
    ck_assert_int_eq(st.first_line[DROP_LONG_ID], 2);
    becomes(1, "u1:a b;u2:a b;u3:b");
    buf_clear(&text);
    buf_puts(&text, "userId,movieId\nu1,a\nu1,\"");
    buf_put(&text, big, 10 << 20);
    buf_puts(&text, "\"\"\"\nu1,b\n");
    ck_assert_msg(read_n(text.data, text.len, READ_AUTO) == 0, "%s", e.msg);
    ck_assert_int_eq(st.dropped[DROP_LONG_ID], 1);
    ck_assert_int_eq(st.kept, 2);
    buf_free(&text);
    free(big);
}
END_TEST

START_TEST(an_id_of_exactly_the_limit_is_kept)
{
    char id[LIMIT_ID_BYTES + 1], text[2 * LIMIT_ID_BYTES + 64];
    memset(id, 'x', sizeof id);
    int n = snprintf(text, sizeof text, "u1 %.*s %.*s\n", LIMIT_ID_BYTES, id,
                     LIMIT_ID_BYTES + 1, id);
    ck_assert_int_eq(read_n(text, (size_t)n, READ_AUTO), 0);
    ck_assert_int_eq(st.kept, 1);
    ck_assert_int_eq(st.dropped[DROP_LONG_ID], 1);
}
END_TEST

START_TEST(a_line_over_the_cap_is_dropped)
{
    size_t nb = (size_t)LIMIT_LINE_BYTES + 32;
    char *text = xmalloc(nb);
    memset(text, 'x', nb);
    static const char first[7] = "u1 a b\n", last[7] = "\nu2 a b";
    memcpy(text, first, sizeof first);
    memcpy(text + nb - sizeof last, last, sizeof last);
    ck_assert_int_eq(read_events_mem(x, text, nb, "input",
                                     &(struct read_opts){ .format = READ_SEQ }, &st, &e),
                     0);
    ck_assert_int_eq(st.dropped[DROP_LONG_LINE], 1);
    ck_assert_int_eq(st.first_line[DROP_LONG_LINE], 2);
    ck_assert_int_eq(st.kept, 4);
    free(text);
}
END_TEST

START_TEST(short_users_are_dropped_with_the_first_of_them_named)
{
    ck_assert_int_eq(read_text("u1 a b\nu2 only\nu3 c\nu4 a d\n"), 0);
    becomes(2, "u1:a b;u4:a d");
    ck_assert_int_eq(st.short_users, 2);
    ck_assert_int_eq(st.dropped[DROP_SHORT_USER], 2);
    ck_assert_int_eq(st.first_line[DROP_SHORT_USER], 2);
    ck_assert_str_eq(st.short_file, "input");
    ck_assert_int_eq(st.events, 6);
    ck_assert_int_eq(st.kept, 4);
}
END_TEST

START_TEST(items_of_dropped_users_have_no_row)
{
    struct dataset d;
    ck_assert_int_eq(read_text("u1 x\nu2 a b\n"), 0);
    ck_assert_int_eq(write_least(2, "set"), 0);
    ck_assert_int_eq(dataset_open(&d, in("set"), &e), 0);
    ck_assert_int_eq(d.n_items, 2);
    ck_assert_int_eq(items_find(d.items, "a", 1), 0);
    ck_assert_int_eq(items_find(d.items, "x", 1), -1);
    dataset_close(&d);
}
END_TEST

START_TEST(nothing_usable_is_an_error_and_nothing_is_written)
{
    ck_assert_int_eq(read_text(""), 0);
    ck_assert_int_eq(st.format, READ_AUTO);
    ck_assert_int_eq(read_text("\xef\xbb\xbf\r\n\n"), 0);
    ck_assert_int_eq(write_least(2, "set"), ERR_EMPTY);
    ck_assert_ptr_nonnull(strstr(e.msg, "no usable event"));
    e = (struct err){ 0 };
    ck_assert_int_eq(read_text("u1 a\nu2 b\n"), 0);
    ck_assert_int_eq(write_least(2, "set"), ERR_EMPTY);
    ck_assert_ptr_nonnull(strstr(e.msg, "no user has 2 events"));
    ck_assert_int_eq(st.short_users, 2);
    ck_assert(!io_exists(in("set")));
}
END_TEST

START_TEST(the_description_says_what_was_read_and_dropped)
{
    char *json;
    size_t nb;
    ck_assert_int_eq(read_text("u1 a b\nu2\nu3 c\n"), 0);
    ck_assert_int_eq(write_least(2, "set"), 0);
    ck_assert_int_eq(io_read_all(&json, &nb, in("set/dataset.json"), 1 << 20, &e), 0);
    ck_assert_ptr_nonnull(strstr(json, "\"users\": 1"));
    ck_assert_ptr_nonnull(
        strstr(json, "{\"file\": \"input\", \"format\": \"seq\", \"lines\": 3, \"events\": 4"));
    ck_assert_ptr_nonnull(
        strstr(json, "\"wrong number of fields\": {\"events\": 1, \"first_line\": 2}"));
    ck_assert_ptr_nonnull(
        strstr(json, "\"user with fewer than the minimum of events\": {\"events\": 1, "
                     "\"first_line\": 3}"));
    free(json);
}
END_TEST

START_TEST(the_report_names_file_line_and_reason)
{
    char *text = NULL;
    size_t nb = 0;
    FILE *f = open_memstream(&text, &nb);
    ck_assert_int_eq(read_text("u1 a b\nu2\nu3 c\n"), 0);
    read_report(&st, "input", f);
    ck_assert_int_eq(write_least(2, "set"), 0);
    read_report_users(&st, f);
    ck_assert_int_eq(read_text(""), 0);
    read_report(&st, "other", f);
    fclose(f);
    ck_assert_str_eq(text,
                     "input: seq, 3 lines, 4 events, 3 kept\n"
                     "input:2: wrong number of fields: 1 dropped, the first here\n"
                     "input:3: user with fewer than the minimum of events: 1 dropped with 1 "
                     "events, the first here\n"
                     "other: empty\n");
    free(text);
}
END_TEST

/* Without times the order of the file decides, which is said. */
START_TEST(a_table_without_times_is_taken_in_its_order_and_that_is_said)
{
    char *text = NULL;
    size_t nb = 0;
    FILE *f = open_memstream(&text, &nb);
    ck_assert_int_eq(read_text("user,item,when\nu1,b,2\nu1,a,1\n"), 0);
    read_report(&st, "input", f);
    fclose(f);
    ck_assert_ptr_nonnull(strstr(text, "input: no time column"));
    becomes(1, "u1:b a");
    free(text);
}
END_TEST

/* ---- hostile ends ---- */

START_TEST(every_prefix_of_every_format_stays_inside)
{
    const char *text = formats[_i].text;
    for (size_t nb = 0; nb <= strlen(text); nb++) {
        char *p = guard_copy(text, nb);
        for (int f = READ_AUTO; f <= READ_TSV; f++) {
            struct interactions *y = interactions_new();
            (void)!read_events_mem(y, p, nb, "input",
                                   &(struct read_opts){ .format = (enum read_format)f }, &st,
                                   NULL);
            interactions_free(y);
        }
        guard_free(p, nb);
    }
}
END_TEST

START_TEST(a_header_may_have_any_number_of_columns)
{
    struct buf text = { 0 };
    buf_puts(&text, "user,item");
    for (int i = 0; i < FIELDS_MAX; i++) buf_puts(&text, ",x");
    buf_puts(&text, "\n");
    ck_assert_int_eq(read_n(text.data, text.len, READ_CSV), ERR_FORMAT);
    buf_free(&text);
}
END_TEST

/* ---- real files ---- */

START_TEST(movielens_latest_small_has_its_documented_counts)
{
    const char *path = data_path("ml-latest-small/ratings.csv");
    if (!path) return;
    ck_assert_msg(read_events(x, path, NULL, &st, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(st.format, READ_CSV);
    ck_assert_int_eq(st.kept, 100836);
    struct items_stats ts;
    ck_assert_int_eq(read_items(interactions_items(x), data_path("ml-latest-small/movies.csv"),
                                NULL, &ts, &e),
                     0);
    ck_assert_int_eq(ts.matched, 9724);
    ck_assert_int_eq(ts.n_fields, 1);
    ck_assert_int_eq(ts.field[0].values, 20);
    ck_assert_int_eq(ts.matched + ts.unknown, 9742);
    struct dataset d;
    ck_assert_int_eq(write_least(2, "ml"), 0);
    ck_assert_int_eq(dataset_open(&d, in("ml"), &e), 0);
    ck_assert_int_eq(d.n_users, 610);
    ck_assert_int_eq(d.n_items, 9724);
    int32_t row = items_find(d.items, "11", 2);
    ck_assert_int_ge(row, 0);
    struct str s = items_title(d.items, row);
    ck_assert_int_eq(s.len, (int)strlen("American President, The (1995)"));
    ck_assert_mem_eq(s.p, "American President, The (1995)", (size_t)s.len);
    for (int64_t i = d.cu[0] + 1; i < d.cu[1]; i++) ck_assert_int_le(d.time[i - 1], d.time[i]);
    dataset_close(&d);
}
END_TEST

START_TEST(the_amazon_and_yelp_sets_have_their_documented_counts)
{
    static const struct {
        const char *name;
        int32_t users, items;
        int64_t events;
    } sets[] = { { "Beauty", 22363, 12101, 198502 },
                 { "Sports_and_Outdoors", 35598, 18357, 296337 },
                 { "Yelp", 30431, 20033, 316354 } };
    struct dataset d;
    if (!data_real(&d, dir, sets[_i].name)) return;
    ck_assert_int_eq(d.n_users, sets[_i].users);
    ck_assert_int_eq(d.n_items, sets[_i].items);
    ck_assert_int_eq(d.n_events, sets[_i].events);
    dataset_close(&d);
}
END_TEST

Suite *suite_read(void);
Suite *suite_read(void)
{
    Suite *s = suite_create("read");
    TCase *t = tcase_create("read");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    const int n_formats = sizeof formats / sizeof *formats;
    tcase_add_loop_test(t, the_format_is_found_by_content, 0, n_formats);
    tcase_add_loop_test(t, an_unknown_format_is_refused_with_file_and_line, 0,
                        sizeof unknown / sizeof *unknown);
    tcase_add_test(t, a_forced_format_needs_its_columns);
    tcase_add_test(t, events_are_ordered_by_time_and_ties_keep_file_order);
    tcase_add_test(t, rows_are_numbered_by_first_appearance_in_the_file);
    tcase_add_test(t, times_are_whole_seconds_rounded_down);
    tcase_add_test(t, popularity_counts_the_training_part_only);
    tcase_add_test(t, several_files_make_one_data_set);
    tcase_add_test(t, files_with_and_without_timestamps_do_not_mix);
    tcase_add_loop_test(t, bad_events_are_counted_by_reason_with_their_first_line, 0,
                        sizeof drops / sizeof *drops);
    tcase_add_test(t, an_id_of_10_megabytes_is_dropped_and_the_rest_kept);
    tcase_add_test(t, an_id_of_exactly_the_limit_is_kept);
    tcase_add_test(t, a_line_over_the_cap_is_dropped);
    tcase_add_test(t, short_users_are_dropped_with_the_first_of_them_named);
    tcase_add_test(t, items_of_dropped_users_have_no_row);
    tcase_add_test(t, nothing_usable_is_an_error_and_nothing_is_written);
    tcase_add_test(t, the_description_says_what_was_read_and_dropped);
    tcase_add_test(t, the_report_names_file_line_and_reason);
    tcase_add_test(t, a_table_without_times_is_taken_in_its_order_and_that_is_said);
    tcase_add_loop_test(t, every_prefix_of_every_format_stays_inside, 0, n_formats);
    tcase_add_test(t, a_header_may_have_any_number_of_columns);
    tcase_add_test(t, movielens_latest_small_has_its_documented_counts);
    tcase_add_loop_test(t, the_amazon_and_yelp_sets_have_their_documented_counts, 0, 3);
    suite_add_tcase(s, t);
    return s;
}
