#include "models/compact.h"
#include "core/base/mem.h"
#include "core/serve/embed.h"
#include "core/serve/live.h"
#include "core/serve/load.h"
#include "core/serve/store.h"
#include "models/other_items.h"
#include <stdlib.h>
#include <string.h>

struct fold {
    struct bundle b;
    struct model *old; /* as it serves */
    struct items *was;
    struct embed *embed; /* NULL: no tower */
    uint64_t done;       /* the version has the store's changes up to this one */
    struct arena *arena; /* the changes' texts and vectors */
    struct item_change *put;
    int32_t n_put, cap_put;
    bool *gone, *bare; /* [was's]: deleted; with other attributes */
    int32_t n_gone, n_left;
    struct items_builder *items;
    json_t *folded;
};

/* ---- what the store has ---- */

static struct str keep_str(struct arena *a, struct str s)
{
    char *p = ARENA_NEW(a, char, s.len + 1);
    if (s.len) memcpy(p, s.p, (size_t)s.len);
    return (struct str){ p, s.len };
}

static struct attrs keep_attrs(struct arena *a, const struct attrs *all)
{
    struct attr *at = ARENA_NEW(a, struct attr, all->n + 1);
    for (int32_t i = 0; i < all->n; i++) {
        at[i] = all->at[i];
        at[i].name = keep_str(a, at[i].name);
        if (!at[i].value) continue;
        struct str *value = ARENA_NEW(a, struct str, at[i].n_values + 1);
        for (int32_t j = 0; j < at[i].n_values; j++)
            value[j] = keep_str(a, all->at[i].value[j]);
        at[i].value = value;
    }
    return (struct attrs){ at, all->n };
}

static struct item_change *keep_put(struct fold *f, const struct item_change *c)
{
    if (f->n_put == f->cap_put) {
        f->cap_put = 2 * f->cap_put + 64;
        f->put = xrealloc(f->put, (size_t)f->cap_put, sizeof *f->put);
    }
    struct item_change *x = &f->put[f->n_put++];
    *x = *c;
    x->id = keep_str(f->arena, c->id);
    x->title = keep_str(f->arena, c->title);
    x->attrs = keep_attrs(f->arena, &c->attrs);
    if (!c->vector) return x;
    float *vector = ARENA_NEW(f->arena, float, c->dim);
    x->vector = memcpy(vector, c->vector, (size_t)c->dim * sizeof *vector);
    return x;
}

static enum store_keep on_item(void *ctx, const struct item_change *c)
{
    struct fold *f = ctx;
    const int32_t base = items_find(f->was, c->id.p, (size_t)c->id.len);
    if (c->seq <= f->done && c->deleted == (base < 0)) return STORE_KEEP;
    if (c->deleted) {
        if (base >= 0) f->gone[base] = true;
        f->n_gone += base >= 0;
    } else if (live_fits(c, base, model_config(f->old)->width, load_space(&f->b),
                         f->embed != NULL)) {
        (void)keep_put(f, c);
        if (base >= 0 && c->has_attrs) f->bare[base] = true;
    } else {
        f->n_left++;
    }
    return STORE_KEEP;
}

static int read_store(struct fold *f, const char *dir, struct err *e)
{
    struct store *s;
    uint64_t seq = 0;
    TRY(store_open(&s, dir, STORE_READ, e));
    f->folded = json_deep_copy(json_object_get(f->b.manifest, "folded"));
    if (!f->folded) f->folded = json_object();
    json_int_t done = json_integer_value(json_object_get(f->folded, store_id(s)));
    f->done = done > 0 ? (uint64_t)done : 0;
    int rc = store_each_item(s, f->b.name, on_item, f, &seq, e);
    if (rc == 0) json_object_set_new(f->folded, store_id(s), json_integer((json_int_t)seq));
    store_close(s);
    if (rc == 0 && f->n_put + f->n_gone == 0)
        rc =
            err_set(e, ERR_EMPTY, "%s has no change of %s that this version lacks and can take",
                    dir, f->b.name);
    return rc;
}

/* ---- the new catalogue ---- */

static int put_attrs(struct fold *f, int32_t row, const struct attrs *all, struct err *e)
{
    for (int32_t i = 0; i < all->n; i++) {
        const struct attr *a = &all->at[i];
        const int32_t at = items_field_add(f->items, a->name.p, (size_t)a->name.len,
                                           a->value ? FIELD_VALUES : FIELD_NUMBER);
        if (at < 0)
            return err_set(
                e, ERR_INVALID,
                "attribute \"%.*s\": the catalogue has a field of the other kind, or "
                "no room for one more",
                (int)a->name.len, a->name.p);
        if (!a->value) items_set_number(f->items, at, row, a->number);
        for (int32_t v = 0; a->value && v < a->n_values; v++)
            items_add_value(f->items, at, row, a->value[v].p, (size_t)a->value[v].len);
    }
    return 0;
}

