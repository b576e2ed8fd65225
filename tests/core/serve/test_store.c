#include "core/base/mem.h"
#include "core/serve/store.h"
#include "tests/child.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *suite_store(void);

static char *dir;
static struct store *store;

static void open_as(enum store_mode mode)
{
    struct err e = { 0 };
    ck_assert_msg(store_open(&store, dir, mode, &e) == 0, "%s", e.msg);
}

static void setup(void)
{
    dir = fixture_tmpdir();
    open_as(STORE_WRITE);
}

static void teardown(void)
{
    store_close(store);
    fixture_rmdir(dir);
    free(dir);
}

static void reopen(enum store_mode mode)
{
    store_close(store);
    open_as(mode);
}

static struct str S(const char *s) {
    return (struct str){ s, (int32_t)strlen(s) };
}

static struct item_change
put_title(const char *model, const char *id, const char *title)
{
    return (struct item_change){
        .model = S(model), .id = S(id), .has_title = true, .title = S(title)
    };
}

static void put(struct item_change *c, struct store_was *was, int32_t n)
{
    struct err e = { 0 };
    ck_assert_msg(store_put_items(store, c, was, n, &e) == 0, "%s", e.msg);
}

/* "id=title id=- " in order of their sequence; drop: ids that are dropped. */
struct listing {
    uint64_t seq[64];
    char entry[64][32];
    const char *drop;
    int n;
};

static enum store_keep on_item(void *ctx, const struct item_change *c)
{
    struct listing *l = ctx;
    char id[16];
    snprintf(id, sizeof id, "%.*s", (int)c->id.len, c->id.p);
    int at = l->n++;
    for (; at > 0 && l->seq[at - 1] > c->seq; at--) {
        l->seq[at] = l->seq[at - 1];
        memcpy(l->entry[at], l->entry[at - 1], sizeof l->entry[at]);
    }
    l->seq[at] = c->seq;
    snprintf(l->entry[at], sizeof l->entry[at], "%s=%.*s ", id,
             c->deleted ? 1 : (int)c->title.len, c->deleted ? "-" : c->title.p);
    return l->drop && strstr(l->drop, id) ? STORE_DROP : STORE_KEEP;
}

