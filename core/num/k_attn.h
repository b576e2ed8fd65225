/* k_attn.h — self-attention of packed sequences, one head at a time, softmax fused.
 * Blocks of 64 queries by 64 keys stay in cache; the running maximum and sum of each query make longer
 * sequences exact (Dao et al. 2022).  Short sequences share a block, each seeing only itself.  P is never stored: the backward pass recomputes it
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

/* Keys and values of a sequence's tokens, kept for queries to come (causal): pages of ATTN_PAGE tokens,
 * token t in page t / ATTN_PAGE.  Of a page: keys [D,ATTN_PAGE], a token a column, and values [ATTN_PAGE,D]. */
enum { ATTN_PAGE = 8 };
struct k_attn_kept {
    float *const *page;     /* the pages themselves */
    ptrdiff_t keys, values; /* where the two start in each, in floats */
};

struct k_attn_ops {
    /* floats of scratch for fwd and bwd of sequences up to n tokens; 64-byte aligned, owned by the
     * caller, one for each thread */
    size_t (*scratch)(const struct k_attn_cfg *cfg, int32_t n);
    /* Some sequences of a pack; sequence b holds tokens cu[b] .. cu[b+1]-1, which are rows of:
     *   y   [N,D]    overwritten      qkv [N,3D] Q|K|V, head h = columns h*D/H .. of each
     *   lse [N,H]    log sum exp of the scaled scores, -inf where every key is masked (y = 0);
     *                may be NULL
     *   key [N]      0: not a key; NULL: all are
     * The bits of a sequence do not depend on which others are there. */
    void (*fwd)(float *y, float *lse, const float *qkv, const uint8_t *key, const int32_t *cu,
                int32_t n_seqs, const struct k_attn_cfg *cfg, float *scratch);
    /* Keeps keys and values of tokens from .. from+n-1 of a sequence, whose rows are qkv [n,3D].  A page
     * need not be cleared before its first token. */
    void (*keep)(const struct k_attn_kept *kept, const float *qkv, int32_t from, int32_t n,
                 const struct k_attn_cfg *cfg);
    /* y [n,D] of the same tokens once they are kept, each over all that are kept up to itself: the bits that
     * fwd gives these rows of the whole sequence.  Without dropout.  scratch: for n tokens. */
    void (*more)(float *y, const float *qkv, const struct k_attn_kept *kept, int32_t from, int32_t n,
                 const struct k_attn_cfg *cfg, float *scratch);
    /* dqkv [N,3D] +=; dy, y [N,D], lse as fwd left them. */
    void (*bwd)(float *dqkv, const float *dy, const float *y, const float *lse, const float *qkv,
                const uint8_t *key, const int32_t *cu, int32_t n_seqs, const struct k_attn_cfg *cfg,
                float *scratch);
};
