#include "core/eval/rank.h"
#include "core/base/mem.h"
#include "core/base/prog.h"
#include "core/num/gemm.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const int rank_cut[RANK_CUTS] = { 5, 10, 20, 50, 100 };

/* ---- metrics ---- */

void metrics_add(struct metrics *m, int64_t rank)
{
    m->n++;
    for (int c = 0; c < RANK_CUTS; c++) {
        if (rank < 0 || rank >= rank_cut[c]) continue;
        m->hr[c] += 1;
        m->ndcg[c] += 1 / log2((double)rank + 2);
        m->mrr[c] += 1 / ((double)rank + 1);
    }
}

void metrics_mean(struct metrics *m)
{
    for (int c = 0; c < RANK_CUTS && m->n > 0; c++) {
        m->hr[c] /= (double)m->n;
        m->ndcg[c] /= (double)m->n;
        m->mrr[c] /= (double)m->n;
    }
}

void metrics_table(const struct metrics *m, const char *label, FILE *f)
{
    const struct {
        const char *name;
        const double *v;
    } line[] = { { "HR", m->hr }, { "NDCG", m->ndcg }, { "MRR", m->mrr } };
    fprintf(f, "%-16s", label);
    for (int c = 0; c < RANK_CUTS; c++)
        fprintf(f, "%*s@%d", rank_cut[c] < 10 ? 6 : rank_cut[c] < 100 ? 5 : 4, "", rank_cut[c]);
    fputc('\n', f);
    for (size_t i = 0; i < sizeof line / sizeof *line; i++) {
        fprintf(f, "  %-14s", line[i].name);
        for (int c = 0; c < RANK_CUTS; c++) fprintf(f, "%8.4f", line[i].v[c]);
        fputc('\n', f);
    }
}

/* ---- full ranking ---- */

enum {
    USERS_BLOCK = 256,   /* users of one encode call */
    ROWS_CHUNK = 256,    /* rows of q in one product */
    COLS_TILE = 1024,    /* items in one product */
    SCORES_MAX = 8 << 20 /* scores held at once: limits the block for large catalogues */
};
enum { RANK_NAN = -2 };

struct ranker {
    const struct dataset *d;
    const struct rank_cfg *cfg;
    int32_t n, n_max;             /* users of the block */
    int32_t chunk;                /* users of one product */
    int32_t *user, *len, *answer; /* [n_max] */
    const int32_t **hist;         /* [n_max] */
    float *q;                     /* [n_max*K, D] */
    float *score;                 /* [n_max, V] */
    float *tile;                  /* [threads, chunk*K, COLS_TILE]; NULL for K = 1 */
    int64_t *rank;                /* [n_max] */
    int32_t *top;                 /* [n_max, SHOWN_DEPTH] -1: none; NULL: not wanted */
};

/* Four lanes: every instruction set that the project runs on has them, and the loops below are a
 * small part of the products' time. */
typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));

static inline f32x4 load4(const float *p)
{
    f32x4 x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* Lanes of ones where x is not a number. */
static inline i32x4 is_nan(f32x4 x) { return ((i32x4)x & 0x7fffffff) > 0x7f800000; }

static inline int64_t lanes_sum(i32x4 x) { return (int64_t)x[0] + x[1] + x[2] + x[3]; }

/* Scores of s [n] that rank before t: greater ones, and equal ones too when their rows are lower.
 * *n_nan grows by the number of NaNs. */
static int64_t count_before(const float *s, int32_t n, float t, bool lower, int64_t *n_nan)
{
    i32x4 before = { 0 }, nan = { 0 };
    f32x4 t4 = { t, t, t, t };
    int32_t i = 0;
    if (lower)
        for (; i + 4 <= n; i += 4) {
            f32x4 x = load4(s + i);
            before -= x >= t4;
            nan -= is_nan(x);
        }
    else
        for (; i + 4 <= n; i += 4) {
            f32x4 x = load4(s + i);
            before -= x > t4;
            nan -= is_nan(x);
        }
    int64_t count = lanes_sum(before);
    *n_nan += lanes_sum(nan);
    for (; i < n; i++) {
        count += s[i] > t || (lower && s[i] == t);
        *n_nan += isnan(s[i]) != 0;
    }
    return count;
}

/* y [n] = max(y, x), a NaN in either stays. */
static void max_into(float *y, const float *x, int32_t n)
{
    int32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        f32x4 a = load4(y + i), b = load4(x + i);
        i32x4 keep = (a >= b) | is_nan(a);
        i32x4 bits = (keep & (i32x4)a) | (~keep & (i32x4)b);
        memcpy(y + i, &bits, sizeof bits);
    }
    for (; i < n; i++)
        if (!(y[i] >= x[i]) && !isnan(y[i])) y[i] = x[i];
}