static const char *list_of(const char *model, const char *drop)
{
    static struct listing l;
    static char text[4096];
    struct err e = { 0 };
    size_t at = 0;
    l = (struct listing){ .drop = drop };
    ck_assert_msg(store_each_item(store, model, on_item, &l, NULL, &e) == 0, "%s", e.msg);
    text[0] = '\0';
    for (int i = 0; i < l.n; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s", l.entry[i]);
    return text;
}

START_TEST(the_last_change_of_an_id_stays_over_reopening)
{
    struct item_change c[] = { put_title("m", "a", "1"),
                               put_title("m", "b", "2"),
                               put_title("other", "a", "3"),
                               put_title("m", "a", "4"),
                               { .model = S("m"), .id = S("b"), .deleted = true } };
    put(c, NULL, 5);
    ck_assert_str_eq(list_of("m", NULL), "a=4 b=- ");
    char id[64];
    snprintf(id, sizeof id, "%s", store_id(store));
    ck_assert_uint_eq(strlen(id), 32);
    reopen(STORE_WRITE);
    ck_assert_str_eq(list_of("m", NULL), "a=4 b=- ");
    ck_assert_str_eq(list_of("other", NULL), "a=3 ");
    ck_assert_str_eq(list_of("nobody", NULL), "");
    ck_assert_str_eq(store_id(store), id);
    struct item_change more = put_title("m", "c", "5");
    put(&more, NULL, 1);
    ck_assert_uint_eq(more.seq, 6); /* goes on counting */
    reopen(STORE_READ);
    ck_assert_str_eq(list_of("m", NULL), "a=4 b=- c=5 ");
}
END_TEST

START_TEST(a_write_says_what_was_there)
{
    const float v[] = { 1, 2 };
    struct item_change c[] = { put_title("m", "a", "1"), put_title("m", "a", "2") };
    c[0].vector = v;
    c[0].dim = 2;
    c[0].space = S("here");
    struct store_was was[2];
    put(c, was, 2);
    ck_assert(!was[0].any && was[1].any && !was[1].deleted);
    ck_assert_int_eq(was[1].dim, 2);
    ck_assert_str_eq(was[1].space, "here");
    struct item_change gone = { .model = S("m"), .id = S("a"), .deleted = true };
    put(&gone, was, 1);
    ck_assert(was[0].any && was[0].dim == 0);
    put(&gone, was, 1);
    ck_assert(was[0].any && was[0].deleted);
}
END_TEST

START_TEST(what_the_reader_drops_is_gone)
{
    struct item_change c[] = { put_title("m", "a", "1"), put_title("m", "b", "2"),
                               put_title("m", "c", "3") };
    put(c, NULL, 3);
    ck_assert_str_eq(list_of("m", "a c"), "a=1 b=2 c=3 ");
    ck_assert_str_eq(list_of("m", NULL), "b=2 ");
    reopen(STORE_WRITE);
    ck_assert_str_eq(list_of("m", NULL), "b=2 ");
}
END_TEST

static enum store_keep end_here(void *ctx, const struct item_change *c)
{
    (void)ctx, (void)c;
    _exit(0);
}

static off_t size_of_file(void)
{
    char *path = xasprintf("%s/data.mdb", dir);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    free(path);
    return st.st_size;
}

static void read_and_end(void *ctx)
{
    struct store *s;
    (void)ctx;
    REQUIRE(store_open(&s, dir, STORE_READ, NULL) == 0, "%s", dir);
    REQUIRE(store_each_item(s, "m", end_here, NULL, NULL, NULL) == 0, "%s", dir);
    REQUIRE(false, "no item");
}

/* What it was reading would never be written over. */
START_TEST(a_reader_that_was_killed_keeps_no_page)
{
    struct item_change c = put_title("m", "a", "1");
    put(&c, NULL, 1);
    struct child child = child_run(read_and_end, NULL);
    ck_assert_msg(child_succeeded(&child), "%s", child.text);
    free(child.text);
    for (int i = 0; i < 10; i++) put(&c, NULL, 1);
    const off_t size = size_of_file();
    for (int i = 0; i < 50; i++) put(&c, NULL, 1);
    ck_assert_int_eq(size_of_file(), size);
}
END_TEST

START_TEST(ids_longer_than_a_key_of_the_library_are_told_apart)
{
    static char a[1025], b[1025];
    memset(a, 'x', 1024);
    memset(b, 'x', 1024);
    b[1023] = 'y';
    struct item_change c[] = { put_title("m", a, "1"), put_title("m", b, "2") };
    struct store_was was[2];
    put(c, was, 2);
    ck_assert(!was[1].any);
    ck_assert_uint_eq(strlen(list_of("m", NULL)), 2 * 18); /* both, cut by the listing */
}
END_TEST

START_TEST(the_map_grows_when_it_is_full)
{
    enum { D = 4096, N = 256, ROUNDS = 20 }; /* 80 MiB; the map begins with 64 */
    static float v[D];
    static char id[N][16];
    static struct item_change c[N];
    for (int r = 0; r < ROUNDS; r++) {
        for (int i = 0; i < N; i++) {
            snprintf(id[i], sizeof id[i], "%d", r * N + i);
            c[i] = (struct item_change){
                .model = S("m"), .id = S(id[i]), .vector = v, .dim = D, .space = S("s")
            };
        }
        put(c, NULL, N);
    }
    ck_assert_uint_eq(c[N - 1].seq, N * ROUNDS);
}
END_TEST

static void open_again(void *ctx)
{
    struct err e = { 0 };
    struct store *s;
    (void)ctx;
    if (store_open(&s, dir, STORE_WRITE, &e) != ERR_CONFIG) abort();
    fputs(e.msg, stderr);
}

START_TEST(a_second_writer_is_refused)
{
    struct child c = child_run(open_again, NULL);
    ck_assert(child_succeeded(&c));
    ck_assert_ptr_nonnull(strstr(c.text, "another process writes to it"));
    free(c.text);
}
END_TEST

START_TEST(a_store_that_is_not_there_cannot_be_read)
{
    struct err e = { 0 };
    struct store *s;
    char *path = xasprintf("%s/none", dir);
    ck_assert_int_eq(store_open(&s, path, STORE_READ, &e), ERR_IO);
    ck_assert_ptr_nonnull(strstr(e.msg, "none: No such file"));
    free(path);
}
END_TEST

/* Changes a byte of the first record through the library. */
static void damage(const char *table)
{
    MDB_env *env;
    MDB_txn *t;
    MDB_dbi dbi;
    MDB_cursor *c;
    MDB_val k, v;
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, 3), 0);
    ck_assert_int_eq(mdb_env_open(env, dir, 0, 0644), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &t), 0);
    ck_assert_int_eq(mdb_dbi_open(t, table, 0, &dbi), 0);
    ck_assert_int_eq(mdb_cursor_open(t, dbi, &c), 0);
    ck_assert_int_eq(mdb_cursor_get(c, &k, &v, MDB_FIRST), 0);
    size_t nb = v.mv_size;
    char *copy = xmalloc(nb), key[64];
    size_t nb_key = k.mv_size;
    memcpy(key, k.mv_data, nb_key);
    memcpy(copy, v.mv_data, nb);
    copy[nb / 2] = (char)(copy[nb / 2] ^ 4);
    mdb_cursor_close(c);
    k = (MDB_val){ nb_key, key };
    v = (MDB_val){ nb, copy };
    ck_assert_int_eq(mdb_put(t, dbi, &k, &v, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(t), 0);
    mdb_env_close(env);
    free(copy);
}

