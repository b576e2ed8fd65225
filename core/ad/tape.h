/* tape.h — eager reverse-mode differentiation over 2-D row-major float32 matrices.
 *   struct tape *tp = tape_new(arena, pool);
 *   tape_begin(tp, GROUPS_ALL, step_key, true);        arena reset, which groups learn
 *   struct ten *loss = ...ad_xent(tp, ...);            forward runs now, nodes are recorded
 *   tape_backward(tp, loss);                           d loss / d p is added to every p->g
 *   opt_step(o, ps, GROUPS_ALL, pool);                 the parameters move, their g is zero again
 * A tensor whose g is NULL is a constant: what depends on constants only records nothing, so
 * serving is tape_begin(tp, 0, 0).  Everything of a step lives in the arena until the next begin.
 * Same inputs, same step_key: same bits, for any number of threads.
 * Thread: owner; ops use the pool inside. */
#pragma once
#include "core/ad/prof.h"
#include "core/base/arena.h"
#include "core/base/err.h"
#include "core/base/par.h"
#include "core/base/rng.h"
#include "core/num/mm16.h"
#include <stdbool.h>
#include <stdint.h>

struct ten {
    float *x; /* [rows, cols] */
    float *g; /* gradient, same shape; NULL: constant */
    int32_t rows, cols;
    bool blank; /* g holds nothing yet: what is added first overwrites it */
};

#define GROUPS_ALL 0xffffffffu

/* A learned matrix.  Owned by struct params; x and g live as long as it does. */
struct param {
    char *name; /* "layers.0.attn.qkv.weight": the name in safetensors files */
    struct ten
        t; /* t.g is allocated for trainable sets but those of params_part, NULL in serving */
    struct param_part {
        const int32_t *row; /* [n] rows that the step at hand uses, ascending */
        int32_t n;
        float *
            g; /* [n, cols] their gradient, in the step's arena; NULL: no step has begun, or it is applied */
    } part;
    uint32_t group; /* bit of the group it learns with */
    bool decay;     /* weight decay applies (weights yes; biases, norms no) */
};

enum init_kind { INIT_ZERO, INIT_ONE, INIT_NORMAL, INIT_UNIFORM };

struct params;                             /* an ordered list of struct param */
struct params *params_new(bool trainable); /* trainable: gradients are allocated */
void params_free(struct params *ps);
/* Declares [rows, cols]; x is filled by params_init or by a loader.  Names must be unique.  spread: the standard
 * deviation of INIT_NORMAL, the bound of INIT_UNIFORM. */
struct param *params_add(struct params *ps, const char *name, int32_t rows, int32_t cols,
                         uint32_t group, enum init_kind kind, float spread);
/* The parameter of that name, declared now if it is not there; of another shape: a bug. */
struct param *params_want(struct params *ps, const char *name, int32_t rows, int32_t cols,
                          uint32_t group, enum init_kind kind, float spread);
int32_t params_count(const struct params *ps);
struct param *params_at(const struct params *ps, int32_t i);
struct param *params_find(const struct params *ps, const char *name); /* or NULL */
int64_t params_size(const struct params *ps);                         /* number of floats */
void params_init(struct params *ps,
                 uint64_t seed); /* by kind; the bits depend on seed and name */
/* p learns by the rows that tape_bind names: a gradient of all its rows is not kept. */
void params_part(struct param *p);
void params_zero_grad(struct params *ps);
void params_copy(struct params *dst, const struct params *src); /* x only; same declarations */

struct tape;
typedef void ad_bwd_fn(struct tape *tp, const struct ten *y, void *saved);

struct tape *tape_new(struct arena *mem, struct par *pool); /* borrows both; pool may be NULL */
void tape_free(struct tape *tp);
/* What makes the large products in bf16; who only serves does not link it. */
struct bf16_ops {
    struct mm16 *mm;
    void (*product)(struct mm16 *m, int worker, const struct mm16_shape *s, float *c,
                    const bf16 *a, const bf16 *b);
};
/* From here on operands of linear layers and of the full softmax are rounded to bf16; sums, all that is kept, and
 * gradients stay fp32.  Borrows ops; NULL: all is fp32 again. */
void tape_precise(struct tape *tp, const struct bf16_ops *ops);
void tape_profile(struct tape *tp, struct prof *p); /* borrows it; NULL: no more */
/* Starts a step: resets the arena; parameters of the named groups learn.  key seeds this step's
 * dropout; train = false makes every dropout the identity. */
void tape_begin(struct tape *tp, uint32_t groups, uint64_t key, bool train);
/* y must be [1,1]; adds gradients, last node first.  The tape can't be used again until begin. */
void tape_backward(struct tape *tp, struct ten *y);

/* For the files that implement ops. */
struct arena *tape_arena(struct tape *tp);
struct par *tape_pool(struct tape *tp);
const struct bf16_ops *tape_bf16(const struct tape *tp); /* NULL: fp32 */
bool tape_training(const struct tape *tp);
uint64_t
tape_drop_key(struct tape *tp); /* a fresh key per call within a step: op order fixes it */
/* A new [rows, cols]; x not filled; g allocated, and blank, when wants_grad. */
struct ten *tape_ten(struct tape *tp, int32_t rows, int32_t cols, bool wants_grad);
/* For backward functions, before they add to t->g: true when it is blank, and then the caller must fill it, or clear
 * what it does not fill (rows_clear in rows.h).  Once per node and input. */
bool grad_first(struct ten *t);
/* The same for those who can only add: clears it if it is blank.  NULL g: nothing. */
void grad_open(struct tape *tp, struct ten *t);
/* What the next op to be pushed costs. */
void tape_cost(struct tape *tp, struct cost c);
/* Records y's backward unless y->g is NULL.  saved lives in the tape's arena. */
void tape_push(struct tape *tp, struct ten *y, ad_bwd_fn *bwd, void *saved, const char *op);
/* A constant view of caller's memory, which must outlive the step. */
struct ten *tape_const(struct tape *tp, const float *x, int32_t rows, int32_t cols);
int32_t tape_nodes(const struct tape *tp);             /* recorded so far */
const char *tape_op(const struct tape *tp, int32_t i); /* name of node i */
const struct cost *tape_node_cost(const struct tape *tp, int32_t i);
/* For the rest of the step p stands for n of its rows, ascending, each once: ad_param gives [n, cols].  row must
 * outlive the step.  One parameter of a step may be bound. */
void tape_bind(struct tape *tp, struct param *p, const int32_t *row, int32_t n);
/* For the rest of the step ad_param gives y, which was made of p, instead of p: of the tape's tensors the one that p's users
 * are to have.  p is not bound. */
void tape_replace(struct tape *tp, const struct param *p, struct ten *y);
/* The parameter as a tensor of this step: with g only if its group learns now. */
struct ten *ad_param(struct tape *tp, struct param *p);
/* Rows first .. first+n-1 of the parameter itself, replaced or not.  It is not bound. */
struct ten *ad_param_rows(struct tape *tp, const struct param *p, int32_t first, int32_t n);
