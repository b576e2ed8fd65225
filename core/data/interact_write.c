/* interact_write.c — what the readers gathered becomes a data set: which users and items stay, their rows, the
 * order of events, popularity, the description. */
#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/dataset.h"
#include "core/data/interact.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct build {
    struct items_builder *users, *items;
    int32_t *user_row, *item_row; /* old row -> new row, -1 dropped */
    int64_t *n_user;              /* events that stay, by old row */
    int64_t *cu;
    int32_t *item;
    union moment {
        double seconds; /* until events are in order */
        int64_t time;
    } * at;        /* NULL without timestamps */
    float *weight; /* NULL when all are 1 */
    struct split_rule split;
};

static void build_free(struct build *b)
{
    items_builder_free(b->users);
    items_builder_free(b->items);
    free(b->user_row);
    free(b->item_row);
    free(b->n_user);
    free(b->cu);
    free(b->item);
    free(b->at);
    free(b->weight);
}

/* ---- who stays ---- */

enum { ROW_DROPPED = -1 }; /* any other row stays */

static bool kept(const struct build *b, const struct interactions *x, int64_t i)
{
    return b->user_row[x->user[i]] != ROW_DROPPED && b->item_row[x->item[i]] != ROW_DROPPED;
}

/* One side of the graph of users and items: the events of each row. */
struct side {
    int32_t *row;   /* [n] ROW_DROPPED or not */
    int64_t *count; /* [n] events that stay */
    int64_t *cu;
    uint32_t *event;   /* events of row r: event[cu[r]] .. event[cu[r+1]-1]; NULL: not needed */
    const int32_t *of; /* [events] row of an event */
    int32_t n, least;
    int64_t dropped, events; /* rows, and events that went with them */
    int32_t first;           /* the first row that was dropped at the start, -1 */
};

static void side_list(struct side *s, const struct interactions *x)
{
    s->cu = xcalloc((size_t)s->n + 2, sizeof *s->cu);
    s->event = xmalloc((size_t)x->n * sizeof *s->event + 1);
    for (int64_t i = 0; i < x->n; i++) s->cu[s->of[i] + 2]++;
    for (int32_t r = 0; r < s->n; r++) s->cu[r + 2] += s->cu[r + 1];
    for (int64_t i = 0; i < x->n; i++) s->event[s->cu[s->of[i] + 1]++] = (uint32_t)i;
}

/* Rows of a side that became too small, last in, first out. */
struct todo {
    int32_t *row;
    int64_t n;
};

static void drop_row(struct side *s, int32_t r, struct todo *t)
{
    s->row[r] = ROW_DROPPED;
    s->dropped++;
    s->events += s->count[r];
    t->row[t->n++] = r;
}

/* Takes the events of a dropped row off the other side, whose rows may become too small by it. */
static void peel(struct side *s, int32_t r, struct side *other, struct todo *other_todo)
{
    for (int64_t i = s->cu[r]; i < s->cu[r + 1]; i++) {
        int32_t o = other->of[s->event[i]];
        if (other->row[o] == ROW_DROPPED) continue;
        other->count[o]--;
        if (other->count[o] < other->least) drop_row(other, o, other_todo);
    }
    s->count[r] = 0;
}

static void drop_small(struct side *s, struct todo *t)
{
    s->first = -1;
    for (int32_t r = 0; r < s->n; r++) {
        if (s->row[r] == ROW_DROPPED || s->count[r] >= s->least) continue;
        if (s->first < 0) s->first = r;
        drop_row(s, r, t);
    }
}

