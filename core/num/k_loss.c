#include "core/num/k_loss.h"
#include "core/num/isa.h"
#include "core/num/simd.h"
#include <math.h>

/* A maximum of -inf is no shift: exp(x - 0) gives the zeros that are wanted. */
static float shift_of(float m) { return m == -INFINITY ? 0.0f : m; }

static float row_max(const float *x, int32_t n)
{
    vf a = vf_set(-INFINITY), b = a, c = a, d = a;
    int32_t j = 0;
    for (; j + 4 * VW <= n; j += 4 * VW) {
        a = vf_max(vf_load(x + j), a);
        b = vf_max(vf_load(x + j + VW), b);
        c = vf_max(vf_load(x + j + 2 * VW), c);
        d = vf_max(vf_load(x + j + 3 * VW), d);
    }
    for (; j + VW <= n; j += VW) a = vf_max(vf_load(x + j), a);
    float m = vf_hmax(vf_max(vf_max(a, b), vf_max(c, d)));
    for (; j < n; j++) m = x[j] > m ? x[j] : m;
    return m;
}

/* y = exp(x - m), y may be x or NULL; returns the sum.  the tail's empty lanes must not count. */
INLINE float row_exp(float *y, const float *x, int32_t n, float m)
{
    vf s0 = { 0 }, s1 = { 0 };
    int32_t j = 0;
    for (; j + 2 * VW <= n; j += 2 * VW) {
        vf e0 = vf_exp(vf_load(x + j) - m), e1 = vf_exp(vf_load(x + j + VW) - m);
        s0 += e0;
        s1 += e1;
        if (y) {
            vf_store(y + j, e0);
            vf_store(y + j + VW, e1);
        }
    }
    for (; j < n; j += VW) {
        int w = n - j < VW ? n - j : VW;
        float t[VW] = { 0 };
        vf_store(t, vf_exp(vf_get(x + j, w) - m));
        for (int i = w; i < VW; i++) t[i] = 0;
        vf e = vf_load(t);
        s0 += e;
        if (y) vf_put(y + j, e, w);
    }
    return vf_hsum(s0 + s1);
}

/* K > 1: columns in strips that stay in the first-level cache between their uses. */
enum { STRIP = 256 };

/* best[j] = max_k x[k,j] */
static void strip_best(float *best, const float *x, int32_t K, int32_t n, int32_t ld)
{
    for (int32_t j = 0; j < n; j += VW) {
        vf m = vf_get(x + j, n - j);
        for (int32_t k = 1; k < K; k++) m = vf_max(vf_get(x + (int64_t)k * ld + j, n - j), m);
        vf_put(best + j, m, n - j);
    }
}

/* x[k,j] = e[j] for the first k with x[k,j] = best[j], 0 for the others. */
static void strip_mask(float *x, const float *best, float *e, int32_t K, int32_t n, int32_t ld)
{
    for (int32_t k = 0; k < K; k++) {
        float *xk = x + (int64_t)k * ld;
        for (int32_t j = 0; j < n; j += VW) {
            vf left = vf_get(e + j, n - j), zero = { 0 };
            vf take = vf_sel_lt(vf_get(xk + j, n - j), vf_get(best + j, n - j), zero, left);
            vf_put(xk + j, take, n - j);
            vf_put(e + j, left - take, n - j);
        }
    }
}

static float tile_max(const float *x, int32_t K, int32_t n, int32_t ld)
{
    float m = -INFINITY;
    for (int32_t k = 0; k < K; k++) {
        float mk = row_max(x + (int64_t)k * ld, n);
        m = mk > m ? mk : m;
    }
    return shift_of(m);
}

static void tile_exp(float *max, float *sum, float *x, int32_t K, int32_t n, int32_t ld)
{
    float m = tile_max(x, K, n, ld), s = 0;
    if (K == 1) {
        s = row_exp(x, x, n, m);
    } else {
        float best[STRIP], e[STRIP];
        for (int32_t j = 0; j < n; j += STRIP) {
            int32_t w = n - j < STRIP ? n - j : STRIP;
            strip_best(best, x + j, K, w, ld);
            s += row_exp(e, best, w, m);
            strip_mask(x + j, best, e, K, w, ld);
        }
    }
    *max = m;
    *sum = s;
}

static void tile_sum(float *max, float *sum, const float *x, int32_t K, int32_t n, int32_t ld)
{
    float m = tile_max(x, K, n, ld), s = 0;
    if (K == 1) {
        s = row_exp(NULL, x, n, m);
    } else {
        float best[STRIP];
        for (int32_t j = 0; j < n; j += STRIP) {
            int32_t w = n - j < STRIP ? n - j : STRIP;
            strip_best(best, x + j, K, w, ld);
            s += row_exp(NULL, best, w, m);
        }
    }
    *max = m;
    *sum = s;
}

static void lse_bwd(float *dx, const float *x, float lse, float g, int64_t n)
{
    for (int64_t j = 0; j < n; j += VW) {
        vf d = vf_get(dx + j, n - j) + g * vf_exp(vf_get(x + j, n - j) - lse);
        vf_put(dx + j, d, n - j);
    }
}

const struct k_loss_ops NUM_TABLE(k_loss) = {
    .tile_exp = tile_exp,
    .tile_sum = tile_sum,
    .lse_bwd = lse_bwd,
};
