#include "core/num/k_attn.h"
#include "core/num/isa.h"
#include "core/num/mm_tile.h"
#include <math.h>
#include <string.h>

/* Queries and keys of one block: up to 64 tokens (nearly every sequence) it is one block.  Consecutive
 * sequences of together up to PACK tokens are put into one: most are short, and
 * the cost of a block hardly depends on how full it is. */
enum { BLK = 64, PACK = 16 };

/* One head of one sequence, or of the sequences of a pack. */
struct head {
    const float *q, *k, *v; /* [n,dh], row stride ld */
    const uint8_t *key;
    const struct k_attn_cfg *cfg;
    ptrdiff_t ld;
    int32_t n, dh;
    int64_t tok, h;
    const int32_t *lo, *hi; /* pack: query i sees keys lo[i] .. hi[i]-1 of the block; NULL: one sequence */
    float *kt, *vt; /* [dh,BLK] transposed keys and values of the current block */
    float *s, *dp;  /* [BLK,BLK] */
    float *bias;    /* [BLK] 0, or -inf for what is no key; not used without a key mask */
    float *top, *sum, *delta; /* [n] running maximum and sum; dy.y */
};

/* The current pair of blocks. */
struct span {
    int32_t i0, ni; /* queries */
    int32_t j0, nj; /* keys */
    bool diagonal;  /* causal and the two coincide: key j only for queries >= j */
};

/* Room for n statistics, or for those of a pack. */
static size_t stats_of(int32_t n) { return n < PACK ? PACK : ((size_t)n + 15) / 16 * 16; }

static size_t scratch(const struct k_attn_cfg *cfg, int32_t n)
{
    size_t dh = (size_t)(cfg->D / cfg->H), stats = stats_of(n);
    return 2 * dh * BLK + 2 * BLK * BLK + BLK + 3 * stats;
}

/* n tokens from token tok of the pack on. */
static struct head head_make(const float *qkv, const uint8_t *key, int32_t n, int64_t tok, int32_t h,
                             const struct k_attn_cfg *cfg, float *mem)
{
    const int32_t D = cfg->D, dh = D / cfg->H;
    const size_t stats = stats_of(n);
    struct head a = { .q = qkv + tok * 3 * D + (ptrdiff_t)h * dh,
                      .key = key ? key + tok : NULL,
                      .cfg = cfg,
                      .ld = 3 * (ptrdiff_t)D,
                      .n = n,
                      .dh = dh,
                      .tok = tok,
                      .h = h };
    a.k = a.q + D;
    a.v = a.k + D;
    a.s = mem;
    a.dp = a.s + BLK * BLK;
    a.kt = a.dp + BLK * BLK;
    a.vt = a.kt + (ptrdiff_t)dh * BLK;
    a.bias = a.vt + (ptrdiff_t)dh * BLK;
    a.top = a.bias + BLK;
    a.sum = a.top + stats;
    a.delta = a.sum + stats;
    return a;
}

/* ---- products on the tiles of a block ---- */

static void tile_nn(float *c, ptrdiff_t ldc, const float *a, ptrdiff_t lda, const float *b,
                    ptrdiff_t ldb, int32_t rows, int32_t N, int32_t K, bool add)
{
    struct mm_args g = { c, a, b, add ? c : NULL, ldc, lda, ldb, ldc, K };
    mm_row_tile(g, rows, N, false);
}

static void tile_tn_add(float *c, ptrdiff_t ldc, const float *a, ptrdiff_t lda, const float *b,
                        ptrdiff_t ldb, int32_t rows, int32_t N, int32_t K)
{
    struct mm_args g = { c, a, b, c, ldc, lda, ldb, ldc, K };
    mm_row_tile(g, rows, N, true);
}

static int32_t round_up(int32_t n) { return (n + VW - 1) / VW * VW; }

/* End of the keys that queries up to the block's row i (inclusive) may see. */
static int32_t keys_of(const struct head *a, const struct span *p, int32_t i)
{
    if (a->hi) return a->hi[i];
    return p->diagonal && i + 1 < p->nj ? i + 1 : p->nj;
}

