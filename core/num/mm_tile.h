/* mm_tile.h — the tile all products are made of: R x NV vectors of c stay in registers while k
 * runs.  Every element of c is one chain of multiply-adds in the order of k, so its bits do not
 * depend on how rows and columns were tiled.
 * Only for files that are compiled once per instruction set. */
#pragma once
#include "core/num/simd.h"
#include <stdbool.h>
#include <stddef.h>

/* Accumulators: R*NV + NV + 1 vectors must fit the register file. */
#if SIMD_512
enum { MM_R = 12, MM_NV = 2 };
#else
enum { MM_R = 6, MM_NV = 2 };
#endif

struct mm_args {
    float *c;
    const float *a, *b;
    const float *from; /* what c starts from, row stride ldf: c itself, a bias (0), NULL: zero */
    ptrdiff_t ldc, lda, ldb, ldf;
    int32_t K;
};

/* c[r,j] = from[r,j] + sum_k a(r,k) b[k,j] for r < R, j < NV vectors (the last one of `lanes` lanes
 * where part is set).  tn: a(r,k) = a[k*lda + r], else a[r*lda + k]. */
INLINE void mm_tile(const struct mm_args *g, const int R, const int NV, const bool part,
                    const bool tn, int lanes)
{
    vf acc[MM_R][MM_NV];
    float *c = g->c;
    const float *a = g->a, *b = g->b, *from = g->from;
    const ptrdiff_t lda = g->lda, ldb = g->ldb, ldc = g->ldc, ldf = g->ldf;
#define MM_LOAD(p, v)                                                                          \
    (part && (v) == NV - 1 ? vf_load_n((p) + (v) * VW, lanes) : vf_load((p) + (v) * VW))
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int v = 0; v < NV; v++)
            acc[r][v] = from ? MM_LOAD(from + r * ldf, v) : (vf){ 0 };
    for (int32_t k = 0; k < g->K; k++) {
        vf bv[MM_NV];
        UNROLL
        for (int v = 0; v < NV; v++) bv[v] = MM_LOAD(b, v);
        UNROLL
        for (int r = 0; r < R; r++) {
            vf x = vf_set(tn ? a[r] : a[r * lda]);
            UNROLL
            for (int v = 0; v < NV; v++) acc[r][v] += x * bv[v];
        }
        a += tn ? lda : 1;
        b += ldb;
    }
    UNROLL
    for (int r = 0; r < R; r++)
        UNROLL
        for (int v = 0; v < NV; v++) {
            float *p = c + r * ldc + v * VW;
            if (part && v == NV - 1)
                vf_store_n(p, acc[r][v], lanes);
            else
                vf_store(p, acc[r][v]);
        }
#undef MM_LOAD
}

/* R rows as a constant. */
INLINE void mm_rows(const struct mm_args *g, int rows, const int NV, const bool part, const bool tn,
                    int lanes)
{
    switch (rows) {
    case 1: mm_tile(g, 1, NV, part, tn, lanes); break;
    case 2: mm_tile(g, 2, NV, part, tn, lanes); break;
    case 3: mm_tile(g, 3, NV, part, tn, lanes); break;
    case 4: mm_tile(g, 4, NV, part, tn, lanes); break;
    case 5: mm_tile(g, 5, NV, part, tn, lanes); break;
    case 6: mm_tile(g, 6, NV, part, tn, lanes); break;
#if SIMD_512
    case 7: mm_tile(g, 7, NV, part, tn, lanes); break;
    case 8: mm_tile(g, 8, NV, part, tn, lanes); break;
    case 9: mm_tile(g, 9, NV, part, tn, lanes); break;
    case 10: mm_tile(g, 10, NV, part, tn, lanes); break;
    case 11: mm_tile(g, 11, NV, part, tn, lanes); break;
    case 12: mm_tile(g, 12, NV, part, tn, lanes); break;
#endif
    default: break;
    }
}

/* Any N columns for one tile of rows <= MM_R. */
INLINE void mm_row_tile(struct mm_args g, int rows, int32_t N, const bool tn)
{
    int32_t j = 0;
    for (; j + MM_NV * VW <= N; j += MM_NV * VW) {
        mm_rows(&g, rows, MM_NV, false, tn, 0);
        g.c += MM_NV * VW;
        g.b += MM_NV * VW;
        if (g.from) g.from += MM_NV * VW;
    }
    for (; j < N; j += VW) {
        if (N - j >= VW)
            mm_rows(&g, rows, 1, false, tn, 0);
        else
            mm_rows(&g, rows, 1, true, tn, N - j);
        g.c += VW;
        g.b += VW;
        if (g.from) g.from += VW;
    }
}

/* The size of the next tile of rows when `left` remain: tiles as equal as can be. */
INLINE int32_t mm_next_rows(int32_t left)
{
    int32_t tiles = (left + MM_R - 1) / MM_R;
    return (left + tiles - 1) / tiles;
}
