/* k_norm.h — layer normalisation with the residual sum and its dropout in the same pass.
 *   s = x + dropout(r),  xhat = (s - mean s) / sqrt(var s + 1e-12),  y = xhat gain + bias
 * Biased variance, eps inside the root (models/README.md, Encoder).  Ba, Kiros & Hinton 2016.
 * Thread: any (pure). */
#pragma once
#include "core/num/drop.h"
#include <stdint.h>

enum { NORM_SET_X = 1, NORM_SET_R = 2 };

struct k_norm_ops {
    /* y, x, r [rows,cols]; r may be NULL (s = x).  xhat [rows,cols] and rstd [rows] are what the
     * backward pass needs; both NULL when nobody will ask.  The mask's rows count from row0. */
    void (*fwd)(float *y, float *xhat, float *rstd, const float *x, const float *r,
                const float *gain, const float *bias, int64_t rows, int64_t cols, int64_t row0,
                const struct drop *d);
    /* dx += ds, dr += dropout'(ds), dgain, dbias [cols] +=; each may be NULL.  set: NORM_SET_X, NORM_SET_R where
     * dx, dr are written instead of added to. */
    void (*bwd)(float *dx, float *dr, float *dgain, float *dbias, const float *dy,
                const float *xhat, const float *rstd, const float *gain, int64_t rows,
                int64_t cols, int64_t row0, const struct drop *d, unsigned set);
};
