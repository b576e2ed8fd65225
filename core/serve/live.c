#include "core/serve/live.h"
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/serve/embed.h"
#include "core/serve/live_draft.h"
#include "core/serve/store.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EMBED_ROWS = 4096 }; /* through the tower at once */

struct live {
    char *name;         /* immutable */
    struct live *next;  /* immutable */
    pthread_mutex_t mu; /* held for a few instructions */
    struct view *view;  /* GUARDED_BY(mu) */
};

struct lives {
    struct live *_Atomic first;
    pthread_mutex_t write_mu;
    struct store *store;  /* GUARDED_BY(write_mu); NULL: nothing can be changed */
    struct id_set **list; /* GUARDED_BY(write_mu): blocklists, each held */
    int32_t n_lists;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool same(struct str s, const char *name, size_t len)
{
    return (size_t)s.len == len && memcmp(s.p, name, len) == 0;
}

/* ---- views ---- */

struct live *lives_find(const struct lives *all, const char *name, size_t len)
{
    struct live *l = atomic_load(&all->first);
    while (l && (strlen(l->name) != len || memcmp(l->name, name, len) != 0)) l = l->next;
    return l;
}

struct live *lives_any(const struct lives *all) { return atomic_load(&all->first); }

struct live_view *live_take(struct live *l)
{
    pthread_mutex_lock(&l->mu);
    struct view *v = l->view;
    atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&l->mu);
    return &v->pub;
}

/* Takes d. */
static void publish(struct live *l, struct view *d)
{
    pthread_mutex_lock(&l->mu);
    struct view *old = l->view;
    l->view = d;
    pthread_mutex_unlock(&l->mu);
    live_drop(&old->pub);
}

/* ---- opening ---- */

static void add_list(struct lives *all, struct id_set *s)
{
    all->list = xrealloc(all->list, (size_t)all->n_lists + 1, sizeof(struct id_set *));
    all->list[all->n_lists++] = s;
}

static enum store_keep on_list(void *ctx, const struct blocklist *l)
{
    if (l->expires_ms <= now_ms()) return STORE_DROP;
    add_list(ctx, id_set_new(l));
    return STORE_KEEP;
}

int lives_open(struct lives **out, const char *store_dir, struct err *e)
{
    struct lives *all = xcalloc(1, sizeof *all);
    int rc = 0;
    pthread_mutex_init(&all->write_mu, NULL);
    if (store_dir) rc = store_open(&all->store, store_dir, STORE_WRITE, e);
    if (rc == 0 && all->store) rc = store_each_list(all->store, on_list, all, e);
    if (rc < 0) {
        lives_close(all);
        all = NULL;
    }
    *out = all;
    return rc;
}

void lives_close(struct lives *all)
{
    if (!all) return;
    for (struct live *l = atomic_load(&all->first), *next; l; l = next) {
        next = l->next;
        REQUIRE(atomic_load(&l->view->refs) == 1, "%d views of %s are held",
                atomic_load(&l->view->refs) - 1, l->name);
        live_drop(&l->view->pub);
        pthread_mutex_destroy(&l->mu);
        free(l->name);
        free(l);
    }
    for (int32_t i = 0; i < all->n_lists; i++) shared_drop(all->list[i]);
    free(all->list);
    store_close(all->store);
    pthread_mutex_destroy(&all->write_mu);
    free(all);
}

/* ---- what a change makes of an item ---- */

bool live_fits(const struct item_change *c, int32_t base, int32_t D, const char *space,
               bool tower)
{
    if (c->dim) return c->dim == D && same(c->space, space, strlen(space));
    return base >= 0 || (c->has_attrs && tower);
}

static bool fits(const struct gen *g, const struct item_change *c, int32_t base)
{
    return live_fits(c, base, gen_info(g)->D, gen_info(g)->space, gen_embed(g) != NULL);
}

/* The item as it is served: what the change does not give is the base's.  The vector, NULL:
 * the tower makes it. */
