#include "core/base/limits.h"
#include "core/base/mem.h"
#include "server/call.h"
#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

Suite *suite_call(void);

static struct app app;
static struct conn *conn;
static struct call *c;

static struct cfg config(void)
{
    struct cfg cfg = { 0 };
    conf_defaults(cfg_opts, &cfg);
    cfg.threads = 1;
    return cfg;
}

static void setup(void)
{
    struct cfg cfg = config();
    app_init(&app, &cfg);
    conn = conns_open(app.conns, -1);
    c = call_take(&app, conn);
}

static void teardown(void)
{
    if (c) call_drop(c);
    conns_close(conn);
    cfg_free(&app.cfg);
    app_free(&app);
}

static struct call_head post(const char *path, const char *content_length)
{
    return (struct call_head){ .method = "POST",
                               .path = path,
                               .content_type = "application/json",
                               .content_length = content_length };
}

static void begin(struct call_head h) { call_begin(c, &h); }

START_TEST(call_is_not_ready_while_models_load)
{
    begin(post("/v1/recommend", "2"));
    ck_assert_int_eq(c->fail.code, ERR_NOT_READY);
    ck_assert(!c->early);
    call_run(c);
    ck_assert_int_eq(c->status, 503);
    ck_assert_int_eq(c->retry_after_s, 1);
    ck_assert_str_eq(c->type, "application/problem+json");
}
END_TEST

START_TEST(call_readiness_follows_the_state)
{
    static const struct {
        int state, status;
        const char *word;
    } want[] = { { APP_STARTING, 503, "\"starting\"" },
                 { APP_SERVING, 200, "\"ok\"" },
                 { APP_DRAINING, 503, "\"draining\"" } };
    for (int i = 0; i < 3; i++) {
        atomic_store(&app.state, want[i].state);
        begin((struct call_head){ .method = "GET", .path = "/readyz" });
        buf_clear(&c->out);
        call_run(c);
        ck_assert_int_eq(c->status, want[i].status);
        ck_assert_ptr_nonnull(strstr(c->out.data, want[i].word));
        ck_assert_int_eq(call_closes(c), want[i].state == APP_DRAINING);
    }
}
END_TEST

START_TEST(call_replies_early_only_where_waiting_for_the_body_is_senseless)
{
    struct call_head h = post("/nope", "10");
    begin(h);
    ck_assert_int_eq(c->fail.code, ERR_NOT_FOUND);
    ck_assert(!c->early); /* ten bytes: read them and keep the connection */
    h.expect = "100-continue";
    begin(h);
    ck_assert(c->early);
    begin(post("/nope", "3000000000"));
    ck_assert(c->early);
    ck_assert(call_closes(c));
}
END_TEST

START_TEST(call_first_failure_stands)
{
    call_fail(c, ERR_INVALID, "one");
    call_fail(c, ERR_LIMIT, "two");
    ck_assert_int_eq(c->fail.code, ERR_INVALID);
    ck_assert_str_eq(c->fail.msg, "one");
}
END_TEST

START_TEST(call_is_recycled_clean_by_its_last_holder)
{
    begin(post("/v1/recommend", "2"));
    ck_assert(call_body(c, "{}", 2));
    call_run(c);
    call_hold(c);
    call_drop(c);
    ck_assert_int_eq(c->status, 503); /* the reply still holds it */
    struct call *old = c;
    call_drop(c);
    c = call_take(&app, conn);
    ck_assert_ptr_eq(c, old);
    ck_assert_int_eq(c->fail.code, 0);
    ck_assert_uint_eq(c->body.len, 0);
    ck_assert_uint_eq(c->out.len, 0);
    ck_assert_uint_eq(atomic_load(&app.body_bytes), 0);
}
END_TEST

START_TEST(call_body_has_a_cap_and_an_end)
{
    char *piece = xcalloc(1, 1 << 20);
    for (int mib = 1; mib <= 16; mib++) {
        ck_assert(call_body(c, piece, 1 << 20));
        ck_assert_int_eq(c->fail.code, mib <= 2 ? 0 : ERR_LIMIT);
    }
    ck_assert(!call_body(c, piece, 1 << 20));
    ck_assert_uint_eq(c->body.cap, 0);
    free(piece);
}
END_TEST

START_TEST(call_bodies_together_have_a_cap)
{
    enum { FIT = 128, BYTES = 2 << 20 };
    struct call *held[FIT];
    char *body = xcalloc(1, BYTES);
    for (int i = 0; i < FIT; i++) {
        held[i] = call_take(&app, conn);
        ck_assert(call_body(held[i], body, BYTES));
        ck_assert_int_eq(held[i]->fail.code, 0);
    }
    ck_assert(call_body(c, body, 1));
    ck_assert_int_eq(c->fail.code, ERR_OVERLOADED);
    ck_assert(call_body(c, body, 1)); /* one request, counted once */
    ck_assert_uint_eq(atomic_load(&app.metrics.shed[SHED_BODIES]), 1);
    ck_assert_uint_eq(atomic_load(&app.metrics.shed[SHED_CONNECTIONS]), 0);
    for (int i = 0; i < FIT; i++) call_drop(held[i]);
    call_drop(c);
    c = call_take(&app, conn);
    ck_assert(call_body(c, body, BYTES));
    ck_assert_int_eq(c->fail.code, 0);
    free(body);
}
END_TEST

START_TEST(call_late_reply_is_a_whole_http_response)
{
    struct buf b = { 0 };
    struct call_head h = post("/v1/recommend", "2");
    h.request_id = "late-1";
    begin(h);
    call_write_late(&b, c);
    ck_assert_int_eq(strncmp(b.data, "HTTP/1.1 408 ", 13), 0);
    char *body = strstr(b.data, "\r\n\r\n"), *length = strstr(b.data, "Content-Length: ");
    ck_assert(body && length);
    ck_assert_uint_eq(strtoul(length + 16, NULL, 10), strlen(body + 4));
    json_t *j = json_loads(body + 4, 0, NULL);
    ck_assert_str_eq(json_string_value(json_object_get(j, "code")), "body_timeout");
    ck_assert_str_eq(json_string_value(json_object_get(j, "request_id")), "late-1");
    json_decref(j);
    buf_free(&b);
}
END_TEST

START_TEST(call_ids_do_not_repeat)
{
    enum { N = 1000 };
    static char ids[N][17];
    for (int i = 0; i < N; i++) {
        app_new_id(&app, ids[i]);
        ck_assert_uint_eq(strlen(ids[i]), 16);
        for (int j = 0; j < i; j++) ck_assert_str_ne(ids[i], ids[j]);
    }
}
END_TEST

Suite *suite_call(void)
{
    Suite *s = suite_create("call");
    TCase *t = tcase_create("call");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, call_is_not_ready_while_models_load);
    tcase_add_test(t, call_readiness_follows_the_state);
    tcase_add_test(t, call_replies_early_only_where_waiting_for_the_body_is_senseless);
    tcase_add_test(t, call_first_failure_stands);
    tcase_add_test(t, call_is_recycled_clean_by_its_last_holder);
    tcase_add_test(t, call_body_has_a_cap_and_an_end);
    tcase_add_test(t, call_bodies_together_have_a_cap);
    tcase_add_test(t, call_late_reply_is_a_whole_http_response);
    tcase_add_test(t, call_ids_do_not_repeat);
    suite_add_tcase(s, t);
    return s;
}
