/* reduce.h — the sum of what blocks of rows contribute to parameters' gradients, for any number of threads with the
 * same bits: neighbours are added, then pairs of pairs, by whichever thread comes second.  Who works
 * on neighbouring blocks gets the same few buffers again, in its cache; between threads only the last sums travel.
 *   struct reduce r;
 *   reduce_open(&r, mem, n_parts, w->g, n_w, b->g, n_b);       owner; the arena keeps it
 *   float *p = reduce_take(&r);  all n_w + n_b floats of p are written;  reduce_put(&r, block, p);       in blocks
 * When all blocks are through, the sum has been added to both arrays.  Thread: reduce_take, reduce_put: any. */
#pragma once
#include "core/base/arena.h"
#include <pthread.h>
#include <stdint.h>

struct reduce {
    pthread_mutex_t mu;
    int n_parts, n_free;
    float **free; /* [n_parts] a stack */
    float **
        waiting; /* [n_parts] sums that wait for their neighbour; the second's first block says for which */
    float *y[2]; /* what the sum is added to; NULL: nothing */
    int64_t n[2];
};

void reduce_open(struct reduce *r, struct arena *mem, int n_parts, float *y0, int64_t n0,
                 float *y1, int64_t n1);
float *reduce_take(struct reduce *r);
void reduce_put(struct reduce *r, int part, float *p);
