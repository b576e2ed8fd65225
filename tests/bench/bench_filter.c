/* Filters on catalogues of three sizes: the index of attributes (milliseconds, bytes an
 * item), and compiling a filter into the set of rows that pass, best and median of many; the
 * same out of the cache. */
#include "core/base/clock.h"
#include "core/base/order.h"
#include "core/serve/filter_cache.h"
#include "tests/core/serve/fixture_attrs.h"
#include "tests/fixture_bundle.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMES = 201, MIDDLE = TIMES / 2 };

#define TEXT(s)                                                                                \
    {                                                                                          \
        (s), (int32_t)sizeof(s) - 1                                                            \
    }
#define VALUES(x) .value = (x), .n_values = sizeof(x) / sizeof(x)[0]
static const struct filter_value yes[] = { { TEXT("true"), NAN } },
                                 g0[] = { { TEXT("g0"), NAN } },
                                 three[] = { { TEXT("g3"), NAN },
                                             { TEXT("g7"), NAN },
                                             { TEXT("g19"), NAN } },
                                 brand[] = { { TEXT("b7"), NAN } },
                                 y2000[] = { { TEXT("2000"), 2000 } };
static const struct filter_clause
    stock[] = { { TEXT("in_stock"), FILTER_ANY, VALUES(yes) } },
    stock_price[] = { { TEXT("in_stock"), FILTER_ANY, VALUES(yes) },
                      { TEXT("price"), FILTER_RANGE, .range = { 20.5, NAN, NAN, 80.2 } } },
    genre_price[] = { { TEXT("genre"), FILTER_ANY, VALUES(three) },
                      { TEXT("price"), FILTER_RANGE, .range = { NAN, NAN, 9.5, NAN } } },
    brand_genre[] = { { TEXT("brand"), FILTER_ANY, VALUES(brand) },
                      { TEXT("genre"), FILTER_ANY, VALUES(g0) } },
    year[] = { { TEXT("year"), FILTER_ANY, VALUES(y2000) } };
static const struct {
    const char *what;
    struct filter filter;
} filters[] = {
    { "no clause", { 0 } },
    { "in_stock", { stock, NULL, 1, 0 } },
    { "in_stock, price 20.5 .. 80.2", { stock_price, NULL, 2, 0 } },
    { "genre of three, price to 9.5", { genre_price, NULL, 2, 0 } },
    { "genre of three, not in_stock", { genre_price, stock, 1, 1 } },
    { "brand, genre", { brand_genre, NULL, 2, 0 } },
    { "year = 2000", { year, NULL, 1, 0 } },
};

static int64_t ns[TIMES];

static void compile(struct filter_rows *ok, struct arena *a, const struct attrs_index *ix,
                    const struct filter *f)
{
    struct filter_fault where;
    struct err e = { 0 };
    for (int t = 0; t < TIMES; t++) {
        arena_reset(a);
        uint64_t start = clock_ns();
        REQUIRE(filter_compile(ok, a, ix, NULL, f, &where, &e) == 0, "%s", e.msg);
        ns[t] = (int64_t)(clock_ns() - start);
    }
    qsort(ns, TIMES, sizeof ns[0], order_i64);
}

static double hit_us(struct filter_cache *c, struct arena *a, const struct filter *f)
{
    struct filter_fault where;
    struct filter_held h;
    uint64_t start = 0;
    for (int t = -2; t < TIMES; t++) {
        if (t == 0) start = clock_ns();
        REQUIRE(filter_cache_hold(&h, c, a, NULL, f, &where, NULL) == 0, "filter");
        filter_cache_release(c, &h);
    }
    return (double)(clock_ns() - start) * 1e-3 / TIMES;
}

static void measure(const struct attrs_index *ix)
{
    struct arena *a = arena_new("bench", 1 << 20, 0);
    struct filter_cache *c = filter_cache_new(ix);
    for (int i = 0; i < (int)(sizeof filters / sizeof filters[0]); i++) {
        struct filter_rows ok;
        compile(&ok, a, ix, &filters[i].filter);
        printf("%9d  %-30s %8d rows  %7.1f us, median %7.1f, hit %5.2f\n",
               items_count(attrs_items(ix)), filters[i].what, ok.n, (double)ns[0] * 1e-3,
               (double)ns[MIDDLE] * 1e-3, hit_us(c, a, &filters[i].filter));
    }
    filter_cache_free(c);
    arena_free(a);
}

int main(void)
{
    static const int32_t size[] = { 12000, 100000, 1000000 };
    char *dir = fixture_tmpdir();
    for (int s = 0; s < 3; s++) {
        struct items *it = fixture_attrs(dir, size[s], 1);
        struct attrs_index *ix;
        struct err e = { 0 };
        uint64_t start = clock_ns();
        REQUIRE(attrs_open(&ix, it, &e) == 0, "%s", e.msg);
        printf("%9d  index of %d fields: %.0f ms, %.1f bytes an item\n", size[s],
               items_fields(it), (double)(clock_ns() - start) * 1e-6,
               (double)attrs_bytes(ix) / size[s]);
        measure(ix);
        attrs_close(ix);
        items_close(it);
    }
    fixture_rmdir(dir);
    free(dir);
    return 0;
}