START_TEST(a_damaged_record_is_left_out_and_can_be_replaced)
{
    struct item_change c[] = { put_title("m", "a", "1"), put_title("m", "b", "2"),
                               put_title("m", "c", "3") };
    put(c, NULL, 3);
    store_close(store);
    damage("items");
    open_as(STORE_WRITE);
    ck_assert_uint_eq(strlen(list_of("m", NULL)), 8); /* two of three */
    struct store_was was[3];
    put(c, was, 3);
    ck_assert_int_eq(was[0].any + was[1].any + was[2].any, 2);
    ck_assert_str_eq(list_of("m", NULL), "a=1 b=2 c=3 ");
}
END_TEST

static enum store_keep on_list(void *ctx, const struct blocklist *l)
{
    char *text = ctx;
    sprintf(text + strlen(text), "%.*s:%d ", (int)l->name.len, l->name.p, l->n);
    return l->name.p[0] == 'x' ? STORE_DROP : STORE_KEEP;
}

static const char *lists(void)
{
    static char text[256];
    text[0] = '\0';
    ck_assert_int_eq(store_each_list(store, on_list, text, NULL), 0);
    return text;
}

START_TEST(blocklists_are_kept_replaced_and_dropped)
{
    const struct str id[] = { S("a"), S("b") };
    ck_assert_int_eq(store_put_list(store, &(struct blocklist){ S("p"), 5, id, 2 }, NULL), 0);
    ck_assert_int_eq(store_put_list(store, &(struct blocklist){ S("q"), 5, id, 1 }, NULL), 0);
    ck_assert_int_eq(store_put_list(store, &(struct blocklist){ S("x"), 5, id, 0 }, NULL), 0);
    ck_assert_int_eq(store_put_list(store, &(struct blocklist){ S("q"), 6, id, 2 }, NULL), 0);
    reopen(STORE_WRITE);
    ck_assert_str_eq(lists(), "p:2 q:2 x:0 ");
    ck_assert_str_eq(lists(), "p:2 q:2 ");
    ck_assert_int_eq(store_drop_list(store, S("p"), NULL), 0);
    ck_assert_int_eq(store_drop_list(store, S("p"), NULL), 0);
    ck_assert_str_eq(lists(), "q:2 ");
    store_close(store);
    damage("lists");
    open_as(STORE_WRITE);
    ck_assert_str_eq(lists(), "");
}
END_TEST

Suite *suite_store(void)
{
    Suite *s = suite_create("store");
    TCase *t = tcase_create("store");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_last_change_of_an_id_stays_over_reopening);
    tcase_add_test(t, a_write_says_what_was_there);
    tcase_add_test(t, what_the_reader_drops_is_gone);
    tcase_add_test(t, a_reader_that_was_killed_keeps_no_page);
    tcase_add_test(t, ids_longer_than_a_key_of_the_library_are_told_apart);
    tcase_add_test(t, the_map_grows_when_it_is_full);
    tcase_add_test(t, a_second_writer_is_refused);
    tcase_add_test(t, a_store_that_is_not_there_cannot_be_read);
    tcase_add_test(t, a_damaged_record_is_left_out_and_can_be_replaced);
    tcase_add_test(t, blocklists_are_kept_replaced_and_dropped);
    suite_add_tcase(s, t);
    return s;
}
