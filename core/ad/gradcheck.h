/* gradcheck.h — central differences against the tape.
 *   double worst = ad_gradcheck(ps, build, ctx, 1e-2f, 20, seed);
 * Runs build() (same key each time, so dropout is frozen), backward, then compares dL/dp of up to
 * n_probe entries of every parameter, the one with the largest gradient among them, with
 *   (4 d(eps) - d(2 eps)) / 3,    d(h) = (L(p+h) - L(p-h)) / 2h,
 * which leaves an error of order eps^4: in float32 eps has to be large for the differences to stand
 * out of the rounding.  Within 2 eps of a kink (ReLU, maximum) the comparison fails rightly.
 * Returns the largest |difference| / max(largest |gradient| of that parameter, 1e-3).  Gradients of
 * ps are zero afterwards, values unchanged.  Thread: owner. */
#pragma once
#include "core/ad/tape.h"

typedef struct ten *ad_build_fn(struct tape *tp, struct params *ps,
                                void *ctx); /* the loss, [1,1] */
double ad_gradcheck(struct params *ps, ad_build_fn *build, void *ctx, float eps, int n_probe,
                    uint64_t seed);
