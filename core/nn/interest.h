/* interest.h — the K-interest head of DSSRec (models/README.md, Heads; Ma et al., KDD 2020).  Part of
 * model.h; use that.  With z the encoder's states and D the width:
 *   p(k|i) = softmax_k( LN1(z_i) . LN2(c_k) / sqrt D )                       clustering
 *   kt_i = LN3(z_i + alpha_i),  k_i = kt_i + ReLU(kt_i W + b)
 *   q = LN4(z_t + alpha_t + b'),  p_i = softmax_i( k_i . q / sqrt D )         importance
 *   phi_k = LN5( beta_k + sum_i p(k|i) p_i z_i )                              aggregation
 * beta for input sequences and beta' for label sequences; everything else is shared. */
#pragma once
#include "core/nn/encoder.h"

struct interest_head {
    struct param *prototypes; /* c [K,D] */
    struct param *beta[2];    /* by enum beta: [K,D] */
    struct param *pos;        /* alpha [L,D] */
    struct param *query_bias; /* b' [1,D] */
    struct linear_params ffn; /* W [D,D], b [1,D] */
    struct norm_params norm[5];
};

void interest_declare(struct interest_head *h, struct params *ps, const struct model_cfg *c);
/* Its two halves.  What it makes of each token alone: k_i [N,D], and p(k|i) [N,K] to *assign; and
 * what reads whole sequences: weight and phi of e, from k_i and e's states and assign. */
struct ten *interest_tokens(struct ten **assign, const struct interest_head *h,
                            const struct model_cfg *c, struct tape *tp,
                            const struct seqpack *sp, struct ten *z);
void interest_mix(struct encoded *e, const struct interest_head *h, const struct model_cfg *c,
                  struct tape *tp, const struct seqpack *sp, enum beta beta, struct ten *key);
/* Both: fills phi, assign and weight of e from e->states. */
void interest_forward(const struct interest_head *h, const struct model_cfg *c, struct tape *tp,
                      const struct seqpack *sp, enum beta beta, struct encoded *e);

const struct interest_head *model_head(const struct model *m); /* NULL: the single vector */
