#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/num/num.h"
#include "core/serve/reply.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct buf b;

static void buf_setup(void) { b = (struct buf){ .cap_max = LIMIT_REPLY_BYTES }; }
static void buf_teardown(void) { buf_free(&b); }

static const char *num_text(double x, int digits)
{
    buf_clear(&b);
    reply_num(&b, x, digits);
    return b.data;
}

START_TEST(reply_num_prints_like_g)
{
    static const double x[] = {
        0,          1,        -1,        0.1,          12.5,           123456,
        1234567,    12345678, 0.00001,   0.0000123456, 0.000009999999, 9.9999996,
        9.99999949, 99999.95, 1e22,      1e-30,        3.4028235e38,   1.17549435e-38,
        1.4e-45,    0.5,      2.0 / 3,   1e15,         123.456,        100,
        1000000,    9999999,  99999999.0
    };
    static const char *const want[] = { "0",
                                        "1",
                                        "-1",
                                        "0.1",
                                        "12.5",
                                        "123456",
                                        "1234567",
                                        "1.234568e+07",
                                        "1e-05",
                                        "1.23456e-05",
                                        "9.999999e-06",
                                        "10",
                                        "9.999999",
                                        "99999.95",
                                        "1e+22",
                                        "1e-30",
                                        "3.402823e+38",
                                        "1.175494e-38",
                                        "1.4e-45",
                                        "0.5",
                                        "0.6666667",
                                        "1e+15",
                                        "123.456",
                                        "100",
                                        "1000000",
                                        "9999999",
                                        "1e+08" };
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
        ck_assert_str_eq(num_text(x[i], 7), want[i]);
    ck_assert_str_eq(num_text((double)NAN, 7), "null");
    ck_assert_str_eq(num_text(-(double)INFINITY, 7), "null");
    ck_assert_str_eq(num_text(0.96, 1), "1");
    ck_assert_str_eq(num_text(-0.0625, 2), "-0.062"); /* halves go to even */
}
END_TEST

START_TEST(reply_num_with_nine_digits_gives_every_float_back)
{
    struct rng rng = rng_make(1, RNG_TEST);
    for (int i = 0; i < 200000; i++) {
        uint32_t bits = (uint32_t)rng_u64(&rng);
        float x;
        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x)) continue;
        ck_assert_msg(strtof(num_text((double)x, 9), NULL) == x, "%.9g printed as %s",
                      (double)x, b.data);
    }
}
END_TEST

START_TEST(reply_num_is_within_half_a_digit_of_printf)
{
    struct rng rng = rng_make(2, RNG_TEST);
    for (int i = 0; i < 50000; i++) {
        double x = (rng_f64(&rng) - 0.5) * pow(10, (double)rng_below(&rng, 30) - 15);
        char g[40];
        snprintf(g, sizeof g, "%.7g", x);
        double mine = strtod(num_text(x, 7), NULL), theirs = strtod(g, NULL);
        ck_assert_msg(fabs(mine - theirs) <= 1.0000001e-6 * fabs(x), "%s, not %s", b.data, g);
        ck_assert(fabs(mine - x) <= 5.0000001e-7 * pow(10, ceil(log10(fabs(x)))));
    }
}
END_TEST

START_TEST(reply_int_prints_the_extremes)
{
    reply_int(&b, INT64_MIN);
    buf_putc(&b, ' ');
    reply_int(&b, 0);
    buf_putc(&b, ' ');
    reply_int(&b, INT64_MAX);
    ck_assert_str_eq(b.data, "-9223372036854775808 0 9223372036854775807");
}
END_TEST

/* ---- answers ---- */

static char *dir;
static struct gen *gen;
static struct rec_worker *worker;
static struct rec_request req;

static void setup(void)
{
    buf_setup();
    num_init();
    dir = fixture_tmpdir();
    struct fixture fx = fixture_defaults();
    fixture_bundle(&fx, dir);
    char *path = xasprintf("%s/toy", dir);
    ck_assert_int_eq(gen_open(&gen, path, NULL), 0);
    free(path);
    worker = rec_worker_new();
    rec_request_defaults(&req);
}

static void teardown(void)
{
    rec_worker_free(worker);
    gen_unref(gen);
    fixture_rmdir(dir);
    free(dir);
    buf_teardown();
}

static json_t *answer(const struct reply_opts *o, struct rec_answer *a)
{
    json_error_t je;
    ck_assert_int_eq(recommend(a, worker, &(struct corpus){ .gen = gen }, &req, NULL), 0);
    buf_clear(&b);
    reply_recommend(&b, a, &(struct corpus){ .gen = gen }, o);
    ck_assert(!b.failed);
    json_t *v = json_loads(b.data, JSON_REJECT_DUPLICATES, &je);
    ck_assert_msg(v != NULL, "%s in %s", je.text, b.data);
    return v;
}

