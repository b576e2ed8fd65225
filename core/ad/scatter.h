/* scatter.h — adding gradient rows to rows of a table that may repeat.
 * Thread: the tape's owner (the pool is used inside). */
#pragma once
#include "core/ad/tape.h"

/* table->g[row[i]] += g[i], g [n,D], for a backward function; rows below 0 are left out.  Split over columns: each sum is made in the order of i. */
void scatter_add(struct tape *tp, struct ten *table, const int32_t *row, const float *g,
                 int32_t n);
