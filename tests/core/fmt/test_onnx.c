#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/fmt/npy.h"
#include "core/fmt/onnx.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static char *dir, *path, *data;
static size_t nb;
static struct err e;

static void set_up(void)
{
    dir = fixture_tmpdir();
    path = xasprintf("%s/file", dir);
    data = NULL;
    e = (struct err){ 0 };
}

static void tear_down(void)
{
    fixture_rmdir(dir);
    free(data);
    free(path);
    free(dir);
}

static void load(void)
{
    ck_assert_msg(io_read_all(&data, &nb, path, 1 << 20, &e) == 0, "%s", e.msg);
}

/* Written from onnx.proto by a script; the onnx package reads it as the graph below. */
static const uint8_t message[] = {
    0x08, 0x08, 0x12, 0x06, 0x69, 0x6e, 0x74, 0x65, 0x6e, 0x74, 0x42, 0x04, 0x0a, 0x00, 0x10,
    0x11, 0x72, 0x08, 0x0a, 0x01, 0x6b, 0x12, 0x03, 0x76, 0x61, 0x6c, 0x3a, 0xa5, 0x01, 0x12,
    0x01, 0x67, 0x5a, 0x14, 0x0a, 0x01, 0x78, 0x12, 0x0f, 0x0a, 0x0d, 0x08, 0x01, 0x12, 0x09,
    0x0a, 0x03, 0x12, 0x01, 0x6e, 0x0a, 0x02, 0x08, 0x02, 0x2a, 0x13, 0x08, 0x02, 0x08, 0x01,
    0x10, 0x01, 0x42, 0x01, 0x77, 0x4a, 0x08, 0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0,
    0x2a, 0x0f, 0x10, 0x07, 0x42, 0x01, 0x69, 0x4a, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0x0a, 0x11, 0x0a, 0x01, 0x78, 0x0a, 0x01, 0x77, 0x12, 0x01, 0x61, 0x22, 0x06,
    0x4d, 0x61, 0x74, 0x4d, 0x75, 0x6c, 0x0a, 0x3f, 0x0a, 0x01, 0x61, 0x12, 0x01, 0x79, 0x22,
    0x07, 0x53, 0x6f, 0x66, 0x74, 0x6d, 0x61, 0x78, 0x2a, 0x14, 0x0a, 0x04, 0x61, 0x78, 0x69,
    0x73, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0xa0, 0x01, 0x02,
    0x2a, 0x0b, 0x0a, 0x01, 0x66, 0x15, 0x00, 0x00, 0x00, 0x3f, 0xa0, 0x01, 0x01, 0x2a, 0x0b,
    0x0a, 0x01, 0x70, 0x40, 0x01, 0x40, 0xac, 0x02, 0xa0, 0x01, 0x07, 0x62, 0x10, 0x0a, 0x01,
    0x79, 0x12, 0x0b, 0x0a, 0x09, 0x08, 0x01, 0x12, 0x05, 0x0a, 0x03, 0x12, 0x01, 0x6e,
};

START_TEST(onnx_writes_the_bytes_of_the_message)
{
    struct onnx *o = onnx_new("g");
    onnx_meta(o, "k", "val");
    onnx_input(o, "x", ONNX_F32, (const char *[]){ "n", "2", NULL });
    onnx_floats(o, "w", (float[]){ 1, -2 }, 2, (int64_t[]){ 2, 1 });
    onnx_ints(o, "i", (int64_t[]){ -1 }, 0, NULL);
    onnx_node(o, "MatMul", "a", "x w");
    onnx_attr_int(o, "axis", -1);
    onnx_attr_float(o, "f", 0.5f);
    onnx_attr_ints(o, "p", (int64_t[]){ 1, 300 }, 2);
    onnx_node(o, "Softmax", "y", "a");
    onnx_output(o, "y", ONNX_F32, (const char *[]){ "n", NULL });
    ck_assert_msg(onnx_write(o, path, &e) == 0, "%s", e.msg);
    onnx_free(o);
    load();
    ck_assert_uint_eq(nb, sizeof message);
    for (size_t i = 0; i < nb; i++)
        ck_assert_msg((uint8_t)data[i] == message[i], "byte %zu is 0x%02x, 0x%02x expected", i,
                      (unsigned)(uint8_t)data[i], (unsigned)message[i]);
}
END_TEST

START_TEST(onnx_names_the_file_that_it_cannot_write)
{
    struct onnx *o = onnx_new("g");
    ck_assert_int_eq(onnx_write(o, "/nonexistent/model.onnx", &e), ERR_IO);
    ck_assert_ptr_nonnull(strstr(e.msg, "/nonexistent/model.onnx"));
    onnx_free(o);
}
END_TEST

START_TEST(npy_has_numpys_header_and_aligned_values)
{
    static const float x[6] = { 1, 2, 3, -4, 5.5f, 6 };
    static const char head[] =
        "\x93NUMPY\1\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    ck_assert_msg(npy_write(path, x, 2, 3, &e) == 0, "%s", e.msg);
    load();
    ck_assert_uint_eq(nb, 128 + sizeof x);
    ck_assert_int_eq(memcmp(data, head, sizeof head - 1), 0);
    for (size_t i = sizeof head - 1; i < 127; i++) ck_assert_int_eq(data[i], ' ');
    ck_assert_int_eq(data[127], '\n');
    ck_assert_int_eq(memcmp(data + 128, x, sizeof x), 0);
}
END_TEST

Suite *suite_onnx(void);
Suite *suite_onnx(void)
{
    Suite *s = suite_create("onnx");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, onnx_writes_the_bytes_of_the_message);
    tcase_add_test(t, onnx_names_the_file_that_it_cannot_write);
    tcase_add_test(t, npy_has_numpys_header_and_aligned_values);
    suite_add_tcase(s, t);
    return s;
}