/* t[dh,BLK] = transpose of rows j0 .. j0+nj of x [n,dh]; padding columns hold copies. */
static void transpose_block(float *t, const float *x, const struct head *a, const struct span *p)
{
    for (int32_t j = 0; j < p->nj; j += VW)
        for (int32_t c = 0; c < a->dh; c += VW)
            simd_transpose(t + (ptrdiff_t)c * BLK + j, BLK, x + (p->j0 + j) * a->ld + c, a->ld,
                           p->nj - j, a->dh - c < VW ? a->dh - c : VW);
}

static void key_bias(struct head *a, const struct span *p)
{
    for (int32_t j = 0; a->key && j < p->nj; j++)
        a->bias[j] = a->key[p->j0 + j] ? 0.0f : -INFINITY;
}

/* out[BLK,BLK] = x xt for the block's queries: scores with (q, kt), dP with (dy, vt). */
static void block_scores(float *out, const float *x, ptrdiff_t ldx, const float *xt,
                         const struct head *a, const struct span *p)
{
    for (int32_t i = 0, rows; i < p->ni; i += rows) {
        rows = mm_next_rows(p->ni - i);
        tile_nn(out + i * BLK, BLK, x + (p->i0 + i) * ldx, ldx, xt, BLK, rows,
                round_up(keys_of(a, p, i + rows - 1)), a->dh, false);
    }
}

/* out[queries,dh] (+)= w[BLK,BLK] x: y with (P, v), dq with (dS, k). */
static void block_mix(float *out, ptrdiff_t ldo, const float *w, const float *x,
                      const struct head *a, const struct span *p, bool add)
{
    for (int32_t i = 0, rows; i < p->ni; i += rows) {
        rows = mm_next_rows(p->ni - i);
        tile_nn(out + (p->i0 + i) * ldo, ldo, w + i * BLK, BLK, x + p->j0 * a->ld, a->ld, rows,
                a->dh, keys_of(a, p, i + rows - 1), add);
    }
}

/* out[keys,dh] += w[BLK,BLK]^T x: dv with (P, dy), dk with (dS, q). */
static void block_mix_back(float *out, const float *w, const float *x, ptrdiff_t ldx,
                           const struct head *a, const struct span *p)
{
    for (int32_t j = 0, rows; j < p->nj; j += rows) {
        rows = mm_next_rows(p->nj - j);
        int32_t i = p->diagonal ? j : 0; /* earlier queries do not see these keys */
        tile_tn_add(out + (p->j0 + j) * a->ld, a->ld, w + i * BLK + j, BLK, x + (p->i0 + i) * ldx,
                    ldx, rows, a->dh, p->ni - i);
    }
}

static void scale_row(float *y, float f, int32_t n)
{
    for (int32_t c = 0; c < n; c += VW) vf_put(y + c, vf_get(y + c, n - c) * f, n - c);
}

/* ---- forward ---- */

/* The scaled, masked scores of the vector of keys at column c of a row that starts with its first key;
 * `keys` of them count. */
INLINE vf score_vec(const struct head *a, const float *s, const float *bias, int32_t c, int32_t keys)
{
    vf x = vf_load(s + c) * a->cfg->scale;
    if (a->key) x += vf_get(bias + c, keys - c);
    if (keys - c >= VW) return x;
    const vf minus_inf = vf_set(-INFINITY);
    vf lane = { 0 };
    for (int l = 0; l < VW; l++) lane[l] = (float)l;
    return vf_sel_lt(lane, vf_set((float)(keys - c)), x, minus_inf);
}

/* First key of the block's row i: rows are worked on from there, so that their bits do not
 * depend on what shares the block. */
static int32_t first_key(const struct head *a, int32_t i) { return a->lo ? a->lo[i] : 0; }

/* The n columns before s: keys of other sequences. */
INLINE void zero_before(float *s, int32_t n)
{
    for (int32_t c = 0; c < n; c += VW) vf_put(s - n + c, (vf){ 0 }, n - c);
}

