#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/fmt/safet.h"
#include "tests/fixture_bundle.h"
#include "tests/guard.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file of this header and n_data zero bytes; malloc'd. */
static uint8_t *make_file(size_t *nb, const char *header, size_t n_data)
{
    size_t len = strlen(header);
    uint8_t *p = xcalloc(1, 8 + len + n_data);
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(len >> (8 * i));
    for (size_t i = 0; i < len; i++) p[8 + i] = (uint8_t)header[i];
    *nb = 8 + len + n_data;
    return p;
}

/* Opens bytes that end at a guard page. */
static int open_guarded(const void *data, size_t nb, struct err *e)
{
    struct safet *s;
    char *p = guard_copy(data, nb);
    int rc = safet_open_mem(&s, p, nb, e);
    if (rc == 0) safet_close(s);
    guard_free(p, nb);
    return rc;
}

/* Two tensors, 16 data bytes, header padded to a multiple of 8. */
#define GOOD                                                                                   \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"                       \
    "\"b\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[8,16]}}   "

START_TEST(safet_reads_a_hand_made_file)
{
    size_t nb;
    uint8_t *p = make_file(&nb, GOOD, 16);
    float x[2] = { 1.5f, -2.0f };
    memcpy(p + nb - 16, x, sizeof x);
    struct safet *s;
    struct err e = { 0 };
    ck_assert_msg(safet_open_mem(&s, p, nb, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(safet_count(s), 2);
    const struct safet_tensor *a = safet_find(s, "a"), *b = safet_find(s, "b");
    ck_assert_ptr_eq(a, safet_at(s, 0));
    ck_assert_int_eq(a->rank, 2);
    ck_assert_int_eq(a->shape[0], 2);
    ck_assert_int_eq(a->n, 2);
    ck_assert(((const float *)a->data)[1] == x[1]);
    ck_assert_int_eq(b->dtype, SAFET_I64);
    ck_assert_int_eq(b->rank, 0);
    ck_assert_int_eq(b->n, 1);
    ck_assert_ptr_null(safet_find(s, "c"));
    ck_assert_ptr_null(safet_meta(s, "format"));
    safet_close(s);
    free(p);
}
END_TEST

#define ONE(dtype, shape, offsets)                                                             \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const struct {
    const char *header;
    size_t n_data;
    const char *why; /* part of the message */
} bad[] = {
    { "", 0, "not a JSON object" },
    { "[]", 0, "not a JSON object" },
    { "7", 0, "not a JSON object" },
    { " {}", 0, "not a JSON object" },
    { "{", 0, "not valid JSON" },
    { "{}x", 0, "not valid JSON" },
    { "{\"a\":1,\"a\":2}", 0, "duplicate" },
    { "{\"a\":1}", 0, "not an object" },
    { "{\"\":1}", 0, "a tensor's name has 0 bytes" },
    { "{\"a\\u0000b\":1}", 0, "not valid JSON" },
    { "{\"__metadata__\":1}", 0, "__metadata__ is not an object" },
    { "{\"__metadata__\":{\"k\":1}}", 0, "\"k\" is not a string" },
    { "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "\"dtype\" is missing" },
    { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "\"shape\" is missing" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "\"data_offsets\" is not two integers" },
    { ONE("7", "[1]", "[0,4]"), 4, "\"dtype\" is missing or not a string" },
    { ONE("\"BF16\"", "[1]", "[0,2]"), 2, "BF16 is not supported" },
    { ONE("\"f32\"", "[1]", "[0,4]"), 4, "f32 is not supported" },
    { ONE("\"F32\"", "1", "[0,4]"), 4, "\"shape\" is missing or not an array" },
    { ONE("\"F32\"", "[-1]", "[0,4]"), 4, "dimension 0 is not a count" },
    { ONE("\"F32\"", "[1,1.0]", "[0,4]"), 4, "dimension 1 is not a count" },
    { ONE("\"F32\"", "[1,1,1,1,1]", "[0,4]"), 4, "5 dimensions" },
    { ONE("\"F32\"", "[4294967296,4294967296]", "[0,4]"), 4, "overflows" },
    { ONE("\"F64\"", "[4611686018427387904]", "[0,0]"), 0, "0 bytes for" },
    { ONE("\"F32\"", "[1]", "[0]"), 4, "not two integers" },
    { ONE("\"F32\"", "[1]", "[0,4,8]"), 4, "not two integers" },
    { ONE("\"F32\"", "[1]", "[0.0,4]"), 4, "not two integers" },
    { ONE("\"F32\"", "[1]", "{}"), 4, "not two integers" },
    { ONE("\"F32\"", "[1]", "[-4,0]"), 4, "not a range" },
    { ONE("\"F32\"", "[1]", "[4,0]"), 4, "not a range" },
    { ONE("\"F32\"", "[1]", "[0,9223372036854775807]"), 4, "file truncated?" },
    { ONE("\"F32\"", "[1]", "[0,99999999999999999999]"), 4, "not valid JSON" },
    { ONE("\"F32\"", "[2]", "[0,8]"), 4, "file truncated?" },
    { ONE("\"F32\"", "[2]", "[0,4]"), 4, "4 bytes for 2 elements" },
    { ONE("\"F64\"", "[1]", "[0,4]"), 4, "4 bytes for 1 elements of F64" },
    { ONE("\"U8\"", "[4]", "[0,4]"), 5, "1 bytes of data belong to no tensor" },
    { ONE("\"U8\"", "[4]", "[1,5]"), 5, "after a hole" },
    { ONE("\"F32\"", "[1]", "[0,4]") " ", 4, "not aligned" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
      "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
      6, "an overlap" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
      "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
      4, "an overlap" },
    { "{}", 3, "3 bytes of data belong to no tensor" },
};

START_TEST(safet_refuses_a_bad_header_and_says_why)
{
    size_t nb;
    struct err e = { 0 };
    uint8_t *p = make_file(&nb, bad[_i].header, bad[_i].n_data);
    ck_assert_int_eq(open_guarded(p, nb, &e), ERR_FORMAT);
    ck_assert_msg(strstr(e.msg, bad[_i].why) != NULL, "%s\n  said: %s\n  not:  %s",
                  bad[_i].header, e.msg, bad[_i].why);
    free(p);
}
END_TEST

START_TEST(safet_refuses_a_file_cut_anywhere)
{
    size_t nb;
    uint8_t *p = make_file(&nb, GOOD, 16);
    for (size_t cut = 0; cut < nb; cut++) {
        struct err e = { 0 };
        ck_assert_msg(open_guarded(p, cut, &e) == ERR_FORMAT, "cut at %zu", cut);
        ck_assert(e.msg[0] != '\0');
    }
    ck_assert_int_eq(open_guarded(p, nb, NULL), 0);
    free(p);
}
END_TEST

START_TEST(safet_survives_any_flipped_bit_of_the_header)
{
    size_t nb;
    uint8_t *p = make_file(&nb, GOOD, 16);
    for (size_t bit = 0; bit < 8 * (nb - 16); bit++) {
        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (open_guarded(p, nb, NULL) < 0) p[0] = p[0]; /* accepted or refused, never a crash */
        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(p);
}
END_TEST

START_TEST(safet_refuses_a_header_longer_than_the_cap_before_reading_it)
{
    uint8_t p[8] = { 1, 0, 0, 4, 0, 0, 0, 0 }; /* 64 MiB + 1 */
    struct err e = { 0 };
    ck_assert_int_eq(open_guarded(p, sizeof p, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "at most"));
    memset(p, 0xff, sizeof p);
    ck_assert_int_eq(open_guarded(p, sizeof p, NULL), ERR_FORMAT);
}
END_TEST

START_TEST(safet_refuses_a_tensor_name_over_the_cap)
{
    char name[LIMIT_TENSOR_NAME + 2], *header;
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    struct err e = { 0 };
    size_t nb;
    header =
        xasprintf("{\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", name);
    uint8_t *p = make_file(&nb, header, 0);
    ck_assert_int_eq(open_guarded(p, nb, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "name has 257 bytes"));
    free(p);
    free(header);
}
END_TEST

START_TEST(safet_opens_an_empty_set_and_empty_tensors)
{
    static const char empty[] =
        "{\"z\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]}}     ";
    size_t nb;
    uint8_t *p = make_file(&nb, "{}", 0);
    ck_assert_int_eq(open_guarded(p, nb, NULL), 0);
    free(p);
    p = make_file(&nb, empty, 0);
    ck_assert_int_eq(open_guarded(p, nb, NULL), 0);
    free(p);
}
END_TEST

static const float f32[3] = { 1, 2, 3 };
static const double f64[2] = { 4, 5 };
static const int32_t i32[1] = { -6 };
static const int64_t i64[4] = { 7, 8, 9, 10 };
static const uint8_t u8[3] = { 11, 12, 13 };

START_TEST(safet_write_and_open_agree_on_every_type)
{
    /* Bytes before doubles: only a layout by size keeps all of them aligned. */
    const struct safet_tensor t[] = {
        { .name = "bytes", .dtype = SAFET_U8, .rank = 1, .shape = { 3 }, .data = u8, .n = 3 },
        { .name = "floats \"quoted\"",
          .dtype = SAFET_F32,
          .rank = 3,
          .shape = { 1, 3, 1 },
          .data = f32,
          .n = 3 },
        { .name = "doubles",
          .dtype = SAFET_F64,
          .rank = 1,
          .shape = { 2 },
          .data = f64,
          .n = 2 },
        { .name = "ints", .dtype = SAFET_I32, .rank = 0, .data = i32, .n = 1 },
        { .name = "longs",
          .dtype = SAFET_I64,
          .rank = 4,
          .shape = { 1, 2, 2, 1 },
          .data = i64,
          .n = 4 },
        { .name = "none",
          .dtype = SAFET_F32,
          .rank = 2,
          .shape = { 0, 5 },
          .data = f32,
          .n = 0 },
    };
    static const size_t nb[] = { sizeof u8, sizeof f32, sizeof f64, sizeof i32, sizeof i64, 0 };
    static const char *const meta[] = { "format", "test", "who", "me", NULL };
    char *dir = fixture_tmpdir(), *path = xasprintf("%s/t.safetensors", dir);
    struct err e = { 0 };
    struct safet *s;
    ck_assert_msg(safet_write(path, t, 6, meta, &e) == 0, "%s", e.msg);
    ck_assert_msg(safet_open(&s, path, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(safet_count(s), 6);
    ck_assert_str_eq(safet_meta(s, "who"), "me");
    for (int i = 0; i < 6; i++) {
        const struct safet_tensor *got = safet_find(s, t[i].name);
        ck_assert_ptr_nonnull(got);
        ck_assert_int_eq(got->dtype, t[i].dtype);
        ck_assert_int_eq(got->rank, t[i].rank);
        ck_assert(memcmp(got->shape, t[i].shape, sizeof got->shape) == 0);
        ck_assert(memcmp(got->data, t[i].data, nb[i]) == 0);
        ck_assert_int_eq((int)((uintptr_t)got->data % (nb[i] ? nb[i] / (size_t)got->n : 1)), 0);
    }
    safet_close(s);
    fixture_rmdir(dir);
    free(path);
    free(dir);
}
END_TEST

START_TEST(safet_write_leaves_the_old_file_when_it_cannot_write)
{
    char *dir = fixture_tmpdir(), *path = xasprintf("%s/none/t.safetensors", dir);
    struct err e = { 0 };
    ck_assert_int_eq(safet_write(path, NULL, 0, NULL, &e), ERR_IO);
    ck_assert_ptr_nonnull(strstr(e.msg, "t.safetensors"));
    fixture_rmdir(dir);
    free(path);
    free(dir);
}
END_TEST

START_TEST(safet_open_names_the_missing_file)
{
    struct safet *s;
    struct err e = { 0 };
    ck_assert_int_eq(safet_open(&s, "/nonexistent/w.safetensors", &e), ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(e.msg, "w.safetensors"));
}
END_TEST

Suite *suite_safet(void);
Suite *suite_safet(void)
{
    Suite *s = suite_create("safet");
    TCase *t = tcase_create("all");
    tcase_add_test(t, safet_reads_a_hand_made_file);
    tcase_add_loop_test(t, safet_refuses_a_bad_header_and_says_why, 0,
                        (int)(sizeof bad / sizeof bad[0]));
    tcase_add_test(t, safet_refuses_a_file_cut_anywhere);
    tcase_add_test(t, safet_survives_any_flipped_bit_of_the_header);
    tcase_add_test(t, safet_refuses_a_header_longer_than_the_cap_before_reading_it);
    tcase_add_test(t, safet_refuses_a_tensor_name_over_the_cap);
    tcase_add_test(t, safet_opens_an_empty_set_and_empty_tensors);
    tcase_add_test(t, safet_write_and_open_agree_on_every_type);
    tcase_add_test(t, safet_write_leaves_the_old_file_when_it_cannot_write);
    tcase_add_test(t, safet_open_names_the_missing_file);
    suite_add_tcase(s, t);
    return s;
}