static const float *fill_item(struct live_item *x, const struct gen *g,
                              const struct item_change *c, struct arena *a)
{
    const struct items *it = gen_items(g);
    const int32_t base = items_find(it, c->id.p, (size_t)c->id.len), D = gen_info(g)->D;
    *x = (struct live_item){ .id = c->id, .title = c->title, .attrs = c->attrs, .base = base };
    if (base < 0) return c->vector;
    if (!c->has_title) x->title = items_title(it, base);
    if (!c->has_attrs) x->attrs = attrs_of_item(it, base, a);
    return c->vector ? c->vector : model_items(gen_model(g))->t.x + (size_t)base * (size_t)D;
}

/* ---- a generation ---- */

struct adding {
    struct gen *gen;
    struct view *draft;
    struct arena *arena;
    uint64_t folded;
    int32_t *pending, n_pending; /* rows whose vectors the tower makes */
};

/* The generation was made with this change.  A deletion stays: a version before or after this one may have the item. */
static bool is_folded(const struct adding *x, const struct item_change *c, int32_t base)
{
    return !c->deleted && base >= 0 && c->seq <= x->folded && fits(x->gen, c, base);
}

static enum store_keep on_item(void *ctx, const struct item_change *c)
{
    struct adding *x = ctx;
    struct live_item item;
    const int32_t base = items_find(gen_items(x->gen), c->id.p, (size_t)c->id.len);
    if (is_folded(x, c, base)) return STORE_DROP;
    if (c->deleted) {
        x->draft->pub.n_deleted += base >= 0;
        draft_kill(x->draft, c->id);
        return STORE_KEEP;
    }
    if (!fits(x->gen, c, base)) {
        x->draft->pub.n_other++;
        return STORE_KEEP;
    }
    arena_reset(x->arena);
    const float *vector = fill_item(&item, x->gen, c, x->arena);
    draft_kill(x->draft, c->id);
    const int32_t row = draft_append(x->draft, &item, vector);
    if (vector) return STORE_KEEP;
    if ((x->n_pending & (x->n_pending + 1)) == 0) /* as large as 2^i - 1 */
        x->pending = xrealloc(x->pending, 2 * (size_t)x->n_pending + 1, sizeof *x->pending);
    x->pending[x->n_pending++] = row;
    return STORE_KEEP;
}

static void embed_pending(struct adding *x)
{
    const size_t D = (size_t)x->draft->pub.D;
    struct attrs *attrs = xcalloc(EMBED_ROWS, sizeof *attrs);
    float *made = xcalloc((size_t)EMBED_ROWS * D, sizeof *made);
    for (int32_t at = 0; at < x->n_pending; at += EMBED_ROWS) {
        int32_t n = x->n_pending - at < EMBED_ROWS ? x->n_pending - at : EMBED_ROWS;
        const int32_t *row = x->pending + at;
        for (int32_t i = 0; i < n; i++) attrs[i] = *live_attrs(&x->draft->pub, row[i]);
        embed_items(made, gen_embed(x->gen), attrs, n);
        for (int32_t i = 0; i < n; i++)
            memcpy(draft_vector(x->draft, row[i]), made + (size_t)i * D, D * sizeof *made);
    }
    free(attrs);
    free(made);
}

/* What the store has of the generation's model, applied to it. */
static int make_view(struct lives *all, struct adding *x, struct err *e)
{
    x->draft = draft_new(x->gen);
    if (all->store) {
        x->folded = gen_folded(x->gen, store_id(all->store));
        TRY(store_each_item(all->store, gen_info(x->gen)->name, on_item, x, NULL, e));
    }
    if (x->n_pending) embed_pending(x);
    draft_lists(x->draft, all->list, all->n_lists, 0);
    return 0;
}