static uint64_t row_key(const struct head *a, int32_t i)
{
    return drop_row(&a->cfg->drop, (a->tok + i) * a->cfg->H + a->h);
}

/* Turns one row of scores into exp(score - max) with dropout and brings the row of y and
 * its running maximum and sum up to date.  i: row in the block. */
INLINE void softmax_step(struct head *a, const struct span *p, int32_t i, float *y_row,
                         const bool dropping)
{
    const struct drop *d = &a->cfg->drop;
    const int32_t lo = first_key(a, i), keys = keys_of(a, p, i) - lo, cols = round_up(p->nj);
    float *s = a->s + i * BLK + lo;
    float *top = &a->top[p->i0 + i], *sum = &a->sum[p->i0 + i];
    vf best = vf_set(-INFINITY), total = { 0 }, x[BLK / VW];
    int32_t nv = 0;
    for (int32_t c = 0; c < keys; c += VW, nv++) {
        x[nv] = score_vec(a, s, a->bias + lo, c, keys);
        best = vf_max(best, x[nv]);
    }
    float m = vf_hmax(best);
    m = m > *top ? m : *top;
    if (m == -INFINITY) nv = 0; /* no key so far: all zeros */
    const uint64_t key = dropping ? row_key(a, p->i0 + i) : 0;
    zero_before(s, lo);
    for (int32_t v = 0; v < nv; v++) {
        vf e = vf_exp(x[v] - m); /* cppcheck-suppress uninitvar */
        total += e;
        if (dropping)
            e = vf_keep(e * d->scale, vu_drop_bits(key, p->j0 + v * VW), d->keep);
        vf_store(s + v * VW, e);
    }
    for (int32_t c = nv * VW; c < cols - lo; c += VW) vf_store(s + c, (vf){ 0 });
    if (m == -INFINITY) return;
    if (p->j0 > 0 && m > *top) {
        float shrink = expf(*top - m);
        *sum *= shrink;
        scale_row(y_row, shrink, a->dh);
    }
    *sum += vf_hsum(total);
    *top = m;
}

static void softmax_block(struct head *a, const struct span *p, float *y, ptrdiff_t ldy)
{
    const bool dropping = drop_active(&a->cfg->drop);
    for (int32_t i = 0; i < p->ni; i++)
        if (dropping)
            softmax_step(a, p, i, y + (p->i0 + i) * ldy, true);
        else
            softmax_step(a, p, i, y + (p->i0 + i) * ldy, false);
}

static void finish_rows(struct head *a, float *y, float *lse)
{
    const int32_t D = a->cfg->D, H = a->cfg->H;
    for (int32_t i = 0; i < a->n; i++) {
        bool any = a->sum[i] > 0.0f;
        if (any) scale_row(y + (ptrdiff_t)i * D, 1.0f / a->sum[i], a->dh);
        if (lse) lse[(ptrdiff_t)i * H] = any ? a->top[i] + logf(a->sum[i]) : -INFINITY;
    }
}

static struct span span_make(const struct head *a, int32_t i0, int32_t j0)
{
    return (struct span){ .i0 = i0,
                          .ni = a->n - i0 < BLK ? a->n - i0 : BLK,
                          .j0 = j0,
                          .nj = a->n - j0 < BLK ? a->n - j0 : BLK,
                          .diagonal = a->cfg->causal && i0 == j0 };
}

static void clear_rows(struct head *a)
{
    for (int32_t i = 0; i < a->n; i++) {
        a->top[i] = -INFINITY;
        a->sum[i] = 0.0f;
    }
}

static void fwd_head(struct head *a, float *y, float *lse)
{
    const int32_t D = a->cfg->D;
    clear_rows(a);
    for (int32_t j0 = 0; j0 < a->n; j0 += BLK) {
        struct span p = span_make(a, 0, j0);
        transpose_block(a->kt, a->k, a, &p);
        key_bias(a, &p);
        for (int32_t i0 = a->cfg->causal ? j0 : 0; i0 < a->n; i0 += BLK) {
            p = span_make(a, i0, j0);
            block_scores(a->s, a->q, a->ld, a->kt, a, &p);
            softmax_block(a, &p, y, D);
            block_mix(y, D, a->s, a->v, a, &p, j0 > 0);
        }
    }
    finish_rows(a, y, lse);
}

