#include "core/serve/live_draft.h"
#include "core/base/mem.h"
#include "core/base/order.h"
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { MAP_FIRST = 1024, DEAD_FEW = 1024 };

struct chunk {
    struct shared shared;
    float *vector; /* [CHUNK, D] */
    struct live_item item[CHUNK];
};

struct bits {
    struct shared shared;
    uint64_t word[];
};

/* id -> rows, newest first.  Readers follow a chain from its head past the rows they do not
 * know. */
struct id_map {
    struct shared shared;
    int32_t cap;           /* rows; there are as many chains */
    _Atomic int32_t *head; /* [cap] */
    int32_t *next;         /* [cap] */
};

struct list {
    struct shared shared;
    struct live_list pub;
    struct id_set *set; /* held */
    int32_t *row;
};

/* ---- counting holders ---- */

void *shared_hold(void *object)
{
    struct shared *s = object;
    if (s) atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return object;
}

void shared_drop(void *object)
{
    struct shared *s = object;
    if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        s->free_fn(object);
}

static struct shared one(void (*free_fn)(void *)) { return (struct shared){ 1, free_fn }; }

/* ---- chunks ---- */

static void chunk_free(void *object)
{
    struct chunk *c = object;
    for (int32_t i = 0; i < CHUNK; i++) free(c->item[i].block);
    free(c->vector);
    free(c);
}

static struct chunk *chunk_new(int32_t D)
{
    struct chunk *c = xcalloc(1, sizeof *c);
    c->shared = one(chunk_free);
    c->vector = xaligned((size_t)CHUNK * (size_t)D * sizeof *c->vector);
    return c;
}

static const struct live_item *item_at(const struct view *v, int32_t row)
{
    return &v->chunk[row / CHUNK]->item[row % CHUNK];
}

static struct str copy_str(char **at, struct str s)
{
    struct str out = { *at, s.len };
    if (s.len) memcpy(*at, s.p, (size_t)s.len);
    *at += s.len;
    return out;
}

/* A copy in one block: the attributes, their values, the bytes of all strings. */
static struct live_item copy_item(const struct live_item *x)
{
    size_t n_values = 0, nb = (size_t)x->id.len + (size_t)x->title.len;
    const size_t n = (size_t)x->attrs.n;
    for (size_t j = 0; j < n; j++) {
        const struct attr *a = &x->attrs.at[j];
        nb += (size_t)a->name.len;
        for (int32_t i = 0; a->value && i < a->n_values; i++) nb += (size_t)a->value[i].len;
        n_values += a->value ? (size_t)a->n_values : 0;
    }
    struct attr *attr = xmalloc(n * sizeof *attr + n_values * sizeof(struct str) + nb);
    struct str *value = (struct str *)(attr + n);
    char *bytes = (char *)(value + n_values);
    struct live_item out = {
        copy_str(&bytes, x->id), copy_str(&bytes, x->title), { attr, x->attrs.n }, x->base, attr
    };
    for (size_t j = 0; j < n; j++, attr++) {
        const struct attr *a = &x->attrs.at[j];
        *attr = *a;
        attr->name = copy_str(&bytes, a->name);
        if (!a->value) continue;
        attr->value = value;
        for (int32_t i = 0; i < a->n_values; i++) *value++ = copy_str(&bytes, a->value[i]);
    }
    return out;
}

/* ---- map ---- */

static void map_free(void *object)
{
    struct id_map *m = object;
    free((void *)m->head);
    free(m->next);
    free(m);
}

static struct id_map *map_new(int32_t cap)
{
    struct id_map *m = xcalloc(1, sizeof *m);
    m->shared = one(map_free);
    m->cap = cap;
    m->head = xmalloc((size_t)cap * sizeof *m->head);
    m->next = xmalloc((size_t)cap * sizeof *m->next);
    for (int32_t i = 0; i < cap; i++) atomic_init(&m->head[i], -1);
    return m;
}

static _Atomic int32_t *map_head(const struct id_map *m, const char *id, size_t len)
{
    return &m->head[XXH3_64bits(id, len) % (uint64_t)m->cap];
}