static int make_items(struct fold *f, struct err *e)
{
    f->items = items_builder_of(f->was, f->gone, f->bare);
    for (int32_t i = 0; i < f->n_put; i++) {
        const struct item_change *c = &f->put[i];
        const int32_t row = items_add(f->items, c->id.p, (size_t)c->id.len);
        if (c->has_title) items_set_title(f->items, row, c->title.p, (size_t)c->title.len);
        if (put_attrs(f, row, &c->attrs, e) < 0)
            return err_ctx(e, "item \"%.*s\"", (int)c->id.len, c->id.p);
    }
    return 0;
}

/* ---- vectors ---- */

/* Of the new items that come with attributes alone. */
static void embed_new(float *out, const struct fold *f, const struct items *now)
{
    const size_t D = (size_t)model_config(f->old)->width;
    struct attrs *attrs = xcalloc((size_t)f->n_put + 1, sizeof *attrs);
    int32_t *row = xcalloc((size_t)f->n_put + 1, sizeof *row), n = 0;
    for (int32_t i = 0; i < f->n_put; i++) {
        const struct item_change *c = &f->put[i];
        if (c->vector || items_find(f->was, c->id.p, (size_t)c->id.len) >= 0) continue;
        row[n] = items_find(now, c->id.p, (size_t)c->id.len);
        attrs[n++] = c->attrs;
    }
    if (n) {
        float *made = xcalloc((size_t)n * D, sizeof *made);
        embed_items(made, f->embed, attrs, n);
        for (int32_t i = 0; i < n; i++)
            memcpy(out + (size_t)row[i] * D, made + (size_t)i * D, D * sizeof *out);
        free(made);
    }
    free(attrs);
    free(row);
}

static int make_vectors(float *out, const struct items *now, void *ctx, struct err *e)
{
    const struct fold *f = ctx;
    const struct ten *old = &model_items(f->old)->t;
    const size_t D = (size_t)old->cols;
    (void)e;
    for (int32_t row = 0; row < items_count(now); row++) {
        struct str id = items_id(now, row);
        const int32_t was = items_find(f->was, id.p, (size_t)id.len);
        if (was >= 0) memcpy(out + (size_t)row * D, old->x + (size_t)was * D, D * sizeof *out);
    }
    for (int32_t i = 0; i < f->n_put; i++) {
        const struct item_change *c = &f->put[i];
        const int32_t row = items_find(now, c->id.p, (size_t)c->id.len);
        if (c->vector) memcpy(out + (size_t)row * D, c->vector, D * sizeof *out);
    }
    embed_new(out, f, now);
    return 0;
}

/* ---- all of it ---- */

static void tell(const struct fold *f, const char *store_dir, FILE *report)
{
    const int32_t kept = items_count(f->was) - f->n_gone,
                  added = items_builder_count(f->items) - kept;
    fprintf(report, "%s: %d new items, %d changed, %d deleted", store_dir, added,
            f->n_put - added, f->n_gone);
    if (f->n_left) fprintf(report, "; %d stay there: they do not fit this version", f->n_left);
    fputc('\n', report);
}

static int fold(struct fold *f, const char *store_dir, char **dir, FILE *report, struct err *e)
{
    TRY(load_model(&f->old, &f->was, &f->b, false, e));
    TRY(embed_open(&f->embed, &f->b, f->old, f->was, e));
    f->gone = xcalloc((size_t)items_count(f->was), sizeof *f->gone);
    f->bare = xcalloc((size_t)items_count(f->was), sizeof *f->bare);
    TRY(read_store(f, store_dir, e));
    TRY(make_items(f, e));
    TRY(other_items_write(
        dir, &(struct other_items){ &f->b, f->old, f->items, make_vectors, f, f->folded }, e));
    if (report) tell(f, store_dir, report);
    return 0;
}

int compact(const char *bundle_path, const char *store_dir, const struct index_cfg *cfg,
            FILE *report, struct err *e)
{
    struct fold f = { .n_put = 0 };
    char *dir = NULL;
    TRY(bundle_open(&f.b, bundle_path, false, e));
    f.arena = arena_new("compact", 1 << 20, 0);
    int rc = fold(&f, store_dir, &dir, report, e);
    if (rc < 0) err_ctx(e, "compacting %s", f.b.dir);
    json_decref(f.folded);
    items_builder_free(f.items);
    embed_free(f.embed);
    model_free(f.old);
    if (f.was) items_close(f.was);
    bundle_close(&f.b);
    arena_free(f.arena);
    free(f.put);
    free(f.gone);
    free(f.bare);
    if (rc == 0) rc = index_bundle(dir, cfg, report, e);
    free(dir);
    return rc;
}
