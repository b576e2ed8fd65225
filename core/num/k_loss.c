#include "core/num/k_loss.h"
#include "core/num/isa.h"
#include "core/num/simd.h"
#include <math.h>

/* Columns c and up to three more vectors of them in one walk down the rows. */
INLINE void max_walk(float *max, const float *x, int32_t n, int32_t cols, const int V)
{
    vf m[4];
    for (int v = 0; v < V; v++) m[v] = vf_load(max + v * VW);
    for (int32_t j = 0; j < n; j++, x += cols)
        for (int v = 0; v < V; v++) m[v] = vf_max(vf_load(x + v * VW), m[v]);
    for (int v = 0; v < V; v++) vf_store(max + v * VW, m[v]);
}

static void max_cols(float *max, const float *x, int32_t n, int32_t cols)
{
    int32_t c = 0;
    for (; c + 4 * VW <= cols; c += 4 * VW) max_walk(max + c, x + c, n, cols, 4);
    for (; c < cols; c += VW) max_walk(max + c, x + c, n, cols, 1);
}

INLINE void exp_walk(float *x, float *sum, const float *max, int32_t n, int32_t cols, const int V)
{
    vf m[4], s[4];
    for (int v = 0; v < V; v++) {
        m[v] = vf_load(max + v * VW);
        s[v] = vf_set(0);
    }
    for (int32_t j = 0; j < n; j++, x += cols)
        for (int v = 0; v < V; v++) {
            vf e = vf_exp(vf_load(x + v * VW) - m[v]);
            s[v] += e;
            vf_store(x + v * VW, e);
        }
    for (int v = 0; v < V; v++) vf_store(sum + v * VW, vf_load(sum + v * VW) + s[v]);
}

static void exp_cols(float *x, float *sum, const float *max, int32_t n, int32_t cols)
{
    int32_t c = 0;
    for (; c + 4 * VW <= cols; c += 4 * VW) exp_walk(x + c, sum + c, max + c, n, cols, 4);
    for (; c < cols; c += VW) exp_walk(x + c, sum + c, max + c, n, cols, 1);
}

/* best[j] = max_k x[k*ld + j], win[j] the first k that has it, for the first n <= VW of them. */
INLINE void best_vec(float *best, int32_t *win, const float *x, int32_t K, int64_t ld, int32_t n)
{
    vf m = vf_get(x, n);
    vi w = { 0 };
    for (int32_t k = 1; k < K; k++) {
        vf xk = vf_get(x + k * ld, n);
        w = (vi)vf_sel_lt(m, xk, (vf)(w * 0 + k), (vf)w); /* lanes are only moved */
        m = vf_max(xk, m);
    }
    vf_put(best, m, n);
    vf_put((float *)win, (vf)w, n);
}

static void best(float *out, int32_t *win, const float *x, int32_t K, int32_t n, int32_t ld)
{
    for (int32_t j = 0; j < n; j += VW) best_vec(out + j, win + j, x + j, K, ld, n - j);
}

static void best_cols(float *out, int32_t *win, const float *x, int32_t K, int32_t n, int32_t cols)
{
    for (int32_t j = 0; j < n; j++, x += (int64_t)K * cols)
        for (int32_t c = 0; c < cols; c += VW, out += VW, win += VW)
            best_vec(out, win, x + c, K, cols, VW);
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

/* SIDE rows of dtable, WIDE vectors of each; e and win of row r and sequence b lie at r*side + b*next. */
INLINE void cols_tile(float *y, const float *e, const int32_t *win, const float *q, int32_t B,
                      int32_t K, int64_t next, int64_t side, int32_t D, int add)
{
    vf a[SIDE][WIDE];
    for (int r = 0; r < SIDE; r++)
        for (int u = 0; u < WIDE; u++)
            a[r][u] = add ? vf_load(y + (int64_t)r * D + u * VW) : vf_set(0);
    for (int32_t b = 0; b < B; b++, e += next, win += next, q += (int64_t)K * D)
        for (int r = 0; r < SIDE; r++) {
            const float *x = q + (int64_t)win[r * side] * D;
            for (int u = 0; u < WIDE; u++) a[r][u] += e[r * side] * vf_load(x + u * VW);
        }
    for (int r = 0; r < SIDE; r++)
        for (int u = 0; u < WIDE; u++) vf_store(y + (int64_t)r * D + u * VW, a[r][u]);
}

/* One row of dtable, cols <= VW of its columns. */
INLINE void cols_rest(float *y, const float *e, const int32_t *win, const float *q, int32_t B,
                      int32_t K, int64_t next, int32_t D, int32_t cols, int add)
{
    vf a = add ? vf_get(y, cols) : vf_set(0);
    for (int32_t b = 0; b < B; b++, e += next, win += next, q += (int64_t)K * D)
        a += e[0] * vf_get(q + (int64_t)win[0] * D, cols);
    vf_put(y, a, cols);
}

static void win_cols(float *dtable, const float *e, const int32_t *win, const float *q, int32_t B,
                     int32_t K, int32_t n, int32_t next, int32_t side, int32_t D, int add)
{
    int32_t wide = D - D % (WIDE * VW), j = 0;
    for (; j + SIDE <= n; j += SIDE)
        for (int32_t c = 0; c < wide; c += WIDE * VW)
            cols_tile(dtable + (int64_t)j * D + c, e + (int64_t)j * side, win + (int64_t)j * side,
                      q + c, B, K, next, side, D, add);
    for (int32_t i = 0; i < n; i++)
        for (int32_t c = i < j ? wide : 0; c < D; c += VW)
            cols_rest(dtable + (int64_t)i * D + c, e + (int64_t)i * side, win + (int64_t)i * side,
                      q + c, B, K, next, D, D - c, add);
}

static void lse_bwd(float *dx, const float *x, float lse, float g, int64_t n)
{
    for (int64_t j = 0; j < n; j += VW) {
        vf d = vf_get(dx + j, n - j) + g * vf_exp(vf_get(x + j, n - j) - lse);
        vf_put(dx + j, d, n - j);
    }
}

const struct k_loss_ops NUM_TABLE(k_loss) = {
    .max_cols = max_cols,
    .exp_cols = exp_cols,
    .best = best,
    .best_cols = best_cols,
    .softplus_sum = softplus_sum,
    .win_rows = win_rows,
    .win_cols = win_cols,
    .lse_bwd = lse_bwd,
};
