/* encode.h — histories in, vectors out: how the request path encodes, many at once.
 *   struct encode_in h[] = { { row, n }, ... };
 *   struct encode_out o;  encode_histories(&o, states, model, tape, arena, h, n);
 * A history of which states (may be NULL) keep a beginning costs its new events alone; the others are
 * encoded whole; all in one pass.  What is kept is that of histories of STATES_LEAST to L events (older
 * events that leave the window shift the positions of all others), from the second time on that they are asked for.
 * Vectors, shares and weights of a history are the same bits whatever is beside it in the batch and
 * whatever was kept.
 * Thread: owner of tape and arena; model and states are shared. */
#pragma once
#include "core/serve/states.h"

struct encode_in {
    const int32_t *row; /* events known to the model, oldest first; the newest L are encoded */
    int32_t n;          /* at least 1 */
};

struct encode_out {
    int32_t K, D;
    const float *phi; /* [n*K,D], row b*K+k, on the tape: until it begins again */
    float *share;     /* [n*K] share of importance (model_shares), in the arena */
    const int32_t
        *cu; /* [n+1], on the tape: event i of those encoded of history b is token cu[b]+i */
    const float *assign; /* [cu[n],K] p(k|i), on the tape; NULL for the single vector */
    const float *weight; /* [cu[n]] p_i, on the tape; NULL likewise */
};

/* Begins the tape. */
void encode_histories(struct encode_out *out, struct states *states, const struct model *m,
                      struct tape *tp, struct arena *a, const struct encode_in *h, int32_t n);
