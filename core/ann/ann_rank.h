/* ann_rank.h — rankings as 64-bit keys: score descending, then row ascending, is one
 * comparison of integers. Private to core/ann.  Thread: any (pure). */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

/* A larger key ranks first.  NaN ranks as -INFINITY, -0 as 0. */
static inline uint64_t rank_key(float score, int32_t row)
{
    uint32_t u;
    score = isnan(score) ? -INFINITY : score + 0.0f;
    memcpy(&u, &score, sizeof u);
    u ^= u >> 31 ? 0xffffffffu : 0x80000000u;
    return (uint64_t)u << 32 | (uint32_t)~row;
}

static inline int32_t rank_row(uint64_t key) { return (int32_t) ~(uint32_t)key; }

static inline float rank_score(uint64_t key)
{
    uint32_t u = (uint32_t)(key >> 32);
    float score;
    u ^= u >> 31 ? 0x80000000u : 0xffffffffu;
    memcpy(&score, &u, sizeof score);
    return score;
}

/* Largest first; tmp [n]. */
void rank_sort(uint64_t *key, uint64_t *tmp, int32_t n);
/* The first n of a query's k results; -1 and -INFINITY in the others. */
void rank_out(int32_t *ids, float *scores, const uint64_t *key, int32_t n, int32_t k);

enum ann_scratch { SCRATCH_SCAN, SCRATCH_SEARCH, SCRATCH_ROWS, SCRATCHES };
/* At least nb bytes of the calling thread, aligned to 64, that stay until it ends: after the
 * largest need nothing is allocated any more.  What they held is lost when they grow.  A
 * slot has one user at a time. */
void *ann_scratch(enum ann_scratch slot, size_t nb);