static void map_add(struct id_map *m, struct str id, int32_t row)
{
    _Atomic int32_t *head = map_head(m, id.p, (size_t)id.len);
    m->next[row] = atomic_load_explicit(head, memory_order_relaxed);
    atomic_store_explicit(head, row, memory_order_release);
}

/* The newest row of an id that a view knows, alive or not. */
static int32_t find_newest(const struct view *v, const char *id, size_t len)
{
    int32_t row = atomic_load_explicit(map_head(v->map, id, len), memory_order_acquire);
    for (; row >= 0; row = v->map->next[row]) {
        if (row >= v->pub.n) continue;
        struct str s = item_at(v, row)->id;
        if ((size_t)s.len == len && memcmp(s.p, id, len) == 0) return row;
    }
    return -1;
}

/* ---- bits ---- */

static size_t words(int32_t n) { return ((size_t)n + 63) / 64; }

static void clear_bit(uint64_t *w, int32_t i) { w[i >> 6] &= ~((uint64_t)1 << (i & 63)); }
static bool has_bit(const uint64_t *w, int32_t i) { return w[i >> 6] >> (i & 63) & 1; }

static void bits_free(void *object) { free(object); }

/* A draft's own bits of the base, all set at first. */
static uint64_t *base_bits(struct view *d)
{
    const size_t nb = words(d->pub.V) * sizeof(uint64_t);
    if (d->own_base) return d->base->word;
    struct bits *b = xmalloc(sizeof *b + nb);
    b->shared = one(bits_free);
    if (d->base)
        memcpy(b->word, d->base->word, nb);
    else
        memset(b->word, 0xff, nb);
    if (!d->base && d->pub.V % 64) b->word[d->pub.V / 64] = ((uint64_t)1 << d->pub.V % 64) - 1;
    shared_drop(d->base);
    d->base = b;
    d->own_base = true;
    d->pub.base_alive = b->word;
    return b->word;
}

/* ---- blocklists ---- */

static void id_set_free(void *object)
{
    struct id_set *s = object;
    items_builder_free(s->set);
    free(s->id);
    free(s->name);
    free(s);
}

struct id_set *id_set_new(const struct blocklist *l)
{
    struct id_set *s = xcalloc(1, sizeof *s);
    s->shared = one(id_set_free);
    s->set = items_builder_new();
    s->name = xstrndup(l->name.p, (size_t)l->name.len);
    s->expires_ms = l->expires_ms;
    for (int32_t i = 0; i < l->n; i++)
        (void)items_add(s->set, l->id[i].p, (size_t)l->id[i].len);
    s->n = items_builder_count(s->set);
    s->id = xcalloc((size_t)s->n + 1, sizeof *s->id);
    for (int32_t i = 0; i < s->n; i++) s->id[i] = items_builder_id(s->set, i);
    return s;
}

static void list_free(void *object)
{
    struct list *l = object;
    shared_drop(l->set);
    free(l->row);
    free(l);
}

static struct list *list_new(struct id_set *set, int32_t *row, int32_t n)
{
    struct list *l = xcalloc(1, sizeof *l);
    l->shared = one(list_free);
    l->set = shared_hold(set);
    l->row = row;
    l->pub = (struct live_list){
        { set->name, (int32_t)strlen(set->name) }, set->expires_ms, set->id, row, set->n, n
    };
    return l;
}

static struct list *resolve(const struct view *d, struct id_set *set)
{
    int32_t *row = xcalloc(2 * (size_t)set->n + 1, sizeof *row), n = 0;
    const struct items *it = gen_items(d->pub.gen);
    for (int32_t i = 0; i < set->n; i++) {
        const size_t len = (size_t)set->id[i].len;
        const int32_t base = items_find(it, set->id[i].p, len);
        const int32_t delta = live_find(&d->pub, set->id[i].p, len);
        if (base >= 0) row[n++] = base;
        if (delta >= 0) row[n++] = d->pub.V + delta;
    }
    qsort(row, (size_t)n, sizeof *row, order_i32);
    return list_new(set, row, n);
}

