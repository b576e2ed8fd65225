/* seqpack.h — a batch of sequences back to back, nothing padded.
 *   B sequences, N tokens; sequence b holds tokens cu[b] .. cu[b+1]-1, cu[0] = 0, cu[B] = N.
 *   pos[N]      position of each token in [0, L)
 *   key[N]      1: may be attended as a key, 0: not (it still is a query); NULL: all ones
 * A plain view: owns nothing.  Thread: any may read. */
#pragma once
#include <stdint.h>

struct seqpack {
    int32_t B, N;
    const int32_t *cu, *pos;
    const uint8_t *key;
};

/* Position conventions: the two model families count from opposite ends (models/README.md, Encoder). */
enum pos_from {
    POS_FIRST, /* first item has position 0 (RecBole, right padded) */
    POS_LAST   /* last item has position L-1 (S3-Rec, left padded) */
};

/* Fills pos[N] for offsets cu[B+1]; every length must be in [0, L]. */
void seqpack_positions(int32_t *pos, const int32_t *cu, int32_t B, int32_t L,
                       enum pos_from from);
