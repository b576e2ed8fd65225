/* drop.h — dropout without a stored mask: element c of row r is kept where 16 bits of a hash of
 * (key, r, c) are below the threshold, so forward, backward and every instruction set agree.
 *   struct drop d = drop_make(tape_drop_key(tp), p);        keep probability exact to 2^-16
 * Columns 32g+l and 32g+16+l share one 32-bit hash: its low and its high half.  The mixer
 * is lowbias32 (Wellons 2018) with a second key word put in half-way.  Thread: any (pure). */
#pragma once
#include "core/base/rng.h"
#include <stdbool.h>
#include <stdint.h>

struct drop {
    uint64_t key;
    uint32_t keep; /* kept when hash16 < keep; DROP_ALL: everything is */
    float scale;   /* 1/(1-p) */
};
enum { DROP_ALL = 65536 };

/* p in [0,1) */
static inline struct drop drop_make(uint64_t key, float p)
{
    uint32_t keep = (uint32_t)((1.0 - (double)p) * DROP_ALL + 0.5);
    return (struct drop){ key, keep, (float)(1.0 / (1.0 - (double)p)) };
}
static inline struct drop drop_none(void) { return (struct drop){ 0, DROP_ALL, 1.0f }; }
static inline bool drop_active(const struct drop *d) { return d->keep < DROP_ALL; }

/* The two key words of row r. */
static inline uint64_t drop_row(const struct drop *d, int64_t r)
{
    return rng_hash(d->key, (uint64_t)r);
}
static inline uint32_t drop_hash(uint64_t row_key, uint32_t ctr)
{
    uint32_t h = ctr + (uint32_t)row_key;
    h = (h ^ (h >> 16)) * 0x7feb352du;
    h ^= (uint32_t)(row_key >> 32);
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    return h ^ (h >> 16);
}
/* Scalar form, the definition: is column c kept? */
static inline bool drop_keeps(const struct drop *d, uint64_t row_key, uint32_t c)
{
    uint32_t h = drop_hash(row_key, (c >> 5) * 16 + (c & 15));
    return ((c & 16) ? h >> 16 : h & 0xffff) < d->keep;
}
