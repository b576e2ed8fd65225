#include "core/base/limits.h"
#include "core/serve/record.h"
#include "tests/guard.h"
#include <check.h>
#include <math.h>
#include <string.h>

Suite *suite_record(void);

static struct arena *arena;
static struct buf bytes;

static void setup(void)
{
    arena = arena_new("test", 4096, 16 << 20);
    bytes = (struct buf){ .cap_max = 0 };
}

static void teardown(void)
{
    arena_free(arena);
    buf_free(&bytes);
}

static struct str S(const char *s) {
    return (struct str){ s, (int32_t)strlen(s) };
} static bool is(struct str s, const char *want)
{
    return s.len == (int32_t)strlen(want) && memcmp(s.p, want, strlen(want)) == 0;
}

static const struct str brands[] = { { "acme", 4 }, { "b\xc3\xbc", 3 } };
static const struct attr some[] = { { .name = { "brand", 5 }, .value = brands, .n_values = 2 },
                                    { .name = { "price", 5 }, .number = -0.25 },
                                    { .name = { "none", 4 }, .value = brands } };
static const float vector[] = { 1, -2.5f, 3e-30f };

static struct item_change everything(void)
{
    return (struct item_change){ .model = S("films"),
                                 .id = S("a/b"),
                                 .seq = 1234567890123,
                                 .has_title = true,
                                 .has_attrs = true,
                                 .title = S("Brazil"),
                                 .attrs = { some, 3 },
                                 .vector = vector,
                                 .dim = 3,
                                 .space = S("00ff") };
}

/* Reads n bytes whose last one stands before a page that may not be read. */
static int read_item(struct item_change *c, size_t n, struct err *e)
{
    char *p = guard_copy(bytes.data, n);
    arena_reset(arena);
    int rc = record_get_item(c, p, n, arena, e);
    guard_free(p, n);
    return rc;
}

START_TEST(an_item_comes_back_as_it_was)
{
    struct item_change c = everything(), r = { .seq = 0 };
    struct err e = { 0 };
    record_put_item(&bytes, &c);
    ck_assert_msg(record_get_item(&r, bytes.data, bytes.len, arena, &e) == 0, "%s", e.msg);
    ck_assert(is(r.model, "films") && is(r.id, "a/b") && is(r.title, "Brazil"));
    ck_assert_uint_eq(r.seq, 1234567890123);
    ck_assert(!r.deleted && r.has_title && r.has_attrs && is(r.space, "00ff"));
    ck_assert_int_eq(r.dim, 3);
    ck_assert(memcmp(r.vector, vector, sizeof vector) == 0);
    ck_assert_int_eq(r.attrs.n, 3);
    ck_assert(is(r.attrs.at[0].name, "brand") && is(r.attrs.at[0].value[1], "b\xc3\xbc"));
    ck_assert(!r.attrs.at[1].value && r.attrs.at[1].number == -0.25);
    ck_assert(r.attrs.at[2].value && r.attrs.at[2].n_values == 0); /* no number 0 */
}
END_TEST

START_TEST(a_tombstone_and_a_bare_item_come_back)
{
    struct item_change gone = { .model = S("m"), .id = S("x"), .seq = 1, .deleted = true }, r;
    record_put_item(&bytes, &gone);
    ck_assert_int_eq(record_get_item(&r, bytes.data, bytes.len, arena, NULL), 0);
    ck_assert(r.deleted && !r.vector && !r.has_attrs && !r.has_title && is(r.id, "x"));
    buf_clear(&bytes);
    struct item_change bare = { .model = S("m"), .id = S("x"), .has_title = true };
    record_put_item(&bytes, &bare);
    ck_assert_int_eq(record_get_item(&r, bytes.data, bytes.len, arena, NULL), 0);
    ck_assert(!r.deleted && r.has_title && r.title.len == 0);
}
END_TEST

START_TEST(a_blocklist_comes_back)
{
    const struct blocklist l = { S("out"), INT64_MAX, brands, 2 };
    struct blocklist r;
    record_put_blocklist(&bytes, &l);
    ck_assert_int_eq(record_get_blocklist(&r, bytes.data, bytes.len, arena, NULL), 0);
    ck_assert(is(r.name, "out") && r.expires_ms == INT64_MAX && r.n == 2);
    ck_assert(is(r.id[0], "acme") && is(r.id[1], "b\xc3\xbc"));
    struct item_change c;
    ck_assert_int_eq(record_get_item(&c, bytes.data, bytes.len, arena, NULL), ERR_FORMAT);
}
END_TEST

