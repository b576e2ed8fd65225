/* opt.h — Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019): one pass over each parameter that learns.
 *   struct opt_adam *o = opt_new(ps, cfg);
 *   tape_backward(tp, loss); opt_step(o, ps, GROUPS_ALL, pool);      gradients are zero again
 * The moments are float32, in the order of the parameters of ps.  Every parameter counts its own
 * steps, so groups that take turns are corrected for their own number of updates.  A parameter that was bound by
 * rows (tape_bind) moves in those rows only, moments and average included: the others stand still, as in
 * TensorFlow's LazyAdam; they are corrected for the parameter's steps, not for the row's.
 * The bits do not depend on the number of threads.  Thread: owner. */
#pragma once
#include "core/ad/tape.h"

struct opt_cfg {
    float lr, beta1, beta2, eps;
    float weight_decay; /* of parameters with decay */
    bool
        decoupled; /* AdamW: x shrinks by lr weight_decay; Adam: it is added to the gradient (L2) */
    float clip_norm; /* largest norm of the gradients of a step together; 0: any */
    float
        ema; /* decay d of the weights' running average, min(d, (1 + t) / (10 + t)) at step t; 0: none */
};
struct opt_adam;
struct opt_adam *opt_new(const struct params *ps, struct opt_cfg cfg);
void opt_free(struct opt_adam *o); /* NULL is fine */
void opt_set_lr(struct opt_adam *o, float lr);
/* theta -= lr mhat / (sqrt(vhat) + eps) for the parameters of the named groups, gradients zeroed in
 * the same pass; the other groups' gradients stay.  ps as at opt_new.  pool may be NULL. */
void opt_step(struct opt_adam *o, struct params *ps, uint32_t groups, struct par *pool);
/* Exchanges weights and their average; twice is as before.  Nothing without ema. */
void opt_swap_average(struct opt_adam *o, struct params *ps);

/* What a checkpoint keeps of parameter i. */
struct opt_state {
    float *m, *v, *average; /* [n]; average NULL without ema */
    int64_t n, *steps;
};
struct opt_state opt_state(struct opt_adam *o, int32_t i);
