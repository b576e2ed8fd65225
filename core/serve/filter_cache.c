#include "core/serve/filter_cache.h"
#include "core/base/mem.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    KEY_MOST = 4096, /* a filter that takes more bytes is not kept */
    SEEN = 1024      /* hashes remembered of filters that are not kept */
};

struct key {
    uint64_t hash;
    size_t n;
    bool whole; /* false: it did not fit */
    char at[KEY_MOST];
};

struct slot {
    uint64_t *bits; /* [words], then the key's bytes; NULL: never used */
    char *key;
    uint64_t hash, used; /* used: by the clock of uses */
    size_t nb_key;
    int32_t n_rows, held;
};

struct filter_cache {
    const struct attrs_index *ix; /* immutable, as n_slots */
    int32_t n_slots;
    pthread_mutex_t mu;
    struct slot slot[FILTER_CACHE_MOST]; /* GUARDED_BY(mu); bits do not change while held */
    uint64_t seen[SEEN];                 /* GUARDED_BY(mu) */
    uint64_t uses;                       /* GUARDED_BY(mu) */
    struct filter_cache_counts counts;   /* GUARDED_BY(mu) */
};

/* ---- a filter's bytes: equal where filters are written alike ----------------------------- */

static void put(struct key *k, const void *p, size_t nb)
{
    k->whole = k->whole && nb <= sizeof k->at - k->n;
    if (!k->whole || nb == 0) return;
    memcpy(k->at + k->n, p, nb);
    k->n += nb;
}

static void put_text(struct key *k, struct str s)
{
    put(k, &s.len, sizeof s.len);
    put(k, s.p, (size_t)s.len);
}

static void put_clauses(struct key *k, const struct filter_clause *c, int32_t n)
{
    put(k, &n, sizeof n);
    for (int32_t i = 0; i < n && k->whole; i++) {
        char op = (char)c[i].op, exists = c[i].exists;
        put_text(k, c[i].key);
        put(k, &op, 1);
        if (c[i].op == FILTER_EXISTS) put(k, &exists, 1);
        if (c[i].op == FILTER_RANGE) put(k, &c[i].range, sizeof c[i].range);
        if (c[i].op != FILTER_ANY) continue;
        put(k, &c[i].n_values, sizeof c[i].n_values);
        for (int32_t j = 0; j < c[i].n_values && k->whole; j++) {
            put_text(k, c[i].value[j].text);
            put(k, &c[i].value[j].number, sizeof c[i].value[j].number);
        }
    }
}

static void make_key(struct key *k, const struct filter *f)
{
    k->n = 0;
    k->whole = true;
    put_clauses(k, f->must, f->n_must);
    put_clauses(k, f->must_not, f->n_must_not);
    k->hash = XXH3_64bits(k->at, k->n);
}

/* ---- the slots; the caller has the lock -------------------------------------------------- */

static bool hold(struct filter_cache *c, int32_t i, struct filter_held *out)
{
    struct slot *s = &c->slot[i];
    s->used = ++c->uses;
    s->held++;
    *out = (struct filter_held){ { s->bits, s->n_rows }, i };
    return true;
}

static bool find(struct filter_cache *c, const struct key *k, struct filter_held *out)
{
    for (int32_t i = 0; i < c->counts.kept; i++) {
        const struct slot *s = &c->slot[i];
        if (s->hash == k->hash && s->nb_key == k->n && memcmp(s->key, k->at, k->n) == 0)
            return hold(c, i, out);
    }
    return false;
}

/* A place to fill: a new one, or the one that was not used for longest and is not held; -1:
 * there is none. */
static int32_t free_slot(struct filter_cache *c)
{
    int32_t best = -1;
    if (c->counts.kept < c->n_slots) return c->counts.kept++;
    for (int32_t i = 0; i < c->n_slots; i++)
        if (c->slot[i].held == 0 && (best < 0 || c->slot[i].used < c->slot[best].used))
            best = i;
    return best;
}

/* Whether a filter was asked for before, not long ago. */
static bool seen_before(struct filter_cache *c, const struct key *k)
{
    uint64_t *seen = &c->seen[k->hash % SEEN];
    bool before = *seen == k->hash;
    *seen = k->hash;
    return before;
}

static void fill(struct filter_cache *c, const struct key *k, struct filter_held *io)
{
    int32_t i = free_slot(c);
    if (i < 0) return;
    struct slot *s = &c->slot[i];
    size_t nb = attrs_words(c->ix) * sizeof *s->bits;
    if (!s->bits) {
        s->bits = xmalloc(nb + KEY_MOST);
        s->key = (char *)s->bits + nb;
    }
    memcpy(s->bits, io->rows.bits, nb);
    memcpy(s->key, k->at, k->n);
    s->nb_key = k->n;
    s->hash = k->hash;
    s->n_rows = io->rows.n;
    hold(c, i, io);
}

/* ---- what others call -------------------------------------------------------------------- */

struct filter_cache *filter_cache_new(const struct attrs_index *ix)
{
    struct filter_cache *c = xcalloc(1, sizeof *c);
    size_t most = FILTER_CACHE_BYTES / (attrs_words(ix) * sizeof(uint64_t) + KEY_MOST);
    c->ix = ix;
    c->n_slots = most < FILTER_CACHE_MOST ? (int32_t)most : FILTER_CACHE_MOST;
    pthread_mutex_init(&c->mu, NULL);
    return c;
}

void filter_cache_free(struct filter_cache *c)
{
    if (!c) return;
    for (int32_t i = 0; i < c->n_slots; i++) {
        REQUIRE(c->slot[i].held == 0, "filter %d is held %d times", i, c->slot[i].held);
        free(c->slot[i].bits);
    }
    pthread_mutex_destroy(&c->mu);
    free(c);
}

int filter_cache_hold(struct filter_held *out, struct filter_cache *c, struct arena *a,
                      const struct attr_names *names, const struct filter *f,
                      struct filter_fault *where, struct err *e)
{
    struct key k;
    make_key(&k, f);
    pthread_mutex_lock(&c->mu);
    bool hit = k.whole && find(c, &k, out);
    c->counts.hits += hit;
    pthread_mutex_unlock(&c->mu);
    if (hit) return 0;
    out->slot = -1;
    TRY(filter_compile(&out->rows, a, c->ix, names, f, where, e));
    pthread_mutex_lock(&c->mu);
    c->counts.misses++;
    /* Another thread may have been here meanwhile. */
    if (k.whole && !find(c, &k, out) && seen_before(c, &k)) fill(c, &k, out);
    pthread_mutex_unlock(&c->mu);
    return 0;
}

void filter_cache_release(struct filter_cache *c, const struct filter_held *held)
{
    if (held->slot < 0) return;
    pthread_mutex_lock(&c->mu);
    REQUIRE(c->slot[held->slot].held > 0, "filter %d is not held", held->slot);
    c->slot[held->slot].held--;
    pthread_mutex_unlock(&c->mu);
}

struct filter_cache_counts filter_cache_counts(struct filter_cache *c)
{
    pthread_mutex_lock(&c->mu);
    struct filter_cache_counts n = c->counts;
    pthread_mutex_unlock(&c->mu);
    return n;
}
