/* api_items.c — /v1/items and /v1/blocklists: what is known of items, and changes of them. */
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/serve/live.h"
#include "server/call.h"
#include "server/items_req.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The model that a call is about. */
struct subject {
    struct live *live;
    struct live_view *view; /* held */
};

static void fail(struct call *c, const struct err *e) { call_fail(c, e->code, "%s", e->msg); }

/* name p NULL: the query's, or else the default.  False: c->fail says why not. */
static bool begin(struct call *c, struct subject *s, struct str name)
{
    struct err e = { 0 };
    if (!name.p && c->model) name = (struct str){ c->model, (int32_t)strlen(c->model) };
    struct gen *g = catalog_take_kind(atomic_load(&c->app->catalog), GEN_RETRIEVAL, name.p,
                                      (size_t)name.len, &e);
    if (!g) {
        fail(c, &e);
        return false;
    }
    const struct gen_info *i = gen_info(g);
    s->live = lives_find(c->app->lives, i->name, strlen(i->name));
    if (s->live) s->view = live_take(s->live);
    if (s->live)
        snprintf(c->model_version, sizeof c->model_version, "%s@%" PRId64,
                 gen_info(s->view->gen)->name, gen_info(s->view->gen)->version);
    else
        call_fail(c, ERR_INVALID, "%s@%" PRId64 " ranks candidates: its items do not change",
                  i->name, i->version);
    gen_unref(g);
    return s->live != NULL;
}

/* The view after a write. */
static void refresh(struct subject *s)
{
    live_drop(s->view);
    s->view = live_take(s->live);
}

static bool parse(struct call *c, struct items_req *r, enum items_req_kind kind)
{
    if (items_req_parse(r, kind, c->body.data, c->body.len, c->strict, c->arena, &c->faults) ==
        0)
        return true;
    const struct fault *first = &c->faults.at[0];
    call_fail(c, first->code, "%s", first->detail);
    if (first->code == ERR_BAD_JSON) c->faults.n = 0; /* no place to point at */
    return false;
}

/* What the path names; false: it cannot be a name. */
static bool path_name(struct call *c, const char *what, size_t most, struct str *out)
{
    *out = (struct str){ c->tail, (int32_t)strlen(c->tail) };
    const char *bad = items_req_bad_name(c->tail, (size_t)out->len, most);
    if (bad) call_fail(c, ERR_INVALID, "the %s in the path %s", what, bad);
    return !bad;
}

/* ---- writing an item ---- */

static void put_str(struct buf *b, struct str s) { buf_json_str(b, s.p, (size_t)s.len); }

/* The shortest text that reads back as x. */
static void put_number(struct buf *b, double x)
{
    char text[32];
    snprintf(text, sizeof text, "%.15g", x);
    if (strtod(text, NULL) != x) snprintf(text, sizeof text, "%.17g", x);
    buf_puts(b, text);
}

static void put_attrs(struct buf *b, const struct attrs *all)
{
    buf_putc(b, '{');
    for (int32_t i = 0; i < all->n; i++) {
        const struct attr *a = &all->at[i];
        if (i) buf_putc(b, ',');
        put_str(b, a->name);
        buf_putc(b, ':');
        if (!a->value) put_number(b, a->number);
        if (a->value) buf_putc(b, '[');
        for (int32_t v = 0; a->value && v < a->n_values; v++) {
            if (v) buf_putc(b, ',');
            put_str(b, a->value[v]);
        }
        if (a->value) buf_putc(b, ']');
    }
    buf_putc(b, '}');
}

/* Where an id is found; both -1: nowhere. */
struct found {
    int32_t base, delta;
    bool deleted; /* the base has it, and it is not served */
};

static struct found find(const struct live_view *v, struct str id)
{
    struct found f = { items_find(gen_items(v->gen), id.p, (size_t)id.len),
                       live_find(v, id.p, (size_t)id.len), false };
    f.deleted = f.delta < 0 && f.base >= 0 && live_dead(v, f.base);
    return f;
}

static void put_item(struct buf *b, const struct live_view *v, struct str id, struct arena *a)
{
    const struct items *it = gen_items(v->gen);
    const struct found f = find(v, id);
    buf_puts(b, "{\"item_id\":");
    put_str(b, id);
    if (f.base < 0 && f.delta < 0) {
        buf_puts(b, ",\"known\":false}");
        return;
    }
    const bool delta = f.delta >= 0;
    const struct attrs attrs = delta ? *live_attrs(v, f.delta) : attrs_of_item(it, f.base, a);
    const struct str title = delta ? live_title(v, f.delta) : items_title(it, f.base);
    buf_printf(b, ",\"known\":true,\"deleted\":%s,\"source\":\"%s\"",
               f.deleted ? "true" : "false", delta ? "delta" : "base");
    if (title.len) {
        buf_puts(b, ",\"title\":");
        put_str(b, title);
    }
    buf_puts(b, ",\"attributes\":");
    put_attrs(b, &attrs);
    buf_printf(b, ",\"popularity\":%" PRId64 "}",
               f.base >= 0 ? items_popularity(it, f.base) : (int64_t)0);
}

/* ---- one item ---- */

static void get_item(struct call *c, struct str id)
{
    struct subject s;
    if (!begin(c, &s, (struct str){ NULL, 0 })) return;
    const struct found f = find(s.view, id);
    if (f.base < 0 && f.delta < 0) {
        call_fail(c, ERR_NOT_FOUND, "%s has no item \"%.*s\"", c->model_version, (int)id.len,
                  id.p);
    } else {
        put_item(&c->out, s.view, id, c->arena);
        buf_putc(&c->out, '\n');
    }
    live_drop(s.view);
}