START_TEST(every_cut_and_every_flipped_bit_is_refused)
{
    struct item_change c = everything(), r;
    record_put_item(&bytes, &c);
    for (size_t n = 0; n < bytes.len; n++) ck_assert_int_eq(read_item(&r, n, NULL), ERR_FORMAT);
    for (size_t i = 0; i < 8 * bytes.len; i++) {
        bytes.data[i / 8] = (char)(bytes.data[i / 8] ^ 1 << i % 8);
        ck_assert_int_eq(read_item(&r, bytes.len, NULL), ERR_FORMAT);
        bytes.data[i / 8] = (char)(bytes.data[i / 8] ^ 1 << i % 8);
    }
    ck_assert_int_eq(read_item(&r, bytes.len, NULL), 0);
}
END_TEST

/* What a program with other limits might have written: the checksum is right. */
START_TEST(more_than_the_limits_is_refused_and_says_what)
{
    static char text[LIMIT_TITLE_BYTES + 1];
    static struct attr many[LIMIT_FIELDS + 1];
    static struct str values[LIMIT_TAGS + 1];
    memset(text, 'a', sizeof text);
    for (int i = 0; i <= LIMIT_FIELDS; i++) many[i] = (struct attr){ .name = { text, i + 1 } };
    for (int i = 0; i <= LIMIT_TAGS; i++) values[i] = S("v");
    const struct attr twice[] = { { .name = S("a") }, { .name = S("a") } },
                      long_name[] = { { .name = { text, LIMIT_FIELD_NAME + 1 } } },
                      tags[] = { { .name = S("a"),
                                   .value = values,
                                   .n_values = LIMIT_TAGS + 1 } },
                      nan_number[] = { { .name = S("a"), .number = (double)NAN } };
    const float nan_vector[] = { NAN };
    const struct {
        struct item_change c;
        const char *why;
    } bad[] = {
        { { .model = S("m"), .id = { text, LIMIT_ID_BYTES + 1 } }, "the id" },
        { { .model = S("m"), .id = S("") }, "the id" },
        { { .model = S("m"), .id = S("\xff") }, "the id" },
        { { .model = { text, LIMIT_MODEL_NAME + 1 }, .id = S("x") }, "model" },
        { { .model = S("m"),
            .id = S("x"),
            .has_title = true,
            .title = { text, LIMIT_TITLE_BYTES + 1 } },
          "title" },
        { { .model = S("m"),
            .id = S("x"),
            .has_attrs = true,
            .attrs = { many, LIMIT_FIELDS + 1 } },
          "too many attributes" },
        { { .model = S("m"), .id = S("x"), .has_attrs = true, .attrs = { twice, 2 } },
          "twice" },
        { { .model = S("m"), .id = S("x"), .has_attrs = true, .attrs = { long_name, 1 } },
          "attribute's name" },
        { { .model = S("m"), .id = S("x"), .has_attrs = true, .attrs = { tags, 1 } },
          "too many values" },
        { { .model = S("m"), .id = S("x"), .has_attrs = true, .attrs = { nan_number, 1 } },
          "not finite" },
        { { .model = S("m"), .id = S("x"), .vector = nan_vector, .dim = 1, .space = S("s") },
          "not finite" },
        { { .model = S("m"), .id = S("x"), .vector = vector, .dim = 1 }, "space" },
        { { .model = S("m"), .id = S("x"), .vector = vector, .space = S("s") }, "length" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct item_change r;
        struct err e = { 0 };
        buf_clear(&bytes);
        record_put_item(&bytes, &bad[i].c);
        ck_assert_msg(read_item(&r, bytes.len, &e) == ERR_FORMAT, "%s", bad[i].why);
        ck_assert_msg(strstr(e.msg, bad[i].why), "%s: %s", bad[i].why, e.msg);
    }
}
END_TEST

Suite *suite_record(void)
{
    Suite *s = suite_create("record");
    TCase *t = tcase_create("record");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_item_comes_back_as_it_was);
    tcase_add_test(t, a_tombstone_and_a_bare_item_come_back);
    tcase_add_test(t, a_blocklist_comes_back);
    tcase_add_test(t, every_cut_and_every_flipped_bit_is_refused);
    tcase_add_test(t, more_than_the_limits_is_refused_and_says_what);
    suite_add_tcase(s, t);
    return s;
}
