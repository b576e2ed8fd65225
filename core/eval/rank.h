/* rank.h — full ranking over all items: HR, NDCG, MRR, recall at 5, 10, 20, 50, 100.
 * One relevant item at 0-based rank r: HR@k = recall@k = [r<k], NDCG@k = [r<k]/log2(r+2),
 * MRR@k = [r<k]/(r+1); means over users.
 * Ties: the item with the lower row (first seen in the data) ranks first.
 * History at test time (models/README.md, Evaluation): masked (never a candidate), kept, or zeroed (its scores
 * become 0, as S3-Rec's code does).
 * Thread: owner; the pool works inside. */
#pragma once
#include "core/base/err.h"
#include "core/base/par.h"
#include "core/data/dataset.h"
#include <stdio.h>

enum { RANK_CUTS = 5 };
extern const int rank_cut[RANK_CUTS]; /* 5 10 20 50 100 */
enum seen { SEEN_MASK, SEEN_KEEP, SEEN_ZERO };

struct metrics {
    int64_t n; /* users */
    double hr[RANK_CUTS], ndcg[RANK_CUTS], mrr[RANK_CUTS];
};
void metrics_add(struct metrics *m, int64_t rank); /* rank < 0: not found */
void metrics_mean(struct metrics *m);              /* sums -> means, once */

/* Vectors of a block of histories: q [n*K, D] for users' whole histories hist[i], len[i] >= 1.  Called by
 * the owner's thread, outside the pool, which it may use. */
typedef int rank_encode_fn(void *ctx, float *q, const int32_t *const *hist, const int32_t *len,
                           int32_t n, struct err *e);
enum { SHOWN_DEPTH = 20 };
struct rank_cfg {
    enum split split;
    enum seen seen;
    int32_t K, D;
    const float *items; /* [V,D] */
    int32_t block;      /* users per encode call; 0: 256 */
    int32_t users;      /* at most so many, evenly spread over the data set's; 0: all */
    bool progress;
    int64_t *
        shown; /* [V] counts how often an item is among a user's first SHOWN_DEPTH; NULL: not wanted */
};
/* score(u,v) = max_k q_k . items[v].  rank_out: NULL or [n_users] ranks; -1 without a case or not looked at, n_items where the
 * answer itself is masked (it counts as not found).  Metrics are zeros without any case.  ERR_INTERNAL
 * names the first user with a score that is not a number. */
NODISCARD int rank_eval(struct metrics *m, int64_t *rank_out, const struct dataset *d,
                        const struct rank_cfg *cfg, rank_encode_fn *encode, void *ctx,
                        struct par *pool, struct err *e);
void metrics_table(const struct metrics *m, const char *label, FILE *f); /* for people */
