#include "core/base/limits.h"
#include "server/items_req.h"
#include "tests/guard.h"
#include <check.h>
#include <stdio.h>
#include <string.h>

Suite *suite_items_req(void);

static struct arena *arena;
static struct items_req r;
static struct faults f;

static void setup(void) { arena = arena_new("test", 4096, 16 << 20); }
static void teardown(void) { arena_free(arena); }

/* Parses with the body's last byte against a page that may not be read; nothing of the
 * result points into it. */
static int parse_as(enum items_req_kind kind, const char *body, size_t n, bool strict)
{
    char *at = guard_copy(body, n);
    f = (struct faults){ .n = 0 };
    arena_reset(arena);
    int rc = items_req_parse(&r, kind, at, n, strict, arena, &f);
    guard_free(at, n);
    return rc;
}

static int parse(enum items_req_kind kind, const char *body)
{
    return parse_as(kind, body, strlen(body), true);
}

static bool is(struct str s, const char *want)
{
    return s.len == (int32_t)strlen(want) && memcmp(s.p, want, strlen(want)) == 0;
}

START_TEST(an_item_has_a_vector_attributes_and_a_title)
{
    ck_assert_int_eq(
        parse(ITEMS_REQ_PUT,
              "{\"vector\":[1,-2.5,3e2],\"title\":\"T\",\"model\":\"m\",\"attributes\":"
              "{\"brand\":\"b\",\"tags\":[\"x\",\"y\"],\"price\":3.5,\"year\":1999,"
              "\"sale\":true,\"none\":null,\"empty\":[]}}"),
        0);
    const struct item_change *c = r.change;
    ck_assert(r.n_changes == 1 && is(r.model, "m") && c->has_title && is(c->title, "T"));
    ck_assert(c->dim == 3 && c->vector[1] == -2.5f && c->vector[2] == 300);
    ck_assert(c->has_attrs && c->attrs.n == 6);
    const struct attr *a = c->attrs.at;
    ck_assert(is(a[0].name, "brand") && a[0].n_values == 1 && is(a[0].value[0], "b"));
    ck_assert(is(a[1].name, "tags") && a[1].n_values == 2 && is(a[1].value[1], "y"));
    ck_assert(!a[2].value && a[2].number == 3.5 && !a[3].value && a[3].number == 1999);
    ck_assert(is(a[4].value[0], "true") && a[5].value && a[5].n_values == 0);
}
END_TEST

