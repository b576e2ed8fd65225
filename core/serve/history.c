/* history.c — external ids to rows: the events that are encoded, and the items that are not to come back. */
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/serve/run.h"
#include <string.h>

enum {
    LATE_ROWS = 1024, /* between two looks at the clock */
    SORT_ROWS = 32,   /* to match: for fewer a filter's values are not worth sorting */
};

static int unknown_error(const struct run *x, const struct str *id, struct err *e)
{
    return err_set(e, ERR_UNKNOWN_ITEMS, "%s: no item \"%.*s\"",
                   x->r->source == REC_ITEMS ? "items" : "history", id->len < 64 ? id->len : 64,
                   id->p);
}

int run_read_history(struct run *x, struct err *e)
{
    const struct rec_request *r = x->r;
    struct rec_answer *a = x->a;
    int32_t skip = r->n_history > LIMIT_HISTORY ? r->n_history - LIMIT_HISTORY : 0;
    const bool items = r->source == REC_ITEMS;
    const int32_t most = r->n_history - skip, L = gen_info(x->c->gen)->L;
    int32_t *row = ARENA_NEW(x->mem, int32_t, most + 1),
            *seen = ARENA_NEW(x->mem, int32_t, 2 * most + 1);
    struct str *unknown = items ? ARENA_NEW(x->mem, struct str, most + 1) : NULL;
    for (int32_t i = skip; i < r->n_history; i++) {
        const struct corpus_rows found = corpus_find(x->c, r->history[i]);
        /* A neighbour of a new item is found; as an event it is not known to the encoder. */
        const int32_t known = items && found.delta >= 0 ? found.delta : found.base;
        if (known < 0 && found.delta < 0 && r->unknown == REC_UNKNOWN_ERROR)
            return unknown_error(x, &r->history[i], e);
        if (known >= 0 || items) row[x->n_rows++] = known;
        if (known < 0 && items) unknown[a->unknown] = r->history[i];
        a->unknown += known < 0;
        if (found.base >= 0) seen[x->n_seen++] = found.base;
        if (found.delta >= 0) seen[x->n_seen++] = found.delta;
    }
    const int32_t n = most - a->unknown;
    x->row = row;
    x->seen = seen;
    x->used = n < L || items ? n : L;
    a->unknown_item = unknown;
    a->received = r->n_history;
    a->used = x->used;
    a->truncated = skip + n - x->used;
    if (r->source != REC_VECTORS && n == 0)
        a->fallback = a->received ? "all_items_unknown" : "empty_history";
    return 0;
}

/* ---- what is not to come back ---- */

static void drop(struct run *x, int32_t row)
{
    if (row >= 0) x->n_drop += rowset_add(&x->drop, row);
}

/* A blocklist may be long: its rows of the base leave the bitmap. */
static void drop_list(struct run *x, const struct live_list *l)
{
    const int32_t V = corpus_base(x->c);
    int32_t i = 0;
    if (l->n_rows > 0 && l->row[0] < V) run_own_allow(x);
    for (; i < l->n_rows && l->row[i] < V; i++) run_disallow(x, l->row[i]);
    for (; i < l->n_rows; i++) drop(x, l->row[i]);
}

static int32_t rows_beyond(const struct live_list *l, int32_t V)
{
    int32_t n = 0;
    while (n < l->n_rows && l->row[l->n_rows - 1 - n] >= V) n++;
    return n;
}

void run_collect_dropped(struct run *x)
{
    const struct rec_request *r = x->r;
    const int32_t n_seen = r->exclude_seen || r->source == REC_ITEMS ? x->n_seen : 0;
    int32_t most = n_seen + 2 * r->n_exclude;
    x->blocked = ARENA_NEW(x->mem, const struct live_list *, r->n_lists + 1);
    for (int32_t i = 0; x->c->live && i < r->n_lists; i++) {
        const struct live_list *l =
            live_list(x->c->live, r->lists[i].p, (size_t)r->lists[i].len);
        if (!l) continue;
        most += rows_beyond(l, corpus_base(x->c));
        x->blocked[x->n_blocked++] = l;
    }
    x->drop = rowset_new(x->mem, most);
    for (int32_t i = 0; i < n_seen; i++) drop(x, x->seen[i]);
    for (int32_t i = 0; i < r->n_exclude; i++) {
        const struct corpus_rows found = corpus_find(x->c, r->exclude[i]);
        drop(x, found.base);
        drop(x, found.delta);
    }
    for (int32_t i = 0; i < x->n_blocked; i++) drop_list(x, x->blocked[i]);
}

