/* extend.h — the encoder for histories of which a part was encoded before.  What a causal encoder makes of
 * an event does not change when events follow, if positions count from the start: it is kept, and a new
 * event costs itself alone.
 *   struct extend x = { page, ids, from, n };          events from .. from+n-1 of a sequence
 *   struct seqpack sp;  struct encoded e = model_extend(m, tp, &sp, &x, 1);
 *   ... later: { page, more_ids, from + n, 1 }
 * What is kept of a sequence lies in pages of EXTEND_PAGE tokens, token t in page t / EXTEND_PAGE.
 * Floats of a page, D the width:
 *   of each block    keys [D,EXTEND_PAGE] and values [EXTEND_PAGE,D]: struct k_attn_kept; of the single
 *                    vector's last block neither, it reads states (ad_attn_last)
 *   states           [EXTEND_PAGE,D]  of the last block; what it reads, for the single vector
 *   K interests      k_i [EXTEND_PAGE,D] and p(k|i) [EXTEND_PAGE,K]: interest.h
 * Owns nothing: pages are the caller's, 64-byte aligned, not cleared.  Thread: as model.h; a page has one
 * writer at a time. */
#pragma once
#include "core/nn/model.h"
#include "core/num/k_attn.h"

enum { EXTEND_PAGE = ATTN_PAGE };

struct extend {
    float *const *page; /* as many as from + n events need; NULL: nothing is kept, from is 0 */
    const int32_t *ids; /* [n] rows of the items, in [0,V) */
    int32_t from;       /* events that the pages hold, of this very sequence and model */
    int32_t n;          /* events that follow, at least 1; from + n <= L */
};

/* Whether the encoder's work can be kept: it is causal, positions count from the first event. */
bool extend_can(const struct model_cfg *c);
size_t extend_page_bytes(const struct model_cfg *c);

/* Encodes B sequences, their new events packed into one pass, and brings the pages up to date.  Result and
 * *sp, whose arrays live on tp as the rest, are those of model_encode(m, tp, sp, all events, BETA_IN), bit
 * for bit.  tp learns nothing; where pages are given the configuration must pass extend_can. */
struct encoded model_extend(const struct model *m, struct tape *tp, struct seqpack *sp,
                            const struct extend *x, int32_t B);
