#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "server/lane.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

Suite *suite_lane(void);

enum { QUEUE = 40, BATCH = 8, MOST = 64 };

static char *dir;
static struct app app;
static struct conn *conn;
static struct lane *lane;
static struct call *held[MOST]; /* until the end of the test */
static int n_held;

static void setup(void)
{
    struct cfg cfg = { 0 };
    struct catalog *cat;
    struct lives *lives;
    struct err e = { 0 };
    num_init();
    dir = fixture_tmpdir();
    for (int i = 0; i < 2; i++) {
        struct fixture fx = fixture_defaults();
        fx.name = i ? "two" : "one";
        fx.seed = (uint64_t)i + 1;
        fx.attributes = true;
        fixture_bundle(&fx, dir);
    }
    conf_defaults(cfg_opts, &cfg);
    cfg.threads = 1;
    app_init(&app, &cfg);
    ck_assert_msg(catalog_load(&cat, dir, "one", &e) == 0, "%s", e.msg);
    ck_assert_msg(catalog_open_lives(&lives, cat, NULL, &e) == 0, "%s", e.msg);
    app_set_catalog(&app, cat, lives);
    conn = conns_open(app.conns, -1);
    lane = lane_new(&app, &(struct lane_cfg){ .queue_rows = QUEUE, .batch_rows = BATCH });
    n_held = 0;
}

static void teardown(void)
{
    for (int i = 0; i < n_held; i++) call_drop(held[i]);
    conns_close(conn);
    lane_free(lane);
    cfg_free(&app.cfg);
    app_free(&app);
    fixture_rmdir(dir);
    free(dir);
}

/* A request that is parsed, of a connection. */
static struct call *parsed_on(struct conn *on, const char *path, const char *body)
{
    struct call *c = call_take(&app, on);
    ck_assert_int_lt(n_held, MOST);
    held[n_held++] = c;
    call_begin(c, &(struct call_head){ .method = "POST", .path = path });
    ck_assert(call_body(c, body, strlen(body)));
    ck_assert_msg(call_run(c), "%s", c->out.data);
    return c;
}

static struct call *parsed(const char *path, const char *body)
{
    return parsed_on(conn, path, body);
}

static struct call *add(const char *path, const char *body)
{
    struct call *c = parsed(path, body);
    lane_add(lane, c);
    return c;
}

static struct call *add_user(const char *model)
{
    char body[80];
    snprintf(body, sizeof body, "{\"history\":[\"i3\",\"i5\"],\"model\":\"%s\"}", model);
    return add("/v1/recommend", body);
}

/* Of n users. */
static struct call *add_batch(int n)
{
    struct buf b = { 0 };
    buf_puts(&b, "{\"requests\":[");
    for (int i = 0; i < n; i++) buf_puts(&b, i ? ",{\"history\":[\"i1\"]}" : "{\"limit\":2}");
    buf_puts(&b, "]}");
    buf_putc(&b, '\0');
    struct call *c = add("/v1/recommend/batch", b.data);
    ck_assert_int_eq(c->n_jobs, n);
    buf_free(&b);
    return c;
}

static int count(const struct call *done)
{
    int n = 0;
    for (; done; done = done->next) n++;
    return n;
}

START_TEST(lane_answers_what_waits_as_one_batch)
{
    struct call *c[5];
    ck_assert_ptr_null(lane_serve(lane));
    for (int i = 0; i < 5; i++) c[i] = add_user("one");
    ck_assert(lane_waits(lane));
    ck_assert_int_eq(atomic_load(&app.metrics.queued_rows), 5);
    struct call *done = lane_serve(lane);
    for (int i = 0; i < 5; i++, done = done->next) {
        ck_assert_ptr_eq(done, c[i]); /* oldest first */
        ck_assert_int_eq(c[i]->status, 200);
        ck_assert_int_eq(c[i]->job[0].answer.batch, 5);
        ck_assert_int_gt(c[i]->job[0].answer.n_items, 0);
        ck_assert_ptr_nonnull(strstr(c[i]->out.data, "\"fallback\":null"));
    }
    ck_assert_ptr_null(done);
    ck_assert(!lane_waits(lane));
    ck_assert_int_eq(atomic_load(&app.metrics.queued_rows), 0);
}
END_TEST

