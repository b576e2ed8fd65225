/* ops.h — the ops of the tape.  Each is one file op_NAME.c with forward, backward and what it
 * saves side by side, its line in ops.def and its rows in tests/core/ad/cases_*.c.
 * Every op returns a new tensor on the tape; inputs are not changed.  Shapes are checked with
 * REQUIRE.  Index arrays (ids, targets) must outlive the step.  Thread: the tape's owner. */
#pragma once
#include "core/ad/tape.h"
#include "core/num/seqpack.h"

enum act { ACT_NONE, ACT_GELU, ACT_RELU }; /* gelu: x/2 (1 + erf(x / sqrt 2)) */

/* ---- embeddings, linear, norms ---- */

/* y[i] = item[id[i]] + pos[sp.pos[i]]   item [V,D], pos [L,D] or NULL, y [N,D]
 * Where id[i] = EMBED_MASK the row is mask [1,D] instead; NULL: no token is masked. */
enum { EMBED_MASK = -1 };
struct ten *ad_embed(struct tape *tp, struct ten *item, const int32_t *id, struct ten *mask,
                     struct ten *pos, const int32_t *pos_id, int32_t N);
/* y = act(x w + b)                      x [N,I], w [I,O], b [1,O] or NULL, y [N,O] */
struct ten *ad_linear(struct tape *tp, struct ten *x, struct ten *w, struct ten *b,
                      enum act act);
/* y = act(x w1 + b1) w2 + b2            w1 [D,H], w2 [H,O], b1, b2 as in ad_linear, y [N,O]
 * The feed-forward layer of a block in one pass over the rows. */
struct ten *ad_ffn(struct tape *tp, struct ten *x, struct ten *w1, struct ten *b1, enum act act,
                   struct ten *w2, struct ten *b2);
/* y = LN(x) * gain + bias, biased variance, eps 1e-12 inside the root; gain, bias [1,D] */
struct ten *ad_norm(struct tape *tp, struct ten *x, struct ten *gain, struct ten *bias);
/* y = LN(x + dropout(r)) * gain + bias: the residual step of a post-LN block, one pass */
struct ten *ad_add_norm(struct tape *tp, struct ten *x, struct ten *r, float p_drop,
                        struct ten *gain, struct ten *bias);
/* y = x * keep / (1 - p); the identity (returns x) when not training or p = 0 */
struct ten *ad_dropout(struct tape *tp, struct ten *x, float p);
struct ten *ad_add(struct tape *tp, struct ten *a, struct ten *b); /* same shape */
struct ten *ad_add_rows(struct tape *tp, struct ten *x, struct ten *table, const int32_t *row);
/* y[i] = x[i] + table[row[i]] */
struct ten *ad_scale(struct tape *tp, struct ten *x, float s);             /* y = s x */
struct ten *ad_concat_rows(struct tape *tp, struct ten *a, struct ten *b); /* y [Ra+Rb,C] */
struct ten *ad_reshape(struct tape *tp, struct ten *x, int32_t rows, int32_t cols);
/* y[r] = x[r] / max(||x[r]||, 1e-12) */
struct ten *ad_normalize(struct tape *tp, struct ten *x);

/* y[r] = act(x[r] + sum_j mean of table_j[i] over i in bag j of r); an empty bag is the table's last row
 * x [R,M], table_j [n_j + 1, M]; act: none or relu */
struct bag_table {
    struct ten *table;
    const int32_t *cu,
        *id; /* bag r: id[cu[r]] .. id[cu[r+1]-1], below n_j; must outlive the step */
};
struct ten *ad_add_bags(struct tape *tp, struct ten *x, const struct bag_table *bag, int32_t n,
                        enum act act);

/* ---- structure of the batch ---- */

/* Multi-head self-attention over packed sequences: qkv [N,3D] = Q|K|V (head h = columns h*D/H ..
 * of each part), y [N,D].  Scores are scaled by 1/sqrt(D/H); causal: j <= i; keys with
 * sp.key[j] = 0 are left out.  A query whose every key is masked yields zeros.  Dropout p on the
 * attention weights.  Vaswani 2017 eq. 1; Kang & McAuley 2018 for the mask. */
