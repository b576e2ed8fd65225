/* k_last.h — the token part of attention where only a sequence's last state is read: one query, one head, one
 * sequence of n tokens x [n,D].  Keys and values are never made: with u = W_k q, the score of a token is x.u, and what
 * comes out is z = sum_j w_j x_j and t = sum_j w_j (w: the weights after dropout), from which the value of the
 * head is z W_v + t b_v.  2 D operations a token instead of the 4 D^2 / H of its key and value.
 * Thread: any (pure); each caller needs its own scratch. */
#pragma once
#include "core/num/k_attn.h"

/* One head of one sequence. */
struct k_last {
    const float *x;     /* [n,D] */
    const float *u;     /* [D] */
    const uint8_t *key; /* [n] 0: not a key; NULL: all are */
    int32_t n;
    int64_t row; /* of the dropout mask, as in k_attn.h: the last token * H + head */
};

struct k_last_ops {
    /* floats of scratch for n tokens */
    size_t (*scratch)(int32_t n);
    /* z [D], t [1] overwritten; returns the log sum exp of the scores, -inf where every key is masked (z = 0). */
    float (*fwd)(float *z, float *t, const struct k_last *a, const struct k_attn_cfg *cfg,
                 float *scratch);
    /* dx [n,D] += (may be NULL), du [D] overwritten; dz [D] and dt are the gradients of z and t. */
    void (*bwd)(float *dx, float *du, const float *dz, float dt, float lse,
                const struct k_last *a, const struct k_attn_cfg *cfg, float *scratch);
};
extern const struct k_last_ops k_last_base, k_last_v3, k_last_v4;
