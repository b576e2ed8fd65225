/* contrast.h — comparing two views of the same users: what the contrastive objectives share.  Thread: the training
 * loop's. */
#pragma once
#include "core/data/augment.h"
#include "models/obj.h"

enum mask_token { MASK_LEARNED, MASK_PADDING };
enum similarity { SIMILARITY_DOT, SIMILARITY_COSINE };

/* Refuses more rows than can be compared with each other: rows [n,n] of similarities, and their gradients. */
NODISCARD int contrast_check(const char *objective, int64_t rows, const char *change,
                             struct err *e);
/* Two views of every sequence of the batch, in the tape's arena. */
const struct view *contrast_views(const struct step *s, const struct augment_cfg *a);
/* One row [B, K D] a sequence: its K interests side by side. */
struct ten *contrast_vectors(struct step *s, const struct view *v);
/* Similarities [2B,2B] of a over b, each [B,C]: x . y / temperature. */
struct ten *contrast_matrix(struct tape *tp, struct ten *a, struct ten *b, float temperature,
                            enum similarity how);
/* The row of each one's other view among them, [2B], for as long as the step. */
const int32_t *contrast_pairs(struct tape *tp, int32_t B);
/* NT-Xent (Chen et al., ICML 2020) of such a matrix s [2B,2B], with p(r) the other view of r:
 *   y [1,1] = mean_r -log( exp s(r,p(r)) / sum_{k != r} exp s(r,k) ) */
struct ten *contrast_mean(struct tape *tp, struct ten *s);
/* The same of two views' vectors. */
struct ten *contrast_nt_xent(struct tape *tp, struct ten *a, struct ten *b, float temperature,
                             enum similarity how);
