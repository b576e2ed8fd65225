#include "core/serve/states.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A hash leads to a set of WAYS entries, of which each shows 16 bits of its own. */
enum { SHARDS = 8, WAYS = 8, NONE = -1 };

struct entry {
    int32_t n;     /* events; 0: free */
    int32_t first; /* page */
    bool asked;    /* since the hand passed */
};

struct page_rows {
    int32_t row[EXTEND_PAGE];
};

struct shard {
    pthread_mutex_t mu;
    /* GUARDED_BY(mu), all of them; what a page holds belongs to who has taken it */
    uint16_t *tag; /* [n_slots] */
    struct entry *entry;
    uint32_t hand;
    struct page_rows *rows; /* [n_pages] events of each page */
    int32_t *next;          /* of the same entry, or of the free ones; NONE: the last */
    int32_t free;
    struct states_stats stats;
};

struct states {
    /* immutable */
    size_t nb_page;
    int32_t n_pages; /* of a shard */
    uint32_t n_slots;
    char *mem; /* [SHARDS, n_pages, nb_page] */
    struct shard shard[SHARDS];
};

static int32_t pages_of(int32_t n) { return (n + EXTEND_PAGE - 1) / EXTEND_PAGE; }

static void shard_init(struct shard *h, const struct states *s)
{
    pthread_mutex_init(&h->mu, NULL);
    h->tag = xcalloc(s->n_slots, sizeof *h->tag);
    h->entry = xcalloc(s->n_slots, sizeof *h->entry);
    h->rows = xcalloc((size_t)s->n_pages, sizeof *h->rows);
    h->next = xcalloc((size_t)s->n_pages, sizeof *h->next);
    for (int32_t i = 0; i < s->n_pages; i++) h->next[i] = i + 1 < s->n_pages ? i + 1 : NONE;
}

struct states *states_new(const struct model *m, size_t nb)
{
    const struct model_cfg *c = model_config(m);
    const size_t nb_page = extend_page_bytes(c), n_pages = nb / SHARDS / nb_page;
    if (!extend_can(c) || n_pages < (size_t)pages_of(c->max_len) || n_pages > INT32_MAX / 4)
        return NULL;
    struct states *s = xcalloc(1, sizeof *s);
    s->nb_page = nb_page;
    s->n_pages = (int32_t)n_pages;
    /* An entry has a page at least: the sets are half empty, so few of them overflow. */
    for (s->n_slots = WAYS; s->n_slots < 2 * n_pages; s->n_slots *= 2) continue;
    s->mem = xaligned(SHARDS * n_pages * nb_page);
    for (int i = 0; i < SHARDS; i++) shard_init(&s->shard[i], s);
    return s;
}

void states_free(struct states *s)
{
    if (!s) return;
    for (int i = 0; i < SHARDS; i++) {
        struct shard *h = &s->shard[i];
        pthread_mutex_destroy(&h->mu);
        free(h->tag);
        free(h->entry);
        free(h->rows);
        free(h->next);
    }
    free(s->mem);
    free(s);
}

/* ---- entries; the lock is held ---- */

static uint32_t set_of(const struct states *s, uint64_t hash)
{
    return (uint32_t)hash & (s->n_slots - 1) & ~(uint32_t)(WAYS - 1);
}
static uint16_t tag_of(uint64_t hash) { return (uint16_t)(hash >> 48); }

static bool same_rows(const struct shard *h, const struct entry *e, const int32_t *row,
                      int32_t n)
{
    if (e->n != n) return false;
    for (int32_t t = 0, p = e->first; t < n; t += EXTEND_PAGE, p = h->next[p]) {
        const int32_t m = n - t < EXTEND_PAGE ? n - t : EXTEND_PAGE;
        if (memcmp(h->rows[p].row, row + t, (size_t)m * sizeof *row) != 0) return false;
    }
    return true;
}

/* The entry of exactly these events; NULL: there is none. */
static struct entry *find(const struct states *s, const struct shard *h, uint64_t hash,
                          const int32_t *row, int32_t n)
{
    const uint32_t set = set_of(s, hash);
    for (uint32_t i = set; i < set + WAYS; i++)
        if (h->tag[i] == tag_of(hash) && same_rows(h, &h->entry[i], row, n))
            return &h->entry[i];
    return NULL;
}

static void give_page(struct states *s, struct shard *h, int32_t page)
{
    h->next[page] = h->free;
    h->free = page;
    h->stats.nb -= s->nb_page;
}

static void remove_entry(struct states *s, struct shard *h, struct entry *e)
{
    for (int32_t p = e->first, next, n = pages_of(e->n); n > 0; n--, p = next) {
        next = h->next[p];
        give_page(s, h, p);
    }
    e->n = 0;
    h->stats.entries--;
}

static void evict(struct states *s, struct shard *h, struct entry *e)
{
    remove_entry(s, h, e);
    h->stats.evictions++;
}