/* Scores of one tile of items for one chunk of users. */
static void score_tile(void *ctx, int block, int worker)
{
    const struct ranker *r = ctx;
    int32_t V = r->d->n_items, K = r->cfg->K, D = r->cfg->D;
    int32_t n_chunks = (r->n + r->chunk - 1) / r->chunk;
    int32_t v0 = block / n_chunks * COLS_TILE, u0 = block % n_chunks * r->chunk;
    int32_t nv = V - v0 < COLS_TILE ? V - v0 : COLS_TILE;
    int32_t nu = r->n - u0 < r->chunk ? r->n - u0 : r->chunk;
    const float *q = r->q + (size_t)u0 * (size_t)K * (size_t)D;
    const float *items = r->cfg->items + (size_t)v0 * (size_t)D;
    float *out = r->score + (size_t)u0 * (size_t)V + v0;
    if (K == 1) {
        gemm_nt_ld(out, V, q, D, items, D, nu, nv, D, 1, 0);
        return;
    }
    float *tile = r->tile + (size_t)worker * (size_t)r->chunk * (size_t)K * COLS_TILE;
    gemm_nt_ld(tile, COLS_TILE, q, D, items, D, nu * K, nv, D, 1, 0);
    for (int32_t u = 0; u < nu; u++) {
        const float *row = tile + (size_t)u * (size_t)K * COLS_TILE;
        float *y = out + (size_t)u * (size_t)V;
        memcpy(y, row, (size_t)nv * sizeof *y);
        for (int32_t k = 1; k < K; k++) max_into(y, row + (size_t)k * COLS_TILE, nv);
    }
}

/* The first SHOWN_DEPTH items of s [n], best first, equal ones by row; -inf is no candidate. */
static void top_items(int32_t *top, const float *s, int32_t n)
{
    float best[SHOWN_DEPTH];
    int32_t have = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!(s[i] > (have < SHOWN_DEPTH ? -INFINITY : best[SHOWN_DEPTH - 1]))) continue;
        int32_t at = have < SHOWN_DEPTH ? have++ : SHOWN_DEPTH - 1;
        for (; at > 0 && s[i] > best[at - 1]; at--) {
            best[at] = best[at - 1];
            top[at] = top[at - 1];
        }
        best[at] = s[i];
        top[at] = i;
    }
    for (; have < SHOWN_DEPTH; have++) top[have] = -1;
}

static void rank_user(void *ctx, int i, int worker)
{
    (void)worker;
    const struct ranker *r = ctx;
    int32_t V = r->d->n_items, target = r->answer[i];
    float *s = r->score + (size_t)i * (size_t)V;
    if (r->cfg->seen != SEEN_KEEP) {
        float hidden = r->cfg->seen == SEEN_ZERO ? 0 : -INFINITY;
        for (int32_t j = 0; j < r->len[i]; j++) s[r->hist[i][j]] = hidden;
    }
    if (r->top) top_items(r->top + (size_t)i * SHOWN_DEPTH, s, V);
    if (r->cfg->seen == SEEN_MASK && dataset_holds(r->hist[i], r->len[i], target)) {
        r->rank[i] = V;
        return;
    }
    int64_t n_nan = isnan(s[target]) != 0;
    int64_t rank = count_before(s, target, s[target], true, &n_nan) +
                   count_before(s + target + 1, V - target - 1, s[target], false, &n_nan);
    r->rank[i] = n_nan ? RANK_NAN : rank;
}

static int block_run(struct ranker *r, rank_encode_fn *encode, void *ctx, struct par *pool,
                     struct err *e)
{
    TRY(encode(ctx, r->q, r->hist, r->len, r->n, e));
    int32_t n_tiles = (r->d->n_items + COLS_TILE - 1) / COLS_TILE;
    int32_t n_chunks = (r->n + r->chunk - 1) / r->chunk;
    par_for(pool, n_tiles * n_chunks, score_tile, r);
    par_for(pool, r->n, rank_user, r);
    for (int32_t i = 0; i < r->n; i++) {
        if (r->rank[i] != RANK_NAN) continue;
        struct str id = items_id(r->d->users, r->user[i]);
        return err_set(e, ERR_INTERNAL, "user %.*s: a score is not a number", id.len, id.p);
    }
    return 0;
}

