/* links.h — sparse item-to-item counts of the training part, for the counting baselines
 * (models/README.md, Evaluation).
 *   struct links l = links_itemcf(&ds, pool);  row a: l.item[l.cu[a]..], l.weight[..]   links_free(&l);
 * Built row by row in the order of users and events: the same bits for any number of threads.
 * Immutable once built.  Thread: owner; the pool works inside. */
#pragma once
#include "core/base/par.h"
#include "core/data/dataset.h"

struct links {
    int64_t *cu;    /* [V+1] */
    int32_t *item;  /* [cu[V]] */
    double *weight; /* [cu[V]] > 0 */
};

/* How often b follows a directly; each row by count, descending, the pair seen first in the file first. */
struct links links_markov(const struct dataset *d, struct par *pool);
/* sim(a,b) = C[a][b] / sqrt(count_a count_b): every ordered pair of places with different items among
 * the last 50 of a user adds 1/log2(1+their number) to C (1 for a single one).  Rows in the order in which
 * the pairs are first seen in the file. */
struct links links_itemcf(const struct dataset *d, struct par *pool);
void links_free(struct links *l);
