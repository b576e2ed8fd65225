/* The same 100,000 interactions through every format the readers know, packed and plain; and damaged. */
#include "core/base/buf.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/data/dataset.h"
#include "core/data/interact.h"
#include "core/data/unpack.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { EVENTS = 100000, USERS = 4000, ITEMS = 3000 };

struct click {
    int user, item;
    int64_t time;
};

static char *dir;
static struct click *click; /* in the order of time */
static struct err e;

static void set_up(void)
{
    struct rng r = rng_make(11, RNG_TEST);
    dir = fixture_tmpdir();
    e = (struct err){ 0 };
    click = xmalloc(EVENTS * sizeof *click);
    for (int i = 0; i < EVENTS; i++)
        click[i] = (struct click){ (int)rng_below(&r, USERS), (int)rng_below(&r, ITEMS),
                                   1600000000 + 10 * (int64_t)i };
}

static void tear_down(void)
{
    free(click);
    fixture_rmdir(dir);
    free(dir);
}

/* ---- writers ---- */

static void plain_row(struct buf *b, const struct click *c, const char *quote, const char *sep,
                      const char *end)
{
    buf_printf(b, "%su%d%s%si-%d%s%lld%s", quote, c->user, quote, sep, c->item, sep,
               (long long)c->time, end);
}

static void write_seq(struct buf *b)
{
    int *next = xmalloc(EVENTS * sizeof *next), *first = xmalloc(USERS * sizeof *first);
    for (int u = 0; u < USERS; u++) first[u] = -1;
    for (int i = EVENTS - 1; i >= 0; i--) {
        next[i] = first[click[i].user];
        first[click[i].user] = i;
    }
    /* a line per user in order of appearance; items are numbered anew then, which the comparison allows for */
    for (int i = 0; i < EVENTS; i++) {
        int u = click[i].user;
        if (first[u] != i) continue;
        buf_printf(b, "u%d", u);
        for (int j = i; j >= 0; j = next[j]) buf_printf(b, " i-%d", click[j].item);
        buf_puts(b, "\n");
    }
    free(next);
    free(first);
}

static void write_inter(struct buf *b)
{
    buf_puts(b, "user_id:token\titem_id:token\ttimestamp:float\n");
    for (int i = 0; i < EVENTS; i++) plain_row(b, &click[i], "", "\t", "\n");
}

static void write_csv(struct buf *b)
{
    buf_puts(b, "\"userId\",movieId,timestamp,rating\r\n");
    for (int i = 0; i < EVENTS; i++) plain_row(b, &click[i], "\"", ",", ",4.5\r\n");
}

static void write_semicolons(struct buf *b)
{
    buf_puts(b, "ts;note;item;user\n");
    for (int i = 0; i < EVENTS; i++)
        buf_printf(b, "%lld000;\"a;b\";i-%d;u%d\n", (long long)click[i].time, click[i].item,
                   click[i].user);
}

static void write_tsv(struct buf *b)
{
    buf_puts(b, "event_type\titem\tuser\ttime\n");
    for (int i = 0; i < EVENTS; i++)
        buf_printf(b, "view\ti-%d\tu%d\t%lld.25\n", click[i].item, click[i].user,
                   (long long)click[i].time);
}

static void write_headless(struct buf *b)
{
    for (int i = 0; i < EVENTS; i++) plain_row(b, &click[i], "", "\t", "\n");
}

