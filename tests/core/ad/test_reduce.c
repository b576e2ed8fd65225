#include "core/ad/reduce.h"
#include "core/base/par.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <string.h>

enum { N0 = 37, N1 = 5, MAX_PARTS = 40 };

static float value(int part, int64_t i)
{
    return sinf((float)(part * 31 + i)) * (float)(1 << (part % 9));
}

static void block(void *ctx, int part, int worker)
{
    (void)worker;
    struct reduce *r = ctx;
    float *p = reduce_take(r);
    for (int64_t i = 0; i < N0 + N1; i++) p[i] = value(part, i);
    reduce_put(r, part, p);
}

static void sum_up(float *y, int parts, int threads)
{
    struct arena *mem = arena_new("reduce", 4096, 0);
    struct par *pool = par_new(threads);
    struct reduce r;
    for (int i = 0; i < N0 + N1; i++) y[i] = 3; /* sums are added */
    reduce_open(&r, mem, parts, y, N0, y + N0, N1);
    par_for(pool, parts, block, &r);
    ck_assert_int_eq(r.n_free, parts - 1); /* all but the last one came back */
    par_free(pool);
    arena_free(mem);
}

START_TEST(sums_are_right_and_the_same_bits_for_any_number_of_threads)
{
    const int parts = _i;
    float one[N0 + N1], many[N0 + N1];
    sum_up(one, parts, 1);
    for (int64_t i = 0; i < N0 + N1; i++) {
        double want = 3, size = 3;
        for (int p = 0; p < parts; p++) {
            want += (double)value(p, i);
            size += fabs((double)value(p, i));
        }
        ck_assert(fabs((double)one[i] - want) <= 1e-6 * size);
    }
    for (int threads = 2; threads <= 17; threads += 5)
        for (int again = 0; again < 5; again++) {
            sum_up(many, parts, threads);
            ck_assert_mem_eq(many, one, sizeof one);
        }
}
END_TEST

START_TEST(a_sum_nobody_wants_is_left_out)
{
    struct arena *mem = arena_new("reduce", 4096, 0);
    struct reduce r;
    float y[N1] = { 0 };
    reduce_open(&r, mem, 3, NULL, N0, y, N1);
    for (int p = 0; p < 3; p++) block(&r, p, 0);
    for (int64_t i = 0; i < N1; i++)
        ck_assert_float_eq_tol(y[i], value(0, N0 + i) + value(1, N0 + i) + value(2, N0 + i),
                               1e-5f);
    arena_free(mem);
}
END_TEST

Suite *suite_reduce(void);
Suite *suite_reduce(void)
{
    Suite *s = suite_create("reduce");
    TCase *t = tcase_create("reduce");
    tcase_add_checked_fixture(t, num_init, NULL);
    tcase_add_loop_test(t, sums_are_right_and_the_same_bits_for_any_number_of_threads, 1,
                        MAX_PARTS);
    tcase_add_test(t, a_sum_nobody_wants_is_left_out);
    suite_add_tcase(s, t);
    return s;
}
