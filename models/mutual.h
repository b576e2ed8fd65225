/* mutual.h — mutual information between the fields of a catalogue.  Thread: any (pure). */
#pragma once
#include "core/nn/tower.h"

/* mi [n,n]: MI(i,j) = sum_{a,b} P(a,b) log( P(a,b) / (P(a) P(b)) ) over the items, in nats; P(a,b) counts an item once,
 * shared evenly by the pairs of its values, "none" being a value of its own. */
void mutual_information(double *mi, const struct item_fields *f);
