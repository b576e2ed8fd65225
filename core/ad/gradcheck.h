/* gradcheck.h — central differences against the tape.
 *   double worst = ad_gradcheck(ps, build, ctx, eps, n_probe, seed);
 * Runs build() (same key each time, so dropout is frozen), backward, then for up to n_probe entries of every
 * parameter compares dL/dp with (L(p+eps) - L(p-eps)) / 2 eps.  Returns the largest
 * |difference| / max(largest |gradient| of that parameter, 1e-3).  Thread: owner. */
#pragma once
#include "core/ad/tape.h"

typedef struct ten *ad_build_fn(struct tape *tp, struct params *ps, void *ctx);
double ad_gradcheck(struct params *ps, ad_build_fn *build, void *ctx, float eps, int n_probe,
                    uint64_t seed);
