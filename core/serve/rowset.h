/* rowset.h — a set of item rows in request memory: open addressing, sized once.
 *   struct rowset s = rowset_new(arena, n_most);
 *   if (rowset_add(&s, row)) ...    true: it was not there
 * Thread: owner. */
#pragma once
#include "core/base/arena.h"
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct rowset {
    int32_t *slot; /* [mask + 1], -1: free */
    uint32_t mask;
};

static inline struct rowset rowset_new(struct arena *a, int32_t n_most)
{
    uint32_t n = 16;
    while (n < 2 * (uint32_t)n_most) n *= 2;
    struct rowset s = { ARENA_NEW(a, int32_t, n), n - 1 };
    memset(s.slot, 0xff, n * sizeof *s.slot);
    return s;
}

static inline uint32_t rowset_probe_(const struct rowset *s, int32_t row)
{
    uint32_t i = ((uint32_t)row * 0x9e3779b1u) >> 7 & s->mask;
    while (s->slot[i] != -1 && s->slot[i] != row) i = (i + 1) & s->mask;
    return i;
}

static inline bool rowset_has(const struct rowset *s, int32_t row)
{
    return s->slot[rowset_probe_(s, row)] == row;
}

/* At most n_most different rows may be added. */
static inline bool rowset_add(struct rowset *s, int32_t row)
{
    uint32_t i = rowset_probe_(s, row);
    bool added = s->slot[i] != row;
    s->slot[i] = row;
    return added;
}
