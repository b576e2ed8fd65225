#include "core/base/mem.h"
#include "core/fmt/ckpt.h"
#include "core/fmt/safet.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *dir, *path;

static void setup(void)
{
    dir = fixture_tmpdir();
    path = xasprintf("%s/m.safetensors", dir);
}

static void teardown(void)
{
    fixture_rmdir(dir);
    free(path);
    free(dir);
}

static struct params *make(bool trainable)
{
    struct params *ps = params_new(trainable);
    params_add(ps, "item.weight", 5, 3, 1, INIT_NORMAL, 1);
    params_add(ps, "norm.gain", 1, 3, 1, INIT_ONE, 0);
    return ps;
}

START_TEST(ckpt_loads_the_bits_it_saved)
{
    struct params *a = make(true), *b = make(false);
    struct err e = { 0 };
    params_init(a, 7);
    params_init(b, 8);
    ck_assert_msg(ckpt_save(path, a, GROUPS_ALL, &e) == 0 &&
                      ckpt_load(b, GROUPS_ALL, path, &e) == 0,
                  "%s", e.msg);
    for (int32_t i = 0; i < 2; i++) {
        const struct ten *x = &params_at(a, i)->t, *y = &params_at(b, i)->t;
        ck_assert(memcmp(x->x, y->x, (size_t)(x->rows * x->cols) * sizeof(float)) == 0);
    }
    params_free(a);
    params_free(b);
}
END_TEST

START_TEST(ckpt_refuses_to_save_or_load_what_is_not_finite)
{
    static const float poison[] = { NAN, INFINITY, -INFINITY };
    struct params *ps = make(false);
    struct err e = { 0 };
    params_init(ps, 7);
    params_at(ps, 0)->t.x[7] = poison[_i];
    ck_assert_int_eq(ckpt_save(path, ps, GROUPS_ALL, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, "tensor item.weight: row 2, column 1 is"));

    const struct safet_tensor t[] = {
        { .name = "item.weight",
          .rank = 2,
          .shape = { 5, 3 },
          .data = params_at(ps, 0)->t.x,
          .n = 15 },
        { .name = "norm.gain",
          .rank = 2,
          .shape = { 1, 3 },
          .data = params_at(ps, 1)->t.x,
          .n = 3 },
    };
    e = (struct err){ 0 };
    ck_assert_int_eq(safet_write(path, t, 2, NULL, &e), 0);
    ck_assert_int_eq(ckpt_load(ps, GROUPS_ALL, path, &e), ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(e.msg, _i ? "is infinite" : "is NaN"));
    params_free(ps);
}
END_TEST

static const float zeros[32];
static const double dzeros[32];
#define TENSOR(name_, dtype_, rank_, n_, data_, ...)                                           \
    {                                                                                          \
        .name = name_, .dtype = dtype_, .rank = rank_, .shape = { __VA_ARGS__ },               \
        .data = data_, .n = n_                                                                 \
    }
#define GAIN TENSOR("norm.gain", SAFET_F32, 2, 3, zeros, 1, 3)

static const struct {
    struct safet_tensor t[3];
    int32_t n;
    const char *why;
} bad[] = {
    { { GAIN }, 1, "tensor item.weight is missing" },
    { { GAIN, TENSOR("item.weight", SAFET_F64, 2, 15, dzeros, 5, 3) },
      2,
      "item.weight: not F32" },
    { { GAIN, TENSOR("item.weight", SAFET_F32, 1, 15, zeros, 15) },
      2,
      "1 dimensions, 2 expected" },
    { { GAIN, TENSOR("item.weight", SAFET_F32, 2, 15, zeros, 3, 5) },
      2,
      "shape [3,5], [5,3] expected" },
    { { GAIN, TENSOR("item.weight", SAFET_F32, 2, 18, zeros, 6, 3) },
      2,
      "shape [6,3], [5,3] expected" },
    { { GAIN, TENSOR("item.weight", SAFET_F32, 2, 15, zeros, 5, 3),
        TENSOR("more", SAFET_F32, 1, 1, zeros, 1) },
      3,
      "tensor more is not one of the model's" },
};

START_TEST(ckpt_refuses_other_declarations)
{
    struct params *ps = make(false);
    struct err e = { 0 };
    ck_assert_msg(safet_write(path, bad[_i].t, bad[_i].n, NULL, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(ckpt_load(ps, GROUPS_ALL, path, &e), ERR_FORMAT);
    ck_assert_msg(strstr(e.msg, bad[_i].why) && strstr(e.msg, path), "%s, not %s", e.msg,
                  bad[_i].why);
    params_free(ps);
}
END_TEST

Suite *suite_ckpt(void);
Suite *suite_ckpt(void)
{
    Suite *s = suite_create("ckpt");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, ckpt_loads_the_bits_it_saved);
    tcase_add_loop_test(t, ckpt_refuses_to_save_or_load_what_is_not_finite, 0, 3);
    tcase_add_loop_test(t, ckpt_refuses_other_declarations, 0,
                        (int)(sizeof bad / sizeof bad[0]));
    suite_add_tcase(s, t);
    return s;
}
