/* k_attn.h — self-attention of one packed sequence, one head at a time, softmax fused.
 * Blocks of 64 queries by 64 keys stay in cache; the running maximum and sum of each query make longer
 * sequences exact (Dao et al. 2022).  P is never stored: the backward pass recomputes it
 * from lse.  Thread: any (pure); each caller needs its own scratch. */
#pragma once
#include "core/num/drop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct k_attn_cfg {
    int32_t D, H;     /* D % H = 0 */
    float scale;      /* of the scores, 1/sqrt(D/H) */
    bool causal;      /* key index <= query index */
    struct drop drop; /* mask row = token*H + head, column = index of the key in its sequence */
};

struct k_attn_ops {
    /* floats of scratch for fwd and bwd of sequences up to n tokens; 64-byte aligned */
    size_t (*scratch)(const struct k_attn_cfg *cfg, int32_t n);
    /* One sequence of n tokens, the first of them token `tok` of the pack.
     *   y   [n,D]    overwritten      qkv [n,3D] Q|K|V, head h = columns h*D/H .. of each
     *   lse [n,H]    log sum exp of the scaled scores, -inf where every key is masked (y = 0);
     *                may be NULL
     *   key [n]      0: not a key; NULL: all are */
    void (*fwd)(float *y, float *lse, const float *qkv, const uint8_t *key, int32_t n, int64_t tok,
                const struct k_attn_cfg *cfg, float *scratch);
    /* dqkv [n,3D] +=; dy, y [n,D], lse as fwd left them. */
    void (*bwd)(float *dqkv, const float *dy, const float *y, const float *lse, const float *qkv,
                const uint8_t *key, int32_t n, int64_t tok, const struct k_attn_cfg *cfg,
                float *scratch);
};
