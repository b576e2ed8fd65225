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

enum kind { FP32, BF16, BF16_UNIT, BYTES, BYTES_UNIT };

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

/* The lanes of m to the front. */
INLINE void put_lanes(float *to, vf x, uint32_t m)
{
#if SIMD_512
    /* Not compressstore: Zen 4 takes a hundred cycles for it. */
    _mm512_storeu_ps(to, _mm512_maskz_compress_ps((__mmask16)m, (__m512)x));
#else
    for (int32_t n = 0; m; m &= m - 1) to[n++] = x[__builtin_ctz(m)];
#endif
}

INLINE int32_t count_lanes(uint32_t m)
{
#if SIMD_512 || SIMD_256
    return __builtin_popcount(m);
#else
    int32_t n = 0;
    for (; m; m &= m - 1) n++;
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

/* Tiles of one query that have a hit.  Every tile is written, and the next one over it unless it has
 * one: no branch, since none could be foretold. */
enum { SLOT = MAX_NP * SCAN_PANEL, SLOTS = SCAN_PANELS / MAX_NP + MAX_NP };
struct found {
    float score[SLOTS * SLOT];
    uint64_t hits[SLOTS]; /* bit 16 i + r: row r of the tile's panel i */
    int32_t first[SLOTS]; /* the tile's first panel */
    int32_t n;
};

INLINE uint64_t rows_of(const struct scan_panel *p, const int NP)
{
    uint64_t rows = 0;
    UNROLL
    for (int i = 0; i < NP; i++) rows |= (uint64_t)p[i].rows << (i * SCAN_PANEL);
    return rows;
}

/* x [NP*PV]: the scores of NP panels from `first` on, `rows` of which count. */
INLINE void note(struct found *f, const vf *x, float least, uint64_t rows, int32_t first,
                 const int NP)
{
    uint64_t hits = 0;
    UNROLL
    for (int v = 0; v < NP * PV; v++) {
        hits |= (uint64_t)not_less(x[v], vf_set(least)) << (v * VW);
        vf_store(f->score + f->n * SLOT + v * VW, x[v]);
    }
    f->hits[f->n] = hits & rows;
    f->first[f->n] = first;
    f->n += (hits & rows) != 0;
}

/* What a one of the panel's rows stands for. */
INLINE vf ones_of(const struct scan_panel *p, int32_t steps, int v, const enum kind kind)
{
    return kind < BYTES ? vf_set(1) : vf_load((const float *)p->x + steps * SCAN_PANEL + v * VW);
}

/* Many rows of a tile. */
INLINE void append_lanes(struct scan_hits *h, const float *score, uint64_t hits,
                         const struct scan_panel *p, int32_t steps, const enum kind kind)
{
    for (int v = 0; v < MAX_V; v++) {
        const uint32_t m = (uint32_t)(hits >> (v * VW)) & ((1u << VW) - 1);
        if (!m) continue;
        const struct scan_panel *of = p + v / PV;
        const vf x = vf_load(score + v * VW);
        put_lanes(h->high + h->n, x, m);
        put_lanes(h->low + h->n, x - h->width * ones_of(of, steps, v % PV, kind), m);
        put_lanes((float *)(void *)(h->at + h->n), (vf)lanes_from(of->at + v % PV * VW), m);
        h->n += count_lanes(m);
    }
}

INLINE void append(struct scan_hits *h, const struct found *f, const struct scan_panel *p,
                   int32_t steps, const enum kind kind)
{
    enum { MANY = 6 };
    for (int32_t i = 0; i < f->n; i++) {
        const struct scan_panel *first = p + f->first[i];
        uint64_t hits = f->hits[i];
        if (__builtin_popcountll(hits) > MANY) {
            append_lanes(h, f->score + i * SLOT, hits, first, steps, kind);
            continue;
        }
        for (; hits; hits &= hits - 1) {
            const int lane = __builtin_ctzll(hits), r = lane % SCAN_PANEL;
            const struct scan_panel *of = first + lane / SCAN_PANEL;
            const float x = f->score[i * SLOT + lane],
                        one = kind < BYTES ? 1 : ((const float *)of->x)[steps * SCAN_PANEL + r];
            h->high[h->n] = x;
            h->low[h->n] = x - h->width * one;
            h->at[h->n++] = of->at + r;
        }
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

/* acc + the 16 sums of four products of bytes, those of x unsigned, those of q signed. */
INLINE vf bytes_unit(vf acc, vu x, vu q)
{
#if SIMD_512
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(q));
#else
    (void)x, (void)q;
#endif
    return acc;
}

INLINE vf bytes_portable(vf acc, vu x, uint32_t q)
{
    vi sum = (vi)acc;
    UNROLL
    for (int b = 0; b < 32; b += 8) sum += (vi)(x >> b & 255u) * (int32_t)(int8_t)(q >> b);
    return (vf)sum;
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
            else if (kind == BF16_UNIT)
                acc[m][v] = bf16_unit(acc[m][v], (vu)x[v], b);
            else if (kind == BYTES)
                acc[m][v] = bytes_portable(acc[m][v], (vu)x[v], bits);
            else
                acc[m][v] = bytes_unit(acc[m][v], (vu)x[v], b);
        }
    }
}