/* One change, and what is stored then. */
static void change_item(struct call *c, struct str model, struct item_change *change)
{
    struct subject s;
    struct err e = { 0 };
    if (!begin(c, &s, model)) return;
    if (live_write(c->app->lives, s.live, change, 1, NULL, &e) < 0) {
        fail(c, &e);
    } else {
        refresh(&s);
        put_item(&c->out, s.view, change->id, c->arena);
        buf_putc(&c->out, '\n');
    }
    live_drop(s.view);
}

static void put_one(struct call *c, struct str id)
{
    struct items_req r;
    if (!parse(c, &r, ITEMS_REQ_PUT)) return;
    r.change->id = id;
    change_item(c, r.model, r.change);
}

void api_item(struct call *c)
{
    struct str id;
    if (!path_name(c, "item id", LIMIT_ID_BYTES, &id)) return;
    if (c->method == METHOD_PUT)
        put_one(c, id);
    else if (c->method == METHOD_DELETE)
        change_item(c, (struct str){ NULL, 0 },
                    &(struct item_change){ .id = id, .deleted = true });
    else
        get_item(c, id);
}

/* ---- many items ---- */

void api_items_lookup(struct call *c)
{
    struct items_req r;
    struct subject s;
    if (!parse(c, &r, ITEMS_REQ_LOOKUP) || !begin(c, &s, r.model)) return;
    buf_puts(&c->out, "{\"items\":[");
    for (int32_t i = 0; i < r.n_ids; i++) {
        struct arena_mark mark = arena_mark(c->arena);
        if (i) buf_putc(&c->out, ',');
        put_item(&c->out, s.view, r.id[i], c->arena);
        arena_release(c->arena, mark);
    }
    buf_puts(&c->out, "]}\n");
    live_drop(s.view);
}

void api_items_batch(struct call *c)
{
    struct items_req r;
    struct subject s;
    struct err e = { 0 };
    int32_t at, n_put = 0;
    if (!parse(c, &r, ITEMS_REQ_BATCH) || !begin(c, &s, r.model)) return;
    while (n_put < r.n_changes && !r.change[n_put].deleted) n_put++;
    if (live_write(c->app->lives, s.live, r.change, r.n_changes, &at, &e) < 0) {
        char pointer[32];
        snprintf(pointer, sizeof pointer, "/put/%d", at);
        if (at >= 0) fault_add(&c->faults, e.code, pointer, "%s", e.msg);
        fail(c, &e);
    }
    buf_printf(&c->out, "{\"put\":%d,\"deleted\":%d}\n", n_put, r.n_changes - n_put);
    live_drop(s.view);
}

/* ---- blocklists ---- */

static void put_list(struct call *c, const struct live_list *l, bool with_ids)
{
    struct buf *b = &c->out;
    buf_puts(b, "{\"name\":");
    put_str(b, l->name);
    buf_printf(b, ",\"count\":%d,\"expires_at\":", l->n_ids);
    if (l->expires_ms == INT64_MAX) {
        buf_puts(b, "null");
    } else {
        char text[32];
        struct tm tm;
        const time_t at = (time_t)(l->expires_ms / 1000);
        gmtime_r(&at, &tm);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
        buf_printf(b, "\"%s.%03dZ\"", text, (int)(l->expires_ms % 1000));
    }
    if (with_ids) buf_puts(b, ",\"items\":[");
    for (int32_t i = 0; with_ids && i < l->n_ids; i++) {
        if (i) buf_putc(b, ',');
        put_str(b, l->id[i]);
    }
    buf_puts(b, with_ids ? "]}\n" : "}\n");
}

/* The lists are the same for every model. */
static void show_list(struct call *c, struct str name, bool with_ids)
{
    struct live *any = lives_any(c->app->lives);
    struct live_view *v = any ? live_take(any) : NULL;
    const struct live_list *l = v ? live_list(v, name.p, (size_t)name.len) : NULL;
    if (l)
        put_list(c, l, with_ids);
    else
        call_fail(c, ERR_NOT_FOUND, "no blocklist \"%.*s\"", (int)name.len, name.p);
    live_drop(v);
}

static void set_list(struct call *c, struct str name)
{
    struct items_req r;
    struct err e = { 0 };
    struct timespec now;
    if (!parse(c, &r, ITEMS_REQ_BLOCKLIST)) return;
    if (!lives_any(c->app->lives)) {
        call_fail(c, ERR_INVALID, "no model is served whose items a blocklist could leave out");
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    struct blocklist l = { name, INT64_MAX, r.id, r.n_ids };
    if (r.ttl_s > 0)
        l.expires_ms =
            (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + (int64_t)(r.ttl_s * 1e3);
    if (live_put_list(c->app->lives, &l, &e) < 0)
        fail(c, &e);
    else
        show_list(c, name, false);
}

static void delete_list(struct call *c, struct str name)
{
    struct err e = { 0 };
    if (live_drop_list(c->app->lives, name, &e) < 0) {
        fail(c, &e);
        return;
    }
    buf_puts(&c->out, "{\"name\":");
    put_str(&c->out, name);
    buf_puts(&c->out, ",\"deleted\":true}\n");
}

void api_blocklist(struct call *c)
{
    struct str name;
    if (!path_name(c, "blocklist's name", LIMIT_LIST_NAME, &name)) return;
    if (c->method == METHOD_PUT)
        set_list(c, name);
    else if (c->method == METHOD_DELETE)
        delete_list(c, name);
    else
        show_list(c, name, true);
}