START_TEST(a_vector_may_be_base64_of_little_endian_floats)
{
    static const struct {
        const char *text;
        int dim;                         /* 0: refused */
    } t[] = { { "AACAPwAAAEAAAEBA", 3 }, /* 1 2 3: 12 bytes */
              { "AACAPw==", 1 },
              { "AACAPwAAAEA=", 2 },
              { "AACAPw=", 0 },
              { "AACAP===", 0 },
              { "AAC=PwAA", 0 },
              { "AACA", 0 },
              { "AACAPw", 0 },
              { "A*CAPw==", 0 },
              { "AADAfw==", 0 }, /* NaN */
              { "", 0 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char body[64];
        snprintf(body, sizeof body, "{\"vector\":\"%s\"}", t[i].text);
        int rc = parse(ITEMS_REQ_PUT, body);
        ck_assert_msg(rc == (t[i].dim ? 0 : ERR_INVALID), "%s", t[i].text);
        if (rc < 0) continue;
        ck_assert_int_eq(r.change->dim, t[i].dim);
        ck_assert(r.change->vector[t[i].dim - 1] == (float)t[i].dim);
    }
}
END_TEST

START_TEST(a_batch_has_puts_and_then_deletes)
{
    ck_assert_int_eq(parse(ITEMS_REQ_BATCH,
                           "{\"delete\":[\"x\",7],\"put\":[{\"item_id\":\"a\",\"title\":\"\"},"
                           "{\"vector\":[0],\"item_id\":-3}]}"),
                     0);
    ck_assert_int_eq(r.n_changes, 4);
    ck_assert(is(r.change[0].id, "a") && r.change[0].has_title && !r.change[0].deleted);
    ck_assert(is(r.change[1].id, "-3") && r.change[1].dim == 1);
    ck_assert(is(r.change[2].id, "x") && r.change[2].deleted && is(r.change[3].id, "7"));
}
END_TEST

START_TEST(a_lookup_and_a_blocklist_have_items)
{
    ck_assert_int_eq(parse(ITEMS_REQ_LOOKUP, "{\"items\":[\"a\",2],\"model\":\"m\"}"), 0);
    ck_assert(r.n_ids == 2 && is(r.id[1], "2") && is(r.model, "m"));
    ck_assert_int_eq(parse(ITEMS_REQ_BLOCKLIST, "{\"items\":[],\"ttl_seconds\":0.5}"), 0);
    ck_assert(r.n_ids == 0 && r.ttl_s == 0.5);
}
END_TEST

static const struct bad {
    enum items_req_kind kind;
    int code;
    const char *body;
    const char *pointer, *detail; /* detail: a part of it */
} bads[] = {
    { ITEMS_REQ_PUT, ERR_BAD_JSON, "", "", "empty" },
    { ITEMS_REQ_PUT, ERR_BAD_JSON, "{", "", "line 1" },
    { ITEMS_REQ_PUT, ERR_BAD_TYPE, "[]", "", "an object, not an array" },
    { ITEMS_REQ_PUT, ERR_INVALID, "{}", "", "give a vector" },
    { ITEMS_REQ_PUT, ERR_INVALID, "{\"vector\":[]}", "/vector", "empty" },
    { ITEMS_REQ_PUT, ERR_BAD_TYPE, "{\"vector\":{}}", "/vector", "base64" },
    { ITEMS_REQ_PUT, ERR_BAD_TYPE, "{\"vector\":[1,\"2\"]}", "/vector/1", "a number" },
    { ITEMS_REQ_PUT, ERR_INVALID, "{\"vector\":[1e39]}", "/vector", "not finite" },
    { ITEMS_REQ_PUT, ERR_INVALID, "{\"vector\":[1,-2e15]}", "/vector", "1e15" },
    { ITEMS_REQ_PUT, ERR_BAD_TYPE, "{\"title\":3}", "/title", "a string" },
    { ITEMS_REQ_PUT, ERR_INVALID, "{\"title\":\"a\\u0000\"}", "/title", "NUL" },
    { ITEMS_REQ_PUT, ERR_UNKNOWN_FIELD, "{\"item_id\":\"a\"}", "/item_id",
      "vector, attributes" },
    { ITEMS_REQ_PUT, ERR_BAD_TYPE, "{\"attributes\":[]}", "/attributes", "an object" },
    { ITEMS_REQ_PUT, ERR_BAD_TYPE, "{\"attributes\":{\"a~/b\":{}}}", "/attributes/a~0~1b", "" },
    { ITEMS_REQ_PUT, ERR_INVALID, "{\"attributes\":{\"\":1}}", "/attributes/", "is empty" },
    { ITEMS_REQ_PUT, ERR_BAD_TYPE, "{\"attributes\":{\"a\":[1]}}", "/attributes/a/0",
      "a string" },
    { ITEMS_REQ_PUT, ERR_INVALID, "{\"attributes\":{\"a\":\"\"}}", "/attributes/a",
      "is empty" },
    { ITEMS_REQ_PUT, ERR_INVALID,
      "{\"attributes\":{\"a234567890123456789012345678901234567890123456789\":1}}",
      "/attributes/a234567890123456789012345678901234567890123456789", "too long" },
    { ITEMS_REQ_BATCH, ERR_INVALID, "{}", "", "nothing" },
    { ITEMS_REQ_BATCH, ERR_BAD_TYPE, "{\"put\":{}}", "/put", "an array" },
    { ITEMS_REQ_BATCH, ERR_INVALID, "{\"put\":[{\"title\":\"a\"}]}", "/put/0", "item_id" },
    { ITEMS_REQ_BATCH, ERR_INVALID, "{\"delete\":[\"a\",\"\"]}", "/delete/1", "is empty" },
    { ITEMS_REQ_BATCH, ERR_INVALID, "{\"delete\":[\"a\\nb\"]}", "/delete/0",
      "contains a control character" },
    { ITEMS_REQ_PUT, ERR_INVALID, "{\"attributes\":{\"a\\tb\":1}}", "/attributes/a\tb",
      "contains a control character" },
    { ITEMS_REQ_BATCH, ERR_UNKNOWN_FIELD, "{\"puts\":[]}", "/puts", "put, delete, model" },
    { ITEMS_REQ_LOOKUP, ERR_INVALID, "{}", "", "items is missing" },
    { ITEMS_REQ_LOOKUP, ERR_BAD_TYPE, "{\"items\":\"a\"}", "/items", "an array" },
    { ITEMS_REQ_LOOKUP, ERR_UNKNOWN_FIELD, "{\"items\":[],\"ttl_seconds\":1}", "/ttl_seconds",
      "" },
    { ITEMS_REQ_BLOCKLIST, ERR_INVALID, "{\"items\":[],\"ttl_seconds\":0}", "/ttl_seconds",
      "never" },
    { ITEMS_REQ_BLOCKLIST, ERR_BAD_TYPE, "{\"items\":[],\"ttl_seconds\":\"1\"}", "/ttl_seconds",
      "" },
    { ITEMS_REQ_BLOCKLIST, ERR_INVALID, "{\"ttl_seconds\":1}", "", "items is missing" },
};

START_TEST(what_is_wrong_is_told_with_its_place)
{
    const struct bad *b = &bads[_i];
    ck_assert_msg(parse(b->kind, b->body) == b->code, "%s", b->body);
    ck_assert_str_eq(f.at[0].pointer, b->pointer);
    ck_assert_msg(strstr(f.at[0].detail, b->detail), "%s: %s", b->body, f.at[0].detail);
}
END_TEST

START_TEST(members_that_are_not_known_pass_when_asked_for)
{
    const char body[] = "{\"what\":[],\"title\":\"a\"}";
    ck_assert_int_eq(parse_as(ITEMS_REQ_PUT, body, sizeof body - 1, false), 0);
    ck_assert(is(r.change->title, "a"));
}
END_TEST

START_TEST(more_than_the_limits_is_refused)
{
    static char body[8 * LIMIT_BATCH + 64];
    size_t n = (size_t)sprintf(body, "{\"items\":[");
    for (int i = 0; i <= LIMIT_BATCH; i++) n += (size_t)sprintf(body + n, "%s1", i ? "," : "");
    n += (size_t)sprintf(body + n, "]}");
    ck_assert_int_eq(parse_as(ITEMS_REQ_LOOKUP, body, n, true), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(f.at[0].detail, "the limit is 10000"));
    ck_assert_int_eq(parse_as(ITEMS_REQ_BLOCKLIST, body, n, true), 0);
    n = (size_t)sprintf(body, "{\"vector\":[");
    for (int i = 0; i <= LIMIT_WIDTH; i++) n += (size_t)sprintf(body + n, "%s0", i ? "," : "");
    n += (size_t)sprintf(body + n, "]}");
    ck_assert_int_eq(parse_as(ITEMS_REQ_PUT, body, n, true), ERR_INVALID);
    n = (size_t)sprintf(body, "{\"title\":\"");
    memset(body + n, 'x', LIMIT_TITLE_BYTES + 1);
    n += LIMIT_TITLE_BYTES + 1;
    n += (size_t)sprintf(body + n, "\"}");
    ck_assert_int_eq(parse_as(ITEMS_REQ_PUT, body, n, true), ERR_INVALID);
}
END_TEST

Suite *suite_items_req(void)
{
    Suite *s = suite_create("items_req");
    TCase *t = tcase_create("items_req");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_item_has_a_vector_attributes_and_a_title);
    tcase_add_test(t, a_vector_may_be_base64_of_little_endian_floats);
    tcase_add_test(t, a_batch_has_puts_and_then_deletes);
    tcase_add_test(t, a_lookup_and_a_blocklist_have_items);
    tcase_add_loop_test(t, what_is_wrong_is_told_with_its_place, 0,
                        (int)(sizeof bads / sizeof *bads));
    tcase_add_test(t, members_that_are_not_known_pass_when_asked_for);
    tcase_add_test(t, more_than_the_limits_is_refused);
    suite_add_tcase(s, t);
    return s;
}
