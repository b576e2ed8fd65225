#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/data/unpack.h"
#include "tests/fixture_bundle.h"
#include "tests/guard.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { PLAIN_BYTES = 300000, PACKED_MAX = 2 * PLAIN_BYTES };

static char *plain;
static struct err e;

static void set_up(void)
{
    plain = xmalloc(PLAIN_BYTES);
    for (int i = 0; i < PLAIN_BYTES; i++)
        plain[i] = (char)(i % 50 == 49 ? '\n' : 'a' + (i % 997) * (i % 991) / 7 % 26);
    e = (struct err){ 0 };
}

static void tear_down(void) { free(plain); }

static size_t pack_gzip(char *to, const char *from, size_t nb)
{
    z_stream z = { 0 };
    ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)from;
    z.avail_in = (unsigned)nb;
    z.next_out = (unsigned char *)to;
    z.avail_out = PACKED_MAX;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t n = z.total_out;
    deflateEnd(&z);
    return n;
}

static size_t pack_zstd(char *to, const char *from, size_t nb)
{
    size_t n = ZSTD_compress(to, PACKED_MAX, from, nb, 3);
    ck_assert(!ZSTD_isError(n));
    return n;
}

/* 0: gzip, 1: zstd; the text in two members, one after the other. */
static size_t pack(int how, char *to)
{
    size_t (*fn)(char *, const char *, size_t) = how ? pack_zstd : pack_gzip;
    size_t half = PLAIN_BYTES / 2, n = fn(to, plain, half);
    return n + fn(to + n, plain + half, PLAIN_BYTES - half);
}

/* Unpacks bytes that end at an unreadable page. */
static int unpack(struct unpacked *u, const char *p, size_t nb, size_t max)
{
    char *g = guard_copy(p, nb);
    int rc = unpack_mem(u, g, nb, max, &e);
    ck_assert(u->packed || rc < 0 || u->data == g);
    if (rc == 0 && u->packed) guard_free(g, nb);
    return rc;
}

START_TEST(members_follow_each_other)
{
    char *p = xmalloc(2 * PACKED_MAX);
    struct unpacked u;
    size_t nb = pack(_i, p);
    ck_assert_msg(unpack(&u, p, nb, SIZE_MAX) == 0, "%s", e.msg);
    ck_assert_str_eq(u.packed, _i ? "zstd" : "gzip");
    ck_assert_str_eq(u.damage, "");
    ck_assert_uint_eq(u.nb, PLAIN_BYTES);
    ck_assert(memcmp(u.data, plain, PLAIN_BYTES) == 0);
    unpack_close(&u);
    free(p);
}
END_TEST

START_TEST(what_comes_before_the_damage_is_kept)
{
    char *p = xmalloc(2 * PACKED_MAX);
    struct unpacked u;
    size_t nb = pack(_i, p), at = nb * 3 / 4;
    for (size_t i = at; i < at + 16; i++) p[i] = (char)~p[i];
    ck_assert_msg(unpack(&u, p, nb, SIZE_MAX) == 0, "%s", e.msg);
    ck_assert_ptr_nonnull(strstr(u.damage, "damaged after"));
    ck_assert_uint_ge(u.nb, PLAIN_BYTES / 2); /* the first member is whole */
    ck_assert(memcmp(u.data, plain, PLAIN_BYTES / 2) == 0);
    unpack_close(&u);
    free(p);
}
END_TEST

START_TEST(a_cut_file_gives_its_beginning)
{
    char *p = xmalloc(2 * PACKED_MAX);
    struct unpacked u;
    size_t nb = pack(_i, p);
    for (size_t cut = 2; cut < nb; cut += 1 + cut / 7) {
        e = (struct err){ 0 };
        int rc = unpack(&u, p, cut, SIZE_MAX);
        if (rc < 0) {
            ck_assert_int_eq(rc, ERR_FORMAT);
            continue;
        }
        ck_assert(!u.packed || u.damage[0] || u.nb == PLAIN_BYTES / 2);
        ck_assert(!u.packed || (u.nb < PLAIN_BYTES && memcmp(u.data, plain, u.nb) == 0));
        if (u.packed) unpack_close(&u);
    }
    free(p);
}
END_TEST

