#include "core/num/k_norm.h"
#include "core/num/isa.h"
#include "core/num/simd.h"
#include <math.h>

static const float EPS = 1e-12f;
enum { USUAL = 64 }; /* the width whose loops are unrolled */

/* The vector of dropout(r) at column c. */
INLINE vf drop_get(const float *r, int64_t c, int64_t m, uint64_t key, const struct drop *d)
{
    return vf_keep(vf_get(r + c, m) * d->scale, vu_drop_bits(key, c), d->keep);
}

/* y holds the sum s until its statistics are known. */
INLINE void fwd_row(float *y, float *xhat, float *rstd, const float *x, const float *r,
                    const float *gain, const float *bias, int64_t cols, uint64_t key,
                    const struct drop *d, const bool dropping)
{
    vf total = { 0 }, squares = { 0 };
    for (int64_t c = 0; c < cols; c += VW) {
        int64_t m = cols - c;
        vf s = vf_get(x + c, m);
        if (r) s += dropping ? drop_get(r, c, m, key, d) : vf_get(r + c, m);
        total += s;
        vf_put(y + c, s, m);
    }
    float inv_n = 1.0f / (float)cols, mean = vf_hsum(total) * inv_n;
    for (int64_t c = 0; c < cols; c += VW) {
        vf t = vf_first(vf_get(y + c, cols - c) - mean, cols - c);
        squares += t * t;
    }
    float inv_std = 1.0f / sqrtf(vf_hsum(squares) * inv_n + EPS);
    for (int64_t c = 0; c < cols; c += VW) {
        int64_t m = cols - c;
        vf h = (vf_get(y + c, m) - mean) * inv_std;
        if (xhat) vf_put(xhat + c, h, m);
        vf_put(y + c, h * vf_get(gain + c, m) + vf_get(bias + c, m), m);
    }
    if (rstd) *rstd = inv_std;
}

INLINE void fwd_rows(float *y, float *xhat, float *rstd, const float *x, const float *r,
                     const float *gain, const float *bias, int64_t rows, const int64_t cols,
                     int64_t row0, const struct drop *d)
{
    const bool dropping = r && drop_active(d);
    for (int64_t i = 0; i < rows; i++) {
        int64_t o = i * cols;
        float *h = xhat ? xhat + o : NULL, *s = rstd ? rstd + i : NULL;
        if (dropping)
            fwd_row(y + o, h, s, x + o, r + o, gain, bias, cols, drop_row(d, row0 + i), d, true);
        else
            fwd_row(y + o, h, s, x + o, r ? r + o : NULL, gain, bias, cols, 0, d, false);
    }
}

static void fwd(float *y, float *xhat, float *rstd, const float *x, const float *r,
                const float *gain, const float *bias, int64_t rows, int64_t cols, int64_t row0,
                const struct drop *d)
{
    if (cols == USUAL)
        fwd_rows(y, xhat, rstd, x, r, gain, bias, rows, USUAL, row0, d);
    else
        fwd_rows(y, xhat, rstd, x, r, gain, bias, rows, cols, row0, d);
}

/* y (+)= x */
INLINE void give(float *y, vf x, int64_t m, bool set)
{
    vf_put(y, set ? x : vf_get(y, m) + x, m);
}

/* ds = rstd (g - mean g - xhat mean(g xhat)) with g = dy gain */
INLINE void bwd_row(float *dx, float *dr, float *dgain, float *dbias, const float *dy,
                    const float *xhat, float rstd, const float *gain, int64_t cols, uint64_t key,
                    const struct drop *d, unsigned set, const bool dropping)
{
    vf sum_g = { 0 }, sum_gh = { 0 };
    for (int64_t c = 0; c < cols; c += VW) {
        int64_t m = cols - c;
        vf dyc = vf_get(dy + c, m), h = vf_get(xhat + c, m), g = dyc * vf_get(gain + c, m);
        sum_g += g;
        sum_gh += g * h;
        if (dgain) vf_put(dgain + c, vf_get(dgain + c, m) + dyc * h, m);
        if (dbias) vf_put(dbias + c, vf_get(dbias + c, m) + dyc, m);
    }
    if (!dx && !dr) return;
    float inv_n = 1.0f / (float)cols, mean_g = vf_hsum(sum_g) * inv_n,
          mean_gh = vf_hsum(sum_gh) * inv_n;
    for (int64_t c = 0; c < cols; c += VW) {
        int64_t m = cols - c;
        vf g = vf_get(dy + c, m) * vf_get(gain + c, m);
        vf ds = (g - mean_g - vf_get(xhat + c, m) * mean_gh) * rstd;
        if (dx) give(dx + c, ds, m, set & NORM_SET_X);
        if (!dr) continue;
        if (dropping) ds = vf_keep(ds * d->scale, vu_drop_bits(key, c), d->keep);
        give(dr + c, ds, m, set & NORM_SET_R);
    }
}

INLINE void bwd_rows(float *dx, float *dr, float *dgain, float *dbias, const float *dy,
                     const float *xhat, const float *rstd, const float *gain, int64_t rows,
                     const int64_t cols, int64_t row0, const struct drop *d, unsigned set)
{
    const bool dropping = dr && drop_active(d);
    for (int64_t i = 0; i < rows; i++) {
        int64_t o = i * cols;
        float *x = dx ? dx + o : NULL, *r = dr ? dr + o : NULL;
        if (dropping)
            bwd_row(x, r, dgain, dbias, dy + o, xhat + o, rstd[i], gain, cols,
                    drop_row(d, row0 + i), d, set, true);
        else
            bwd_row(x, r, dgain, dbias, dy + o, xhat + o, rstd[i], gain, cols, 0, d, set, false);
    }
}

static void bwd(float *dx, float *dr, float *dgain, float *dbias, const float *dy,
                const float *xhat, const float *rstd, const float *gain, int64_t rows, int64_t cols,
                int64_t row0, const struct drop *d, unsigned set)
{
    if (cols == USUAL)
        bwd_rows(dx, dr, dgain, dbias, dy, xhat, rstd, gain, rows, USUAL, row0, d, set);
    else
        bwd_rows(dx, dr, dgain, dbias, dy, xhat, rstd, gain, rows, cols, row0, d, set);
}

extern const struct k_norm_ops NUM_TABLE(k_norm);
const struct k_norm_ops NUM_TABLE(k_norm) = { .fwd = fwd, .bwd = bwd };