START_TEST(lane_keeps_generations_apart_and_the_order)
{
    static const char *const model[] = { "one", "one", "two", "one", "two", "two" };
    static const int batches[] = { 2, 1, 1, 2 };
    struct call *c[6];
    for (int i = 0; i < 6; i++) c[i] = add_user(model[i]);
    for (int b = 0, at = 0; b < 4; b++) {
        struct call *done = lane_serve(lane);
        ck_assert_int_eq(count(done), batches[b]);
        for (; done; done = done->next, at++) {
            ck_assert_ptr_eq(done, c[at]);
            ck_assert_int_eq(done->job[0].answer.batch, batches[b]);
            char name[32];
            snprintf(name, sizeof name, "\"name\":\"%s\"", model[at]);
            ck_assert_ptr_nonnull(strstr(done->out.data, name));
        }
    }
    ck_assert(!lane_waits(lane));
}
END_TEST

START_TEST(lane_computes_no_more_than_batch_rows_together)
{
    for (int i = 0; i < 2 * BATCH + 3; i++) add_user("one");
    ck_assert_int_eq(count(lane_serve(lane)), BATCH);
    ck_assert_int_eq(count(lane_serve(lane)), BATCH);
    ck_assert_int_eq(count(lane_serve(lane)), 3);
    ck_assert_ptr_null(lane_serve(lane));
}
END_TEST

START_TEST(lane_does_not_split_a_batch_request_and_fills_up_beside_a_small_one)
{
    add_batch(LIMIT_BATCH_ROWS);
    add_user("one");
    add_batch(BATCH - 2);
    add_batch(2); /* would be one row too many */
    add_user("one");
    static const int calls[] = { 1, 2, 2 }, rows[] = { LIMIT_BATCH_ROWS, BATCH - 1, 3 };
    for (int i = 0; i < 3; i++) {
        struct call *done = lane_serve(lane);
        ck_assert_int_eq(count(done), calls[i]);
        ck_assert_int_eq(done->job[0].answer.batch, rows[i]);
        for (; done; done = done->next) ck_assert_int_eq(done->status, 200);
    }
}
END_TEST

START_TEST(lane_admits_by_rows)
{
    struct call *c = parsed("/v1/recommend", "{}");
    ck_assert(lane_admit(lane, c, 10 * QUEUE)); /* alone, of any size */
    add_batch(QUEUE - 1);
    ck_assert(lane_admit(lane, c, 0));
    ck_assert(lane_admit(lane, c, 1));
    ck_assert(!lane_admit(lane, c, 2));
    ck_assert_int_eq(c->fail.code, ERR_OVERLOADED);
    add_user("one");
    struct call *d = parsed("/v1/recommend", "{}");
    ck_assert(!lane_admit(lane, d, 0)); /* before its body is looked at */
    ck_assert_ptr_nonnull(strstr(d->fail.msg, "40 rows wait, the limit is 40"));
    ck_assert_uint_eq(atomic_load(&app.metrics.shed[SHED_QUEUE]), 2);
    call_finish(d);
    ck_assert_int_eq(d->status, 429);
    ck_assert_int_eq(d->retry_after_s, 1);
    while (lane_serve(lane)) continue;
    ck_assert(lane_admit(lane, parsed("/v1/recommend", "{}"), QUEUE + 1));
}
END_TEST

/* The reply says when there will be room: by what rows have cost so far. */
START_TEST(lane_says_when_to_come_back_by_what_rows_cost)
{
    double ms = 0;
    for (int i = 0; i < 60; i++) {
        const uint64_t start = clock_ns();
        add_user("one");
        lane_serve(lane);
        ms += clock_ms_since(start) / 60;
        call_drop(held[--n_held]);
    }
    add_batch(QUEUE);
    struct call *c = parsed("/v1/recommend", "{}");
    ck_assert(!lane_admit(lane, c, 1));
    ck_assert_int_ge(c->retry_after_ms, 1);
    ck_assert_msg(c->retry_after_ms <= 1 + 10 * QUEUE * ms, "%d ms for rows of %g ms",
                  c->retry_after_ms, ms);
    lane_serve(lane);
}
END_TEST