static void tell(const struct live_view *v)
{
    char name[LOG_VALUE];
    const struct gen_info *i = gen_info(v->gen);
    log_value(name, sizeof name, i->name);
    if (v->n_alive || v->n_deleted)
        log_info("delta.loaded", "model=%s version=%" PRId64 " items=%d deleted=%d", name,
                 i->version, v->n_alive, v->n_deleted);
    if (v->n_other)
        log_warn("delta.other_space", "model=%s version=%" PRId64 " items=%d", name, i->version,
                 v->n_other);
}

/* The model's first generation: it is found once it has a view. */
static void add_live(struct lives *all, const char *name, struct view *view)
{
    struct live *l = xcalloc(1, sizeof *l);
    l->name = xstrdup(name);
    l->view = view;
    l->next = atomic_load(&all->first);
    pthread_mutex_init(&l->mu, NULL);
    atomic_store(&all->first, l);
}

int lives_add(struct lives *all, struct gen *g, struct err *e)
{
    const char *name = gen_info(g)->name;
    struct adding x = { .gen = g, .arena = arena_new("delta", 1 << 16, 0) };
    REQUIRE(gen_info(g)->kind == GEN_RETRIEVAL, "%s ranks", name);
    pthread_mutex_lock(&all->write_mu);
    int rc = make_view(all, &x, e);
    if (rc == 0) {
        struct live *l = lives_find(all, name, strlen(name));
        tell(&x.draft->pub);
        if (l)
            publish(l, x.draft);
        else
            add_live(all, name, x.draft);
    } else {
        live_drop(&x.draft->pub);
    }
    pthread_mutex_unlock(&all->write_mu);
    arena_free(x.arena);
    free(x.pending);
    return rc;
}

/* ---- writing items ---- */

struct work {
    struct live_item item;
    const float *vector; /* NULL: the tower makes it */
};

/* A name of an attribute that the model has a field for says what its values are. */
static int check_attrs(const struct items *it, const struct attrs *all, struct err *e)
{
    for (int32_t i = 0; i < all->n; i++) {
        const struct attr *a = &all->at[i];
        const int32_t f = items_field_find(it, a->name.p, (size_t)a->name.len);
        if (f < 0 || (items_field_kind(it, f) == FIELD_NUMBER) == !a->value) continue;
        return err_set(e, ERR_INVALID, "attribute \"%.*s\": the model's items have %s there",
                       (int)a->name.len, a->name.p, a->value ? "a number" : "text");
    }
    return 0;
}

static int check_put(const struct gen *g, const struct item_change *c, struct err *e)
{
    const struct items *it = gen_items(g);
    const struct gen_info *i = gen_info(g);
    if (c->vector && c->dim != i->D)
        return err_set(e, ERR_INVALID,
                       "the vector has %d numbers, those of %s@%" PRId64 " have %d", c->dim,
                       i->name, i->version, i->D);
    TRY(check_attrs(it, &c->attrs, e));
    const int32_t base = items_find(it, c->id.p, (size_t)c->id.len);
    if (c->vector || fits(g, c, base)) return 0;
    if (gen_embed(g))
        return err_set(e, ERR_INVALID,
                       "\"%.*s\" is a new item: give its vector or its "
                       "attributes",
                       (int)c->id.len, c->id.p);
    return err_set(e, ERR_INVALID,
                   "\"%.*s\" is a new item: give its vector (%d numbers); "
                   "%s@%" PRId64 " has no item tower that makes one from attributes",
                   (int)c->id.len, c->id.p, i->D, i->name, i->version);
}

/* The names without those of the rows that are replaced. */
static void names_left(struct attr_names *out, const struct live_view *v,
                       const struct item_change *c, int32_t n, struct arena *a)
{
    bool *gone = ARENA_NEW0(a, bool, v->n + 1);
    *out = *v->names;
    for (int32_t i = 0; i < n; i++) {
        const int32_t row = live_find(v, c[i].id.p, (size_t)c[i].id.len);
        if (row < 0 || gone[row]) continue;
        gone[row] = true;
        attr_names_remove(out, gen_items(v->gen), live_attrs(v, row));
    }
}

