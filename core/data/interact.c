#include "core/data/interact.h"
#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/dataset.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct interactions *interactions_new(void)
{
    struct interactions *x = xcalloc(1, sizeof *x);
    x->users = items_builder_new();
    x->items = items_builder_new();
    return x;
}

void interactions_free(struct interactions *x)
{
    if (!x) return;
    for (int32_t i = 0; i < x->n_src; i++) free(x->src[i].name);
    free(x->src);
    items_builder_free(x->users);
    items_builder_free(x->items);
    free(x->user);
    free(x->item);
    free(x->time);
    free(x->first_line);
    free(x->first_src);
    free(x);
}

void interact_begin(struct interactions *x, const char *name)
{
    x->src = xrealloc(x->src, (size_t)x->n_src + 1, sizeof *x->src);
    x->src[x->n_src++] = (struct source){ .name = xstrdup(name) };
}

void interact_end(struct interactions *x, const struct read_stats *st)
{
    x->src[x->n_src - 1].st = *st;
}

static void events_grow(struct interactions *x)
{
    x->cap = 2 * x->cap + 1024;
    x->user = xrealloc(x->user, (size_t)x->cap, sizeof *x->user);
    x->item = xrealloc(x->item, (size_t)x->cap, sizeof *x->item);
    x->time = xrealloc(x->time, (size_t)x->cap, sizeof *x->time);
}

static void users_grow(struct interactions *x)
{
    x->cap_users = 2 * x->cap_users + 256;
    x->first_line = xrealloc(x->first_line, x->cap_users, sizeof *x->first_line);
    x->first_src = xrealloc(x->first_src, x->cap_users, sizeof *x->first_src);
}

int interact_add(struct interactions *x, struct span user, struct span item, double time,
                 int64_t line, struct err *e)
{
    int32_t n_users = items_builder_count(x->users);
    if (n_users >= LIMIT_USERS) return err_set(e, ERR_LIMIT, "more than %d users", LIMIT_USERS);
    if (items_builder_count(x->items) >= LIMIT_ITEMS)
        return err_set(e, ERR_LIMIT, "more than %d items", LIMIT_ITEMS);
    if (x->n == x->cap) events_grow(x);
    int32_t u = items_add(x->users, user.p, user.n);
    if (u == n_users) {
        if ((size_t)u == x->cap_users) users_grow(x);
        x->first_line[u] = line;
        x->first_src[u] = x->n_src - 1;
    }
    x->user[x->n] = u;
    x->item[x->n] = items_add(x->items, item.p, item.n);
    x->time[x->n] = time;
    x->n++;
    return 0;
}

/* ---- the data set ---- */

struct build {
    struct items_builder *users, *items;
    int32_t *user_row, *item_row; /* old row -> new row, -1 dropped */
    int64_t *count;               /* events of an old user row */
    int64_t *cu;
    int32_t *item;
    int64_t *time; /* NULL without timestamps */
    double *key;   /* order of events; NULL without timestamps */
};

static void build_free(struct build *b)
{
    items_builder_free(b->users);
    items_builder_free(b->items);
    free(b->user_row);
    free(b->item_row);
    free(b->count);
    free(b->cu);
    free(b->item);
    free(b->time);
    free(b->key);
}

static int32_t *rows_unset(int32_t n)
{
    int32_t *row = xmalloc((size_t)n * sizeof *row + 1);
    for (int32_t i = 0; i < n; i++) row[i] = -1;
    return row;
}

/* Counts events, drops short users, numbers the users that stay as they appear. */
static int choose_users(struct build *b, const struct interactions *x, int min_events,
                        struct read_stats *st, struct err *e)
{
    int32_t n = items_builder_count(x->users);
    b->count = xcalloc((size_t)n + 1, sizeof *b->count);
    b->user_row = rows_unset(n);
    for (int64_t i = 0; i < x->n; i++) b->count[x->user[i]]++;
    for (int32_t u = 0; u < n; u++) {
        if (b->count[u] > INT32_MAX)
            return err_set(e, ERR_LIMIT, "%s:%lld: this user has more than %d events",
                           x->src[x->first_src[u]].name, (long long)x->first_line[u],
                           INT32_MAX);
        if (b->count[u] >= min_events) {
            struct str id = items_builder_id(x->users, u);
            b->user_row[u] = items_add(b->users, id.p, (size_t)id.len);
            st->kept += b->count[u];
            continue;
        }
        if (st->short_users++ == 0) {
            st->first_line[DROP_SHORT_USER] = x->first_line[u];
            st->short_file = x->src[x->first_src[u]].name;
        }
        st->dropped[DROP_SHORT_USER] += b->count[u];
    }
    if (items_builder_count(b->users) == 0)
        return err_set(e, ERR_EMPTY, "no user has %d events or more", min_events);
    return 0;
}

/* Numbers the items of kept events in file order and gathers the events by user, in file order. */
static void fill_sequences(struct build *b, const struct interactions *x)
{
    int32_t n_users = items_builder_count(b->users);
    b->item_row = rows_unset(items_builder_count(x->items));
    b->cu = xcalloc((size_t)n_users + 2, sizeof *b->cu);
    for (int32_t u = 0; u < items_builder_count(x->users); u++)
        if (b->user_row[u] >= 0) b->cu[b->user_row[u] + 2] = b->count[u];
    for (int32_t u = 0; u < n_users; u++) b->cu[u + 2] += b->cu[u + 1];
    /* cu[u+1] is where u's next event goes; at the end it is where u's events end. */
    size_t n_events = (size_t)b->cu[n_users + 1];
    b->item = xmalloc((n_events + 1) * sizeof *b->item);
    if (x->has_time) {
        b->time = xmalloc((n_events + 1) * sizeof *b->time);
        b->key = xmalloc((n_events + 1) * sizeof *b->key);
    }
    for (int64_t i = 0; i < x->n; i++) {
        int32_t u = b->user_row[x->user[i]], *row = &b->item_row[x->item[i]];
        if (u < 0) continue;
        if (*row < 0) {
            struct str id = items_builder_id(x->items, x->item[i]);
            *row = items_add(b->items, id.p, (size_t)id.len);
            struct str title = items_builder_title(x->items, x->item[i]);
            if (title.len) items_set_title(b->items, *row, title.p, (size_t)title.len);
        }
        int64_t at = b->cu[u + 1]++;
        b->item[at] = *row;
        if (b->key) b->key[at] = x->time[i];
    }
}

