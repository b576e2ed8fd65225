/* simd.h — vectors of VW floats for the k_*.c files: AVX-512, AVX2+FMA, or 16 bytes of GCC's vector
 * extension (SSE2, NEON ...).  Arithmetic is written with + - *; -ffp-contract=fast makes
 * fused multiply-adds of it where the machine has them.
 * Only included by files that are compiled once per instruction set. */
#pragma once
#include "core/num/drop.h"
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline, unused))

/* Before a loop of at most 16 rounds, known when compiling: none of it is left. */
#ifdef __clang__
#    define UNROLL _Pragma("clang loop unroll(full)")
#else
#    define UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#    include <immintrin.h>
#    define VW 16
#    define SIMD_512 1
#    define SIMD_256 0
#elif defined(__AVX2__) && defined(__FMA__)
#    include <immintrin.h>
#    define VW 8
#    define SIMD_512 0
#    define SIMD_256 1
#else
#    define VW 4
#    define SIMD_512 0
#    define SIMD_256 0
#endif

typedef float vf __attribute__((vector_size(VW * 4)));
typedef int32_t vi __attribute__((vector_size(VW * 4)));
typedef uint32_t vu __attribute__((vector_size(VW * 4)));
typedef float vf_any __attribute__((vector_size(VW * 4), aligned(4), may_alias));

INLINE vf vf_set(float a) { return a - (vf){ 0 }; }
INLINE vu vu_set(uint32_t a) { return a - (vu){ 0 }; }
INLINE vf vf_load(const float *p) { return *(const vf_any *)p; }
INLINE void vf_store(float *p, vf x) { *(vf_any *)p = x; }

