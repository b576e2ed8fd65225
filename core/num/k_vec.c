#include "core/num/k_vec.h"
#include "core/num/isa.h"
#include "core/num/simd.h"
#include <math.h>
#include <string.h>

/* Calls body with i, the vector's first index, and m, its lanes (VW but for the last). */
#define EACH(n, body)                                                                          \
    do {                                                                                       \
        int64_t i = 0;                                                                         \
        for (; i + VW <= (n); i += VW) {                                                       \
            const int64_t m = VW;                                                              \
            body;                                                                              \
        }                                                                                      \
        if (i < (n)) {                                                                         \
            const int64_t m = (n) - i;                                                         \
            body;                                                                              \
        }                                                                                      \
    } while (0)

static void fill(float *y, float a, int64_t n)
{
    EACH(n, vf_put(y + i, vf_set(a), m));
}

static void scale(float *y, float a, const float *x, int64_t n)
{
    EACH(n, vf_put(y + i, a * vf_get(x + i, m), m));
}

static void axpy(float *y, float a, const float *x, int64_t n)
{
    EACH(n, vf_put(y + i, vf_get(y + i, m) + a * vf_get(x + i, m), m));
}

static void add(float *y, const float *a, const float *b, int64_t n)
{
    EACH(n, vf_put(y + i, vf_get(a + i, m) + vf_get(b + i, m), m));
}

static void mul(float *y, const float *a, const float *b, int64_t n)
{
    EACH(n, vf_put(y + i, vf_get(a + i, m) * vf_get(b + i, m), m));
}

/* Four sums in flight hide the latency of the additions. */
static float dot(const float *x, const float *y, int64_t n)
{
    vf s0 = { 0 }, s1 = { 0 }, s2 = { 0 }, s3 = { 0 };
    int64_t i = 0;
    for (; i + 4 * VW <= n; i += 4 * VW) {
        s0 += vf_load(x + i) * vf_load(y + i);
        s1 += vf_load(x + i + VW) * vf_load(y + i + VW);
        s2 += vf_load(x + i + 2 * VW) * vf_load(y + i + 2 * VW);
        s3 += vf_load(x + i + 3 * VW) * vf_load(y + i + 3 * VW);
    }
    for (; i < n; i += VW) s0 += vf_get(x + i, n - i) * vf_get(y + i, n - i);
    return vf_hsum((s0 + s1) + (s2 + s3));
}

static float sum(const float *x, int64_t n)
{
    vf s0 = { 0 }, s1 = { 0 }, s2 = { 0 }, s3 = { 0 };
    int64_t i = 0;
    for (; i + 4 * VW <= n; i += 4 * VW) {
        s0 += vf_load(x + i);
        s1 += vf_load(x + i + VW);
        s2 += vf_load(x + i + 2 * VW);
        s3 += vf_load(x + i + 3 * VW);
    }
    for (; i < n; i += VW) s0 += vf_get(x + i, n - i);
    return vf_hsum((s0 + s1) + (s2 + s3));
}

static float max(const float *x, int64_t n)
{
    vf m0 = vf_set(-INFINITY), m1 = m0;
    int64_t i = 0;
    for (; i + 2 * VW <= n; i += 2 * VW) {
        m0 = vf_max(m0, vf_load(x + i));
        m1 = vf_max(m1, vf_load(x + i + VW));
    }
    for (; i + VW <= n; i += VW) m0 = vf_max(m0, vf_load(x + i));
    float best = vf_hmax(vf_max(m0, m1));
    for (; i < n; i++) best = x[i] > best ? x[i] : best;
    return best;
}

/* Lanes past the end add nothing to a sum of exponentials. */
INLINE vf exp_get(const float *x, float shift, int64_t m)
{
    return vf_first(vf_exp(vf_get(x, m) - shift), m);
}

static float exp_sum(float *y, const float *x, float shift, int64_t n)
{
    vf s = { 0 };
    EACH(n, {
        vf v = exp_get(x + i, shift, m);
        vf_put(y + i, v, m);
        s += v;
    });
    return vf_hsum(s);
}