static const struct {
    const char *name, *header;
    void (*write)(struct buf *b);
    enum read_format format;
    bool has_time;
} formats[] = {
    { "inter", NULL, write_inter, READ_INTER, true },
    { "csv", NULL, write_csv, READ_CSV, true },
    { "semicolons", NULL, write_semicolons, READ_CSV, true },
    { "tsv", NULL, write_tsv, READ_TSV, true },
    { "headless", "user,item,time", write_headless, READ_TSV, true },
    { "seq", NULL, write_seq, READ_SEQ, false },
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

/* ---- packing ---- */

static void pack(struct buf *out, const struct buf *b, int how)
{
    size_t cap = compressBound(b->len) + ZSTD_compressBound(b->len) + 64;
    char *to = xmalloc(cap);
    size_t n;
    if (how == 1) {
        z_stream z = { .next_in = (unsigned char *)b->data,
                       .avail_in = (unsigned)b->len,
                       .next_out = (unsigned char *)to,
                       .avail_out = (unsigned)cap };
        ck_assert_int_eq(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
        n = z.total_out;
        deflateEnd(&z);
    } else {
        n = ZSTD_compress(to, cap, b->data, b->len, 1);
        ck_assert(!ZSTD_isError(n));
    }
    buf_clear(out);
    buf_put(out, to, n);
    free(to);
}

static void read_bytes(struct dataset *d, const struct buf *b, int f, struct read_stats *st)
{
    struct interactions *x = interactions_new();
    struct read_opts o = { .header = formats[f].header };
    struct unpacked u;
    struct read_stats written;
    static int n_sets;
    char *to = xasprintf("%s/%d/set", dir, n_sets++);
    ck_assert_msg(unpack_mem(&u, b->data, b->len, SIZE_MAX, &e) == 0, "%s", e.msg);
    ck_assert_msg(read_events_mem(x, u.data, u.nb, "input", &o, st, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(st->format, formats[f].format);
    unpack_close(&u);
    ck_assert_msg(
        interactions_write(x, to, &(struct write_opts){ .min_events = 1 }, &written, &e) == 0,
        "%s", e.msg);
    ck_assert_msg(dataset_open(d, to, &e) == 0, "%s", e.msg);
    interactions_free(x);
    free(to);
}

/* Users, and of each the ids of its items in order: rows of items may differ in number. */
static void check_same(const struct dataset *a, const struct dataset *b, const char *name)
{
    ck_assert_int_eq(a->n_users, b->n_users);
    ck_assert_int_eq(a->n_items, b->n_items);
    ck_assert_int_eq(a->n_events, EVENTS);
    ck_assert_int_eq(b->n_events, EVENTS);
    ck_assert(memcmp(a->cu, b->cu, ((size_t)a->n_users + 1) * sizeof *a->cu) == 0);
    for (int64_t i = 0; i < EVENTS; i++) {
        struct str x = items_id(a->items, a->item[i]), y = items_id(b->items, b->item[i]);
        ck_assert_msg(x.len == y.len && memcmp(x.p, y.p, (size_t)x.len) == 0, "%s: event %lld",
                      name, (long long)i);
        if (a->time && b->time) ck_assert_int_eq(a->time[i], b->time[i]);
    }
    for (int32_t u = 0; u < a->n_users; u++) {
        struct str x = items_id(a->users, u), y = items_id(b->users, u);
        ck_assert(x.len == y.len && memcmp(x.p, y.p, (size_t)x.len) == 0);
    }
}

START_TEST(every_format_gives_the_same_data_set)
{
    struct dataset first, d;
    struct read_stats st;
    struct buf b = { 0 }, packed = { 0 };
    uint64_t sum = 0;
    for (int f = 0; f < N_FORMATS; f++) {
        buf_clear(&b);
        formats[f].write(&b);
        for (int how = 0; how < 3; how++) { /* plain, gzip, zstd */
            if (how) pack(&packed, &b, how);
            read_bytes(&d, how ? &packed : &b, f, &st);
            ck_assert_int_eq(st.kept, EVENTS);
            ck_assert((d.time != NULL) == formats[f].has_time);
            if (f == 0 && how == 0) {
                first = d;
                sum = dataset_fingerprint(&d);
                continue;
            }
            check_same(&first, &d, formats[f].name);
            /* all bits: tables of one order number everything the same way */
            if (formats[f].has_time) ck_assert_uint_eq(dataset_fingerprint(&d), sum);
            dataset_close(&d);
        }
    }
    dataset_close(&first);
    buf_free(&b);
    buf_free(&packed);
}
END_TEST

/* ---- damage ---- */

static size_t row_at(const size_t *start, size_t n, size_t at)
{
    size_t lo = 0, hi = n;
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        if (start[mid] <= at)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* One byte in twenty becomes another one: in runs, as bad sectors do it, and one by one. */
START_TEST(of_a_damaged_file_every_good_row_is_kept_and_the_rest_counted)
{
    struct buf b = { 0 };
    struct rng r = rng_make(5 + (uint64_t)_i, RNG_TEST);
    write_csv(&b);
    size_t header = (size_t)(strchr(b.data, '\n') + 1 - b.data), n_rows = 0;
    size_t *start = xmalloc((EVENTS + 1) * sizeof *start);
    bool *bad = xcalloc(EVENTS + 1, sizeof *bad);
    for (size_t at = header; at < b.len; at += strcspn(b.data + at, "\n") + 1)
        start[n_rows++] = at;
    ck_assert_uint_eq(n_rows, EVENTS);
    size_t run = _i ? 512 : 1;
    for (size_t n = 0; n < b.len / 20; n += run) {
        size_t at = header + rng_below(&r, (uint32_t)(b.len - header - run));
        for (size_t k = at; k < at + run; k++) {
            size_t row = row_at(start, n_rows, k);
            bad[row] = true;
            /* without its end a row runs into the next one */
            if (k + 1 == (row + 1 < n_rows ? start[row + 1] : b.len)) bad[row + 1] = true;
            b.data[k] = (char)rng_below(&r, 256);
        }
    }
    struct interactions *x = interactions_new();
    struct read_stats st;
    ck_assert_msg(read_events_mem(x, b.data, b.len, "damaged", NULL, &st, &e) == 0, "%s",
                  e.msg);
    int64_t dropped = 0, good = 0, at = 0;
    for (int k = 0; k < DROP_KINDS; k++) dropped += st.dropped[k];
    ck_assert_int_eq(st.events, st.kept + dropped);
    ck_assert_int_gt(dropped, 0);
    ck_assert_int_eq(x->n, st.kept);
    /* good rows are among the kept ones, in their order */
    for (int i = 0; i < EVENTS; i++) {
        if (bad[i]) continue;
        char user[16], item[16];
        int nu = snprintf(user, sizeof user, "u%d", click[i].user);
        int ni = snprintf(item, sizeof item, "i-%d", click[i].item);
        int32_t u = items_lookup(x->users, user, (size_t)nu);
        int32_t v = items_lookup(x->items, item, (size_t)ni);
        ck_assert(u >= 0 && v >= 0);
        while (at < x->n &&
               !(x->user[at] == u && x->item[at] == v && (int64_t)x->time[at] == click[i].time))
            at++;
        ck_assert_msg(at < x->n, "row %d is lost", i);
        at++;
        good++;
    }
    ck_assert_int_gt(good, _i ? EVENTS * 9 / 10 : EVENTS / 5);
    interactions_free(x);
    free(start);
    free(bad);
    buf_free(&b);
}
END_TEST

Suite *suite_formats(void);
Suite *suite_formats(void)
{
    Suite *s = suite_create("formats");
    TCase *t = tcase_create("formats");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, every_format_gives_the_same_data_set);
    tcase_add_loop_test(t, of_a_damaged_file_every_good_row_is_kept_and_the_rest_counted, 0, 2);
    suite_add_tcase(s, t);
    return s;
}