/* Short users and rare items go until all that are left have enough; each event goes with the one that went first. */
static void choose(struct build *b, const struct interactions *x, const struct write_opts *o,
                   struct read_stats *st)
{
    struct side user = { .n = items_builder_count(x->users),
                         .of = x->user,
                         .least = o->min_events };
    struct side item = { .n = items_builder_count(x->items),
                         .of = x->item,
                         .least = o->min_item_events };
    struct todo users = { xcalloc((size_t)user.n + 1, sizeof(int32_t)), 0 };
    struct todo items = { xcalloc((size_t)item.n + 1, sizeof(int32_t)), 0 };
    b->user_row = user.row = xcalloc((size_t)user.n + 1, sizeof(int32_t));
    b->item_row = item.row = xcalloc((size_t)item.n + 1, sizeof(int32_t));
    b->n_user = user.count = xcalloc((size_t)user.n + 1, sizeof(int64_t));
    item.count = xcalloc((size_t)item.n + 1, sizeof(int64_t));
    for (int64_t i = 0; i < x->n; i++) {
        user.count[x->user[i]]++;
        item.count[x->item[i]]++;
    }
    if (o->min_item_events > 1) {
        side_list(&user, x);
        side_list(&item, x);
        drop_small(&item, &items);
        while (items.n > 0) peel(&item, items.row[--items.n], &user, &users);
    }
    drop_small(&user, &users); /* those that the items took below the least are gone already */
    while (o->min_item_events > 1 && users.n + items.n > 0) {
        while (users.n > 0) peel(&user, users.row[--users.n], &item, &items);
        while (items.n > 0) peel(&item, items.row[--items.n], &user, &users);
    }
    st->short_users = user.dropped;
    st->rare_items = item.dropped;
    st->dropped[DROP_SHORT_USER] = user.events;
    st->dropped[DROP_RARE_ITEM] = item.events;
    for (int32_t u = 0; u < user.n && user.first < 0; u++)
        if (user.row[u] == ROW_DROPPED) user.first = u;
    if (user.first >= 0) {
        st->first_line[DROP_SHORT_USER] = x->first_line[user.first];
        st->short_file = x->src[x->first_src[user.first]].name;
    }
    free(users.row);
    free(items.row);
    free(item.count);
    free(user.cu);
    free(user.event);
    free(item.cu);
    free(item.event);
}

/* Numbers the users that stay as they appear. */
static int number_users(struct build *b, const struct interactions *x,
                        const struct write_opts *o, struct read_stats *st, struct err *e)
{
    int32_t n = items_builder_count(x->users);
    for (int32_t u = 0; u < n; u++) {
        if (b->user_row[u] == ROW_DROPPED) continue;
        if (b->n_user[u] > INT32_MAX)
            return err_set(e, ERR_LIMIT, "%s:%lld: this user has more than %d events",
                           x->src[x->first_src[u]].name, (long long)x->first_line[u],
                           INT32_MAX);
        struct str id = items_builder_id(x->users, u);
        b->user_row[u] = b->n_user[u] ? items_add(b->users, id.p, (size_t)id.len) : ROW_DROPPED;
        st->kept += b->n_user[u];
    }
    if (items_builder_count(b->users) > 0) return 0;
    return o->min_item_events > 1
               ? err_set(e, ERR_EMPTY, "no user has %d events or more with items of %d or more",
                         o->min_events, o->min_item_events)
               : err_set(e, ERR_EMPTY, "no user has %d events or more", o->min_events);
}

/* ---- sequences ---- */

static int32_t item_row(struct build *b, const struct interactions *x, int32_t *known,
                        int32_t item)
{
    if (known[item] >= 0) return known[item];
    struct str id = items_builder_id(x->items, item);
    struct str title = items_builder_title(x->items, item);
    int32_t row = known[item] = items_add(b->items, id.p, (size_t)id.len);
    if (title.len) items_set_title(b->items, row, title.p, (size_t)title.len);
    return row;
}

/* Brings each event to its place in one walk along the cycles: no second copy of them is made.  place[i] < n. */
static void permute(uint32_t *place, int64_t n, int32_t *item, union moment *at, float *weight)
{
#define SWAP(a, i, j)                                                                          \
    do {                                                                                       \
        __typeof__(*(a)) hold_ = (a)[i];                                                       \
        (a)[i] = (a)[j];                                                                       \
        (a)[j] = hold_;                                                                        \
    } while (0)
    for (int64_t i = 0; i < n; i++)
        for (uint32_t to = place[i], next; to != i; to = next) {
            SWAP(item, i, to);
            if (at) SWAP(at, i, to);
            if (weight) SWAP(weight, i, to);
            next = place[to];
            place[to] = to;
        }
#undef SWAP
}