/* Every change can be made, and there is room. */
static int check(const struct live_view *v, struct item_change *c, int32_t n, int32_t *at,
                 struct arena *a, struct err *e)
{
    const char *space = gen_info(v->gen)->space;
    int64_t rows = v->n_alive;
    struct attr_names names;
    names_left(&names, v, c, n, a);
    for (int32_t i = 0; i < n; i++) {
        *at = i;
        if (c[i].deleted) continue;
        TRY(check_put(v->gen, &c[i], e));
        TRY(attr_names_add(&names, gen_items(v->gen), &c[i].attrs, e));
        if (c[i].vector) c[i].space = (struct str){ space, (int32_t)strlen(space) };
        rows += live_find(v, c[i].id.p, (size_t)c[i].id.len) < 0;
    }
    *at = -1;
    if (rows <= LIMIT_DELTA) return 0;
    return err_set(e, ERR_DELTA_FULL,
                   "%" PRId64 " items lie beside the index, the limit is %d: run `intent index "
                   "--compact` and load the version it makes",
                   rows, LIMIT_DELTA);
}

/* Vectors of the items that give none and have none, into memory of a. */
static void embed_new(struct work *w, const struct item_change *c, int32_t n,
                      const struct gen *g, struct arena *a)
{
    const size_t D = (size_t)gen_info(g)->D;
    struct attrs *attrs = ARENA_NEW(a, struct attrs, n);
    int32_t m = 0;
    for (int32_t i = 0; i < n; i++)
        if (!c[i].deleted && !w[i].vector) attrs[m++] = w[i].item.attrs;
    if (m == 0) return;
    float *made = ARENA_NEW(a, float, (size_t)m *D);
    embed_items(made, gen_embed(g), attrs, m);
    for (int32_t i = 0; i < n; i++) {
        if (c[i].deleted || w[i].vector) continue;
        w[i].vector = made;
        made += D;
    }
}

static void count(struct live_view *v, const struct item_change *c, const struct store_was *was)
{
    const int32_t base = items_find(gen_items(v->gen), c->id.p, (size_t)c->id.len);
    const struct item_change old = { .dim = was->dim,
                                     .has_attrs = was->has_attrs,
                                     .space = { was->space, (int32_t)strlen(was->space) } };
    if (was->any && was->deleted)
        v->n_deleted -= base >= 0;
    else if (was->any && !fits(v->gen, &old, base))
        v->n_other--;
    if (c->deleted) v->n_deleted += base >= 0;
}

static void apply(struct lives *all, struct live *l, const struct item_change *c,
                  const struct work *w, const struct store_was *was, int32_t n)
{
    struct view *d = draft_from(l->view, n);
    const int32_t first_new = d->pub.n;
    for (int32_t i = 0; i < n; i++) {
        count(&d->pub, &c[i], &was[i]);
        draft_kill(d, c[i].id);
        if (!c[i].deleted) (void)draft_append(d, &w[i].item, w[i].vector);
    }
    draft_lists(d, all->list, all->n_lists, first_new);
    publish(l, d);
}

static int no_store(struct err *e)
{
    return err_set(e, ERR_NO_STORE, "nothing can be changed: intentd runs without --store DIR");
}

static int write_items(struct lives *all, struct live *l, struct item_change *c, int32_t n,
                       int32_t *at, struct arena *a, struct err *e)
{
    const struct view *v = l->view; /* nobody else publishes */
    struct work *w = ARENA_NEW(a, struct work, n);
    struct store_was *was = ARENA_NEW(a, struct store_was, n);
    if (!all->store) return no_store(e);
    TRY(check(&v->pub, c, n, at, a, e));
    for (int32_t i = 0; i < n; i++) {
        c[i].model = (struct str){ l->name, (int32_t)strlen(l->name) };
        if (!c[i].deleted) w[i].vector = fill_item(&w[i].item, v->pub.gen, &c[i], a);
    }
    embed_new(w, c, n, v->pub.gen, a);
    TRY(store_put_items(all->store, c, was, n, e));
    apply(all, l, c, w, was, n);
    return 0;
}

