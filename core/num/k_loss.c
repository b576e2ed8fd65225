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

/* y = exp(x - m), y may be x or NULL; returns the sum. */
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
        vf e = vf_first(vf_exp(vf_get(x + j, n - j) - m), n - j);
        s0 += e;
        if (y) vf_put(y + j, e, n - j);
    }
    return vf_hsum(s0 + s1);
}

static void exp_row(float *max, float *sum, float *x, int32_t n)
{
    *max = shift_of(row_max(x, n));
    *sum = row_exp(x, x, n, *max);
}

/* best[j] = max_k x[k,j]; win, unless NULL, the first k that has it. */
INLINE void best_of(float *best, int32_t *win, const float *x, int32_t K, int32_t n, int32_t ld)
{
    for (int32_t j = 0; j < n; j += VW) {
        vf m = vf_get(x + j, n - j);
        vi w = { 0 };
        for (int32_t k = 1; k < K; k++) {
            vf xk = vf_get(x + (int64_t)k * ld + j, n - j);
            if (win) w = (vi)vf_sel_lt(m, xk, (vf)(w * 0 + k), (vf)w); /* lanes are only moved */
            m = vf_max(xk, m);
        }
        vf_put(best + j, m, n - j);
        if (win) vf_put((float *)win + j, (vf)w, n - j);
    }
}

static void exp_best(float *max, float *sum, float *e, int32_t *win, const float *x, int32_t K,
                     int32_t n, int32_t ld)
{
    best_of(e, win, x, K, n, ld);
    exp_row(max, sum, e, n);
}

static void best(float *out, int32_t *win, const float *x, int32_t K, int32_t n, int32_t ld)
{
    best_of(out, win, x, K, n, ld);
}

/* log prod (1 + exp(-|x|)) instead of a sum of logarithms: each factor is in (1,2], and VW times so many of them do
 * not overflow. */
enum { FACTORS = 96 / VW };

static float softplus_sum(float *x, int32_t n)
{
    float total = 0;
    for (int32_t j0 = 0; j0 < n; j0 += FACTORS * VW) {
        int32_t end = n - j0 < FACTORS * VW ? n : j0 + FACTORS * VW;
        vf product = vf_set(1), positive = vf_set(0);
        for (int32_t j = j0; j < end; j += VW) {
            int32_t m = end - j;
            vf v = vf_get(x + j, m), up = vf_max(v, vf_set(0));
            vf e = vf_exp(vf_min(v, -v));
            vf d = vf_sel_lt(v, vf_set(0), e, vf_set(1)) / (e + 1.0f);
            positive += vf_first(up, m);
            product *= vf_first(e, m) + 1.0f;
            vf_put(x + j, d, m);
        }
        float all = 1;
        for (int i = 0; i < VW; i++) all *= product[i];
        total += vf_hsum(positive) + logf(all);
    }
    return total;
}

enum { STRIP = 256 }; /* columns between two passes: stay in the first-level cache */

static void sum_best(float *max, float *sum, const float *x, int32_t K, int32_t n, int32_t ld)
{
    float m = -INFINITY, s = 0, best[STRIP];
    for (int32_t k = 0; k < K; k++) {
        float mk = row_max(x + (int64_t)k * ld, n);
        m = mk > m ? mk : m;
    }
    m = shift_of(m);
    if (K == 1) s = row_exp(NULL, x, n, m);
    for (int32_t j = 0; K > 1 && j < n; j += STRIP) {
        int32_t w = n - j < STRIP ? n - j : STRIP;
        best_of(best, NULL, x + j, K, w, ld);
        s += row_exp(NULL, best, w, m);
    }
    *max = m;
    *sum = s;
}

/* ---- products with the winners only ---- */

enum {
    PICK = 128, /* columns looked through at once: that much of the table fits the first-level cache */
    WIDE = 4,   /* vectors of D that are summed side by side in registers */
    SIDE = VW == 16 ? 4 : 2 /* rows of dtable side by side: as the registers allow */
};

/* list = the j < n with win[j] = k in ascending order, n <= PICK; returns how many. */
INLINE int32_t pick(int32_t *list, const int32_t *win, int32_t n, int32_t k)
{
    int32_t m = 0, j = 0;
#if SIMD_512
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; j + VW <= n; j += VW) {
        __mmask16 hit = _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(win + j), _mm512_set1_epi32(k));
        __m512i at = _mm512_add_epi32(lane, _mm512_set1_epi32(j));
        _mm512_storeu_si512(list + m, _mm512_maskz_compress_epi32(hit, at));
        m += __builtin_popcount(hit);
    }
#endif
    for (; j < n; j++) {
        list[m] = j;
        m += win[j] == k;
    }
    return m;
}

/* y[0 .. WIDE vectors) += sum_i e[list[i]] x[list[i]]; two sums, so that additions do not wait for
 * each other. */