START_TEST(lane_computes_scores_alone)
{
    static const char rank[] = "{\"candidates\":[\"i1\"],\"model\":\"one\"}";
    struct call *first = add_user("one"), *score = add("/v1/rank", rank),
                *other = add("/v1/rank", rank), *last = add_user("one");
    struct call *const want[] = { first, score, other, last };
    for (int i = 0; i < 4; i++) {
        struct call *done = lane_serve(lane);
        ck_assert_ptr_eq(done, want[i]);
        ck_assert_ptr_null(done->next);
    }
    ck_assert_int_eq(first->status, 200);
    ck_assert_int_eq(score->status, 422); /* the model ranks nothing */
    ck_assert_int_eq(last->status, 200);
}
END_TEST

START_TEST(lane_a_failed_job_does_not_fail_its_neighbours)
{
    struct call *good = add_user("one"),
                *bad = add("/v1/recommend",
                           "{\"filter\":{\"must\":[{\"key\":\"nothing\",\"exists\":true}]}}"),
                *unknown =
                    add("/v1/recommend", "{\"history\":[\"x\"],\"unknown_items\":\"error\"}"),
                *after = add_user("one");
    ck_assert_int_eq(count(lane_serve(lane)), 4);
    ck_assert_int_eq(good->status, 200);
    ck_assert_int_eq(bad->status, 422);
    ck_assert_ptr_nonnull(strstr(bad->out.data, "\"/filter/must/0/key\""));
    ck_assert_int_eq(unknown->status, 422);
    ck_assert_ptr_nonnull(strstr(unknown->out.data, "\"unknown_items\""));
    ck_assert_int_eq(after->status, 200);
    ck_assert_int_eq(good->job[0].answer.n_items, after->job[0].answer.n_items);
}
END_TEST

