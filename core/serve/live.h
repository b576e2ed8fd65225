/* live.h — items that change while a generation is served: new ones, others' attributes,
 * deleted ones, blocklists.
 *   struct lives *all;  lives_open(&all, store_dir, &e);
 *   lives_add(all, gen, &e);                                once a model, and once a swap
 *   struct live_view *v = live_take(lives_find(all, "films", 5));      a request's
 *   live_search(ids, scores, v, phi, K, k, NULL);  ...  live_drop(v);
 * The published index is never mutated.  Changed items lie in the delta, a flat table beside
 * it, whose row i has the number V + i in results, V the generation's items.  A row of the
 * base that was deleted, or that a row of the delta stands for, is dead.  A view is one
 * state of all that, immutable, of one generation: requests keep the one they began with,
 * and never wait for a writer.  Views share vectors and texts; a write of one item copies
 * the delta's and the base's bitmaps and 8 bytes per 256 rows of the delta.  Changed by
 * attributes alone, an item keeps the base's vector.
 * Durable: a write is in the item store
 * when it returns 0 (store.h).  Thread: any; writers wait for one another. */
#pragma once
#include "core/serve/attr_names.h"
#include "core/serve/gen.h"
#include "core/serve/record.h"

struct lives; /* the process's: the store, the blocklists, one struct live a model */
struct live;  /* a model's, whichever generation serves it */

/* store_dir NULL: without a store nothing can be changed (ERR_NO_STORE).  Blocklists that
 * are over are removed. */
NODISCARD int lives_open(struct lives **out, const char *store_dir, struct err *e);
void lives_close(struct lives *all); /* NULL is fine; every view must have been dropped */
/* From now on views are of generation g (one that retrieves), a reference to which they
 * hold.  What the store has of its model is applied anew: items by attributes get the
 * tower's vectors; items that g holds already (intent index --compact) are removed from the store;
 * vectors of another space stay there and are not served. */
NODISCARD int lives_add(struct lives *all, struct gen *g, struct err *e);
struct live *lives_find(const struct lives *all, const char *name, size_t len); /* or NULL */
/* For what is all models', as blocklists are; NULL: there is none that retrieves. */
struct live *lives_any(const struct lives *all);

/* Whether a change makes an item that can be served: one with a vector of this space, one
 * that the base has (base >= 0), or one whose attributes a tower makes a vector of.  Others
 * wait in the store for a version that they fit. */
bool live_fits(const struct item_change *c, int32_t base, int32_t D, const char *space,
               bool tower);

/* ---- what a request sees ---- */

struct live_list { /* a blocklist */
    struct str name;
    int64_t expires_ms;   /* since 1970; INT64_MAX: never */
    const struct str *id; /* [n_ids], as they were given, each once */
    const int32_t *row;   /* [n_rows] of the base and, from V on, of the delta; ascending */
    int32_t n_ids, n_rows;
};

struct live_view { /* immutable */
    struct gen *gen;
    int32_t V, D;                   /* of gen */
    int32_t n, n_alive;             /* rows of the delta */
    int32_t n_base_dead;            /* rows of the base */
    int32_t n_deleted;              /* items of the base, not replaced */
    int32_t n_other;                /* items not served: their vectors are of another space */
    const struct attr_names *names; /* attributes of the delta that the base has no field for */
    const uint64_t *alive;      /* [(n + 63) / 64], bit i: row i of the delta; 0 from n on */
    const uint64_t *base_alive; /* [(V + 63) / 64], or NULL: all; 0 from V on */
};

struct live_view *live_take(struct live *l);
void live_drop(struct live_view *v); /* NULL is fine */

/* Of row i of the delta, 0 <= i < n, alive or not. */
const float *live_vector(const struct live_view *v, int32_t i); /* [D] */
struct str live_id(const struct live_view *v, int32_t i);
struct str live_title(const struct live_view *v, int32_t i); /* len 0: none */
const struct attrs *live_attrs(const struct live_view *v, int32_t i);
/* The row of the base that it stands for, or -1. */
int32_t live_base(const struct live_view *v, int32_t i);

/* The row of the delta that answers for an id, or -1: the base's does, if it is not dead. */
int32_t live_find(const struct live_view *v, const char *id, size_t len);
static inline bool live_dead(const struct live_view *v, int32_t base_row)
{
    return v->base_alive && !(v->base_alive[base_row >> 6] >> (base_row & 63) & 1);
}
/* NULL: there is none of this name, or it is over.  Valid while v is held. */
const struct live_list *live_list(const struct live_view *v, const char *name, size_t len);

/* The k rows of the delta with the greatest products with each of nq queries [nq,D]: exact;
 * by score descending, then by row.  ids [nq,k] are V + row, -1 where there are fewer;
 * scores [nq,k].  allow: [(n + 63) / 64] bits of the rows that may be found, NULL: all.
 * Cost: 2 nq D flops a row.  No memory is taken. */
void live_search(int32_t *ids, float *scores, const struct live_view *v, const float *queries,
                 int32_t nq, int32_t k, const uint64_t *allow);

/* ---- writing ---- */

/* All or nothing, in order; model, space and seq of the changes are filled in.  *at (or
 * NULL): the change that an error is about, -1: none of them.  ERR_NO_STORE; ERR_INVALID: a
 * vector of another length, an attribute of another kind than the model's field or than other
 * changed items have it, or of one name too many, neither a
 * vector nor a base item nor a tower; ERR_DELTA_FULL: more than LIMIT_DELTA items. */
NODISCARD int live_write(struct lives *all, struct live *l, struct item_change *c, int32_t n,
                         int32_t *at, struct err *e);
/* Repeated ids count once.  ERR_NO_STORE, ERR_DELTA_FULL: more than LIMIT_LISTS. */
NODISCARD int live_put_list(struct lives *all, const struct blocklist *l, struct err *e);
NODISCARD int live_drop_list(struct lives *all, struct str name, struct err *e); /* or none */