/* A free page, an old entry's if there is none.  NONE: all are taken. */
static int32_t get_page(struct states *s, struct shard *h)
{
    for (uint32_t i = 0; h->free == NONE && i < 2 * s->n_slots; i++) {
        struct entry *e = &h->entry[h->hand];
        h->hand = (h->hand + 1) & (s->n_slots - 1);
        if (e->n > 0 && !e->asked) evict(s, h, e);
        e->asked = false;
    }
    const int32_t page = h->free;
    if (page == NONE) return NONE;
    h->free = h->next[page];
    h->stats.nb += s->nb_page;
    return page;
}

/* A place in the set: a free one, or that of the entry that was not asked for longest, as far as known. */
static struct entry *get_slot(struct states *s, struct shard *h, uint32_t set)
{
    struct entry *old = &h->entry[set];
    for (uint32_t i = set; i < set + WAYS; i++) {
        if (h->entry[i].n == 0) return &h->entry[i];
        if (old->asked && !h->entry[i].asked) old = &h->entry[i];
    }
    evict(s, h, old);
    return old;
}

/* ---- taking and putting ---- */

/* hash[i]: of the first i + 1 events. */
static void hash_prefixes(uint64_t *hash, const int32_t *row, int32_t n)
{
    uint64_t h = 0;
    for (int32_t i = 0; i < n; i++) hash[i] = h = rng_hash(h, (uint64_t)row[i]);
}

/* Moves the longest prefix that is kept to st. */
static void take_prefix(struct state *st, struct states *s, struct shard *h,
                        const uint64_t *hash)
{
    struct entry *e = NULL;
    int32_t n = st->n;
    for (; n >= STATES_LEAST; n--)
        if ((e = find(s, h, hash[n - 1], st->row, n))) break;
    h->stats.events += (uint64_t)st->n;
    if (!e) {
        h->stats.misses++;
        return;
    }
    st->from = n < st->n ? n : n - 1;
    for (int32_t p = e->first, left = pages_of(n); left > 0; left--, p = h->next[p])
        st->id[st->n_pages++] = p;
    e->n = 0;
    h->stats.entries--;
    h->stats.hits++;
    h->stats.events_kept += (uint64_t)st->from;
}

void states_take(struct state *st, struct states *s, struct arena *a, const int32_t *row,
                 int32_t n)
{
    const int32_t n_pages = pages_of(n);
    uint64_t *hash = ARENA_NEW(a, uint64_t, n);
    REQUIRE(n >= STATES_LEAST && n_pages <= s->n_pages, "a history of %d events", n);
    hash_prefixes(hash, row, n);
    *st = (struct state){ .row = row,
                          .n = n,
                          .shard = (int32_t)(hash[STATES_LEAST - 1] >> 32) & (SHARDS - 1),
                          .hash = hash[n - 1],
                          .page = ARENA_NEW(a, float *, n_pages),
                          .id = ARENA_NEW(a, int32_t, n_pages) };
    struct shard *h = &s->shard[st->shard];
    pthread_mutex_lock(&h->mu);
    take_prefix(st, s, h, hash);
    for (int32_t p; st->n_pages < n_pages && (p = get_page(s, h)) != NONE;)
        st->id[st->n_pages++] = p;
    if (st->n_pages < n_pages) {
        while (st->n_pages > 0) give_page(s, h, st->id[--st->n_pages]);
        st->page = NULL;
        st->from = 0;
    }
    pthread_mutex_unlock(&h->mu);
    for (int32_t i = 0; i < st->n_pages; i++) {
        const size_t at = (size_t)st->shard * (size_t)s->n_pages + (size_t)st->id[i];
        st->page[i] = (float *)(void *)(s->mem + at * s->nb_page);
    }
}

void states_put(struct states *s, const struct state *st)
{
    struct shard *h = &s->shard[st->shard];
    pthread_mutex_lock(&h->mu);
    for (int32_t t = st->from; t < st->n; t++)
        h->rows[st->id[t / EXTEND_PAGE]].row[t % EXTEND_PAGE] = st->row[t];
    for (int32_t i = 0; i < st->n_pages; i++)
        h->next[st->id[i]] = i + 1 < st->n_pages ? st->id[i + 1] : NONE;
    struct entry *e = find(s, h, st->hash, st->row, st->n); /* another's of the same events */
    if (e)
        remove_entry(s, h, e);
    else
        e = get_slot(s, h, set_of(s, st->hash));
    *e = (struct entry){ st->n, st->id[0], true };
    h->tag[e - h->entry] = tag_of(st->hash);
    h->stats.entries++;
    pthread_mutex_unlock(&h->mu);
}

void states_count(struct states_stats *out, struct states *s)
{
    *out = (struct states_stats){ .nb_most = SHARDS * (size_t)s->n_pages * s->nb_page };
    for (int i = 0; i < SHARDS; i++) {
        struct shard *h = &s->shard[i];
        pthread_mutex_lock(&h->mu);
        out->hits += h->stats.hits;
        out->misses += h->stats.misses;
        out->evictions += h->stats.evictions;
        out->events += h->stats.events;
        out->events_kept += h->stats.events_kept;
        out->nb += h->stats.nb;
        out->entries += h->stats.entries;
        pthread_mutex_unlock(&h->mu);
    }
}