/* How many of the next sequences share a block: at least one. */
static int32_t pack_seqs(const int32_t *cu, int32_t n_seqs)
{
    int32_t m = 1;
    while (m < n_seqs && cu[m + 1] - cu[0] <= PACK) m++;
    return m;
}

struct pack {
    int32_t lo[PACK], hi[PACK];
};

/* Which keys each query of m sequences sees; one sequence alone needs no such table. */
static void pack_limits(struct pack *p, struct head *a, const int32_t *cu, int32_t m)
{
    if (m == 1) return;
    for (int32_t b = 0; b < m; b++)
        for (int32_t i = cu[b] - cu[0]; i < cu[b + 1] - cu[0]; i++) {
            p->lo[i] = cu[b] - cu[0];
            p->hi[i] = a->cfg->causal ? i + 1 : cu[b + 1] - cu[0];
        }
    a->lo = p->lo;
    a->hi = p->hi;
}

static void fwd(float *y, float *lse, const float *qkv, const uint8_t *key, const int32_t *cu,
                int32_t n_seqs, const struct k_attn_cfg *cfg, float *mem)
{
    struct pack pack;
    for (int32_t b = 0, m; b < n_seqs; b += m) {
        m = pack_seqs(cu + b, n_seqs - b);
        const int64_t tok = cu[b];
        for (int32_t h = 0; h < cfg->H; h++) {
            struct head a = head_make(qkv, key, cu[b + m] - cu[b], tok, h, cfg, mem);
            pack_limits(&pack, &a, cu + b, m);
            fwd_head(&a, y + tok * cfg->D + (ptrdiff_t)h * a.dh, lse ? lse + tok * cfg->H + h : NULL);
        }
    }
}

/* ---- forward over what was kept ---- */

/* Keys [n, D] as a page's first columns; what stands in those of tokens to come is anything. */
static void turn_keys(float *page, const float *keys, ptrdiff_t ld, int32_t n, int32_t D)
{
    float wide[VW * VW];
    for (int32_t c = 0; c < D; c += VW) {
        const int32_t cols = D - c < VW ? D - c : VW;
        if (VW <= ATTN_PAGE) {
            for (int32_t j = 0; j < n; j += VW)
                simd_transpose(page + (ptrdiff_t)c * ATTN_PAGE + j, ATTN_PAGE, keys + j * ld + c, ld,
                               n - j, cols);
        } else { /* a vector is longer than a page's line */
            simd_transpose(wide, VW, keys + c, ld, n, cols);
            for (int32_t i = 0; i < cols; i++)
                memcpy(page + (ptrdiff_t)(c + i) * ATTN_PAGE, wide + i * VW,
                       ATTN_PAGE * sizeof *page);
        }
    }
}

static void keep(const struct k_attn_kept *kept, const float *qkv, int32_t from, int32_t n,
                 const struct k_attn_cfg *cfg)
{
    const int32_t D = cfg->D;
    const ptrdiff_t ld = 3 * (ptrdiff_t)D;
    for (int32_t t = from, end = from + n, m; t < end; t += m, qkv += m * ld) {
        const int32_t at = t % ATTN_PAGE;
        float *keys = kept->page[t / ATTN_PAGE] + kept->keys + at;
        float *values = kept->page[t / ATTN_PAGE] + kept->values + (ptrdiff_t)at * D;
        m = ATTN_PAGE - at < end - t ? ATTN_PAGE - at : end - t;
        if (at == 0 && m > 1)
            turn_keys(keys, qkv + D, ld, m, D);
        else
            for (int32_t j = 0; j < m; j++)
                for (int32_t c = 0; c < D; c++)
                    keys[(ptrdiff_t)c * ATTN_PAGE + j] = qkv[D + j * ld + c];
        for (int32_t j = 0; j < m; j++)
            memcpy(values + (ptrdiff_t)j * D, qkv + 2 * D + j * ld, (size_t)D * sizeof *values);
    }
}

