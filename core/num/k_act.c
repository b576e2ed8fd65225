#include "core/num/k_act.h"
#include "core/num/isa.h"
#include "core/num/simd.h"
#include <stddef.h>

/* Phi(x) = (1 + erf(x / sqrt 2)) / 2; gelu = x Phi; gelu' = Phi + x exp(-x^2/2) / sqrt(2 pi) */
INLINE void gelu_vec(float *y, float *d, vf x, int64_t m)
{
    vf phi = vf_erf(x * 0.70710678f) * 0.5f + 0.5f;
    vf_put(y, x * phi, m);
    if (d) vf_put(d, phi + x * vf_exp(x * x * -0.5f) * 0.39894228f, m);
}

INLINE void relu_vec(float *y, float *d, vf x, int64_t m)
{
    const vf zero = { 0 };
    vf_put(y, vf_max(zero, x), m);
    if (d) vf_put(d, vf_sel_lt(zero, x, vf_set(1.0f), zero), m);
}

typedef void vec_fn(float *y, float *d, vf x, int64_t m);

INLINE void each(vec_fn *f, float *y, float *d, const float *x, const float *bias, int64_t rows,
                 int64_t cols)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c += VW) {
            int64_t m = cols - c;
            vf v = vf_get(x + c, m);
            if (bias) v += vf_get(bias + c, m);
            f(y + c, d ? d + c : NULL, v, m);
        }
        x += cols;
        y += cols;
        if (d) d += cols;
    }
}

/* The cases are split here so that no test is left in the inner loop. */
INLINE void each_case(vec_fn *f, float *y, float *d, const float *x, const float *bias,
                      int64_t rows, int64_t cols)
{
    if (!bias) { /* rows do not matter: one long row */
        cols *= rows;
        rows = 1;
    }
    if (d && bias)
        each(f, y, d, x, bias, rows, cols);
    else if (d)
        each(f, y, d, x, NULL, rows, cols);
    else if (bias)
        each(f, y, NULL, x, bias, rows, cols);
    else
        each(f, y, NULL, x, NULL, rows, cols);
}

static void gelu(float *y, float *d, const float *x, const float *bias, int64_t rows, int64_t cols)
{
    each_case(gelu_vec, y, d, x, bias, rows, cols);
}

static void relu(float *y, float *d, const float *x, const float *bias, int64_t rows, int64_t cols)
{
    each_case(relu_vec, y, d, x, bias, rows, cols);
}

INLINE void drop_vec(float *y, const float *x, vu bits, const struct drop *d, int64_t m, bool add)
{
    vf v = vf_keep(vf_get(x, m) * d->scale, bits, d->keep);
    if (add) v += vf_get(y, m);
    vf_put(y, v, m);
}

INLINE void drop_row_vecs(float *y, const float *x, int64_t cols, uint64_t key,
                          const struct drop *d, bool add)
{
    for (int64_t c = 0; c < cols; c += 32)
        for (int64_t s = 0; s < 16 && c + s < cols; s += VW) {
            vu h = vu_drop_hash(key, (uint32_t)(c / 2 + s));
            drop_vec(y + c + s, x + c + s, vu_low16(h), d, cols - c - s, add);
            if (c + s + 16 < cols)
                drop_vec(y + c + s + 16, x + c + s + 16, vu_high16(h), d, cols - c - s - 16, add);
        }
}

static void drop(float *y, const float *x, int64_t rows, int64_t cols, int64_t row0,
                 const struct drop *d, bool add)
{
    for (int64_t r = 0; r < rows; r++) {
        uint64_t key = drop_row(d, row0 + r);
        if (add)
            drop_row_vecs(y + r * cols, x + r * cols, cols, key, d, true);
        else
            drop_row_vecs(y + r * cols, x + r * cols, cols, key, d, false);
    }
}

static void exp_vec(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VW) vf_put(y + i, vf_exp(vf_get(x + i, n - i)), n - i);
}

extern const struct k_act_ops NUM_TABLE(k_act);
const struct k_act_ops NUM_TABLE(k_act) = {
    .gelu = gelu,
    .relu = relu,
    .drop = drop,
    .exp = exp_vec,
};
