/* k_scan.h — inner products of queries with panels of 16 rows, and out of each panel only
 * what may matter.
 *   num->scan->bf16(hits, queries, nq, pairs, panel, n);
 * A panel holds its 16 rows side by side, dimension by dimension, so that a vector of sums
 * is 16 rows' scores and is compared as one with the least score of interest, before
 * anything is stored.  Two kinds:
 *   fp32  float    [D,16]          element (d,r): dimension d of row r
 *   bf16  uint32_t [(D+1)/2,16]    element (i,r): dimensions 2i (low half) and 2i+1 of row r; an odd D ends in a zero
 * Scores are fp32 sums in an order of their own: near num->vec->dot, not the same bits.
 * bf16 products run on the AVX-512 BF16 units where the CPU has them.  Thread: any (pure). */
#pragma once
#include <stdint.h>

enum {
    SCAN_PANEL = 16,
    SCAN_SPARE = 16, /* entries that hits may be written past their end */
};

struct scan_panel {
    const void *x;
    int32_t at;    /* position of its first row */
    uint32_t rows; /* bit r: row r counts */
};

struct scan_hits { /* of one query; what is found is appended */
    float *score;
    int32_t *at; /* position of the row */
    int32_t n;
    float least; /* rows whose score is less are left out; NaN is not less */
};

struct k_scan_ops {
    /* hits [nq], queries [nq,D].  Each query's arrays need room for 16 n more entries and
     * SCAN_SPARE. */
    void (*fp32)(struct scan_hits *hits, const float *queries, int32_t nq, int32_t D,
                 const struct scan_panel *panel, int32_t n);
    /* queries [nq,pairs] as in a panel: two dimensions an element */
    void (*bf16)(struct scan_hits *hits, const uint32_t *queries, int32_t nq, int32_t pairs,
                 const struct scan_panel *panel, int32_t n);
    /* panel [D,16] = the 16 rows */
    void (*turn)(float *panel, const float *const row[SCAN_PANEL], int32_t D);
    /* A value that at least k of score [n] reach, seldom many more (k <= n; no NaN). */
    float (*least_of)(const float *score, int32_t n, int32_t k);
    /* Moves what is not less than `least` to the front, in order; how many.  SCAN_SPARE as
     * above. */
    int32_t (*keep)(float *score, int32_t *at, int32_t n, float least);
};