/* The first n < VW lanes only; the others read as 0. */
#if SIMD_512
INLINE vf vf_load_n(const float *p, int n)
{
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void vf_store_n(float *p, vf x, int n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
}
#elif SIMD_256
INLINE __m256i simd_first(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vf vf_load_n(const float *p, int n) { return (vf)_mm256_maskload_ps(p, simd_first(n)); }
INLINE void vf_store_n(float *p, vf x, int n)
{
    _mm256_maskstore_ps(p, simd_first(n), (__m256)x);
}
#else
INLINE vf vf_load_n(const float *p, int n)
{
    vf x = { 0 };
    for (int i = 0; i < n; i++) x[i] = p[i];
    return x;
}
INLINE void vf_store_n(float *p, vf x, int n)
{
    for (int i = 0; i < n; i++) p[i] = x[i];
}
#endif

/* Lanes c of VW with c < n: a full or a partial access. */
INLINE vf vf_get(const float *p, int64_t n) { return n >= VW ? vf_load(p) : vf_load_n(p, (int)n); }
INLINE void vf_put(float *p, vf x, int64_t n)
{
    if (n >= VW)
        vf_store(p, x);
    else
        vf_store_n(p, x, (int)n);
}

/* The first m lanes of x, 0 in the others. */
INLINE vf vf_first(vf x, int64_t m)
{
    if (m >= VW) return x;
#if SIMD_512
    return (vf)_mm512_maskz_mov_ps((__mmask16)((1u << m) - 1), (__m512)x);
#elif SIMD_256
    return (vf)_mm256_and_ps((__m256)x, (__m256)simd_first((int)m));
#else
    for (int64_t i = m; i < VW; i++) x[i] = 0.0f;
    return x;
#endif
}

/* max, min: the second operand where either is NaN.  sel_lt: a < b ? x : y. */
#if SIMD_512
INLINE vf vf_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf vf_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE vf vf_sel_lt(vf a, vf b, vf x, vf y)
{
    __mmask16 m = _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
    return (vf)_mm512_mask_blend_ps(m, (__m512)y, (__m512)x);
}
INLINE float vf_hsum(vf a) { return _mm512_reduce_add_ps((__m512)a); }
INLINE float vf_hmax(vf a) { return _mm512_reduce_max_ps((__m512)a); }
#else
INLINE vf simd_pick(vi m, vf x, vf y) { return (vf)((m & (vi)x) | (~m & (vi)y)); }
INLINE vf vf_sel_lt(vf a, vf b, vf x, vf y) { return simd_pick((vi)(a < b), x, y); }
#    if SIMD_256
INLINE vf vf_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf vf_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#    else
INLINE vf vf_max(vf a, vf b) { return vf_sel_lt(b, a, a, b); }
INLINE vf vf_min(vf a, vf b) { return vf_sel_lt(a, b, a, b); }
#    endif
INLINE float vf_hsum(vf a)
{
    float s[4];
    for (int i = 0; i < 4; i++) s[i] = VW == 8 ? a[i] + a[(i + 4) % VW] : a[i];
    return (s[0] + s[2]) + (s[1] + s[3]);
}
INLINE float vf_hmax(vf a)
{
    float m = a[0];
    for (int i = 1; i < VW; i++) m = a[i] > m ? a[i] : m;
    return m;
}
#endif

/* a . b */
INLINE float simd_dot(const float *a, const float *b, int32_t n)
{
    vf s = { 0 };
    for (int32_t j = 0; j < n; j += VW) s += vf_get(a + j, n - j) * vf_get(b + j, n - j);
    return vf_hsum(s);
}

/* y += c x */
INLINE void simd_add(float *y, const float *x, float c, int32_t n)
{
    for (int32_t j = 0; j < n; j += VW)
        vf_put(y + j, vf_get(y + j, n - j) + c * vf_get(x + j, n - j), n - j);
}

/* exp, relative error below 2e-7 where the result is normal; exp(-inf) = 0, exp(NaN) = NaN.
 * Cephes' expf: x = n ln 2 + r, polynomial in r. */
INLINE vf vf_exp(vf x)
{
    vf y = vf_max(vf_set(-104.0f), vf_min(vf_set(89.0f), x));
#if SIMD_512
    vf n = (vf)_mm512_roundscale_ps((__m512)(y * 1.44269504f),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    vf shifted = y * 1.44269504f + magic;
    vf n = shifted - magic;
#endif
    vf r = y - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vf p = vf_set(1.9875691500e-4f) * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
#if SIMD_512
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    vi k = (vi)shifted - 0x4b400000; /* n as an integer */
    vi half = k >> 1;                /* 2^n in two factors: n may leave the exponent's range */
    return p * (vf)((half + 127) << 23) * (vf)((k - half + 127) << 23);
#endif
}

/* erf, absolute error below 2e-7: rational minimax on [-4,4] (the coefficients of Eigen's
 * float erf), constant outside where it is 1 to float precision. */
INLINE vf vf_erf(vf x)
{
    vf z = vf_max(vf_set(-4.0f), vf_min(vf_set(4.0f), x));
    vf s = z * z;
    vf p = vf_set(-2.72614225801306e-10f) * s + 2.77068142495902e-08f;
    p = p * s + -2.10102402082508e-06f;
    p = p * s + -5.69250639462346e-05f;
    p = p * s + -7.34990630326855e-04f;
    p = p * s + -2.95459980854025e-03f;
    p = p * s + -1.60960333262415e-02f;
    vf q = vf_set(-1.45660718464996e-05f) * s + -2.13374055278905e-04f;
    q = q * s + -1.68282697438203e-03f;
    q = q * s + -7.37332916720468e-03f;
    q = q * s + -1.42647390514189e-02f;
    return z * p / q;
}

/* drop.h, VW counters at once.  One hash serves columns c.. (low half) and c+16.. (high half). */
INLINE vu vu_drop_hash(uint64_t row_key, uint32_t ctr)
{
    vu lane = { 0 };
    for (int i = 0; i < VW; i++) lane[i] = (uint32_t)i;
    vu h = lane + (ctr + (uint32_t)row_key);
    h = (h ^ (h >> 16)) * 0x7feb352du;
    h ^= (uint32_t)(row_key >> 32);
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    return h ^ (h >> 16);
}
/* x where h (16 bits) is below keep, 0 elsewhere. */
INLINE vf vf_keep(vf x, vu h, uint32_t keep)
{
#if SIMD_512
    __mmask16 m = _mm512_cmplt_epu32_mask((__m512i)h, _mm512_set1_epi32((int)keep));
    return (vf)_mm512_maskz_mov_ps(m, (__m512)x);
#else
    return (vf)((vi)x & (vi)((vi)h < (vi)vu_set(keep)));
#endif
}
INLINE vu vu_low16(vu h) { return h & 0xffffu; }
INLINE vu vu_high16(vu h) { return h >> 16; }
/* The 16 bits of columns c .. c+VW-1, c a multiple of VW: for loops that take one vector at a time. */
INLINE vu vu_drop_bits(uint64_t row_key, int64_t c)
{
    vu h = vu_drop_hash(row_key, (uint32_t)((c >> 5) * 16 + (c & 15)));
    return (c & 16) ? vu_high16(h) : vu_low16(h);
}

/* a0 b0 a1 b1 ... of the lower and of the upper halves. */
INLINE vf vf_zip_lo(vf a, vf b)
{
#if VW == 16
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif VW == 8
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
#endif
}
INLINE vf vf_zip_hi(vf a, vf b)
{
#if VW == 16
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                   31);
#elif VW == 8
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

#if SIMD_512
/* Columns c .. c+3 of 16 rows.  Quarter q of vector t is row 4q+t, which loading does; the quarters are turned
 * where they are. */
INLINE void simd_transpose4(float *dst, ptrdiff_t ldd, const float *const row[16], int c)
{
    __m512 a[4];
    UNROLL
    for (int t = 0; t < 4; t++) {
        a[t] = _mm512_castps128_ps512(_mm_loadu_ps(row[t] + c));
        a[t] = _mm512_mask_broadcast_f32x4(a[t], 0x00f0, _mm_loadu_ps(row[4 + t] + c));
        a[t] = _mm512_mask_broadcast_f32x4(a[t], 0x0f00, _mm_loadu_ps(row[8 + t] + c));
        a[t] = _mm512_mask_broadcast_f32x4(a[t], 0xf000, _mm_loadu_ps(row[12 + t] + c));
    }
    const __m512d lo01 = _mm512_castps_pd(_mm512_unpacklo_ps(a[0], a[1]));
    const __m512d lo23 = _mm512_castps_pd(_mm512_unpacklo_ps(a[2], a[3]));
    const __m512d hi01 = _mm512_castps_pd(_mm512_unpackhi_ps(a[0], a[1]));
    const __m512d hi23 = _mm512_castps_pd(_mm512_unpackhi_ps(a[2], a[3]));
    _mm512_storeu_pd((double *)(dst + c * ldd), _mm512_unpacklo_pd(lo01, lo23));
    _mm512_storeu_pd((double *)(dst + (c + 1) * ldd), _mm512_unpackhi_pd(lo01, lo23));
    _mm512_storeu_pd((double *)(dst + (c + 2) * ldd), _mm512_unpacklo_pd(hi01, hi23));
    _mm512_storeu_pd((double *)(dst + (c + 3) * ldd), _mm512_unpackhi_pd(hi01, hi23));
}
#endif

/* dst[c*ldd + r] = src[r*lds + c] for c < cols, r < VW; what stands for rows past `rows` is copied
 * from the last one.  rows >= 1, cols <= VW.  log2 VW rounds of zipping vector i with vector i + VW/2 transpose. */
INLINE void simd_transpose(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int64_t rows,
                           int64_t cols)
{
#if SIMD_512
    if (cols >= VW) {
        const float *row[VW];
        UNROLL
        for (int r = 0; r < VW; r++) row[r] = src + (r < rows ? r : rows - 1) * lds;
        UNROLL
        for (int c = 0; c < VW; c += 4) simd_transpose4(dst, ldd, row, c);
        return;
    }
#endif
    vf a[VW], b[VW];
    if (cols >= VW) { /* rows that are not there repeat the last one: no branches */
        UNROLL
        for (int r = 0; r < VW; r++) a[r] = vf_load(src + (r < rows ? r : rows - 1) * lds);
    } else {
        UNROLL
        for (int r = 0; r < VW; r++)
            a[r] = vf_load_n(src + (r < rows ? r : rows - 1) * lds, (int)cols);
    }
    UNROLL
    for (int step = 1; step < VW; step *= 2) {
        UNROLL
        for (int i = 0; i < VW / 2; i++) {
            b[2 * i] = vf_zip_lo(a[i], a[i + VW / 2]);
            b[2 * i + 1] = vf_zip_hi(a[i], a[i + VW / 2]);
        }
        UNROLL
        for (int i = 0; i < VW; i++) a[i] = b[i];
    }
    UNROLL
    for (int c = 0; c < VW; c++)
        if (c < cols) vf_store(dst + c * ldd, a[c]);
}
