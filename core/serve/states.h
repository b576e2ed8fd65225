/* states.h — what the encoder made of the histories it saw last (core/nn/extend.h), so that a history
 * that grew is encoded by its new events alone.  Bounded; one for each generation, and of no other.
 *   struct states *s = states_new(model, 256 << 20);            NULL: nothing can be kept
 *   uint32_t ago = states_met(s, row, n);                       0: new, not worth keeping yet
 *   struct state st;  states_take(&st, s, arena, row, n, ago);  the longest prefix kept of this history
 *   ... model_extend from st.from on, into st.page ...
 *   states_put(s, &st);                                         now of all n events
 * Found by the events themselves, each compared: a state is never another history's, nor out of date.
 * What was taken is the taker's alone until it is put back; who asks meanwhile finds nothing and encodes
 * anew.  So a user has one entry, which moves along.  An entry makes room for who came back sooner than it
 * was last asked for: where more users come in turn than fit, those that are kept stay, and are found.
 * All memory is taken by states_new, which touches it.
 * Thread: any; by a history's first events one of eight locks is held while it is looked up. */
#pragma once
#include "core/base/arena.h"
#include "core/nn/extend.h"
#include <stdbool.h>

/* Shorter histories are not kept: to encode them anew takes hardly longer (tests/bench/bench_encoder.c). */
enum { STATES_LEAST = 4 };

struct states;
/* nb: bytes of all pages, the bound; what finds them adds a hundredth.  NULL if m cannot be extended, or if nb is not
 * enough for one history of L events in each shard, as 0 is not. */
struct states *states_new(const struct model *m, size_t nb);
void states_free(struct states *s); /* NULL is fine; nothing may be taken */

struct state {
    float **page; /* for n events, in the arena; NULL: not kept */
    int32_t from; /* events that they hold, below n */
    /* for states_put */
    int32_t n, n_pages, shard;
    const int32_t *row;
    uint64_t hash;
    int32_t *id; /* [n_pages] */
};

/* How many requests ago this history, or the same less its last few events, was asked for; 0: never, or long ago.  From
 * now on it was.  Those who come once are not worth the memory that keeping writes. */
uint32_t states_met(struct states *s, const int32_t *row, int32_t n);

/* row [n]: the whole history, oldest first, STATES_LEAST to L events, to outlive the state.  A history that is kept whole
 * is taken but for its last event.  When pages are wanting, and none is found of an entry that was asked for more than
 * `ago` requests ago, st->page is NULL. */
void states_take(struct state *st, struct states *s, struct arena *a, const int32_t *row,
                 int32_t n, uint32_t ago);
/* st->page, not NULL, now holds all n events. */
void states_put(struct states *s, const struct state *st);

struct states_stats {
    uint64_t hits, misses, evictions;
    uint64_t events, events_kept; /* asked for; of them found */
    size_t nb, nb_most;           /* of pages that hold entries, or are taken */
    int64_t entries;
};
void states_count(struct states_stats *out, struct states *s);
