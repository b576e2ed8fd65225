#include "tests/core/data/fixture_data.h"
#include "core/base/buf.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/data/items_read.h"
#include "core/data/read.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static void write_and_open(struct dataset *d, struct interactions *x, const char *dir)
{
    static int n_sets;
    struct err e = { 0 };
    struct read_stats st;
    char *to = xasprintf("%s/set%d", dir, n_sets++);
    ck_assert_msg(interactions_write(x, to, &(struct write_opts){ .min_events = 1 }, &st, &e) ==
                      0,
                  "%s", e.msg);
    ck_assert_msg(dataset_open(d, to, &e) == 0, "%s", e.msg);
    interactions_free(x);
    free(to);
}

void data_with_items(struct dataset *d, const char *dir, const char *text, const char *items)
{
    struct err e = { 0 };
    struct read_stats st;
    struct items_stats items_st;
    struct items_opts o = { .fields = NULL };
    struct interactions *x = interactions_new();
    int rc = read_events_mem(x, text, strlen(text), "text", NULL, &st, &e);
    if (rc == 0 && items)
        rc = read_items_mem(interactions_items(x), items, strlen(items), "items.csv", &o,
                            &items_st, &e);
    ck_assert_msg(rc == 0, "%s", e.msg);
    write_and_open(d, x, dir);
}

void data_from_text(struct dataset *d, const char *dir, const char *text)
{
    data_with_items(d, dir, text, NULL);
}

char *data_items(int n_items)
{
    struct buf text = { 0 };
    buf_puts(&text, "item,colour,shape,year\n");
    for (int i = 0; i < n_items; i++) {
        buf_printf(&text, "i%d,%s,", i, i % 5 ? i % 2 ? "red" : "blue|green" : "");
        buf_printf(&text, "%s,%d\n", i % 3 ? "round" : "square", 1990 + i % 7);
    }
    return text.data;
}

const char *data_path(const char *below)
{
    static char path[512];
    const char *root = getenv("DATA");
    snprintf(path, sizeof path, "%s/%s", root ? root : "../shared/data", below);
    if (io_exists(path)) return path;
    fprintf(stderr, "skipped: %s is absent\n", path);
    return NULL;
}

bool data_real(struct dataset *d, const char *dir, const char *name)
{
    char below[64];
    snprintf(below, sizeof below, "amazon-yelp/%s.txt", name);
    const char *path = data_path(below);
    if (!path) return false;
    struct err e = { 0 };
    struct read_stats st;
    struct interactions *x = interactions_new();
    ck_assert_msg(read_events(x, path, NULL, &st, &e) == 0, "%s", e.msg);
    write_and_open(d, x, dir);
    return true;
}

void data_random(struct dataset *d, const char *dir, int n_users, int n_items, int len_max,
                 uint64_t seed)
{
    struct buf text = { 0 };
    struct rng r = rng_make(seed, RNG_TEST);
    for (int u = 0; u < n_users; u++) {
        buf_printf(&text, "u%d", u);
        for (int i = 0; i <= u % len_max; i++)
            buf_printf(&text, " i%u", rng_below(&r, (uint32_t)n_items));
        buf_putc(&text, '\n');
    }
    ck_assert_ptr_nonnull(text.data);
    char *items = data_items(n_items);
    data_with_items(d, dir, text.data, items);
    free(items);
    buf_free(&text);
}