struct ten *ad_attn(struct tape *tp, struct ten *qkv, const struct seqpack *sp, int32_t H,
                    bool causal, float p_drop);
/* The same for the last query of each sequence, from the states on: y [B,D] are the rows of the last tokens of
 * ad_attn(ad_linear(x, w, b)), at a fraction of the work.  x [N,D], w [D,3D], b [1,3D]; no sequence is empty. */
struct ten *ad_attn_last(struct tape *tp, struct ten *x, struct ten *w, struct ten *b,
                         const struct seqpack *sp, int32_t H, float p_drop);
struct ten *ad_seg_last(struct tape *tp, struct ten *x, const struct seqpack *sp); /* [B,D] */
/* s[i] = scale x[i].q[b(i)]     x [N,D], q [B,D], s [N,1] */
struct ten *ad_seg_dot(struct tape *tp, struct ten *x, struct ten *q, const struct seqpack *sp,
                       float scale);
/* softmax of s [N,1] within each sequence; tokens with sp.key = 0 get 0 */
struct ten *ad_seg_softmax(struct tape *tp, struct ten *s, const struct seqpack *sp);
/* y[b*K+k] = sum_{i in b} a[i,k] p[i] z[i]     a [N,K], p [N,1], z [N,D], y [B*K,D] */
struct ten *ad_seg_mix(struct tape *tp, struct ten *a, struct ten *p, struct ten *z,
                       const struct seqpack *sp);

/* ---- products and losses ---- */

struct ten *ad_matmul_nt(struct tape *tp, struct ten *a, struct ten *b, float scale);
/* y = scale a b^T   a [M,D], b [C,D], y [M,C] */
struct ten *ad_softmax(struct tape *tp, struct ten *x); /* over each row */
/* Full softmax cross-entropy against a table, never holding B x V:
 *   logit[b,v] = max_k q[b*K+k].table[v]     q [B*K,D], table [V,D], target [B] in [0,V)
 *   l[b] = log sum_v exp logit[b,v] - (1 - e) logit[b,target[b]] - e mean_v logit[b,v]
 *   y [1,1] = sum_b w[b] l[b] / sum_b w[b]
 * e = smoothing, w = weight [B] (NULL: ones); o may be NULL: 0 and ones.
 * The gradient of the maximum flows to the first k that attains it. */
struct xent_opts {
    float smoothing;
    const float *weight; /* above 0; must outlive the step */
};
struct ten *ad_xent(struct tape *tp, struct ten *q, struct ten *table, const int32_t *target,
                    int32_t K, const struct xent_opts *o);
/* The same against n negatives instead of all items.  s0: score of the target, s_j of the negatives, as in ad_xent
 * plus a bias; a negative that is the row's target does not count.
 *   softmax  l = log(exp s0 + sum_j exp s_j) - (1 - e) s0 - e mean of s0 and all s_j
 *   bce      l = -beta log sigma(s0) - sum_j log(1 - sigma(s_j))
 *   bpr      l = - mean_j log sigma(s0 - s_j)
 *   y [1,1] = scale sum_b w[b] l[b] / sum_b w[b] */
enum sampled_kind { SAMPLED_SOFTMAX, SAMPLED_BCE, SAMPLED_BPR };
struct sampled_opts {
    enum sampled_kind kind;
    const int32_t *target; /* [B] rows of the table */
    const int32_t *neg;    /* shared: [n], else [B,n] */
    int32_t n;             /* at least 1 */
    bool shared;
    const float *target_bias, *neg_bias; /* [B], and like neg; NULL: none */
    const float *weight;                 /* [B], above 0; NULL: ones */
    float smoothing, beta, scale;
};
struct ten *ad_sampled(struct tape *tp, struct ten *q, struct ten *table, int32_t K,
                       const struct sampled_opts *o);
/* y[r] = log sum_c exp x[r,c] - x[r,target[r]]       x [R,C], y [R,1]
 * but_self: the sum leaves c = r out (a sample is no negative of itself). */