static void ranker_init(struct ranker *r, const struct dataset *d, const struct rank_cfg *cfg,
                        int threads)
{
    REQUIRE(cfg->K >= 1 && cfg->D >= 1, "K = %d, D = %d", cfg->K, cfg->D);
    int64_t fit = SCORES_MAX / (int64_t)d->n_items;
    int64_t n = cfg->block > 0 ? cfg->block : USERS_BLOCK;
    if (n > fit) n = fit > 0 ? fit : 1;
    *r = (struct ranker){ .d = d, .cfg = cfg, .n_max = (int32_t)n };
    r->chunk = ROWS_CHUNK / cfg->K > 0 ? ROWS_CHUNK / cfg->K : 1;
    size_t N = (size_t)n;
    r->user = xcalloc(N, sizeof *r->user);
    r->len = xcalloc(N, sizeof *r->len);
    r->answer = xcalloc(N, sizeof *r->answer);
    r->hist = xcalloc(N, sizeof *r->hist);
    r->rank = xcalloc(N, sizeof *r->rank);
    if (cfg->shown) r->top = xcalloc(N * SHOWN_DEPTH, sizeof *r->top);
    r->q = xaligned(N * (size_t)cfg->K * (size_t)cfg->D * sizeof *r->q);
    r->score = xaligned(N * (size_t)d->n_items * sizeof *r->score);
    if (cfg->K > 1)
        r->tile = xaligned((size_t)threads * (size_t)r->chunk * (size_t)cfg->K * COLS_TILE *
                           sizeof *r->tile);
}

static void ranker_free(struct ranker *r)
{
    free(r->user);
    free(r->len);
    free(r->answer);
    free(r->hist);
    free(r->rank);
    free(r->top);
    free(r->q);
    free(r->score);
    free(r->tile);
}

/* Every n-th user, as nearly as can be. */
static bool looked_at(const struct ranker *r, int32_t u)
{
    int64_t n = r->cfg->users, all = r->d->n_users;
    return n == 0 || n >= all || u * n / all != (u + 1) * n / all;
}

/* Takes the next users that have a case; returns the user to go on with. */
static int32_t block_gather(struct ranker *r, int32_t u)
{
    for (r->n = 0; u < r->d->n_users && r->n < r->n_max; u++) {
        int32_t i = r->n;
        if (!looked_at(r, u) ||
            !dataset_case(r->d, u, r->cfg->split, &r->hist[i], &r->len[i], &r->answer[i]))
            continue;
        r->user[r->n++] = u;
    }
    return u;
}

int rank_eval(struct metrics *m, int64_t *rank_out, const struct dataset *d,
              const struct rank_cfg *cfg, rank_encode_fn *encode, void *ctx, struct par *pool,
              struct err *e)
{
    struct ranker r;
    ranker_init(&r, d, cfg, par_threads(pool));
    *m = (struct metrics){ 0 };
    for (int32_t u = 0; rank_out && u < d->n_users; u++) rank_out[u] = -1;
    struct prog p = prog_begin("evaluating", d->n_users);
    int rc = 0;
    for (int32_t u = 0; u < d->n_users && rc == 0;) {
        u = block_gather(&r, u);
        if (r.n == 0) break;
        rc = block_run(&r, encode, ctx, pool, e);
        for (int32_t i = 0; i < r.n && rc == 0; i++) {
            metrics_add(m, r.rank[i] < d->n_items ? r.rank[i] : -1);
            if (rank_out) rank_out[r.user[i]] = r.rank[i];
        }
        for (int32_t i = 0; r.top && i < r.n * SHOWN_DEPTH && rc == 0; i++)
            if (r.top[i] >= 0) cfg->shown[r.top[i]]++;
        if (cfg->progress)
            prog_step(&p, u, "hr@10 %.4f", m->hr[1] / (double)(m->n > 0 ? m->n : 1));
    }
    metrics_mean(m);
    if (cfg->progress && rc == 0)
        prog_end(&p, "%lld users, hr@10 %.4f ndcg@10 %.4f", (long long)m->n, m->hr[1],
                 m->ndcg[1]);
    ranker_free(&r);
    return rc;
}
