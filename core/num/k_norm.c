#include "core/num/k_norm.h"
#include "core/num/isa.h"
#include "core/num/simd.h"
#include <math.h>

static const float EPS = 1e-12f;

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
                     const float *gain, const float *bias, int64_t rows, int64_t cols, int64_t row0,
                     const struct drop *d, const bool dropping)
{
    for (int64_t i = 0; i < rows; i++) {
        int64_t o = i * cols;
        fwd_row(y + o, xhat ? xhat + o : NULL, rstd ? rstd + i : NULL, x + o, r ? r + o : NULL,
                gain, bias, cols, dropping ? drop_row(d, row0 + i) : 0, d, dropping);
    }
}

static void fwd(float *y, float *xhat, float *rstd, const float *x, const float *r,
                const float *gain, const float *bias, int64_t rows, int64_t cols, int64_t row0,
                const struct drop *d)
{
    if (r && drop_active(d))
        fwd_rows(y, xhat, rstd, x, r, gain, bias, rows, cols, row0, d, true);
    else if (cols == 64) /* the usual width, unrolled */
        fwd_rows(y, xhat, rstd, x, r, gain, bias, rows, 64, row0, d, false);
    else
        fwd_rows(y, xhat, rstd, x, r, gain, bias, rows, cols, row0, d, false);
}

/* ds = rstd (g - mean g - xhat mean(g xhat)) with g = dy gain */
INLINE void bwd_row(float *dx, float *dr, float *dgain, float *dbias, const float *dy,
                    const float *xhat, float rstd, const float *gain, int64_t cols, uint64_t key,
                    const struct drop *d, const bool dropping)
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
        if (dx) vf_put(dx + c, vf_get(dx + c, m) + ds, m);
        if (!dr) continue;
        if (dropping) ds = vf_keep(ds * d->scale, vu_drop_bits(key, c), d->keep);
        vf_put(dr + c, vf_get(dr + c, m) + ds, m);
    }
}

static void bwd(float *dx, float *dr, float *dgain, float *dbias, const float *dy,
                const float *xhat, const float *rstd, const float *gain, int64_t rows, int64_t cols,
                int64_t row0, const struct drop *d)
{
    const bool dropping = dr && drop_active(d);
    for (int64_t i = 0; i < rows; i++) {
        int64_t o = i * cols;
        bwd_row(dx ? dx + o : NULL, dr ? dr + o : NULL, dgain, dbias, dy + o, xhat + o, rstd[i],
                gain, cols, dropping ? drop_row(d, row0 + i) : 0, d, dropping);
    }
}

extern const struct k_norm_ops NUM_TABLE(k_norm);
const struct k_norm_ops NUM_TABLE(k_norm) = { .fwd = fwd, .bwd = bwd };
