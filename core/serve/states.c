#include "core/serve/states.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A hash leads to a set of WAYS entries, of which each shows 16 bits of its own. */
enum { SHARDS = 8, WAYS = 8, NONE = -1 };
enum {
    LOOK = 64,      /* slots that a page is looked for in */
    MET_A_PAGE = 8, /* histories remembered for each page */
    NEAR = 8,       /* a user seldom does more between two requests */
};

struct entry {
    int32_t n;      /* events; 0: free */
    int32_t first;  /* page */
    uint32_t asked; /* when: states.now */
};

struct page_rows {
    int32_t row[EXTEND_PAGE];
};

struct shard {
    pthread_mutex_t mu;
    /* GUARDED_BY(mu), as are its part of the slots and its pages' rows and next */
    uint32_t hand; /* slot that is looked at next where room is wanted */
    int32_t free;  /* page; NONE: there is none */
    struct states_stats stats;
};

struct states {
    /* immutable */
    size_t nb_page;
    int32_t n_pages; /* of a shard: i has pages and slots from i * n_pages, i * n_slots on */
    uint32_t n_slots;
    char *mem; /* [SHARDS * n_pages, nb_page]: a page is who took it's */
    /* by slot */
    uint16_t *tag;
    struct entry *entry;
    /* by page */
    struct page_rows *rows; /* its events */
    int32_t *next;          /* of the same entry, or of the free ones; NONE: the last */
    struct shard shard[SHARDS];
    /* atomic, relaxed: what is lost is only kept later */
    atomic_uint now;       /* requests so far; it may come round */
    _Atomic uint64_t *met; /* histories that were asked for, by hash: 32 bits of it, and when */
    uint32_t n_met;
};

static int32_t pages_of(int32_t n) { return (n + EXTEND_PAGE - 1) / EXTEND_PAGE; }

struct states *states_new(const struct model *m, size_t nb)
{
    const struct model_cfg *c = model_config(m);
    const size_t nb_page = extend_page_bytes(c), n_pages = nb / SHARDS / nb_page;
    if (!extend_can(c) || n_pages < (size_t)pages_of(c->max_len) ||
        n_pages > INT32_MAX / 8 / SHARDS)
        return NULL;
    struct states *s = xcalloc(1, sizeof *s);
    s->nb_page = nb_page;
    s->n_pages = (int32_t)n_pages;
    /* An entry has a page at least: the sets are half empty, so few of them overflow. */
    for (s->n_slots = WAYS; s->n_slots < 2 * n_pages; s->n_slots *= 2) continue;
    s->mem = xaligned(SHARDS * n_pages * nb_page);
    memset(s->mem, 0,
           SHARDS * n_pages *
               nb_page); /* a request must not wait for the system to find pages */
    s->tag = xcalloc(SHARDS * (size_t)s->n_slots, sizeof *s->tag);
    s->entry = xcalloc(SHARDS * (size_t)s->n_slots, sizeof *s->entry);
    s->rows = xcalloc(SHARDS * n_pages, sizeof *s->rows);
    s->next = xcalloc(SHARDS * n_pages, sizeof *s->next);
    for (s->n_met = 1; s->n_met < MET_A_PAGE * SHARDS * n_pages; s->n_met *= 2) continue;
    s->met = xcalloc(s->n_met, sizeof *s->met);
    for (int32_t i = 0; i < SHARDS; i++) {
        const int32_t first = i * s->n_pages, last = first + s->n_pages - 1;
        struct shard *h = &s->shard[i];
        pthread_mutex_init(&h->mu, NULL);
        h->hand = (uint32_t)i * s->n_slots;
        h->free = first;
        for (int32_t p = first; p <= last; p++) s->next[p] = p < last ? p + 1 : NONE;
    }
    return s;
}

void states_free(struct states *s)
{
    if (!s) return;
    for (int i = 0; i < SHARDS; i++) pthread_mutex_destroy(&s->shard[i].mu);
    free(s->mem);
    free(s->tag);
    free(s->entry);
    free(s->rows);
    free(s->next);
    free((void *)s->met);
    free(s);
}

/* ---- entries; the lock is held ---- */

/* First slot of the set that a hash leads to. */
static uint32_t set_of(const struct states *s, const struct shard *h, uint64_t hash)
{
    const uint32_t in_shard = (uint32_t)hash & (s->n_slots - 1) & ~(uint32_t)(WAYS - 1);
    return (uint32_t)(h - s->shard) * s->n_slots + in_shard;
}
static uint16_t tag_of(uint64_t hash) { return (uint16_t)(hash >> 48); }

static bool same_rows(const struct states *s, const struct entry *e, const int32_t *row,
                      int32_t n)
{
    if (e->n != n) return false;
    for (int32_t t = 0, p = e->first; t < n; t += EXTEND_PAGE, p = s->next[p]) {
        const int32_t m = n - t < EXTEND_PAGE ? n - t : EXTEND_PAGE;
        if (memcmp(s->rows[p].row, row + t, (size_t)m * sizeof *row) != 0) return false;
    }
    return true;
}

