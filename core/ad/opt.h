/* opt.h — Adam (Kingma & Ba 2015): one pass over each parameter that learns.
 *   struct opt_adam *o = opt_new(ps, cfg);
 *   tape_backward(tp, loss); opt_step(o, ps, GROUPS_ALL, pool);      gradients are zero again
 * The moments are float32, in the order of the parameters of ps.  Every parameter counts its own
 * steps, so groups that take turns are corrected for their own number of updates.
 * The bits do not depend on the number of threads.  Thread: owner. */
#pragma once
#include "core/ad/tape.h"

struct opt_cfg {
    float lr, beta1, beta2, eps;
    float
        weight_decay; /* L2 added to the gradient of parameters with decay (Adam, not AdamW) */
};
struct opt_adam;
struct opt_adam *opt_new(const struct params *ps, struct opt_cfg cfg);
void opt_free(struct opt_adam *o); /* NULL is fine */
/* theta -= lr mhat / (sqrt(vhat) + eps) for the parameters of the named groups, gradients zeroed in
 * the same pass; the other groups' gradients stay.  ps as at opt_new.  pool may be NULL. */
void opt_step(struct opt_adam *o, struct params *ps, uint32_t groups, struct par *pool);