struct ten *ad_xent_rows(struct tape *tp, struct ten *x, const int32_t *target, bool but_self);
/* What MCLRec keeps its augmenters from collapsing with (models/README.md, mclrec): of each row of similarities x [R,R]
 * p = x[r,target[r]], the others but x[r,r] are negatives n_j, m = max_j n_j, lo = min(p, m), hi = max(p, m):
 *   y [1,1] = mean_r max(0, p - lo) + mean_{r,j} max(0, hi - n_j)
 * Gradients flow through lo and hi; of equal largest negatives the first one has m's. */
struct ten *ad_margin_limit(struct tape *tp, struct ten *x, const int32_t *target);
/* y[b] = log sum_{k,c} exp x[b*K+k,c] - max_k x[b*K+k,target[b]]     x [B*K,C], y [B,1] */
struct ten *ad_xent_group(struct tape *tp, struct ten *x, const int32_t *target, int32_t K);
struct ten *ad_sigmoid(struct tape *tp, struct ten *x);
/* Rows with any number of right answers: those of row r are id[cu[r]] .. id[cu[r+1]-1], each once. */
struct bag_list {
    const int32_t *cu, *id; /* [R+1], [cu[R]]; must outlive the step */
};
/* Every column is a question of its own, x [R,C]; bag NULL: all answers are no.
 *   y [1,1] = scale sum_r ( sum_c log(1 + exp x[r,c]) - sum_{c in bag r} x[r,c] ) */
struct ten *ad_bce_bags(struct tape *tp, struct ten *x, const struct bag_list *bag,
                        float scale);
/* Each right answer against all wrong ones:
 *   y [1,1] = scale sum_r sum_{a in bag r} ( log(exp x[r,a] + sum_{c not in bag r} exp x[r,c]) - x[r,a] ) */
struct ten *ad_xent_bags(struct tape *tp, struct ten *x, const struct bag_list *bag,
                         float scale);
/* y = sum of the x[r] that are <= the keep-th smallest (1 <= keep <= R); no gradient through the
 * threshold.  x [R,1], y [1,1].  DSSRec's confidence (models/README.md, dssrec). */
struct ten *ad_trimmed_sum(struct tape *tp, struct ten *x, int32_t keep);
struct ten *ad_sum(struct tape *tp, struct ten *x, float scale); /* y [1,1] = scale sum x */

/* ---- the rank model ---- */

/* xhat = (x - mean) / sqrt(var + eps), y = act(xhat * gain + bias)     x, y [N,D], the others [1,D], N >= 1
 * Training: mean and biased variance of the batch's rows, and the running averages move to momentum times what they
 * were plus the rest of the batch's; else the running ones, as constants.  act: none or relu.  Ioffe & Szegedy 2015. */
struct batch_stats {
    float *mean, *var; /* [D] running averages */
    float momentum, eps;
};
struct ten *ad_batch_norm(struct tape *tp, struct ten *x, struct ten *gain, struct ten *bias,
                          const struct batch_stats *st, enum act act);
/* y = x[0] | x[1] | ..., n of them beside each other, all of N rows */
struct ten *ad_concat_cols(struct tape *tp, struct ten *const *x, int32_t n);
/* y[i] = a[row[i]], or b[-1 - row[i]] where row[i] < 0     y [n,D] */
struct ten *ad_pick_rows(struct tape *tp, struct ten *a, struct ten *b, const int32_t *row,
                         int32_t n);
/* y[i] = sum of table[id[j]] for cu[i] <= j < cu[i+1]     cu [B+1], y [B,D]; an empty bag is zero */
struct ten *ad_bag(struct tape *tp, struct ten *table, const int32_t *id, const int32_t *cu,
                   int32_t B);
/* y [1,1] = mean_i log(1 + exp x[i]) - label[i] x[i]     x [N,1], label [N] in [0,1]: click log-loss of logits */
struct ten *ad_bce_logits(struct tape *tp, struct ten *x, const float *label);
struct ten *ad_squares(struct tape *tp, struct ten *x,
                       float scale); /* y [1,1] = scale sum x^2 */
