/* golden.h — compares the library with the reference files of tests/vectors (their README names the tensors).
 * A case is one function: it builds the model of the file, runs forward and backward on r->tp, and hands what it
 * got to golden_out and golden_grads.  golden_run calls it for every instruction set of this CPU, with pools
 * of 1 and 2 threads and none, and demands equal bits whatever the pool.
 *   static void encoder(struct golden *r) { struct model *m = golden_model(r); ...; golden_grads(r, ps); }
 *   golden_run("encoder", encoder);
 * Anything missing, of a wrong shape or too far off is a failed test that names the tensor.  Thread: owner. */
#pragma once
#include "core/base/buf.h"
#include "core/fmt/safet.h"
#include "core/nn/model.h"

struct golden {
    const char *name;
    struct safet *file;
    struct model_cfg cfg;                  /* from the file's shapes and config.*; dropout 0 */
    struct seqpack in, fut;                /* fut.B = 0: the case has no future */
    const int32_t *ids, *fut_ids, *target; /* NULL: not in the file; target [n_targets] */
    int32_t n_targets;
    struct tape *tp;  /* begun: every group learns, no dropout */
    uint8_t *key_;    /* owned */
    struct buf bits_; /* all that was compared, in order */
    const char *how_; /* "v3, 2 threads" */
};
typedef void golden_fn(struct golden *r);
void golden_run(const char *name, golden_fn *fn);

/* A tensor of the file, [n] of a type; it must be there. */
const float *golden_f32(const struct golden *r, const char *name, int64_t n);
const double *golden_f64(const struct golden *r, const char *name, int64_t n);
const int32_t *golden_i32(const struct golden *r, const char *name, int64_t n);
int64_t golden_length(const struct golden *r,
                      const char *name); /* of a tensor; 0: it is not there */
float golden_config(const struct golden *r, const char *name, float otherwise);

/* Fills parameters from the tensors of their names.  Those the case has no use for are not in the file:
 * they become 0.5, and golden_grads expects that they got no gradient. */
void golden_load(const struct golden *r, struct params *ps);
/* Sequences PREFIX.cu, .pos, and .ids into *ids; a key mask where the file has one, in the tape's arena. */
struct seqpack golden_pack(struct golden *r, const char *prefix, const int32_t **ids);
/* A trainable model of r->cfg, loaded. */
struct model *golden_model(const struct golden *r);

/* max|x - reference| <= 1e-5 max|reference| */
void golden_out(struct golden *r, const char *name, const float *x, int64_t n);
/* grad.NAME of every parameter: max|difference| <= 1e-4 max|reference|.  Some gradients are zero by algebra (a
 * bias added to all scores of a softmax: interest.norm2.bias), in both programs rounding noise: a reference below
 * 1e-3 of the largest gradient of the file is measured against that instead, one that is zero against 1e-2 of it. */
void golden_grads(struct golden *r, const struct params *ps);
/* The same with KIND.NAME in the place of grad.NAME.  Parameters without one got no gradient. */
void golden_grads_named(struct golden *r, const struct params *ps, const char *kind);

/* y [1,1] = sum x R, R [x->rows, x->cols] a constant: the scalar of the files without a loss. */
struct ten *golden_dot(struct tape *tp, struct ten *x, const float *R);