INLINE void add_listed(float *y, const float *e, const float *x, int32_t D, const int32_t *list,
                       int32_t m)
{
    vf a[WIDE], b[WIDE];
    for (int u = 0; u < WIDE; u++) {
        a[u] = vf_load(y + u * VW);
        b[u] = vf_set(0);
    }
    int32_t i = 0;
    for (; i + 2 <= m; i += 2) {
        const float *x0 = x + (int64_t)list[i] * D, *x1 = x + (int64_t)list[i + 1] * D;
        float e0 = e[list[i]], e1 = e[list[i + 1]];
        for (int u = 0; u < WIDE; u++) a[u] += e0 * vf_load(x0 + u * VW);
        for (int u = 0; u < WIDE; u++) b[u] += e1 * vf_load(x1 + u * VW);
    }
    if (i < m)
        for (int u = 0; u < WIDE; u++)
            a[u] += e[list[i]] * vf_load(x + (int64_t)list[i] * D + u * VW);
    for (int u = 0; u < WIDE; u++) vf_store(y + u * VW, a[u] + b[u]);
}

/* The columns of D that do not fill WIDE vectors: cols <= VW of them. */
INLINE void add_listed_rest(float *y, const float *e, const float *x, int32_t D, int32_t cols,
                            const int32_t *list, int32_t m)
{
    vf a = vf_get(y, cols);
    for (int32_t i = 0; i < m; i++) a += e[list[i]] * vf_get(x + (int64_t)list[i] * D, cols);
    vf_put(y, a, cols);
}

static void win_rows(float *dq, const float *e, const int32_t *win, const float *table, int32_t K,
                     int32_t n, int32_t D)
{
    int32_t list[PICK + VW];
    for (int32_t j = 0; j < n; j += PICK) {
        const float *x = table + (int64_t)j * D;
        for (int32_t k = 0; k < K; k++) {
            int32_t m = pick(list, win + j, n - j < PICK ? n - j : PICK, k), c = 0;
            float *y = dq + (int64_t)k * D;
            if (m == 0) continue;
            for (; c + WIDE * VW <= D; c += WIDE * VW) add_listed(y + c, e + j, x + c, D, list, m);
            for (; c < D; c += VW) add_listed_rest(y + c, e + j, x + c, D, D - c, list, m);
        }
    }
}

/* SIDE rows of dtable, WIDE vectors of each. */
INLINE void cols_tile(float *y, const float *e, const int32_t *win, const float *q, int32_t B,
                      int32_t K, int32_t ld, int32_t D, int add)
{
    vf a[SIDE][WIDE];
    for (int r = 0; r < SIDE; r++)
        for (int u = 0; u < WIDE; u++)
            a[r][u] = add ? vf_load(y + (int64_t)r * D + u * VW) : vf_set(0);
    for (int32_t b = 0; b < B; b++, e += ld, win += ld, q += (int64_t)K * D)
        for (int r = 0; r < SIDE; r++) {
            const float *x = q + (int64_t)win[r] * D;
            for (int u = 0; u < WIDE; u++) a[r][u] += e[r] * vf_load(x + u * VW);
        }
    for (int r = 0; r < SIDE; r++)
        for (int u = 0; u < WIDE; u++) vf_store(y + (int64_t)r * D + u * VW, a[r][u]);
}

/* One row of dtable, cols <= VW of its columns. */
INLINE void cols_rest(float *y, const float *e, const int32_t *win, const float *q, int32_t B,
                      int32_t K, int32_t ld, int32_t D, int32_t cols, int add)
{
    vf a = add ? vf_get(y, cols) : vf_set(0);
    for (int32_t b = 0; b < B; b++, e += ld, win += ld, q += (int64_t)K * D)
        a += e[0] * vf_get(q + (int64_t)win[0] * D, cols);
    vf_put(y, a, cols);
}

static void win_cols(float *dtable, const float *e, const int32_t *win, const float *q, int32_t B,
                     int32_t K, int32_t n, int32_t ld, int32_t D, int add)
{
    int32_t wide = D - D % (WIDE * VW), j = 0;
    for (; j + SIDE <= n; j += SIDE)
        for (int32_t c = 0; c < wide; c += WIDE * VW)
            cols_tile(dtable + (int64_t)j * D + c, e + j, win + j, q + c, B, K, ld, D, add);
    for (int32_t i = 0; i < n; i++)
        for (int32_t c = i < j ? wide : 0; c < D; c += VW)
            cols_rest(dtable + (int64_t)i * D + c, e + i, win + i, q + c, B, K, ld, D, D - c, add);
}

static void lse_bwd(float *dx, const float *x, float lse, float g, int64_t n)
{
    for (int64_t j = 0; j < n; j += VW) {
        vf d = vf_get(dx + j, n - j) + g * vf_exp(vf_get(x + j, n - j) - lse);
        vf_put(dx + j, d, n - j);
    }
}

const struct k_loss_ops NUM_TABLE(k_loss) = {
    .exp_row = exp_row,
    .exp_best = exp_best,
    .best = best,
    .softplus_sum = softplus_sum,
    .sum_best = sum_best,
    .win_rows = win_rows,
    .win_cols = win_cols,
    .lse_bwd = lse_bwd,
};
