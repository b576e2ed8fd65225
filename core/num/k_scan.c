#include "core/num/k_scan.h"
#include "core/num/isa.h"
#include "core/num/simd.h"

/* A tile: M queries times NP panels of PV vectors each stay in registers while the
 * dimensions run. */
enum { PV = SCAN_PANEL / VW };
#if SIMD_512
enum { MAX_M = 6, MAX_NP = 4 };
#elif SIMD_256
enum { MAX_M = 6, MAX_NP = 1 };
#else
enum { MAX_M = 3, MAX_NP = 1 };
#endif
enum { MAX_V = MAX_NP * PV };

enum kind { FP32, BF16, BF16_UNIT };

/* Bit i: not a[i] < b[i]. */
INLINE uint32_t not_less(vf a, vf b)
{
#if SIMD_512
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_NLT_UQ);
#elif SIMD_256
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_NLT_UQ));
#else
    const vi less = (vi)(a < b);
    uint32_t bits = 0;
    for (int i = 0; i < VW; i++) bits |= (uint32_t)(~less[i] & 1) << i;
    return bits;
#endif
}

/* Appends the lanes of m. */
INLINE int32_t append(float *score, int32_t *at, vf s, vi place, uint32_t m)
{
#if SIMD_512
    /* Not compressstore: Zen 4 takes a hundred cycles for it. */
    _mm512_storeu_ps(score, _mm512_maskz_compress_ps((__mmask16)m, (__m512)s));
    _mm512_storeu_si512(at, _mm512_maskz_compress_epi32((__mmask16)m, (__m512i)place));
    return __builtin_popcount(m);
#else
    int32_t n = 0;
    for (; m; m &= m - 1) {
        const int i = __builtin_ctz(m);
        score[n] = s[i];
        at[n++] = place[i];
    }
    return n;
#endif
}

INLINE vi lanes_from(int32_t at)
{
    vi lane = { 0 };
    UNROLL
    for (int i = 0; i < VW; i++) lane[i] = i;
    return lane + at;
}

INLINE void emit(struct scan_hits *h, const vf *acc, const struct scan_panel *p)
{
    const vf least = vf_set(h->least);
    UNROLL
    for (int v = 0; v < PV; v++) {
        const uint32_t m = not_less(acc[v], least) & (p->rows >> (v * VW)) & ((1u << VW) - 1);
        if (m) h->n += append(h->score + h->n, h->at + h->n, acc[v], lanes_from(p->at + v * VW), m);
    }
}

/* acc + the 16 sums of two bf16 products. */
INLINE vf bf16_unit(vf acc, vu x, vu q)
{
#if SIMD_512
    /* As asm: the file is compiled for CPUs without these units as well. */
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(x), "v"(q));
#else
    (void)x, (void)q;
#endif
    return acc;
}

INLINE void step(vf acc[MAX_M][MAX_V], const vf *x, const uint32_t *q, ptrdiff_t ldq, const int M,
                 const int NV, const enum kind kind)
{
    vf low[MAX_V], high[MAX_V];
    UNROLL
    for (int v = 0; v < NV && kind == BF16; v++) {
        low[v] = (vf)((vu)x[v] << 16);
        high[v] = (vf)((vu)x[v] & 0xffff0000u);
    }
    UNROLL
    for (int m = 0; m < M; m++) {
        const uint32_t bits = q[m * ldq];
        const vu b = vu_set(bits), b_low = vu_set(bits << 16), b_high = vu_set(bits & 0xffff0000u);
        UNROLL
        for (int v = 0; v < NV; v++) {
            if (kind == FP32)
                acc[m][v] += (vf)b * x[v];
            else if (kind == BF16)
                acc[m][v] += (vf)b_low * low[v] + (vf)b_high * high[v];
            else
                acc[m][v] = bf16_unit(acc[m][v], (vu)x[v], b);
        }
    }
}

INLINE void tile(struct scan_hits *h, const uint32_t *q, int32_t steps, const struct scan_panel *p,
                 const int M, const int NP, const enum kind kind)
{
    vf acc[MAX_M][MAX_V], x[MAX_V];
    const float *from[MAX_NP];
    UNROLL
    for (int i = 0; i < NP; i++) from[i] = p[i].x;
    UNROLL
    for (int m = 0; m < M; m++)
        UNROLL
        for (int v = 0; v < NP * PV; v++) acc[m][v] = (vf){ 0 };
    for (int32_t k = 0; k < steps; k++) {
        UNROLL
        for (int v = 0; v < NP * PV; v++)
            x[v] = vf_load(from[v / PV] + k * SCAN_PANEL + v % PV * VW);
        step(acc, x, q + k, steps, M, NP * PV, kind);
    }
    UNROLL
    for (int m = 0; m < M; m++)
        UNROLL
        for (int i = 0; i < NP; i++) emit(h + m, acc[m] + i * PV, p + i);
}

