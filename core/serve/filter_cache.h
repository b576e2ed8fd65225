/* filter_cache.h — compiled filters of one generation, so that what a front end asks with
 * every request (only what is in stock) is compiled once.
 *   struct filter_cache *c = filter_cache_new(ix);      ix must outlive it
 *   struct filter_held ok;
 *   if (filter_cache_hold(&ok, c, arena, names, &filter, &where, &e) == 0) ... ok.rows ...
 *   filter_cache_release(c, &ok);                       its rows may be replaced now
 * Equal filters share one set of rows, that is one pointer.  A filter is kept when it is
 * asked for the second time, so that those which never come again push nothing out;
 * FILTER_CACHE_MOST are kept, fewer where they would take more than FILTER_CACHE_BYTES, and
 * the one that was not used for longest goes.  The memory is allocated as places are first
 * filled and reused from then on.
 * Thread: any; what is held belongs to its holder. */
#pragma once
#include "core/serve/filter.h"

enum { FILTER_CACHE_MOST = 64, FILTER_CACHE_BYTES = 64 << 20 };

struct filter_cache;
struct filter_held {
    struct filter_rows rows; /* in the cache or in the request's arena */
    int32_t slot;            /* -1: not in the cache */
};

struct filter_cache *filter_cache_new(const struct attrs_index *ix);
void filter_cache_free(struct filter_cache *c); /* nothing may be held; NULL is fine */

/* The rows of a filter as filter_compile makes them, with its errors; nothing is held then.
 * What was kept is found whatever the names are by now: they change no row.
 * A hit takes nothing from the arena. */
NODISCARD int filter_cache_hold(struct filter_held *out, struct filter_cache *c,
                                struct arena *a, const struct attr_names *names,
                                const struct filter *f, struct filter_fault *where,
                                struct err *e);
void filter_cache_release(struct filter_cache *c, const struct filter_held *held);

struct filter_cache_counts {
    int64_t hits, misses; /* of filter_cache_hold since the start; errors are neither */
    int32_t kept;         /* filters in the cache */
};
struct filter_cache_counts filter_cache_counts(struct filter_cache *c);
