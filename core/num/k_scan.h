/* k_scan.h — inner products of queries with panels of 16 rows, and out of each panel only what may
 * matter.
 *   num->scan->bytes(hits, queries, nq, quads, panel, n);
 * A panel holds its 16 rows side by side, dimension by dimension, so that a vector of sums is 16
 * rows' scores and is compared as one with the least score of interest.  Three kinds:
 *   fp32   float    [D,16]           element (d,r): dimension d of row r
 *   bf16   uint32_t [(D+1)/2,16]     element (i,r): dimensions 2i (low half) and 2i+1 of row r; an
 *                                    odd D ends in a zero
 *   bytes  uint32_t [(D+3)/4+1,16]   element (i,r): dimensions 4i (lowest byte) to 4i+3 of row r,
 *                                    each plus 128, past D anything; the last line is floats: what
 *                                    a one of row r stands for
 * Scores are fp32 sums in an order of their own: near num->vec->dot, not the same bits; of bytes,
 * exact integer sums times a float.  bf16 and byte products run on the AVX-512 BF16 and VNNI units
 * where the CPU has them.  Thread: any (pure). */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum {
    SCAN_PANEL = 16,
    SCAN_PANELS = 64, /* of a call, at most */
    SCAN_SPARE = 16, /* entries that hits may be written past their end */
    SCAN_MOST_D = 1 << 16, /* of bytes: sums stay below 2^31 */
    SCAN_FEW_KEYS = 160,
};

struct scan_panel {
    const void *x;
    int32_t at;    /* position of its first row */
    uint32_t rows; /* bit r: row r counts */
};

struct scan_hits { /* of one query; what is found is appended */
    float *high; /* the score */
    float *low;  /* less width times what a one of the row stands for, which is 1 but for bytes */
    int32_t *at; /* position of the row */
    int32_t n;
    int32_t start; /* bytes: what sums start with, -128 times the query's sum for a product */
    float width;
    float least; /* rows whose score is less are left out; NaN is not less */
};

struct scan_bytes { /* x as bytes b: x = scale * b, nearly */
    float scale;    /* at least 2^-100 / 127 */
    float norm;     /* |x| / scale, at least */
    float off;      /* |x - scale b| / scale, at least */
    int32_t sum;    /* of b */
    int32_t square; /* of |b| */
};

struct k_scan_ops {
    /* hits [nq], queries [nq,D], panel [n], n <= SCAN_PANELS.  Each query's arrays need room for
     * 16 n more entries and SCAN_SPARE. */
    void (*fp32)(struct scan_hits *hits, const float *queries, int32_t nq, int32_t D,
                 const struct scan_panel *panel, int32_t n);
    /* queries [nq,pairs] as in a panel: two dimensions an element */
    void (*bf16)(struct scan_hits *hits, const uint32_t *queries, int32_t nq, int32_t pairs,
                 const struct scan_panel *panel, int32_t n);
    /* queries [nq,quads] as in a panel, but signed: four dimensions an element, zeros past D */
    void (*bytes)(struct scan_hits *hits, const uint32_t *queries, int32_t nq, int32_t quads,
                  const struct scan_panel *panel, int32_t n);
    bool (*bytes_are_fast)(void); /* twice as fast as bf16 */
    /* b [n], -127..127, then zeros up to a multiple of 4; n <= SCAN_MOST_D.  What values below
     * 2^-126 add to norm and off may be lost.  Where x is not finite, `of` is anything. */
    void (*to_bytes)(int8_t *b, struct scan_bytes *of, const float *x, int32_t n);
    /* panel [D,16] = the 16 rows */
    void (*turn)(float *panel, const float *const row[SCAN_PANEL], int32_t D);
    /* A value that at least k of score [n] reach, seldom many more (k <= n; no NaN). */
    float (*least_of)(const float *score, int32_t n, int32_t k);
    /* Moves what has a score not less than `least` to the front, in order. */
    void (*keep)(struct scan_hits *h, float least);
    /* out [n] = the keys, all different, largest first; key may be read SCAN_SPARE past its end.
     * n^2 steps, yet the fastest way up to some SCAN_FEW_KEYS. */
    void (*rank)(uint64_t *out, const uint64_t *key, int32_t n);
};