/* Panels p[first] to p[first + NP - 1]. */
INLINE void tile(struct found *f, const struct scan_hits *h, const uint32_t *q, int32_t steps,
                 const struct scan_panel *p, int32_t first, const int M, const int NP,
                 const enum kind kind)
{
    vf acc[MAX_M][MAX_V], x[MAX_V];
    const float *from[MAX_NP];
    UNROLL
    for (int i = 0; i < NP; i++) from[i] = p[first + i].x;
    UNROLL
    for (int m = 0; m < M; m++)
        UNROLL
        for (int v = 0; v < NP * PV; v++)
            acc[m][v] = kind < BYTES ? (vf){ 0 } : (vf)((vi){ 0 } + h[m].start);
    for (int32_t k = 0; k < steps; k++) {
        UNROLL
        for (int v = 0; v < NP * PV; v++)
            x[v] = vf_load(from[v / PV] + k * SCAN_PANEL + v % PV * VW);
        step(acc, x, q + k, steps, M, NP * PV, kind);
    }
    const uint64_t rows = rows_of(p + first, NP);
    UNROLL
    for (int v = 0; v < NP * PV; v++) x[v] = ones_of(p + first + v / PV, steps, v % PV, kind);
    UNROLL
    for (int m = 0; m < M; m++) {
        if (kind >= BYTES)
            UNROLL
            for (int v = 0; v < NP * PV; v++)
                acc[m][v] = __builtin_convertvector((vi)acc[m][v], vf) * x[v];
        note(f + m, acc[m], h[m].least, rows, first, NP);
    }
}

/* M queries as a constant. */
INLINE void tiles(struct found *f, const struct scan_hits *h, const uint32_t *q, int32_t steps,
                  const struct scan_panel *p, int32_t first, int M, const int NP,
                  const enum kind kind)
{
    switch (M) {
    case 1: tile(f, h, q, steps, p, first, 1, NP, kind); break;
    case 2: tile(f, h, q, steps, p, first, 2, NP, kind); break;
    case 3: tile(f, h, q, steps, p, first, 3, NP, kind); break;
#if VW > 4
    case 4: tile(f, h, q, steps, p, first, 4, NP, kind); break;
    case 5: tile(f, h, q, steps, p, first, 5, NP, kind); break;
    case 6: tile(f, h, q, steps, p, first, 6, NP, kind); break;
#endif
    default: break;
    }
}

