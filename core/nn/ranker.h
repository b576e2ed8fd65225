/* ranker.h — the rank model: rows of features and a user's sequence in, the logit of a click out (models/README.md,
 * Rank model).  Training, evaluation and the daemon call ranker_forward.
 *   struct ranker *m = ranker_new(&cfg, &shape, trainable);      declares parameters
 *   params_init(ranker_params(m), seed)  or  a loader fills them
 *   struct ranked r = ranker_forward(m, tp, &batch);             r.logit [B,1]
 * BST (Chen et al. 2019) over the sequence is a package of layers that may be applied to several versions of it with the
 * same weights: ranker_package.  It knows tables and rows, not features: core/data/schema.h makes rows of text.
 * Immutable while it runs, but for the running averages in training; any thread may run it with its own tape. */
#pragma once
#include "core/ad/ops.h"
#include "core/base/conf.h"
#include "core/base/limits.h"

enum ranker_output { OUTPUT_HEAD, OUTPUT_LAST, OUTPUT_MEAN };
enum { RANKER_TOP = 3 };

struct ranker_cfg {
    int32_t hidden, layers, heads, ffn_mult; /* of BST */
    int32_t max_len;                         /* newest steps of a sequence that are read */
    int32_t output;                          /* enum ranker_output */
    int32_t top_1, top_2, top_3;             /* widths of the top's layers; 0: no such layer */
    bool sequence;                           /* false: the sequence is not looked at */
    float dropout, attn_dropout;             /* of BST */
    float init_std, embedding_std;
};
extern const struct opt ranker_opts[];

/* Tables of embeddings and what is looked up in them. */
struct ranker_shape {
    int32_t n_tables, n_inputs, n_steps;
    struct ranker_table {
        const char *name; /* of the feature that owns it; read by ranker_new only */
        int32_t rows, width;
    } table[LIMIT_FEATURES];
    int32_t input[LIMIT_FEATURES]; /* table of each feature beside the sequence */
    int32_t step[LIMIT_FEATURES];  /* table of each feature of the sequence */
};

struct ranker_column {
    const int32_t *id; /* [B] rows of the table; with cu [cu[B]], and their embeddings add up */
    const int32_t *cu; /* [B+1], or NULL */
};
struct ranker_batch {
    int32_t B;
    const struct ranker_column *input; /* [n_inputs] */
    struct seqpack seq;         /* B sequences, or fewer with seq_of; they may be empty */
    const int32_t *const *step; /* [n_steps] rows [seq.N] */
    const int32_t *seq_of;      /* [B] sequence of each row; NULL: its own */
    float momentum;             /* of running averages; training only */
};

struct ranker;
/* Floats of a model's weights, nearly: no biases and norms. */
int64_t ranker_size(const struct ranker_cfg *cfg, const struct ranker_shape *shape);
NODISCARD int ranker_check(const struct ranker_cfg *cfg, const struct ranker_shape *shape,
                           struct err *e);
/* cfg and shape must pass the check. */
struct ranker *ranker_new(const struct ranker_cfg *cfg, const struct ranker_shape *shape,
                          bool trainable);
void ranker_free(struct ranker *m);
const struct ranker_cfg *ranker_config(const struct ranker *m);
struct params *ranker_params(const struct ranker *m);

struct ranked {
    struct ten *input; /* [B,I] embeddings beside each other */
    struct ten *steps; /* [N,E] those of the sequence; NULL: it is not looked at */
    struct ten *logit; /* [B,1] */
};
struct ranked ranker_forward(const struct ranker *m, struct tape *tp,
                             const struct ranker_batch *b);

/* A version of the steps: row[i] of them, or the vector of a masked step where row[i] < 0.  [n,E] */
struct ten *ranker_view(const struct ranker *m, struct tape *tp, struct ten *steps,
                        const int32_t *row, int32_t n);
/* BST: steps [N,E] to a vector for each sequence [S,hidden]; a learned one for empty sequences. */
struct ten *ranker_package(const struct ranker *m, struct tape *tp, struct ten *steps,
                           const struct seqpack *sp);
/* y [1,1] = scale times the sum of squares of the matrices that l2_regularization is about: the projection of steps
 * and the top's. */
struct ten *ranker_squares(const struct ranker *m, struct tape *tp, float scale);