/* The same list, with the rows from first_new on that are of it. */
static struct list *extend(const struct view *d, struct list *l, int32_t first_new)
{
    int32_t *row = NULL, n = l->pub.n_rows;
    for (int32_t i = first_new; i < d->pub.n; i++) {
        struct str id = item_at(d, i)->id;
        if (items_lookup(l->set->set, id.p, (size_t)id.len) < 0) continue;
        if (!row) {
            row = xcalloc((size_t)n + (size_t)(d->pub.n - i), sizeof *row);
            memcpy(row, l->row, (size_t)n * sizeof *row);
        }
        row[n++] = d->pub.V + i;
    }
    return row ? list_new(l->set, row, n) : shared_hold(l);
}

void draft_lists(struct view *d, struct id_set *const *set, int32_t n, int32_t first_new)
{
    struct list **now = xcalloc((size_t)n + 1, sizeof(struct list *));
    for (int32_t i = 0; i < n; i++) {
        for (int32_t j = 0; j < d->n_lists && !now[i]; j++)
            if (d->list[j]->set == set[i]) now[i] = extend(d, d->list[j], first_new);
        if (!now[i]) now[i] = resolve(d, set[i]);
    }
    for (int32_t j = 0; j < d->n_lists; j++) shared_drop(d->list[j]);
    free(d->list);
    d->list = now;
    d->n_lists = n;
}

const struct live_list *draft_list(const struct view *v, int32_t i) { return &v->list[i]->pub; }

/* ---- drafts ---- */

struct view *draft_new(struct gen *g)
{
    struct view *d = xcalloc(1, sizeof *d);
    atomic_init(&d->refs, 1);
    d->pub.gen = gen_ref(g);
    d->pub.V = gen_info(g)->n_items;
    d->pub.D = gen_info(g)->D;
    d->pub.names = &d->names;
    d->map = map_new(MAP_FIRST);
    return d;
}

/* Bits for all rows of the chunks, 0 where no row is yet. */
static size_t alive_words(const struct view *d) { return (size_t)d->n_chunks * (CHUNK / 64); }

/* Chunks, bits and map for at least n rows; what is there stays. */
static void make_room(struct view *d, int32_t n)
{
    const size_t had = alive_words(d);
    const int32_t n_chunks = (n + CHUNK - 1) / CHUNK;
    if (n_chunks > d->n_chunks) {
        d->chunk = xrealloc(d->chunk, (size_t)n_chunks, sizeof(struct chunk *));
        while (d->n_chunks < n_chunks) d->chunk[d->n_chunks++] = chunk_new(d->pub.D);
        d->alive = xrealloc(d->alive, alive_words(d), sizeof *d->alive);
        memset(d->alive + had, 0, (alive_words(d) - had) * sizeof *d->alive);
        d->pub.alive = d->alive;
    }
    if (n <= d->map->cap) return;
    struct id_map *larger = map_new(n > 2 * d->map->cap ? n : 2 * d->map->cap);
    for (int32_t i = 0; i < d->pub.n; i++) map_add(larger, item_at(d, i)->id, i);
    shared_drop(d->map);
    d->map = larger;
}

/* The base and the counts of old, and its lists when they name the same rows. */
static struct view *begin(const struct view *old)
{
    struct view *d = xcalloc(1, sizeof *d);
    atomic_init(&d->refs, 1);
    d->pub = old->pub;
    d->pub.n = d->pub.n_alive = 0;
    d->pub.alive = NULL;
    d->pub.names = &d->names;
    gen_ref(d->pub.gen);
    d->base = shared_hold(old->base);
    return d;
}

/* Only what is alive, in rows of its own. */
static struct view *squeeze(const struct view *old, int32_t more)
{
    struct view *d = begin(old);
    d->map = map_new(MAP_FIRST);
    make_room(d, old->pub.n_alive + more);
    for (int32_t i = 0; i < old->pub.n; i++)
        if (has_bit(old->alive, i)) draft_append(d, item_at(old, i), live_vector(&old->pub, i));
    return d;
}