/* Each share of the queries runs over all panels, which stay in a near cache. */
INLINE void run(struct scan_hits *hits, const uint32_t *q, int32_t nq, int32_t steps,
                const struct scan_panel *p, int32_t n, const int NP, const enum kind kind)
{
    struct found found[MAX_M];
    for (int32_t i = 0, M; i < nq; i += M) {
        const int32_t shares = (nq - i + MAX_M - 1) / MAX_M;
        M = (nq - i + shares - 1) / shares;
        for (int32_t m = 0; m < M; m++) found[m].n = 0;
        int32_t j = 0;
        for (; j + NP <= n; j += NP)
            tiles(found, hits + i, q + (ptrdiff_t)i * steps, steps, p, j, M, NP, kind);
        for (; j < n; j++)
            tiles(found, hits + i, q + (ptrdiff_t)i * steps, steps, p, j, M, 1, kind);
        for (int32_t m = 0; m < M; m++) append(hits + i + m, found + m, p, steps, kind);
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

static bool bytes_are_fast(void)
{
    return SIMD_512 && __builtin_cpu_supports("avx512vnni");
}

static void bytes(struct scan_hits *hits, const uint32_t *queries, int32_t nq, int32_t quads,
                  const struct scan_panel *panel, int32_t n)
{
    if (bytes_are_fast())
        run(hits, queries, nq, quads, panel, n, MAX_NP, BYTES_UNIT);
    else
        run(hits, queries, nq, quads, panel, n, MAX_NP > 2 ? 2 : MAX_NP, BYTES);
}

static float largest(const float *x, int32_t n)
{
    vf m = { 0 };
    for (int32_t i = 0; i < n; i += VW) {
        const vf v = vf_get(x + i, n - i);
        m = vf_max(m, (vf)((vu)v & 0x7fffffffu));
    }
    return vf_hmax(m);
}

/* Adding 3 * 2^22 rounds to an integer, which the low bits then hold. */
static void to_bytes(int8_t *b, struct scan_bytes *of, const float *x, int32_t n)
{
    const float magic = 12582912.0f, most = largest(x, n),
                per = 127 / (most > 0x1p-100f ? most : 0x1p-100f);
    vf norm = { 0 }, off = { 0 };
    vi sum = { 0 }, square = { 0 };
    for (int32_t i = 0; i < n; i += VW) {
        const vf v = vf_get(x + i, n - i) * per;
        const vf shifted = vf_max(vf_min(v, vf_set(127)), vf_set(-127)) + magic;
        const vf o = v - (shifted - magic);
        const vi k = (vi)shifted - 0x4b400000;
        norm += v * v;
        off += o * o;
        sum += k;
        square += k * k;
        for (int j = 0; j < VW && i + j < (n + 3) / 4 * 4; j++) b[i + j] = (int8_t)k[j];
    }
    *of = (struct scan_bytes){ .scale = 1 / per };
    for (int j = 0; j < VW; j++) {
        of->sum += sum[j];
        of->square += square[j];
    }
    /* Sums of n squares are off by n 2^-24 of themselves at most, v by 2^-24 of itself, scale too. */
    const float more = 1 + (float)(n + 16) * 0x1p-23f;
    of->norm = __builtin_sqrtf(vf_hsum(norm)) * more;
    of->off = __builtin_sqrtf(vf_hsum(off)) * more + 0x1p-21f * of->norm;
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
    vf least = vf_set(score[0]), most = least;
    int32_t j = 0;
    for (; j + VW <= n; j += VW) {
        least = vf_min(least, vf_load(score + j));
        most = vf_max(most, vf_load(score + j));
    }
    float low = -vf_hmax(-least), high = vf_hmax(most);
    for (; j < n; j++) {
        low = score[j] < low ? score[j] : low;
        high = score[j] > high ? score[j] : high;
    }
    int32_t at_low = n;
    for (int i = 0; i < ROUNDS && at_low > k + k / 8; i++) {
        const float middle = 0.5f * low + 0.5f * high;
        const int32_t c = count(score, n, middle);
        const bool enough = c >= k;
        low = enough ? middle : low;
        at_low = enough ? c : at_low;
        high = enough ? high : middle;
    }
    return low;
}

static void keep(struct scan_hits *h, float least)
{
    int32_t kept = 0, i = 0;
    const vf t = vf_set(least);
    for (; i + VW <= h->n; i += VW) {
        const vf high = vf_load(h->high + i), low = vf_load(h->low + i),
                 at = vf_load((const float *)(const void *)(h->at + i));
        const uint32_t m = not_less(high, t);
        put_lanes(h->high + kept, high, m);
        put_lanes(h->low + kept, low, m);
        put_lanes((float *)(void *)(h->at + kept), at, m);
        kept += count_lanes(m);
    }
    for (; i < h->n; i++)
        if (!(h->high[i] < least)) {
            h->high[kept] = h->high[i];
            h->low[kept] = h->low[i];
            h->at[kept++] = h->at[i];
        }
    h->n = kept;
}

typedef uint64_t vk __attribute__((vector_size(VW * 4)));
typedef uint64_t vk_any __attribute__((vector_size(VW * 4), aligned(8), may_alias));

/* n + 1 where a > b. */
INLINE vk count_larger(vk n, vk a, vk b)
{
#if SIMD_512
    const __mmask8 m = _mm512_cmpgt_epu64_mask((__m512i)a, (__m512i)b);
    return (vk)_mm512_mask_sub_epi64((__m512i)n, m, (__m512i)n, _mm512_set1_epi64(-1));
#else
    return n - (vk)(a > b);
#endif
}

/* Each key's place is the number of those that are larger. */
static void rank(uint64_t *out, const uint64_t *key, int32_t n)
{
    enum { KW = VW / 2, AT_ONCE = SCAN_SPARE / KW };
    for (int32_t i = 0; i < n; i += SCAN_SPARE) {
        vk x[AT_ONCE], place[AT_ONCE];
        uint64_t at[SCAN_SPARE];
        UNROLL
        for (int v = 0; v < AT_ONCE; v++) {
            x[v] = *(const vk_any *)(key + i + v * KW);
            place[v] = (vk){ 0 };
        }
        for (int32_t j = 0; j < n; j++)
            UNROLL
            for (int v = 0; v < AT_ONCE; v++) 
                place[v] = count_larger(place[v], key[j] - (vk){ 0 }, x[v]);
        UNROLL
        for (int v = 0; v < AT_ONCE; v++) *(vk_any *)(at + v * KW) = place[v];
        const int32_t here = n - i < SCAN_SPARE ? n - i : SCAN_SPARE;
#pragma GCC unroll 1
        for (int32_t j = 0; j < here; j++) out[at[j]] = key[i + j];
    }
}

extern const struct k_scan_ops NUM_TABLE(k_scan);
const struct k_scan_ops NUM_TABLE(k_scan) = {
    .fp32 = fp32,
    .bf16 = bf16,
    .bytes = bytes,
    .bytes_are_fast = bytes_are_fast,
    .to_bytes = to_bytes,
    .turn = turn,
    .least_of = least_of,
    .keep = keep,
    .rank = rank,
};