START_TEST(lane_does_not_compute_for_clients_that_left)
{
    int fd[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    struct conn *left = conns_open(app.conns, fd[0]);
    struct call *gone = parsed_on(left, "/v1/recommend", "{\"history\":[\"i3\"]}");
    struct call *soon = parsed_on(left, "/v1/recommend", "{\"history\":[\"i3\"]}");
    close(fd[1]);
    lane_add(lane, gone);
    struct call *stays = add_user("one");
    usleep(2000);
    lane_add(lane, soon); /* has not waited: is not worth asking */
    ck_assert_int_eq(count(lane_serve(lane)), 3);
    ck_assert_int_eq(gone->fail.code, ERR_CLIENT_GONE);
    ck_assert_int_eq(gone->status, 499);
    ck_assert_int_eq(stays->status, 200);
    ck_assert_int_eq(stays->job[0].answer.batch, 2);
    ck_assert_int_eq(soon->status, 200);
    ck_assert_uint_eq(atomic_load(&app.metrics.shed[SHED_GONE]), 1);
    conns_close(left);
    close(fd[0]);
}
END_TEST

START_TEST(lane_late_requests_are_degraded_or_fail)
{
    struct call *any = parsed("/v1/recommend", "{\"history\":[\"i3\"]}"),
                *whole =
                    parsed("/v1/recommend", "{\"history\":[\"i3\"],\"allow_degraded\":false}"),
                *vectors = parsed("/v1/encode", "{\"history\":[\"i3\"]}"),
                *scores = parsed("/v1/rank", "{\"candidates\":[\"i1\"],\"model\":\"one\"}");
    any->req->rec.deadline_ns = whole->req->rec.deadline_ns = vectors->req->rec.deadline_ns =
        scores->deadline_ns = clock_ns();
    lane_add(lane, any);
    lane_add(lane, whole);
    lane_add(lane, vectors);
    lane_add(lane, scores);
    while (lane_serve(lane)) continue;
    ck_assert_int_eq(any->status, 200);
    ck_assert_ptr_nonnull(strstr(any->out.data, "\"degraded\":{\"reason\":\"deadline\""));
    ck_assert_int_eq(whole->status, 504);
    ck_assert_int_eq(vectors->status, 504);
    ck_assert_int_eq(scores->status, 504);
    ck_assert_uint_eq(atomic_load(&app.metrics.degraded[DEGRADED_DEADLINE]), 1);
}
END_TEST

static void other_lane(int32_t queue_rows, double queue_ms, int32_t batch_rows)
{
    lane_free(lane);
    lane = lane_new(&app, &(struct lane_cfg){ .queue_rows = queue_rows,
                                              .queue_ms = queue_ms,
                                              .degrade = true,
                                              .batch_rows = batch_rows });
}

#define TWO_ITEMS "{\"history\":[\"i1\",\"i2\"]"

START_TEST(lane_searches_fewer_interests_when_much_waits)
{
    static const char *const says[] = {
        "\"degraded\":{\"reason\":\"load\",\"coverage\":0.25", /* 8 of 8 wait */
        "\"degraded\":{\"reason\":\"load\",\"coverage\":0.5",  /* 6 */
        "\"degraded\":null",
        "\"degraded\":null",
    };
    other_lane(8, 0, 2);
    struct call *any[4], *whole[4];
    for (int i = 0; i < 4; i++) {
        any[i] = parsed("/v1/recommend", TWO_ITEMS "}");
        whole[i] = parsed("/v1/recommend", TWO_ITEMS ",\"allow_degraded\":false}");
        lane_add(lane, any[i]);
        lane_add(lane, whole[i]);
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_ptr_eq(lane_serve(lane), any[i]);
        ck_assert_int_eq(any[i]->status, 200);
        ck_assert_msg(strstr(any[i]->out.data, says[i]) != NULL, "%s", any[i]->out.data);
        ck_assert_int_eq(whole[i]->status, 200);
        ck_assert_ptr_nonnull(strstr(whole[i]->out.data, "\"degraded\":null"));
    }
    ck_assert_uint_eq(atomic_load(&app.metrics.degraded[DEGRADED_LOAD]), 2);
}
END_TEST

START_TEST(lane_searches_fewer_interests_when_the_wait_is_long)
{
    struct call *c[4];
    other_lane(1000, 1e-3, 1);
    for (int i = 0; i < 4; i++) c[i] = parsed("/v1/recommend", TWO_ITEMS "}");
    for (int i = 0; i < 2; i++) { /* alone: nobody waits for them, whatever a row costs */
        lane_add(lane, c[i]);
        ck_assert_ptr_eq(lane_serve(lane), c[i]);
        ck_assert_ptr_nonnull(strstr(c[i]->out.data, "\"degraded\":null"));
    }
    lane_add(lane, c[2]);
    lane_add(lane, c[3]);
    ck_assert_ptr_eq(lane_serve(lane), c[2]);
    ck_assert_ptr_nonnull(strstr(c[2]->out.data, "\"degraded\":{\"reason\":\"load\""));
    ck_assert_ptr_eq(lane_serve(lane), c[3]);
    ck_assert_ptr_nonnull(strstr(c[3]->out.data, "\"degraded\":null"));
}
END_TEST

START_TEST(lane_a_large_batch_alone_is_answered_whole)
{
    other_lane(40, 0, BATCH);
    struct call *c = add_batch(38);
    ck_assert_ptr_eq(lane_serve(lane), c);
    for (int i = 0; i < 38; i++) ck_assert_ptr_null(c->job[i].answer.degraded.reason);
}
END_TEST

Suite *suite_lane(void)
{
    Suite *s = suite_create("lane");
    TCase *t = tcase_create("lane");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, lane_answers_what_waits_as_one_batch);
    tcase_add_test(t, lane_keeps_generations_apart_and_the_order);
    tcase_add_test(t, lane_computes_no_more_than_batch_rows_together);
    tcase_add_test(t, lane_does_not_split_a_batch_request_and_fills_up_beside_a_small_one);
    tcase_add_test(t, lane_admits_by_rows);
    tcase_add_test(t, lane_says_when_to_come_back_by_what_rows_cost);
    tcase_add_test(t, lane_computes_scores_alone);
    tcase_add_test(t, lane_a_failed_job_does_not_fail_its_neighbours);
    tcase_add_test(t, lane_does_not_compute_for_clients_that_left);
    tcase_add_test(t, lane_late_requests_are_degraded_or_fail);
    tcase_add_test(t, lane_searches_fewer_interests_when_much_waits);
    tcase_add_test(t, lane_searches_fewer_interests_when_the_wait_is_long);
    tcase_add_test(t, lane_a_large_batch_alone_is_answered_whole);
    suite_add_tcase(s, t);
    return s;
}
