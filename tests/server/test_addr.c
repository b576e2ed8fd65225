#include "server/addr.h"
#include <check.h>
#include <string.h>
#include <unistd.h>

Suite *suite_addr(void);

static const struct {
    const char *in, *want; /* want NULL: refused */
    const char *reachable;
} addrs[] = {
    { "127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080" },
    { "0.0.0.0:80", "0.0.0.0:80", "127.0.0.1:80" },
    { ":8080", "0.0.0.0:8080", "127.0.0.1:8080" },
    { "[::]:8080", "[::]:8080", "[::1]:8080" },
    { "[::1]:0", "[::1]:0", "[::1]:0" },
    { "[fe80::1]:65535", "[fe80::1]:65535", "[fe80::1]:65535" },
    { "8080", NULL, NULL },
    { "", NULL, NULL },
    { "127.0.0.1", NULL, NULL },
    { "127.0.0.1:", NULL, NULL },
    { "127.0.0.1:http", NULL, NULL },
    { "127.0.0.1:123456", NULL, NULL },
    { "::1:8080", NULL, NULL },
    { "[::1]", NULL, NULL },
};

START_TEST(addr_reads_host_and_port)
{
    struct addr a;
    struct err e = { 0 };
    char text[ADDR_TEXT];
    int rc = addr_parse(&a, addrs[_i].in, &e);
    ck_assert_msg((rc == 0) == (addrs[_i].want != NULL), "%s: %s", addrs[_i].in, e.msg);
    if (rc < 0) return;
    addr_text(text, sizeof text, &a);
    ck_assert_str_eq(text, addrs[_i].want);
    a = addr_reachable(&a);
    addr_text(text, sizeof text, &a);
    ck_assert_str_eq(text, addrs[_i].reachable);
}
END_TEST

START_TEST(addr_port_zero_becomes_a_real_one)
{
    struct addr a;
    struct err e = { 0 };
    char text[ADDR_TEXT];
    ck_assert_int_eq(addr_parse(&a, "127.0.0.1:0", &e), 0);
    int fd = addr_listen(&a, &e);
    ck_assert_msg(fd >= 0, "%s", e.msg);
    ck_assert_int_eq(addr_of_socket(&a, fd, &e), 0);
    addr_text(text, sizeof text, &a);
    ck_assert_str_ne(text, "127.0.0.1:0");
    ck_assert_int_eq(addr_listen(&a, &e), ERR_IO); /* taken */
    ck_assert_ptr_nonnull(strstr(e.msg, text));
    close(fd);
}
END_TEST

Suite *suite_addr(void)
{
    Suite *s = suite_create("addr");
    TCase *t = tcase_create("addr");
    tcase_add_loop_test(t, addr_reads_host_and_port, 0, (int)(sizeof addrs / sizeof *addrs));
    tcase_add_test(t, addr_port_zero_becomes_a_real_one);
    suite_add_tcase(s, t);
    return s;
}
