/* s3rec.h — what S3-Rec's objective draws for a batch; tests give their own. */
#pragma once
#include "core/num/seqpack.h"

/* Sequences that share seq; hidden items are EMBED_MASK. */
struct s3rec_drawn {
    struct seqpack seq;
    const int32_t *ids;      /* [N] the sequence itself */
    const int32_t *masked;   /* with some items hidden, the last one always */
    const int32_t *negative; /* an item that is not in the sequence, where masked hides one */
    const int32_t *segment;  /* with a span hidden */
    const int32_t *positive; /* the span alone, all else hidden */
    const int32_t *other;    /* a span of somebody else's in its place, all else hidden */
};