/* Numbers the items of kept events in file order and puts the events in order of users, each user's in file order.
 * x's arrays become b's: 16 bytes an event are all there ever is, the packed ids and times 12 of them. */
static void fill_sequences(struct build *b, struct interactions *x)
{
    int32_t n_users = items_builder_count(b->users);
    int32_t n_items = items_builder_count(x->items);
    int32_t *known = xmalloc((size_t)n_items * sizeof *known + 1);
    memset(known, 0xff, (size_t)n_items * sizeof *known);
    b->cu = xcalloc((size_t)n_users + 2, sizeof *b->cu);
    for (int32_t u = 0; u < items_builder_count(x->users); u++)
        if (b->user_row[u] >= 0) b->cu[b->user_row[u] + 2] = b->n_user[u];
    for (int32_t u = 0; u < n_users; u++) b->cu[u + 2] += b->cu[u + 1];
    b->item = x->item;
    b->at = (union moment *)x->time;
    b->weight = x->weight;
    uint32_t *place = (uint32_t *)x->user; /* read before it is written */
    int64_t n = 0;
    for (int64_t i = 0; i < x->n; i++) {
        if (!kept(b, x, i)) continue;
        /* cu[u+1] is where u's next event goes; at the end it is where u's events end. */
        const int64_t at = b->cu[b->user_row[x->user[i]] + 1]++;
        b->item[n] = item_row(b, x, known, x->item[i]);
        if (b->at) b->at[n].seconds = x->time[i];
        if (b->weight) b->weight[n] = x->weight[i];
        place[n++] = (uint32_t)at;
    }
    permute(place, n, b->item, b->at, b->weight);
    free(place);
    x->user = x->item = NULL;
    x->time = NULL;
    x->weight = NULL;
    x->n = x->cap = 0;
    items_fields_copy(b->items, x->items, known);
    free(known);
}

struct stamped {
    double time;
    int32_t item, at; /* place in the file among the user's events */
    float weight;
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
            s[i] = (struct stamped){ b->at[from + i].seconds, b->item[from + i], (int32_t)i,
                                     b->weight ? b->weight[from + i] : 1 };
        qsort(s, (size_t)n, sizeof *s, by_time);
        for (int64_t i = 0; i < n; i++) {
            b->item[from + i] = s[i].item;
            b->at[from + i].time = (int64_t)floor(s[i].time);
            if (b->weight) b->weight[from + i] = s[i].weight;
        }
    }
    free(s);
}

/* Once events are in order. */
static const int64_t *times(const struct build *b) { return b->at ? &b->at->time : NULL; }

/* Items: events in the training part.  Users: all of their events. */
static void count_popularity(struct build *b)
{
    int32_t n_items = items_builder_count(b->items);
    int64_t *pop = xcalloc((size_t)n_items + 1, sizeof *pop);
    for (int32_t u = 0; u < items_builder_count(b->users); u++) {
        int64_t from = b->cu[u], n = b->cu[u + 1] - from;
        int64_t train = split_train_len(&b->split, b->at ? times(b) + from : NULL, n);
        items_set_popularity(b->users, u, n);
        for (int64_t i = 0; i < train; i++) pop[b->item[from + i]]++;
    }
    for (int32_t i = 0; i < n_items; i++) items_set_popularity(b->items, i, pop[i]);
    free(pop);
}

/* ---- the description ---- */

static void json_dropped(struct buf *out, const struct read_stats *st)
{
    const char *sep = "";
    buf_puts(out, "\"dropped\": {");
    for (int k = 0; k < DROP_KINDS; k++) {
        if (!st->dropped[k]) continue;
        buf_printf(out, "%s\"%s\": {\"events\": %lld", sep, read_drop_text[k],
                   (long long)st->dropped[k]);
        if (st->first_line[k])
            buf_printf(out, ", \"first_line\": %lld", (long long)st->first_line[k]);
        buf_puts(out, "}");
        sep = ", ";
    }
    buf_puts(out, "}");
}