/* ---- what may ---- */

void run_own_allow(struct run *x)
{
    const size_t V = (size_t)corpus_base(x->c), words = (V + 63) / 64;
    if (x->own_allow) return;
    uint64_t *own = ARENA_NEW(x->mem, uint64_t, words);
    if (x->allow)
        memcpy(own, x->allow, words * sizeof *own);
    else
        memset(own, 0xff, words * sizeof *own);
    if (V % 64) own[words - 1] &= (1ULL << V % 64) - 1;
    x->allow = x->own_allow = own;
}

void run_disallow(struct run *x, int32_t row)
{
    uint64_t *word = &x->own_allow[row >> 6];
    x->n_allow -= (int32_t)(*word >> (row & 63) & 1);
    *word &= ~(1ULL << (row & 63));
}

/* Of the delta: alive, and the filter has it.  Past the deadline what is left to look at is not allowed: the steps that
 * follow say so. */
static void allow_delta(struct run *x, const struct filter *f)
{
    const struct live_view *v = x->c->live;
    x->delta_allow = v->alive;
    x->n_delta_allow = v->n_alive;
    if (!f) return;
    uint64_t *own = ARENA_NEW0(x->mem, uint64_t, (v->n + 63) / 64);
    const struct filter use = v->n_alive < SORT_ROWS ? *f : filter_sorted(f, x->mem);
    x->n_delta_allow = 0;
    for (int32_t i = 0; i < v->n; i++) {
        if (i % LATE_ROWS == 0 && x->r->deadline_ns && clock_ns() > x->r->deadline_ns) break;
        if (!(v->alive[i >> 6] >> (i & 63) & 1)) continue;
        if (!filter_match(&use, live_attrs(v, i))) continue;
        own[i >> 6] |= 1ULL << (i & 63);
        x->n_delta_allow++;
    }
    x->delta_allow = own;
}

static void and_alive(struct run *x)
{
    const uint64_t *alive = x->c->live->base_alive;
    const size_t words = ((size_t)corpus_base(x->c) + 63) / 64;
    run_own_allow(x);
    uint64_t *own = x->own_allow;
    x->n_allow = 0;
    for (size_t i = 0; i < words; i++) {
        own[i] &= alive[i];
        x->n_allow += __builtin_popcountll(own[i]);
    }
}

/* Without a filter: shared by all requests of the view. */
static void allow_alive(struct run *x)
{
    const struct live_view *v = x->c->live;
    x->own_allow = NULL;
    x->allow = v ? v->base_alive : NULL;
    x->n_allow = corpus_base(x->c) - (v ? v->n_base_dead : 0);
}

int run_allow(struct run *x, struct filter_fault *where, bool *in_filter, struct err *e)
{
    const struct live_view *v = x->c->live;
    if (x->r->filter) {
        const int rc = filter_cache_hold(&x->filter, gen_filters(x->c->gen), x->mem,
                                         v ? v->names : NULL, x->r->filter, where, e);
        *in_filter = rc < 0 && rc != ERR_LIMIT;
        TRY(rc);
        x->holds_filter = true;
        x->allow = x->filter.rows.bits;
        x->n_allow = x->filter.rows.n;
    }
    if (!x->r->filter)
        allow_alive(x);
    else if (v && v->base_alive)
        and_alive(x);
    if (v && v->n_alive > 0) allow_delta(x, x->r->filter);
    return 0;
}

void run_lift_filter(struct run *x)
{
    const struct live_view *v = x->c->live;
    allow_alive(x);
    if (v && v->n_alive > 0) allow_delta(x, NULL);
    for (int32_t i = 0; i < x->n_blocked; i++) drop_list(x, x->blocked[i]);
}

void run_release(struct run *x)
{
    if (x->holds_filter) filter_cache_release(gen_filters(x->c->gen), &x->filter);
    x->holds_filter = false;
}