static float lse(const float *x, int64_t n)
{
    float top = max(x, n);
    if (top == -INFINITY) return -INFINITY;
    vf s = { 0 };
    EACH(n, s += exp_get(x + i, top, m));
    return top + logf(vf_hsum(s));
}

static float softmax_row(float *y, const float *x, int64_t n)
{
    float top = max(x, n);
    if (top == -INFINITY) {
        fill(y, 0.0f, n);
        return -INFINITY;
    }
    float s = exp_sum(y, x, top, n);
    scale(y, 1.0f / s, y, n);
    return top + logf(s);
}

static void softmax_row_bwd(float *dx, const float *y, const float *dy, int64_t n)
{
    float d = dot(y, dy, n);
    EACH(n, vf_put(dx + i, vf_get(dx + i, m) + vf_get(y + i, m) * (vf_get(dy + i, m) - d), m));
}

/* Four vectors of columns at a time: additions in flight, and whole stretches of memory. */
static void sum_rows(float *y, const float *x, int64_t rows, int64_t cols, int64_t ld)
{
    int64_t c = 0;
    for (; c + 4 * VW <= cols; c += 4 * VW) {
        vf s0 = vf_load(y + c), s1 = vf_load(y + c + VW), s2 = vf_load(y + c + 2 * VW),
           s3 = vf_load(y + c + 3 * VW);
        const float *p = x + c;
        for (int64_t r = 0; r < rows; r++, p += ld) {
            s0 += vf_load(p);
            s1 += vf_load(p + VW);
            s2 += vf_load(p + 2 * VW);
            s3 += vf_load(p + 3 * VW);
        }
        vf_store(y + c, s0);
        vf_store(y + c + VW, s1);
        vf_store(y + c + 2 * VW, s2);
        vf_store(y + c + 3 * VW, s3);
    }
    for (; c < cols; c += VW) {
        vf s = vf_get(y + c, cols - c);
        for (int64_t r = 0; r < rows; r++) s += vf_get(x + r * ld + c, cols - c);
        vf_put(y + c, s, cols - c);
    }
}

static void scatter_add(float *table, int64_t ldt, const float *x, int64_t ldx, const int32_t *row,
                        int64_t n, int64_t cols)
{
    for (int64_t r = 0; r < n; r++)
        if (row[r] >= 0) add(table + row[r] * ldt, table + row[r] * ldt, x + r * ldx, cols);
}

static void scatter_axpy(float *table, int64_t ldt, const int32_t *row, float a, const float *coef,
                         const float *x, int64_t ldx, const int32_t *src, int64_t n, int64_t cols)
{
    for (int64_t i = 0; i < n; i++)
        axpy(table + row[i] * ldt, a * coef[i], src ? x + src[i] * ldx : x, cols);
}

static void transpose(float *y, const float *x, int64_t rows, int64_t cols)
{
    for (int64_t r = 0; r < rows; r += VW)
        for (int64_t c = 0; c < cols; c += VW) {
            int64_t nr = rows - r, nc = cols - c < VW ? cols - c : VW;
            if (nr >= VW) {
                simd_transpose(y + c * rows + r, rows, x + r * cols + c, cols, VW, nc);
                continue;
            }
            float tile[VW * VW]; /* whole vectors would run into the next row of y */
            simd_transpose(tile, VW, x + r * cols + c, cols, nr, nc);
            for (int64_t i = 0; i < nc; i++)
                vf_put(y + (c + i) * rows + r, vf_load(tile + i * VW), nr);
        }
}

static void to_bf16(uint16_t *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u);
        y[i] = (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded >> 16);
    }
}

extern const struct k_vec_ops NUM_TABLE(k_vec);
const struct k_vec_ops NUM_TABLE(k_vec) = {
    .fill = fill,
    .scale = scale,
    .axpy = axpy,
    .add = add,
    .mul = mul,
    .dot = dot,
    .sum = sum,
    .max = max,
    .exp_sum = exp_sum,
    .lse = lse,
    .softmax_row = softmax_row,
    .softmax_row_bwd = softmax_row_bwd,
    .sum_rows = sum_rows,
    .scatter_add = scatter_add,
    .scatter_axpy = scatter_axpy,
    .to_bf16 = to_bf16,
    .transpose = transpose,
};