START_TEST(more_than_the_limit_is_refused)
{
    char *p = xmalloc(2 * PACKED_MAX);
    struct unpacked u;
    size_t nb = pack(_i, p);
    ck_assert_int_eq(unpack(&u, p, nb, PLAIN_BYTES - 1), ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(e.msg, "more than 299999 bytes"));
    ck_assert_ptr_null(u.data);
    e = (struct err){ 0 };
    ck_assert_int_eq(unpack(&u, p, nb, PLAIN_BYTES), 0);
    unpack_close(&u);
    free(p);
}
END_TEST

START_TEST(zeros_at_the_end_are_padding_and_anything_else_is_said)
{
    char *p = xcalloc(1, 2 * PACKED_MAX);
    struct unpacked u;
    size_t nb = pack(0, p);
    ck_assert_int_eq(unpack(&u, p, nb + 100, SIZE_MAX), 0);
    ck_assert_str_eq(u.damage, "");
    unpack_close(&u);
    p[nb + 50] = 'x';
    ck_assert_int_eq(unpack(&u, p, nb + 100, SIZE_MAX), 0);
    ck_assert_str_eq(u.damage, "50 bytes of something else at the end");
    ck_assert_uint_eq(u.nb, PLAIN_BYTES);
    unpack_close(&u);
    free(p);
}
END_TEST

START_TEST(plain_bytes_are_taken_as_they_are)
{
    struct unpacked u;
    ck_assert_int_eq(unpack_mem(&u, plain, 10, SIZE_MAX, &e), 0);
    ck_assert_ptr_null(u.packed);
    ck_assert_ptr_eq(u.data, plain);
    ck_assert_int_eq(unpack_mem(&u, NULL, 0, SIZE_MAX, &e), 0);
    ck_assert_uint_eq(u.nb, 0);
    ck_assert_int_eq(unpack_mem(&u, "\x1f\x8bnonsense", 10, SIZE_MAX, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "begins like gzip"));
}
END_TEST

/* Half a line is no event: a user called "u1" may be the beginning of "u17". */
START_TEST(the_line_that_a_cut_file_ends_in_is_left_out)
{
    char *dir = fixture_tmpdir(), *path = xasprintf("%s/x", dir), *p = xmalloc(2 * PACKED_MAX);
    struct unpacked u;
    size_t nb = pack(_i, p);
    for (size_t cut = nb / 2; cut < nb; cut += 9973) {
        ck_assert_int_eq(io_write_atomic(path, p, cut, &e), 0);
        ck_assert_msg(unpack_open(&u, path, &e) == 0, "%s", e.msg);
        ck_assert(u.nb > 0 && u.nb % 50 == 0);
        ck_assert(memcmp(u.data, plain, u.nb) == 0);
        unpack_close(&u);
    }
    free(p);
    free(path);
    fixture_rmdir(dir);
    free(dir);
}
END_TEST

START_TEST(files_are_named_in_errors)
{
    char *dir = fixture_tmpdir(), *path = xasprintf("%s/x.gz", dir);
    struct unpacked u;
    ck_assert_int_eq(unpack_open(&u, path, &e), ERR_NOT_FOUND);
    e = (struct err){ 0 };
    ck_assert_int_eq(io_write_atomic(path, "\x1f\x8bnonsense", 10, &e), 0);
    ck_assert_int_eq(unpack_open(&u, path, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, path));
    e = (struct err){ 0 };
    ck_assert_int_eq(io_write_atomic(path, "plain", 5, &e), 0);
    ck_assert_int_eq(unpack_open(&u, path, &e), 0);
    ck_assert_uint_eq(u.nb, 5);
    unpack_close(&u);
    unpack_close(&u);
    free(path);
    fixture_rmdir(dir);
    free(dir);
}
END_TEST

Suite *suite_unpack(void);
Suite *suite_unpack(void)
{
    Suite *s = suite_create("unpack");
    TCase *t = tcase_create("unpack");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, members_follow_each_other, 0, 2);
    tcase_add_loop_test(t, the_line_that_a_cut_file_ends_in_is_left_out, 0, 2);
    tcase_add_loop_test(t, what_comes_before_the_damage_is_kept, 0, 2);
    tcase_add_loop_test(t, a_cut_file_gives_its_beginning, 0, 2);
    tcase_add_loop_test(t, more_than_the_limit_is_refused, 0, 2);
    tcase_add_test(t, zeros_at_the_end_are_padding_and_anything_else_is_said);
    tcase_add_test(t, plain_bytes_are_taken_as_they_are);
    tcase_add_test(t, files_are_named_in_errors);
    suite_add_tcase(s, t);
    return s;
}