/* M queries as a constant. */
INLINE void tiles(struct scan_hits *h, const uint32_t *q, int32_t steps, const struct scan_panel *p,
                  int M, const int NP, const enum kind kind)
{
    switch (M) {
    case 1: tile(h, q, steps, p, 1, NP, kind); break;
    case 2: tile(h, q, steps, p, 2, NP, kind); break;
    case 3: tile(h, q, steps, p, 3, NP, kind); break;
#if VW > 4
    case 4: tile(h, q, steps, p, 4, NP, kind); break;
    case 5: tile(h, q, steps, p, 5, NP, kind); break;
    case 6: tile(h, q, steps, p, 6, NP, kind); break;
#endif
    default: break;
    }
}

/* Each share of the queries runs over all panels, which stay in the first-level cache. */
INLINE void run(struct scan_hits *hits, const uint32_t *q, int32_t nq, int32_t steps,
                const struct scan_panel *p, int32_t n, const int NP, const enum kind kind)
{
    for (int32_t i = 0, M; i < nq; i += M) {
        const int32_t shares = (nq - i + MAX_M - 1) / MAX_M;
        M = (nq - i + shares - 1) / shares;
        int32_t j = 0;
        for (; j + NP <= n; j += NP)
            tiles(hits + i, q + (ptrdiff_t)i * steps, steps, p + j, M, NP, kind);
        for (; j < n; j++) tiles(hits + i, q + (ptrdiff_t)i * steps, steps, p + j, M, 1, kind);
    }
}

static void fp32(struct scan_hits *hits, const float *queries, int32_t nq, int32_t D,
                 const struct scan_panel *panel, int32_t n)
{
    run(hits, (const uint32_t *)(const void *)queries, nq, D, panel, n, MAX_NP, FP32);
}

static void bf16(struct scan_hits *hits, const uint32_t *queries, int32_t nq, int32_t pairs,
                 const struct scan_panel *panel, int32_t n)
{
#if SIMD_512
    if (__builtin_cpu_supports("avx512bf16")) {
        run(hits, queries, nq, pairs, panel, n, MAX_NP, BF16_UNIT);
        return;
    }
#endif
    run(hits, queries, nq, pairs, panel, n, MAX_NP > 2 ? 2 : MAX_NP, BF16);
}

static void turn(float *panel, const float *const row[SCAN_PANEL], int32_t D)
{
    int32_t d = 0;
#if SIMD_512
    for (; d + 4 <= D; d += 4) simd_transpose4(panel, SCAN_PANEL, row, d);
#endif
    for (; d < D; d++)
        for (int r = 0; r < SCAN_PANEL; r++) panel[d * SCAN_PANEL + r] = row[r][d];
}

static int32_t count(const float *x, int32_t n, float least)
{
    int32_t c = 0, i = 0;
    const vf t = vf_set(least);
    for (; i + VW <= n; i += VW) c += __builtin_popcount(not_less(vf_load(x + i), t));
    for (; i < n; i++) c += !(x[i] < least);
    return c;
}

/* Halves the range of values; 1/8 too many is near enough. */
static float least_of(const float *score, int32_t n, int32_t k)
{
    enum { ROUNDS = 20 };
    float low = score[0], high = score[0];
    for (int32_t i = 1; i < n; i++) {
        low = score[i] < low ? score[i] : low;
        high = score[i] > high ? score[i] : high;
    }
    int32_t at_low = n;
    for (int i = 0; i < ROUNDS && at_low > k + k / 8; i++) {
        const float middle = 0.5f * low + 0.5f * high;
        const int32_t c = count(score, n, middle);
        if (c < k) {
            high = middle;
        } else {
            low = middle;
            at_low = c;
        }
    }
    return low;
}

static int32_t keep(float *score, int32_t *at, int32_t n, float least)
{
    int32_t kept = 0, i = 0;
    const vf t = vf_set(least);
    for (; i + VW <= n; i += VW) {
        const vf s = vf_load(score + i);
        const vi place = (vi)vf_load((const float *)(const void *)(at + i));
        const uint32_t m = not_less(s, t);
        if (m) kept += append(score + kept, at + kept, s, place, m);
    }
    for (; i < n; i++)
        if (!(score[i] < least)) {
            score[kept] = score[i];
            at[kept++] = at[i];
        }
    return kept;
}

extern const struct k_scan_ops NUM_TABLE(k_scan);
const struct k_scan_ops NUM_TABLE(k_scan) = {
    .fp32 = fp32,
    .bf16 = bf16,
    .turn = turn,
    .least_of = least_of,
    .keep = keep,
};