/* The entry of exactly these events; NULL: there is none. */
static struct entry *find(const struct states *s, const struct shard *h, uint64_t hash,
                          const int32_t *row, int32_t n)
{
    const uint32_t set = set_of(s, h, hash);
    for (uint32_t i = set; i < set + WAYS; i++)
        if (s->tag[i] == tag_of(hash) && same_rows(s, &s->entry[i], row, n))
            return &s->entry[i];
    return NULL;
}

static void give_page(struct states *s, struct shard *h, int32_t page)
{
    s->next[page] = h->free;
    h->free = page;
    h->stats.nb -= s->nb_page;
}

static void remove_entry(struct states *s, struct shard *h, struct entry *e)
{
    for (int32_t p = e->first, next, n = pages_of(e->n); n > 0; n--, p = next) {
        next = s->next[p];
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

static uint32_t now_of(struct states *s)
{
    return atomic_load_explicit(&s->now, memory_order_relaxed);
}

/* A free page, or one of an entry that was asked for more than `ago` requests ago.  NONE: none was found. */
static int32_t get_page(struct states *s, struct shard *h, uint32_t ago)
{
    const uint32_t now = now_of(s);
    for (int i = 0; h->free == NONE && i < LOOK; i++) {
        struct entry *e = &s->entry[h->hand++];
        if (h->hand % s->n_slots == 0) h->hand -= s->n_slots;
        if (e->n > 0 && now - e->asked > ago) evict(s, h, e);
    }
    const int32_t page = h->free;
    if (page == NONE) return NONE;
    h->free = s->next[page];
    h->stats.nb += s->nb_page;
    return page;
}

/* A slot of the set: a free one, or that of the entry that was not asked for longest. */
static uint32_t get_slot(struct states *s, struct shard *h, uint32_t set)
{
    const uint32_t now = now_of(s);
    uint32_t old = set;
    for (uint32_t i = set; i < set + WAYS; i++) {
        if (s->entry[i].n == 0) return i;
        if (now - s->entry[i].asked > now - s->entry[old].asked) old = i;
    }
    evict(s, h, &s->entry[old]);
    return old;
}

/* ---- taking and putting ---- */

/* hash[i]: of the first i + 1 events. */
static void hash_prefixes(uint64_t *hash, const int32_t *row, int32_t n)
{
    uint64_t h = 0;
    for (int32_t i = 0; i < n; i++) hash[i] = h = rng_hash(h, (uint64_t)row[i]);
}

/* Requests since; 0: not met. */
static uint32_t ago_of(struct states *s, uint64_t hash, uint32_t now)
{
    const uint64_t met =
        atomic_load_explicit(&s->met[hash & (s->n_met - 1)], memory_order_relaxed);
    return met >> 32 == hash >> 32 ? now - (uint32_t)met : 0;
}

uint32_t states_met(struct states *s, const int32_t *row, int32_t n)
{
    const uint32_t now = atomic_fetch_add_explicit(&s->now, 1, memory_order_relaxed) + 1;
    uint64_t hash = 0,
             near[NEAR + 1]; /* of the first n events in [0], of one fewer in [1] ... */
    for (int32_t i = 0; i < n; i++) {
        hash = rng_hash(hash, (uint64_t)row[i]);
        if (n - 1 - i <= NEAR) near[n - 1 - i] = hash;
    }
    uint32_t ago = 0;
    for (int32_t i = 0; i <= NEAR && n - i >= STATES_LEAST && ago == 0; i++)
        ago = ago_of(s, near[i], now);
    atomic_store_explicit(&s->met[hash & (s->n_met - 1)], (hash >> 32 << 32) | now,
                          memory_order_relaxed);
    return ago;
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
    for (int32_t p = e->first, left = pages_of(n); left > 0; left--, p = s->next[p])
        st->id[st->n_pages++] = p;
    e->n = 0;
    h->stats.entries--;
    h->stats.hits++;
    h->stats.events_kept += (uint64_t)st->from;
}

void states_take(struct state *st, struct states *s, struct arena *a, const int32_t *row,
                 int32_t n, uint32_t ago)
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
    for (int32_t p; st->n_pages < n_pages && (p = get_page(s, h, ago)) != NONE;)
        st->id[st->n_pages++] = p;
    if (st->n_pages < n_pages) {
        while (st->n_pages > 0) give_page(s, h, st->id[--st->n_pages]);
        st->page = NULL;
        st->from = 0;
    }
    pthread_mutex_unlock(&h->mu);
    for (int32_t i = 0; i < st->n_pages; i++)
        st->page[i] = (float *)(void *)(s->mem + (size_t)st->id[i] * s->nb_page);
}

void states_put(struct states *s, const struct state *st)
{
    struct shard *h = &s->shard[st->shard];
    pthread_mutex_lock(&h->mu);
    for (int32_t t = st->from; t < st->n; t++)
        s->rows[st->id[t / EXTEND_PAGE]].row[t % EXTEND_PAGE] = st->row[t];
    for (int32_t i = 0; i < st->n_pages; i++)
        s->next[st->id[i]] = i + 1 < st->n_pages ? st->id[i + 1] : NONE;
    struct entry *same = find(s, h, st->hash, st->row, st->n); /* another's of these events */
    if (same) remove_entry(s, h, same);
    const uint32_t slot = get_slot(s, h, set_of(s, h, st->hash));
    s->entry[slot] = (struct entry){ st->n, st->id[0], now_of(s) };
    s->tag[slot] = tag_of(st->hash);
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