/* The scores of the span's queries with the keys of one head, and what is mixed of their values: block_scores
 * and block_mix, page by page. */
static void kept_scores(const struct head *a, const struct span *p, const struct k_attn_kept *kept)
{
    for (int32_t i = 0, rows; i < p->ni; i += rows) {
        rows = mm_next_rows(p->ni - i);
        for (int32_t j = 0; j < keys_of(a, p, i + rows - 1); j += ATTN_PAGE) {
            const float *keys = kept->page[(p->j0 + j) / ATTN_PAGE] + kept->keys;
            tile_nn(a->s + i * BLK + j, BLK, a->q + (p->i0 + i) * a->ld, a->ld,
                    keys + a->h * a->dh * ATTN_PAGE, ATTN_PAGE, rows, ATTN_PAGE, a->dh, false);
        }
    }
}

static void kept_mix(float *y, const struct head *a, const struct span *p,
                     const struct k_attn_kept *kept)
{
    const int32_t D = a->cfg->D;
    for (int32_t i = 0, rows; i < p->ni; i += rows) {
        rows = mm_next_rows(p->ni - i);
        const int32_t n = keys_of(a, p, i + rows - 1);
        for (int32_t j = 0; j < n; j += ATTN_PAGE) {
            const float *values = kept->page[(p->j0 + j) / ATTN_PAGE] + kept->values;
            tile_nn(y + (p->i0 + i) * (ptrdiff_t)D, D, a->s + i * BLK + j, BLK,
                    values + a->h * a->dh, D, rows, a->dh, n - j < ATTN_PAGE ? n - j : ATTN_PAGE,
                    p->j0 + j > 0);
        }
    }
}

static void more(float *y, const float *qkv, const struct k_attn_kept *kept, int32_t from, int32_t n,
                 const struct k_attn_cfg *cfg, float *mem)
{
    const int32_t D = cfg->D;
    int32_t hi[BLK]; /* ends of the keys that the span's queries see */
    for (int32_t h = 0; h < cfg->H; h++)
        for (int32_t i0 = 0; i0 < n; i0 += BLK) {
            const int32_t ni = n - i0 < BLK ? n - i0 : BLK, end = from + i0 + ni;
            struct head a = head_make(qkv + i0 * 3 * (ptrdiff_t)D, NULL, ni, 0, h, cfg, mem);
            float *yh = y + i0 * (ptrdiff_t)D + h * a.dh;
            a.hi = hi;
            clear_rows(&a);
            for (int32_t j0 = 0; j0 < end; j0 += BLK) {
                const struct span p = { .ni = ni, .j0 = j0, .nj = end - j0 < BLK ? end - j0 : BLK };
                for (int32_t i = 0; i < ni; i++) {
                    const int32_t keys = from + i0 + i + 1 - j0;
                    hi[i] = keys < 0 ? 0 : keys < p.nj ? keys : p.nj;
                }
                kept_scores(&a, &p, kept);
                softmax_block(&a, &p, yh, D);
                kept_mix(yh, &a, &p, kept);
            }
            finish_rows(&a, yh, NULL);
        }
}

/* ---- backward ---- */

