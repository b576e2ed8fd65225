#include "core/base/rng.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

START_TEST(values_are_splitmix64_s)
{
    /* The published generator seeded with 0 and with 1234567 (Vigna's splitmix64.c). */
    static const uint64_t zero[] = { 0xe220a8397b1dcdafu, 0x6e789e6aa1b965f4u,
                                     0x06c45d188009454fu, 0xf88bb8a8724c81ecu };
    static const uint64_t other[] = { 6457827717110365317u, 3203168211198807973u,
                                      9817491932198370423u };
    for (uint64_t i = 0; i < 4; i++) ck_assert_uint_eq(rng_hash(0, i), zero[i]);
    for (uint64_t i = 0; i < 3; i++) ck_assert_uint_eq(rng_hash(1234567, i), other[i]);
}
END_TEST

START_TEST(a_stream_is_a_function_of_its_counter)
{
    struct rng a = rng_make(7, RNG_DROPOUT), b = a;
    uint64_t first[10];
    for (int i = 0; i < 10; i++) first[i] = rng_u64(&a);
    for (int i = 9; i >= 0; i--) {
        b.ctr = (uint64_t)i;
        ck_assert_uint_eq(rng_u64(&b), first[i]);
    }
}
END_TEST

START_TEST(seeds_and_streams_differ)
{
    for (uint64_t seed = 0; seed < 5; seed++) {
        for (uint64_t stream = RNG_INIT; stream <= RNG_TEST; stream++) {
            struct rng here = rng_make(seed, stream), next = rng_make(seed, stream + 1),
                       other = rng_make(seed + 1, stream);
            uint64_t x = rng_u64(&here);
            ck_assert_uint_ne(x, rng_u64(&next));
            ck_assert_uint_ne(x, rng_u64(&other));
        }
    }
}
END_TEST

/* Pearson's statistic of counts against a uniform distribution. */
static double chi_square(const int *count, int n, int total)
{
    double want = (double)total / n, sum = 0;
    for (int i = 0; i < n; i++) sum += (count[i] - want) * (count[i] - want) / want;
    return sum;
}

/* Mean n-1, standard deviation sqrt(2(n-1)); five of those are never seen by chance. */
static double unlikely(int n) { return n - 1 + 5 * sqrt(2.0 * (n - 1)); }

START_TEST(integers_below_n_are_uniform)
{
    static const uint32_t sizes[] = { 1, 2, 3, 7, 10, 100, 1000 };
    struct rng r = rng_make(11, RNG_TEST);
    int n = (int)sizes[_i], total = 200 * n + 2000, *count = calloc((size_t)n, sizeof *count);
    for (int i = 0; i < total; i++) {
        uint32_t x = rng_below(&r, (uint32_t)n);
        if (x >= (uint32_t)n) ck_abort_msg("%u below %d", x, n); /* ck_assert is slow */
        count[x]++;
    }
    ck_assert_double_le(chi_square(count, n, total), unlikely(n));
    free(count);
}
END_TEST

START_TEST(reals_are_uniform_in_zero_to_one)
{
    enum { N = 64000, BINS = 64 };
    struct rng r = rng_make(12, RNG_TEST);
    int count[BINS] = { 0 };
    for (int i = 0; i < N; i++) {
        double x = rng_f64(&r);
        if (x < 0 || x >= 1) ck_abort_msg("%g", x);
        count[(int)(x * BINS)]++;
    }
    ck_assert_double_le(chi_square(count, BINS, N), unlikely(BINS));
}
END_TEST

START_TEST(normals_have_mean_zero_and_variance_one)
{
    enum { N = 50000 };
    struct rng r = rng_make(13, RNG_TEST);
    double sum = 0, squares = 0, cubes = 0, fourths = 0;
    for (int i = 0; i < N; i++) {
        double x = (double)rng_normal(&r);
        if (!isfinite(x) || fabs(x) >= 9) ck_abort_msg("%g", x);
        sum += x;
        squares += x * x;
        cubes += x * x * x;
        fourths += x * x * x * x;
    }
    ck_assert_double_le(fabs(sum / N), 5 * sqrt(1.0 / N));
    ck_assert_double_le(fabs(squares / N - 1), 5 * sqrt(2.0 / N));
    ck_assert_double_le(fabs(cubes / N), 5 * sqrt(15.0 / N));
    ck_assert_double_le(fabs(fourths / N - 3), 5 * sqrt(96.0 / N));
    ck_assert_uint_eq(r.ctr, 2 * N);
}
END_TEST

START_TEST(a_shuffle_is_a_permutation)
{
    struct rng r = rng_make(14, RNG_TEST);
    for (int32_t n = 0; n < 200; n += n < 4 ? 1 : 49) {
        int32_t x[200], seen[200] = { 0 };
        for (int32_t i = 0; i < n; i++) x[i] = i;
        rng_shuffle(&r, x, n);
        for (int32_t i = 0; i < n; i++) {
            ck_assert(x[i] >= 0 && x[i] < n);
            seen[x[i]]++;
        }
        for (int32_t i = 0; i < n; i++) ck_assert_int_eq(seen[i], 1);
    }
}
END_TEST

START_TEST(every_order_is_as_likely)
{
    enum { N = 24000 };
    struct rng r = rng_make(15, RNG_TEST);
    int count[256] = { 0 }, orders[24], n = 0;
    for (int i = 0; i < N; i++) {
        int32_t x[] = { 0, 1, 2, 3 };
        rng_shuffle(&r, x, 4);
        count[x[0] | x[1] << 2 | x[2] << 4 | x[3] << 6]++;
    }
    for (int i = 0; i < 256; i++) {
        if (count[i] == 0) continue;
        ck_assert_int_lt(n, 24);
        orders[n++] = count[i];
    }
    ck_assert_int_eq(n, 24);
    ck_assert_double_le(chi_square(orders, 24, N), unlikely(24));
}
END_TEST

Suite *suite_rng(void);
Suite *suite_rng(void)
{
    Suite *s = suite_create("rng");
    TCase *t = tcase_create("rng");
    tcase_add_test(t, values_are_splitmix64_s);
    tcase_add_test(t, a_stream_is_a_function_of_its_counter);
    tcase_add_test(t, seeds_and_streams_differ);
    tcase_add_loop_test(t, integers_below_n_are_uniform, 0, 7);
    tcase_add_test(t, reals_are_uniform_in_zero_to_one);
    tcase_add_test(t, normals_have_mean_zero_and_variance_one);
    tcase_add_test(t, a_shuffle_is_a_permutation);
    tcase_add_test(t, every_order_is_as_likely);
    suite_add_tcase(s, t);
    return s;
}
