#include "core/base/rng.h"
#include <math.h>

float rng_normal(struct rng *r)
{
    double u = 1.0 - rng_f64(r), v = rng_f64(r); /* u in (0,1]: its logarithm is finite */
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

void rng_shuffle(struct rng *r, int32_t *x, int32_t n)
{
    for (int32_t i = n - 1; i > 0; i--) { /* Fisher-Yates */
        int32_t j = (int32_t)rng_below(r, (uint32_t)i + 1), t = x[i];
        x[i] = x[j];
        x[j] = t;
    }
}
