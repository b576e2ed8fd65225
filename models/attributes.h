/* attributes.h — the values of all value fields of the catalogue as one vocabulary: what objectives predict of items.
 * Thread: any once made. */
#pragma once
#include "core/data/items.h"

struct attributes {
    int32_t n;        /* A; 0: the catalogue has none */
    int32_t *cu, *id; /* of item v: id[cu[v]] .. id[cu[v+1]-1], each once, below n */
};
struct attributes attributes_new(const struct items *it);
void attributes_free(struct attributes *a);
/* How many there are. */
int32_t attributes_count(const struct items *it);
