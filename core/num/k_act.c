#include "core/num/k_act.h"
#include "core/num/isa.h"
#include "core/num/simd.h"
#include <stddef.h>

/* Phi(x) = (1 + erf(x / sqrt 2)) / 2; gelu = x Phi; gelu' = Phi + x exp(-x^2/2) / sqrt(2 pi) */
INLINE void gelu_all(float *y, float *d, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VW) {
        int64_t m = n - i;
        vf v = vf_get(x + i, m), phi = vf_erf(v * 0.70710678f) * 0.5f + 0.5f;
        vf_put(y + i, v * phi, m);
        if (d) vf_put(d + i, phi + v * vf_exp(v * v * -0.5f) * 0.39894228f, m);
    }
}

static void gelu(float *y, float *d, const float *x, int64_t n)
{
    if (d)
        gelu_all(y, d, x, n);
    else
        gelu_all(y, NULL, x, n);
}

static void relu(float *y, const float *x, int64_t n)
{
    const vf zero = { 0 };
    for (int64_t i = 0; i < n; i += VW) vf_put(y + i, vf_max(zero, vf_get(x + i, n - i)), n - i);
}

static void relu_bwd(float *dx, const float *dy, const float *y, int64_t n)
{
    const vf zero = { 0 };
    for (int64_t i = 0; i < n; i += VW) {
        int64_t m = n - i;
        vf_put(dx + i, vf_sel_lt(zero, vf_get(y + i, m), vf_get(dy + i, m), zero), m);
    }
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
    .relu_bwd = relu_bwd,
    .drop = drop,
    .exp = exp_vec,
};