struct stamped {
    double time;
    int32_t item, at; /* place in the file among the user's events */
};

static int by_time(const void *a, const void *b)
{
    const struct stamped *x = a, *y = b;
    if (x->time != y->time) return x->time < y->time ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static void sort_by_time(struct build *b)
{
    int64_t longest = 0;
    int32_t n_users = items_builder_count(b->users);
    for (int32_t u = 0; u < n_users; u++)
        if (b->cu[u + 1] - b->cu[u] > longest) longest = b->cu[u + 1] - b->cu[u];
    struct stamped *s = xmalloc((size_t)longest * sizeof *s + 1);
    for (int32_t u = 0; u < n_users; u++) {
        int64_t from = b->cu[u], n = b->cu[u + 1] - from;
        for (int64_t i = 0; i < n; i++)
            s[i] = (struct stamped){ b->key[from + i], b->item[from + i], (int32_t)i };
        qsort(s, (size_t)n, sizeof *s, by_time);
        for (int64_t i = 0; i < n; i++) {
            b->item[from + i] = s[i].item;
            b->time[from + i] = (int64_t)floor(s[i].time);
        }
    }
    free(s);
}

/* Items: events in the training part (dataset_train_len).  Users: all of their events. */
static void count_popularity(struct build *b)
{
    int32_t n_items = items_builder_count(b->items);
    int64_t *pop = xcalloc((size_t)n_items + 1, sizeof *pop);
    for (int32_t u = 0; u < items_builder_count(b->users); u++) {
        int64_t n = b->cu[u + 1] - b->cu[u];
        items_set_popularity(b->users, u, n);
        for (int64_t i = 0; i < (n < 3 ? n : n - 2); i++) pop[b->item[b->cu[u] + i]]++;
    }
    for (int32_t i = 0; i < n_items; i++) items_set_popularity(b->items, i, pop[i]);
    free(pop);
}

static void json_dropped(struct buf *out, const struct read_stats *st)
{
    const char *sep = "";
    buf_puts(out, "\"dropped\": {");
    for (int k = 0; k < DROP_KINDS; k++) {
        if (!st->dropped[k]) continue;
        buf_printf(out, "%s\"%s\": {\"events\": %lld, \"first_line\": %lld}", sep,
                   read_drop_text[k], (long long)st->dropped[k], (long long)st->first_line[k]);
        sep = ", ";
    }
    buf_puts(out, "}");
}

/* File names may hold any byte; JSON is UTF-8. */
static void json_name(struct buf *out, const char *name)
{
    char *copy = xstrdup(name);
    if (!text_utf8_ok(copy, strlen(copy)))
        for (char *p = copy; *p; p++)
            if ((unsigned char)*p >= 0x80) *p = '?';
    buf_json_str(out, copy, strlen(copy));
    free(copy);
}

static void describe(struct buf *out, const struct build *b, const struct interactions *x,
                     int min_events, const struct read_stats *st)
{
    int32_t n_users = items_builder_count(b->users);
    buf_printf(out,
               "{\n  \"format\": 1,\n  \"users\": %d,\n  \"items\": %d,\n  \"events\": %lld,\n",
               n_users, items_builder_count(b->items), (long long)b->cu[n_users]);
    buf_printf(out,
               "  \"timestamps\": %s,\n  \"min_events\": %d,\n  \"short_users\": %lld,\n  ",
               b->time ? "true" : "false", min_events, (long long)st->short_users);
    json_dropped(out, st);
    buf_puts(out, ",\n  \"sources\": [");
    for (int32_t i = 0; i < x->n_src; i++) {
        const struct read_stats *s = &x->src[i].st;
        buf_printf(out, "%s\n    {\"file\": ", i ? "," : "");
        json_name(out, x->src[i].name);
        buf_printf(out,
                   ", \"format\": \"%s\", \"lines\": %lld, \"events\": %lld, \"kept\": %lld, ",
                   read_format_name[s->format], (long long)s->lines, (long long)s->events,
                   (long long)s->kept);
        json_dropped(out, s);
        buf_puts(out, "}");
    }
    buf_puts(out, "\n  ]\n}\n");
}

int interactions_write(struct interactions *x, const char *dir, int min_events,
                       struct read_stats *st, struct err *e)
{
    *st = (struct read_stats){ .events = x->n };
    if (x->n == 0) return err_set(e, ERR_EMPTY, "no usable event in the input");
    struct build b = { .users = items_builder_new(), .items = items_builder_new() };
    int rc = choose_users(&b, x, min_events, st, e);
    if (rc == 0) {
        fill_sequences(&b, x);
        if (x->has_time) sort_by_time(&b);
        count_popularity(&b);
        struct buf json = { .cap_max = LIMIT_JSON_FILE_BYTES };
        describe(&json, &b, x, min_events, st);
        struct dataset_parts p = { b.items, b.users, b.cu, b.item, b.time, json.data };
        rc = json.failed ? err_set(e, ERR_LIMIT, "too many input files to describe")
                         : dataset_write(dir, &p, e);
        buf_free(&json);
    }
    build_free(&b);
    return rc;
}