START_TEST(reply_to_no_history_is_exactly_this)
{
    struct rec_answer a;
    req.limit = 2;
    json_decref(
        answer(&(struct reply_opts){ .recommendation_id = "r\"1", .took_ms = 0.25 }, &a));
    ck_assert_str_eq(b.data,
                     "{\"recommendation_id\":\"r\\\"1\",\"model\":{\"name\":\"toy\","
                     "\"version\":\"1\",\"index\":\"1/flat\",\"items\":40},"
                     "\"items\":[{\"item_id\":\"i7\",\"title\":\"Film "
                     "7\",\"score\":1,\"interest\":null,\"source\":\"popular\"},"
                     "{\"item_id\":\"i14\",\"title\":\"Film "
                     "14\",\"score\":0.9795918,\"interest\":null,\"source\":\"popular\"}],"
                     "\"history\":{\"received\":0,\"used\":0,\"unknown\":0,\"truncated\":0},"
                     "\"fallback\":{\"used\":\"popular\",\"reason\":\"empty_history\"},"
                     "\"degraded\":null,\"took_ms\":0.25}");
    req.fallback = REC_FALLBACK_NONE;
    json_decref(answer(&(struct reply_opts){ .explain = true, .took_ms = -1 }, &a));
    ck_assert_ptr_nonnull(strstr(b.data, "\"items\":[],"));
    ck_assert_ptr_nonnull(
        strstr(b.data, "\"fallback\":{\"used\":\"none\",\"reason\":\"empty_history\"}"));
    ck_assert_ptr_nonnull(strstr(
        b.data,
        "\"explain\":{\"interests\":[],\"plan\":{\"mode\":null,\"selectivity\":0,\"fetched\":0,"
        "\"after_dedup\":0}}}"));
}
END_TEST

static const struct str history[] = { { "i3", 2 }, { "i20", 3 }, { "i3", 2 } };

START_TEST(reply_has_the_items_of_the_answer)
{
    struct rec_answer a;
    req.history = history;
    req.n_history = 3;
    req.limit = 5;
    json_t *v = answer(&(struct reply_opts){ .took_ms = -1 }, &a),
           *items = json_object_get(v, "items");
    ck_assert_ptr_null(json_object_get(v, "recommendation_id"));
    ck_assert_ptr_null(json_object_get(v, "took_ms"));
    ck_assert_ptr_null(json_object_get(v, "explain"));
    ck_assert(json_is_null(json_object_get(v, "fallback")));
    ck_assert(json_is_null(json_object_get(v, "degraded")));
    ck_assert_uint_eq(json_array_size(items), 5);
    for (int32_t i = 0; i < 5; i++) {
        const json_t *it = json_array_get(items, (size_t)i);
        char id[16];
        snprintf(id, sizeof id, "i%d", a.item[i].row);
        ck_assert_str_eq(json_string_value(json_object_get(it, "item_id")), id);
        ck_assert_int_eq(json_integer_value(json_object_get(it, "interest")),
                         a.item[i].interest);
        double score = json_number_value(json_object_get(it, "score"));
        ck_assert(fabs(score - (double)a.item[i].score) <= 1e-6 * fabs(score));
        ck_assert_uint_eq(json_object_size(it), 4);
    }
    json_decref(v);
}
END_TEST

START_TEST(reply_explains)
{
    struct rec_answer a;
    req.history = history;
    req.n_history = 3;
    req.explain = true;
    json_t *v = answer(&(struct reply_opts){ .explain = true, .took_ms = -1 }, &a);
    const json_t *first =
        json_object_get(json_array_get(json_object_get(v, "items"), 0), "explain");
    ck_assert_uint_eq(json_array_size(json_object_get(first, "scores_by_interest")), 4);
    ck_assert_int_eq(json_integer_value(json_object_get(first, "rank_in_interest")), 1);
    ck_assert_str_eq(json_string_value(json_object_get(first, "source")), "index");
    ck_assert_uint_eq(json_array_size(json_object_get(first, "interest_history")), 3);
    const json_t *top = json_object_get(v, "explain"), *in = json_object_get(top, "interests");
    ck_assert_uint_eq(json_array_size(in), 4);
    const json_t *event = json_array_get(json_object_get(json_array_get(in, 0), "history"), 0);
    ck_assert_ptr_nonnull(json_object_get(event, "title"));
    ck_assert(json_is_true(json_object_get(json_array_get(in, 0), "active")));
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(top, "plan"), "after_dedup")),
        a.plan.after_dedup);
    json_decref(v);
}
END_TEST

START_TEST(reply_over_the_cap_says_so)
{
    struct rec_answer a;
    struct buf small = { .cap_max = 100 };
    ck_assert_int_eq(recommend(&a, worker, &(struct corpus){ .gen = gen }, &req, NULL), 0);
    reply_recommend(&small, &a, &(struct corpus){ .gen = gen },
                    &(struct reply_opts){ .took_ms = -1 });
    ck_assert(small.failed);
    buf_free(&small);
}
END_TEST

Suite *suite_reply(void);
Suite *suite_reply(void)
{
    Suite *s = suite_create("reply");
    TCase *t = tcase_create("numbers");
    tcase_add_checked_fixture(t, buf_setup, buf_teardown);
    tcase_add_test(t, reply_num_prints_like_g);
    tcase_add_test(t, reply_num_with_nine_digits_gives_every_float_back);
    tcase_add_test(t, reply_num_is_within_half_a_digit_of_printf);
    tcase_add_test(t, reply_int_prints_the_extremes);
    suite_add_tcase(s, t);
    t = tcase_create("answers");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, reply_to_no_history_is_exactly_this);
    tcase_add_test(t, reply_has_the_items_of_the_answer);
    tcase_add_test(t, reply_explains);
    tcase_add_test(t, reply_over_the_cap_says_so);
    suite_add_tcase(s, t);
    return s;
}
