#include "core/base/clock.h"
#include "server/conns.h"
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

Suite *suite_conns(void);

static const uint64_t S = 1000000000;
static struct conns *t;
static int pair[2]; /* [0] the client, [1] the daemon's side */

static void late(struct buf *out, void *arg) { buf_puts(out, arg); }

static void setup(void)
{
    t = conns_new(
        &(struct conns_cfg){ .most = 2, .idle_ns = 10 * S, .body_ns = 5 * S, .late = late });
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
}

static void teardown(void)
{
    conns_free(t);
    close(pair[0]);
    close(pair[1]);
}

/* What the client reads until the end, or until nothing is there ("..." at the end then). */
static const char *client_reads(void)
{
    static char text[256];
    ssize_t n;
    size_t at = 0;
    while ((n = recv(pair[0], text + at, sizeof text - at - 4, MSG_DONTWAIT)) > 0)
        at += (size_t)n;
    snprintf(text + at, sizeof text - at, "%s", n < 0 ? "..." : "");
    return text;
}

START_TEST(conns_beyond_the_limit_are_over)
{
    struct conn *a = conns_open(t, -1), *b = conns_open(t, -1), *c = conns_open(t, -1);
    ck_assert(!conn_over(a) && !conn_over(b) && conn_over(c));
    ck_assert_int_eq(conns_count(t), 3);
    conns_close(a);
    conns_close(c);
    a = conns_open(t, -1);
    ck_assert(!conn_over(a));
    conns_close(a);
    conns_close(b);
    ck_assert_int_eq(conns_count(t), 0);
}
END_TEST

START_TEST(conns_body_that_is_late_gets_its_reply_and_the_connection_dies)
{
    struct conn *c = conns_open(t, pair[1]);
    static char word[] = "408";
    ck_assert(conns_set(c, CONN_BODY, word));
    conns_tick(t, clock_ns() + 4 * S);
    ck_assert_str_eq(client_reads(), "...");
    conns_tick(t, clock_ns() + 6 * S);
    ck_assert_str_eq(client_reads(), "408");
    ck_assert(!conns_set(c, CONN_BUSY, NULL));
    conns_tick(t, clock_ns() + 60 * S); /* once is enough */
    conns_close(c);
}
END_TEST

START_TEST(conns_idle_is_closed_without_a_word)
{
    struct conn *c = conns_open(t, pair[1]);
    conns_tick(t, clock_ns() + 9 * S);
    ck_assert_str_eq(client_reads(), "...");
    conns_tick(t, clock_ns() + 11 * S);
    ck_assert_str_eq(client_reads(), "");
    conns_close(c);
}
END_TEST

START_TEST(conns_busy_never_times_out)
{
    struct conn *c = conns_open(t, pair[1]);
    ck_assert(conns_set(c, CONN_BUSY, NULL));
    conns_tick(t, clock_ns() + 1000 * S);
    ck_assert_str_eq(client_reads(), "...");
    ck_assert(conns_set(c, CONN_WAIT, NULL));
    conns_close(c);
}
END_TEST

START_TEST(conns_busy_counts_requests_and_the_recently_silent)
{
    struct conn *a = conns_open(t, -1), *b = conns_open(t, -1), *c = conns_open(t, -1);
    ck_assert(conns_set(b, CONN_BODY, NULL) && conns_set(c, CONN_BUSY, NULL));
    ck_assert_int_eq(conns_busy(t, clock_ns(), S), 3);
    ck_assert_int_eq(conns_busy(t, clock_ns() + 2 * S, S), 2);
    conns_close(b);
    conns_close(c);
    ck_assert_int_eq(conns_busy(t, clock_ns() + 2 * S, S), 0);
    conns_close(a);
}
END_TEST

START_TEST(conns_linger_reads_on_after_the_descriptor_is_closed)
{
    struct conn *c = conns_open(t, pair[1]);
    struct pollfd fds[4];
    conns_linger(c);
    conns_close(c);
    shutdown(pair[1], SHUT_WR);
    close(pair[1]);
    pair[1] = -1;
    ck_assert_int_eq(conns_pollfds(t, fds, 4), 1);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(send(pair[0], fds, sizeof fds, MSG_NOSIGNAL), sizeof fds);
        conns_tick(t, clock_ns());
    }
    shutdown(pair[0], SHUT_WR);
    conns_tick(t, clock_ns());
    ck_assert_int_eq(conns_pollfds(t, fds, 4), 0);
}
END_TEST

START_TEST(conns_linger_ends_in_time)
{
    struct conn *c = conns_open(t, pair[1]);
    struct pollfd fds[4];
    conns_linger(c);
    conns_close(c);
    conns_tick(t, clock_ns());
    ck_assert_int_eq(conns_pollfds(t, fds, 4), 1);
    conns_tick(t, clock_ns() + 3 * S);
    ck_assert_int_eq(conns_pollfds(t, fds, 4), 0);
}
END_TEST

START_TEST(conns_linger_reads_little_at_a_time)
{
    enum { PIECE = 4096 };
    static char piece[PIECE];
    struct conn *c = conns_open(t, pair[1]);
    struct pollfd fds[4];
    conns_linger(c);
    conns_close(c);
    int n = 0, before, left;
    while (send(pair[0], piece, PIECE, MSG_DONTWAIT | MSG_NOSIGNAL) == PIECE) n++;
    ck_assert_int_gt(n, 8);
    ck_assert_int_eq(ioctl(pair[1], FIONREAD, &before), 0);
    conns_tick(t, clock_ns());
    ck_assert_int_eq(ioctl(pair[1], FIONREAD, &left), 0);
    int nb_most = 8 * 16384;
    ck_assert_int_eq(before - left, before < nb_most ? before : nb_most);
    ck_assert_int_eq(conns_pollfds(t, fds, 4), 1);
    conns_tick(t, clock_ns() + 3 * S); /* late: what is left is not read */
    ck_assert_int_eq(conns_pollfds(t, fds, 4), 0);
    ck_assert_int_eq(ioctl(pair[1], FIONREAD, &before), 0);
    ck_assert_int_eq(before, left);
}
END_TEST

Suite *suite_conns(void)
{
    Suite *s = suite_create("conns");
    TCase *tc = tcase_create("conns");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, conns_beyond_the_limit_are_over);
    tcase_add_test(tc, conns_body_that_is_late_gets_its_reply_and_the_connection_dies);
    tcase_add_test(tc, conns_idle_is_closed_without_a_word);
    tcase_add_test(tc, conns_busy_never_times_out);
    tcase_add_test(tc, conns_busy_counts_requests_and_the_recently_silent);
    tcase_add_test(tc, conns_linger_reads_on_after_the_descriptor_is_closed);
    tcase_add_test(tc, conns_linger_ends_in_time);
    tcase_add_test(tc, conns_linger_reads_little_at_a_time);
    suite_add_tcase(s, tc);
    return s;
}
