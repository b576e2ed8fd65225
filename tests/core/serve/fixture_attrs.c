#include "tests/core/serve/fixture_attrs.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct items_builder *b;
static struct rng rng;

static int32_t values(const char *name)
{
    return items_field_add(b, name, strlen(name), FIELD_VALUES);
}

static void give(int32_t f, int32_t row, const char *value)
{
    items_add_value(b, f, row, value, strlen(value));
}

static void give_numbered(int32_t f, int32_t row, char letter, uint32_t i)
{
    char text[16];
    snprintf(text, sizeof text, "%c%u", letter, i);
    give(f, row, text);
}

static uint32_t draw(uint32_t n) { return rng_below(&rng, n); }

struct items *fixture_attrs(const char *dir, int32_t n, uint64_t seed)
{
    static const char *const size[] = { "1", "2.5", "10", "1e+20", "0.1" };
    struct err e = { 0 };
    struct items *it;
    b = items_builder_new();
    rng = rng_make(seed, RNG_TEST);
    int32_t genre = values("genre"), brand = values("brand"), shelf = values("shelf"),
            stock = values("in_stock"), only = values("only"), sizes = values("size"),
            price = items_field_add(b, "price", 5, FIELD_NUMBER),
            year = items_field_add(b, "year", 4, FIELD_NUMBER);
    for (int32_t i = 0; i < n; i++) {
        char id[16];
        int32_t row = items_add(b, id, (size_t)snprintf(id, sizeof id, "i%d", i));
        for (uint32_t k = draw(4); k > 0; k--)
            give_numbered(genre, row, 'g', draw(1 + draw(20)));
        if (draw(10)) give_numbered(brand, row, 'b', draw((uint32_t)n / 20 + 1));
        if (draw(100) || i < n / 2)
            give_numbered(shelf, row, 's', (uint32_t)((int64_t)i * 8 / n));
        if (draw(20)) give(stock, row, draw(10) ? "true" : "false");
        if (draw(3)) give(sizes, row, size[draw(5)]);
        if (draw(5)) items_set_number(b, price, row, draw(10000) / 100.0);
        if (draw(8)) items_set_number(b, year, row, 1990 + draw(30));
    }
    give(only, n - 1, "1");
    char *path = xasprintf("%s/items-%d-%llu.bin", dir, n, (unsigned long long)seed);
    REQUIRE(items_write(b, path, &e) == 0 && items_open(&it, path, &e) == 0, "%s", e.msg);
    items_builder_free(b);
    free(path);
    return it;
}