/* s: scores -> P with dropout; dp: dP -> dS = P (dropout'(dP) - delta) scale */
INLINE void grad_step(struct head *a, const struct span *p, int32_t i, float lse,
                      const bool dropping)
{
    const struct drop *d = &a->cfg->drop;
    const int32_t lo = first_key(a, i), cols = round_up(p->nj) - lo;
    const int32_t keys = lse == -INFINITY ? 0 : keys_of(a, p, i) - lo;
    const float scale = a->cfg->scale, delta = a->delta[p->i0 + i];
    float *s = a->s + i * BLK + lo, *dp = a->dp + i * BLK + lo;
    const uint64_t key = dropping ? row_key(a, p->i0 + i) : 0;
    int32_t c = 0;
    zero_before(s, lo);
    zero_before(dp, lo);
    for (; c < keys; c += VW) {
        vf pr = vf_exp(score_vec(a, s, a->bias + lo, c, keys) - lse);
        vf g = vf_load(dp + c), dropped = pr;
        if (dropping) {
            vu bits = vu_drop_bits(key, p->j0 + c);
            dropped = vf_keep(pr * d->scale, bits, d->keep);
            g = vf_keep(g * d->scale, bits, d->keep);
        }
        vf_store(s + c, dropped);
        vf_store(dp + c, pr * (g - delta) * scale);
    }
    for (; c < cols; c += VW) {
        vf_store(s + c, (vf){ 0 });
        vf_store(dp + c, (vf){ 0 });
    }
}

static void grad_block(struct head *a, const struct span *p, const float *lse)
{
    const bool dropping = drop_active(&a->cfg->drop);
    const int32_t H = a->cfg->H;
    for (int32_t i = 0; i < p->ni; i++)
        if (dropping)
            grad_step(a, p, i, lse[(ptrdiff_t)(p->i0 + i) * H], true);
        else
            grad_step(a, p, i, lse[(ptrdiff_t)(p->i0 + i) * H], false);
}

/* delta_i = sum_j P_ij dP_ij = dy_i . y_i, dropout included */
static void row_deltas(struct head *a, const float *dy, const float *y)
{
    const int32_t D = a->cfg->D;
    for (int32_t i = 0; i < a->n; i++)
        a->delta[i] = simd_dot(dy + (ptrdiff_t)i * D, y + (ptrdiff_t)i * D, a->dh);
}

static void bwd_head(struct head *a, float *dq, const float *dy, const float *y, const float *lse)
{
    const int32_t D = a->cfg->D;
    float *dk = dq + D, *dv = dk + D;
    row_deltas(a, dy, y);
    for (int32_t j0 = 0; j0 < a->n; j0 += BLK) {
        struct span p = span_make(a, 0, j0);
        transpose_block(a->kt, a->k, a, &p);
        transpose_block(a->vt, a->v, a, &p);
        key_bias(a, &p);
        for (int32_t i0 = a->cfg->causal ? j0 : 0; i0 < a->n; i0 += BLK) {
            p = span_make(a, i0, j0);
            block_scores(a->s, a->q, a->ld, a->kt, a, &p);
            block_scores(a->dp, dy, D, a->vt, a, &p);
            grad_block(a, &p, lse);
            block_mix(dq, a->ld, a->dp, a->k, a, &p, true);
            block_mix_back(dk, a->dp, a->q, a->ld, a, &p);
            block_mix_back(dv, a->s, dy, D, a, &p);
        }
    }
}

static void bwd(float *dqkv, const float *dy, const float *y, const float *lse, const float *qkv,
                const uint8_t *key, const int32_t *cu, int32_t n_seqs,
                const struct k_attn_cfg *cfg, float *mem)
{
    struct pack pack;
    for (int32_t b = 0, m; b < n_seqs; b += m) {
        m = pack_seqs(cu + b, n_seqs - b);
        const int64_t tok = cu[b], D = cfg->D;
        for (int32_t h = 0; h < cfg->H; h++) {
            struct head a = head_make(qkv, key, cu[b + m] - cu[b], tok, h, cfg, mem);
            pack_limits(&pack, &a, cu + b, m);
            const ptrdiff_t o = (ptrdiff_t)h * a.dh;
            bwd_head(&a, dqkv + tok * 3 * D + o, dy + tok * D + o, y + tok * D + o,
                     lse + tok * cfg->H + h);
        }
    }
}

extern const struct k_attn_ops NUM_TABLE(k_attn);
const struct k_attn_ops NUM_TABLE(k_attn) = {
    .scratch = scratch, .fwd = fwd, .keep = keep, .more = more, .bwd = bwd
};