/* Where the store lies is for the log, not for who asked. */
static int without_path(int rc, struct err *e)
{
    if (rc != ERR_IO || !e) return rc;
    char text[LOG_VALUE];
    log_error("store.failed", "reason=%s", log_value(text, sizeof text, e->msg));
    *e = (struct err){ 0 };
    return err_set(e, rc, "the item store cannot be written; nothing was changed");
}

int live_write(struct lives *all, struct live *l, struct item_change *c, int32_t n, int32_t *at,
               struct err *e)
{
    int32_t where = -1;
    struct arena *a = arena_new("live_write", 1 << 14, 0);
    pthread_mutex_lock(&all->write_mu);
    int rc = without_path(write_items(all, l, c, n, &where, a, e), e);
    pthread_mutex_unlock(&all->write_mu);
    arena_free(a);
    if (at) *at = rc < 0 ? where : -1;
    return rc;
}

/* ---- blocklists ---- */

const struct live_list *live_list(const struct live_view *pub, const char *name, size_t len)
{
    const struct view *v = (const struct view *)pub;
    for (int32_t i = 0; i < v->n_lists; i++) {
        const struct live_list *l = draft_list(v, i);
        if (same(l->name, name, len)) return l->expires_ms > now_ms() ? l : NULL;
    }
    return NULL;
}

static void publish_lists(struct lives *all)
{
    for (struct live *l = atomic_load(&all->first); l; l = l->next) {
        struct view *d = draft_from(l->view, 0);
        draft_lists(d, all->list, all->n_lists, d->pub.n);
        publish(l, d);
    }
}

static void remove_list(struct lives *all, int32_t i)
{
    shared_drop(all->list[i]);
    all->list[i] = all->list[--all->n_lists];
}

static int32_t find_list(const struct lives *all, struct str name)
{
    for (int32_t i = 0; i < all->n_lists; i++)
        if (same(name, all->list[i]->name, strlen(all->list[i]->name))) return i;
    return -1;
}

/* Those that are over. */
static int remove_expired(struct lives *all, struct err *e)
{
    const int64_t now = now_ms();
    for (int32_t i = all->n_lists - 1; i >= 0; i--) {
        const struct id_set *s = all->list[i];
        if (s->expires_ms > now) continue;
        TRY(store_drop_list(all->store, (struct str){ s->name, (int32_t)strlen(s->name) }, e));
        remove_list(all, i);
    }
    return 0;
}

static int put_list(struct lives *all, const struct blocklist *l, struct err *e)
{
    if (!all->store) return no_store(e);
    TRY(remove_expired(all, e));
    const int32_t old = find_list(all, l->name);
    if (old < 0 && all->n_lists == LIMIT_LISTS)
        return err_set(e, ERR_DELTA_FULL, "there are %d blocklists, the limit", LIMIT_LISTS);
    TRY(store_put_list(all->store, l, e));
    if (old >= 0) remove_list(all, old);
    add_list(all, id_set_new(l));
    publish_lists(all);
    return 0;
}

static int drop_list(struct lives *all, struct str name, struct err *e)
{
    if (!all->store) return no_store(e);
    TRY(store_drop_list(all->store, name, e));
    const int32_t i = find_list(all, name);
    if (i < 0) return 0;
    remove_list(all, i);
    publish_lists(all);
    return 0;
}

int live_put_list(struct lives *all, const struct blocklist *l, struct err *e)
{
    pthread_mutex_lock(&all->write_mu);
    int rc = without_path(put_list(all, l, e), e);
    pthread_mutex_unlock(&all->write_mu);
    return rc;
}

int live_drop_list(struct lives *all, struct str name, struct err *e)
{
    pthread_mutex_lock(&all->write_mu);
    int rc = without_path(drop_list(all, name, e), e);
    pthread_mutex_unlock(&all->write_mu);
    return rc;
}
