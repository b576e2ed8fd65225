/* k_act.h — activations and dropout.
 * gelu(x) = x/2 (1 + erf(x / sqrt 2)), the exact form (Hendrycks & Gimpel 2016).
 * Thread: any (pure). */
#pragma once
#include "core/num/drop.h"
#include <stdint.h>

struct k_act_ops {
    /* y = gelu(x), d = gelu'(x) unless d is NULL; y may be x. */
    void (*gelu)(float *y, float *d, const float *x, int64_t n);
    void (*relu)(float *y, const float *x, int64_t n);
    void (*relu_bwd)(float *dx, const float *dy, const float *y, int64_t n); /* dx = y > 0 ? dy : 0 */
    /* y = x keep / (1-p) over [rows,cols], the mask's rows counted from row0; y may be x.
     * add: y += instead. */
    void (*drop)(float *y, const float *x, int64_t rows, int64_t cols, int64_t row0,
                 const struct drop *d, bool add);
    void (*exp)(float *y, const float *x, int64_t n); /* relative error below 2e-7 */
};