/* Names of files and columns may hold any byte; JSON is UTF-8. */
static void json_text(struct buf *out, const char *text)
{
    char *copy = xstrdup(text);
    if (!text_utf8_ok(copy, strlen(copy)))
        for (char *p = copy; *p; p++)
            if ((unsigned char)*p >= 0x80) *p = '?';
    buf_json_str(out, copy, strlen(copy));
    free(copy);
}

static void describe_source(struct buf *out, const struct source *src)
{
    const struct read_stats *s = &src->st;
    buf_puts(out, "{\"file\": ");
    json_text(out, src->name);
    buf_printf(out, ", \"format\": \"%s\", \"lines\": %lld, \"events\": %lld, \"kept\": %lld, ",
               read_format_name[s->format], (long long)s->lines, (long long)s->events,
               (long long)s->kept);
    if (s->columns[0]) {
        buf_puts(out, "\"columns\": ");
        json_text(out, s->columns);
        buf_puts(out, ", ");
    }
    if (s->damage[0]) {
        buf_puts(out, "\"damage\": ");
        json_text(out, s->damage);
        buf_puts(out, ", ");
    }
    json_dropped(out, s);
    buf_puts(out, "}");
}

static void describe(struct buf *out, const struct build *b, const struct interactions *x,
                     const struct write_opts *o, const struct read_stats *st)
{
    int32_t n_users = items_builder_count(b->users);
    buf_printf(out,
               "{\n  \"format\": 1,\n  \"users\": %d,\n  \"items\": %d,\n  \"events\": %lld,\n",
               n_users, items_builder_count(b->items), (long long)b->cu[n_users]);
    buf_printf(out, "  \"timestamps\": %s,\n  \"weights\": %s,\n", b->at ? "true" : "false",
               b->weight ? "true" : "false");
    if (b->split.kind == SPLIT_TIME)
        buf_printf(out,
                   "  \"split\": {\"kind\": \"time\", \"valid_from\": %lld, \"test_from\": "
                   "%lld},\n",
                   (long long)b->split.valid_from, (long long)b->split.test_from);
    else
        buf_puts(out, "  \"split\": {\"kind\": \"leave-one-out\"},\n");
    buf_printf(out,
               "  \"min_events\": %d,\n  \"min_item_events\": %d,\n  \"short_users\": %lld,\n  "
               "\"rare_items\": %lld,\n  ",
               o->min_events, o->min_item_events, (long long)st->short_users,
               (long long)st->rare_items);
    json_dropped(out, st);
    buf_puts(out, ",\n  \"sources\": [");
    for (int32_t i = 0; i < x->n_src; i++) {
        buf_puts(out, i ? ",\n    " : "\n    ");
        describe_source(out, &x->src[i]);
    }
    buf_puts(out, "\n  ]\n}\n");
}

static int write_set(struct build *b, struct interactions *x, const char *dir,
                     const struct write_opts *o, const struct read_stats *st, struct err *e)
{
    fill_sequences(b, x);
    if (b->at) sort_by_time(b);
    TRY(split_resolve(&b->split, &o->split, times(b), b->cu[items_builder_count(b->users)], e));
    count_popularity(b);
    struct buf json = { .cap_max = LIMIT_JSON_FILE_BYTES };
    describe(&json, b, x, o, st);
    struct dataset_parts p = { b->items, b->users,  b->cu,    b->item,
                               times(b), b->weight, b->split, json.data };
    int rc = json.failed ? err_set(e, ERR_LIMIT, "too many input files to describe")
                         : dataset_write(dir, &p, e);
    buf_free(&json);
    return rc;
}

int interactions_write(struct interactions *x, const char *dir, const struct write_opts *o,
                       struct read_stats *st, struct err *e)
{
    *st = (struct read_stats){ .events = x->n };
    if (x->n == 0) return err_set(e, ERR_EMPTY, "no usable event in the input");
    struct build b = { .users = items_builder_new(), .items = items_builder_new() };
    choose(&b, x, o, st);
    int rc = number_users(&b, x, o, st, e);
    if (rc == 0) rc = write_set(&b, x, dir, o, st, e);
    build_free(&b);
    return rc;
}
