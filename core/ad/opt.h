/* opt.h — Adam (Kingma & Ba 2015): one pass over each parameter that has a gradient.
 *   struct opt_adam *o = opt_new(ps, cfg);
 *   opt_step(o, ps, GROUPS_ALL, pool); params_zero_grad(ps);
 * m, v are float32 next to the parameter order of ps.  Thread: owner. */
#pragma once
#include "core/ad/tape.h"

struct opt_cfg {
    float lr, beta1, beta2, eps;
    float weight_decay; /* L2 added to the gradient of parameters with decay (Adam, not AdamW) */
};
struct opt_adam;
struct opt_adam *opt_new(const struct params *ps, struct opt_cfg cfg);
void opt_free(struct opt_adam *o);
/* theta -= lr mhat / (sqrt(vhat) + eps) for the parameters of the named groups, gradients zeroed in
 * the same pass. */
void opt_step(struct opt_adam *o, struct params *ps, uint32_t groups, struct par *pool);
int64_t opt_steps(const struct opt_adam *o);