struct view *draft_from(const struct view *old, int32_t more)
{
    const int32_t dead = old->pub.n - old->pub.n_alive;
    if (dead > old->pub.n_alive + DEAD_FEW) return squeeze(old, more);
    struct view *d = begin(old);
    d->pub.n = old->pub.n;
    d->pub.n_alive = old->pub.n_alive;
    d->names = old->names;
    d->map = shared_hold(old->map);
    d->n_chunks = old->n_chunks;
    d->chunk = xcalloc((size_t)d->n_chunks + 1, sizeof(struct chunk *));
    for (int32_t i = 0; i < d->n_chunks; i++) d->chunk[i] = shared_hold(old->chunk[i]);
    d->alive = xcalloc(alive_words(d) + 1, sizeof *d->alive);
    d->pub.alive = d->alive;
    if (d->n_chunks) memcpy(d->alive, old->alive, alive_words(d) * sizeof *d->alive);
    d->n_lists = old->n_lists;
    d->list = xcalloc((size_t)d->n_lists + 1, sizeof(struct list *));
    for (int32_t i = 0; i < d->n_lists; i++) d->list[i] = shared_hold(old->list[i]);
    make_room(d, d->pub.n + more);
    return d;
}

float *draft_vector(struct view *d, int32_t row)
{
    return d->chunk[row / CHUNK]->vector + (size_t)(row % CHUNK) * (size_t)d->pub.D;
}

int32_t draft_append(struct view *d, const struct live_item *item, const float *vector)
{
    const int32_t row = d->pub.n;
    if (row == d->n_chunks * CHUNK || row == d->map->cap) make_room(d, row + 1);
    d->chunk[row / CHUNK]->item[row % CHUNK] = copy_item(item);
    if (vector) memcpy(draft_vector(d, row), vector, (size_t)d->pub.D * sizeof *vector);
    map_add(d->map, item_at(d, row)->id, row);
    d->alive[row >> 6] |= (uint64_t)1 << (row & 63);
    attr_names_add(&d->names, gen_items(d->pub.gen), live_attrs(&d->pub, row), NULL);
    d->pub.n++;
    d->pub.n_alive++;
    return row;
}

void draft_kill(struct view *d, struct str id)
{
    const int32_t row = live_find(&d->pub, id.p, (size_t)id.len);
    const struct items *it = gen_items(d->pub.gen);
    const int32_t base = items_find(it, id.p, (size_t)id.len);
    if (row >= 0) {
        attr_names_remove(&d->names, it, live_attrs(&d->pub, row));
        clear_bit(d->alive, row);
        d->pub.n_alive--;
    }
    if (base >= 0 && !live_dead(&d->pub, base)) {
        clear_bit(base_bits(d), base);
        d->pub.n_base_dead++;
    }
}

/* ---- reading ---- */

static const struct view *view_of(const struct live_view *v) { return (const struct view *)v; }

void live_drop(struct live_view *pub)
{
    struct view *v = (struct view *)pub;
    if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) > 1) return;
    for (int32_t i = 0; i < v->n_chunks; i++) shared_drop(v->chunk[i]);
    for (int32_t i = 0; i < v->n_lists; i++) shared_drop(v->list[i]);
    shared_drop(v->base);
    shared_drop(v->map);
    gen_unref(v->pub.gen);
    free(v->chunk);
    free(v->list);
    free(v->alive);
    free(v);
}

const float *live_vector(const struct live_view *v, int32_t i)
{
    return view_of(v)->chunk[i / CHUNK]->vector + (size_t)(i % CHUNK) * (size_t)v->D;
}

struct str live_id(const struct live_view *v, int32_t i) { return item_at(view_of(v), i)->id; }
struct str live_title(const struct live_view *v, int32_t i)
{
    return item_at(view_of(v), i)->title;
}
const struct attrs *live_attrs(const struct live_view *v, int32_t i)
{
    return &item_at(view_of(v), i)->attrs;
}
int32_t live_base(const struct live_view *v, int32_t i) { return item_at(view_of(v), i)->base; }

int32_t live_find(const struct live_view *v, const char *id, size_t len)
{
    const int32_t row = find_newest(view_of(v), id, len);
    return row >= 0 && has_bit(v->alive, row) ? row : -1;
}
