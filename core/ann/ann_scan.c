#include "core/ann/ann_scan.h"
#include "core/ann/ann_rank.h"
#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    GROUP = 32,             /* queries of one pass over the rows */
    BLOCK = 16,             /* panels of one call of the kernel, at most */
    BLOCK_BYTES = 24 << 10, /* so that they stay in the first-level cache */
    ROOM = 768,             /* candidates beside k before they are thinned out */
    FEW = 2,                /* queries for which rows are not worth turning */
    AHEAD = 6,              /* rows that are asked of memory before their turn */
};

struct scan {
    const float *rows;
    int32_t V, D, pairs, n_panels, block;
    float *mean;     /* [D] */
    uint32_t *panel; /* [n_panels,pairs,16] */
    double most;     /* max |row| */
    double most16;   /* max |row'| */
    double off16;    /* max |row - mean - row'| */
};

/* ---- making ---- */

static double norm(const float *x, int32_t n)
{
    double s = 0;
    for (int32_t i = 0; i < n; i++) s += (double)x[i] * (double)x[i];
    return sqrt(s);
}

static float from_bf16(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static void find_mean(float *mean, const float *rows, int32_t V, int32_t D)
{
    double *sum = xcalloc((size_t)D, sizeof *sum);
    for (int32_t v = 0; v < V; v++)
        for (int32_t d = 0; d < D; d++)
            sum[d] += (double)rows[(size_t)v * (size_t)D + (size_t)d];
    for (int32_t d = 0; d < D; d++) mean[d] = (float)(sum[d] / V);
    free(sum);
}

/* Row v into its panel; h [2*pairs], of which the last of an odd D is zero. */
static void pack_row(struct scan *s, int32_t v, float *centred, uint16_t *h)
{
    const float *row = s->rows + (size_t)v * (size_t)s->D;
    double off = 0, n16 = 0;
    for (int32_t d = 0; d < s->D; d++) centred[d] = row[d] - s->mean[d];
    num->vec->to_bf16(h, centred, s->D);
    for (int32_t d = 0; d < s->D; d++) {
        const double r = (double)from_bf16(h[d]), x = (double)row[d] - (double)s->mean[d] - r;
        n16 += r * r;
        off += x * x;
    }
    s->most = fmax(s->most, norm(row, s->D));
    s->most16 = fmax(s->most16, sqrt(n16));
    s->off16 = fmax(s->off16, sqrt(off));
    uint32_t *to = s->panel + (size_t)(v / SCAN_PANEL) * (size_t)s->pairs * SCAN_PANEL;
    for (int32_t i = 0; i < s->pairs; i++)
        to[i * SCAN_PANEL + v % SCAN_PANEL] = h[2 * i] | (uint32_t)h[2 * i + 1] << 16;
}

struct scan *scan_new(const float *rows, int32_t V, int32_t D)
{
    struct scan *s = xcalloc(1, sizeof *s);
    *s = (struct scan){ .rows = rows, .V = V, .D = D, .pairs = (D + 1) / 2 };
    s->n_panels = (V + SCAN_PANEL - 1) / SCAN_PANEL;
    s->block = BLOCK_BYTES / (s->pairs * SCAN_PANEL * (int32_t)sizeof *s->panel);
    s->block = s->block < 4 ? 4 : s->block > BLOCK ? BLOCK : s->block / 4 * 4;
    const size_t nb = (size_t)s->n_panels * (size_t)s->pairs * SCAN_PANEL * sizeof *s->panel;
    s->mean = xcalloc((size_t)D, sizeof *s->mean);
    s->panel = xaligned(nb);
    memset(s->panel, 0, nb); /* rows past the last one are never counted, but added up */
    find_mean(s->mean, rows, V, D);
    float *centred = xmalloc((size_t)D * sizeof *centred);
    uint16_t *h = xcalloc(2 * (size_t)s->pairs, sizeof *h);
    for (int32_t v = 0; v < V; v++) pack_row(s, v, centred, h);
    free(h);
    free(centred);
    return s;
}

void scan_free(struct scan *s)
{
    if (!s) return;
    free(s->panel);
    free(s->mean);
    free(s);
}

/* ---- bounds ---- */

/* |sum in fp32, any order - real sum| <= gamma |a| |b|, generously. */
static double gamma32(int32_t D) { return (D + 16) * 0x1p-23; }

/* What products below the smallest normal number lose when they are flushed to zero. */
static double flushed(const struct scan *s, double q)
{
    return s->D * 0x1p-120 * (1 + q + s->most + s->most16);
}

/* Where sums may overflow, nothing is known: every row is scored by dot. */
static double or_unknown(const struct scan *s, double q, double bound)
{
    const bool safe = q * (s->most + s->most16) < 0x1p100 && q < 0x1p100 && s->most < 0x1p100;
    return safe ? bound : HUGE_VAL;
}

double scan_bound(const struct scan *s, const float *query)
{
    const double q = norm(query, s->D);
    return or_unknown(s, q, 2 * gamma32(s->D) * q * s->most + flushed(s, q));
}

/* ---- scanning ---- */

struct seeker { /* one query under way */
    const float *query;
    double bound;   /* B */
    double shift;   /* query . mean: what s' lacks */
    uint64_t *best; /* [k + room] the k best that are scored, then room for more */
    int32_t n_best;
};

struct pass { /* one group of queries over some rows */
    const struct scan *s;
    int32_t k, room, nq;
    bool fp32;
    const int32_t *list; /* positions are places in it; NULL: positions are rows */
    struct seeker seek[GROUP];
    struct scan_hits hits[GROUP];
    const void *queries; /* as the kernel wants them */
    uint64_t *tmp;       /* [k + room] */
    float *turned;       /* [BLOCK,D,16] */
    struct scan_panel panel[BLOCK];
    int32_t n_panels;
    int64_t scored;
};

static float below(double x) { return nextafterf((float)x, -INFINITY); }

static const float *row_of(const struct scan *s, int32_t row)
{
    return s->rows + (size_t)row * (size_t)s->D;
}

static int32_t row_at(const struct pass *p, int32_t at) { return p->list ? p->list[at] : at; }

static void ask_for(const struct scan *s, int32_t row)
{
    const float *x = row_of(s, row);
    for (int32_t d = 0; d < s->D; d += 16) __builtin_prefetch(x + d);
}

/* Scores the first n of what is held by dot, keeps the k best and raises the bar to the k-th
 * less B. */
static void settle(struct pass *p, int i, int32_t n)
{
    struct seeker *k = &p->seek[i];
    struct scan_hits *h = &p->hits[i];
    const struct scan *s = p->s;
    for (int32_t j = 0; j < n; j++) {
        const int32_t row = row_at(p, h->at[j]);
        if (j + AHEAD < n) ask_for(s, row_at(p, h->at[j + AHEAD]));
        k->best[k->n_best + j] = rank_key(num->vec->dot(k->query, row_of(s, row), s->D), row);
    }
    rank_sort(k->best, p->tmp, k->n_best + n);
    k->n_best = k->n_best + n < p->k ? k->n_best + n : p->k;
    h->n -= n;
    memmove(h->score, h->score + n, (size_t)h->n * sizeof *h->score);
    memmove(h->at, h->at + n, (size_t)h->n * sizeof *h->at);
    if (k->n_best < p->k) return;
    const float least = below((double)rank_score(k->best[p->k - 1]) - k->shift - k->bound);
    if (least > h->least) h->least = least;
}

/* Leaves out what can't be among the k best.  Returns what at least k of those left reach. */
static float thin(struct pass *p, int i)
{
    struct scan_hits *h = &p->hits[i];
    if (h->n <= p->k || isinf(p->seek[i].bound)) return -INFINITY;
    const float reached = num->scan->least_of(h->score, h->n, p->k);
    const float least = below((double)reached - 2 * p->seek[i].bound);
    if (least > h->least) h->least = least;
    h->n = num->scan->keep(h->score, h->at, h->n, h->least);
    return reached;
}

/* Moves what is not less than `least` to the front, the others behind it; how many. */
static int32_t part(struct scan_hits *h, float least)
{
    int32_t n = 0;
    for (int32_t j = 0; j < h->n; j++) {
        if (h->score[j] < least) continue;
        const float score = h->score[j];
        const int32_t at = h->at[j];
        h->score[j] = h->score[n];
        h->at[j] = h->at[n];
        h->score[n] = score;
        h->at[n++] = at;
    }
    return n;
}

/* The likely ones first: their exact scores rule out most of the others. */
static void finish(struct pass *p, int i)
{
    struct scan_hits *h = &p->hits[i];
    settle(p, i, part(h, thin(p, i)));
    h->n = num->scan->keep(h->score, h->at, h->n, h->least);
    settle(p, i, h->n);
}

/* Room for a block's rows. */
static void make_room(struct pass *p)
{
    for (int i = 0; i < p->nq; i++) {
        if (p->hits[i].n + BLOCK * SCAN_PANEL <= p->room) continue;
        (void)thin(p, i);
        /* Many rows lie within B of the k-th: exact scores are a higher bar. */
        if (p->hits[i].n + BLOCK * SCAN_PANEL > p->room - ROOM / 2) settle(p, i, p->hits[i].n);
    }
}

static void flush(struct pass *p)
{
    make_room(p);
    if (p->fp32)
        num->scan->fp32(p->hits, p->queries, p->nq, p->s->D, p->panel, p->n_panels);
    else
        num->scan->bf16(p->hits, p->queries, p->nq, p->s->pairs, p->panel, p->n_panels);
    p->n_panels = 0;
}

static void add_panel(struct pass *p, const void *x, int32_t at, uint32_t rows)
{
    p->panel[p->n_panels++] = (struct scan_panel){ .x = x, .at = at, .rows = rows };
    p->scored += (int64_t)__builtin_popcount(rows) * p->nq;
    if (p->n_panels == p->s->block) flush(p);
}

/* Up to 16 of the n rows from position `at` on, turned where the kernel will read them. */
static void add_turned(struct pass *p, int32_t at, int32_t n, uint32_t rows)
{
    const float *row[SCAN_PANEL];
    float *to = p->turned + (size_t)p->n_panels * (size_t)p->s->D * SCAN_PANEL;
    for (int32_t r = 0; r < SCAN_PANEL; r++) {
        row[r] = row_of(p->s, row_at(p, at + (r < n ? r : n - 1)));
        if (r + SCAN_PANEL < n) ask_for(p->s, row_at(p, at + r + SCAN_PANEL));
    }
    num->scan->turn(to, row, p->s->D);
    add_panel(p, to, at, rows);
}

/* The same rows by dot, one by one. */
static void add_dots(struct pass *p, int32_t at, int32_t n, uint32_t rows)
{
    make_room(p);
    p->scored += (int64_t)__builtin_popcount(rows) * p->nq;
    for (; rows; rows &= rows - 1) {
        const int32_t r = __builtin_ctz(rows);
        const float *x = row_of(p->s, row_at(p, at + r));
        if (r + AHEAD < n) ask_for(p->s, row_at(p, at + r + AHEAD));
        for (int i = 0; i < p->nq; i++) {
            struct scan_hits *h = &p->hits[i];
            const float score = num->vec->dot(p->seek[i].query, x, p->s->D);
            if (score < h->least) continue;
            h->score[h->n] = score;
            h->at[h->n++] = at + r;
        }
    }
}

static void add_rows(struct pass *p, int32_t at, int32_t n, uint32_t rows)
{
    if (p->nq <= FEW)
        add_dots(p, at, n, rows);
    else
        add_turned(p, at, n, rows);
}

static uint32_t rows_of_panel(const uint64_t *allow, int32_t i, int32_t V)
{
    const int32_t left = V - i * SCAN_PANEL;
    const uint32_t there = left >= SCAN_PANEL ? 0xffffu : (1u << left) - 1;
    return allow ? (uint32_t)(allow[i / 4] >> (i % 4 * SCAN_PANEL)) & there : there;
}

static void pass_rows(struct pass *p, const struct scan_job *job)
{
    const struct scan *s = p->s;
    const int32_t to = job->to ? job->to : s->V;
    for (int32_t i = job->from / SCAN_PANEL; i * SCAN_PANEL < to; i++) {
        if (job->allow && i % 4 == 0 && job->allow[i / 4] == 0) {
            i += 3;
            continue;
        }
        const uint32_t rows = rows_of_panel(job->allow, i, to);
        if (!rows) continue;
        if (p->fp32)
            add_rows(p, i * SCAN_PANEL, to - i * SCAN_PANEL, rows);
        else
            add_panel(p, s->panel + (size_t)i * (size_t)s->pairs * SCAN_PANEL, i * SCAN_PANEL,
                      rows);
    }
}

static void pass_list(struct pass *p, int32_t n)
{
    for (int32_t at = 0; at < n; at += SCAN_PANEL)
        add_rows(p, at, n - at, rows_of_panel(NULL, at / SCAN_PANEL, n));
}

/* A query as the kernel wants it, and its B. */
static void start_query(struct pass *p, int i, const float *query, uint32_t *q16)
{
    const struct scan *s = p->s;
    struct seeker *k = &p->seek[i];
    const double q = norm(query, s->D);
    k->query = query;
    p->hits[i].least = -INFINITY;
    if (p->fp32) {
        k->bound = scan_bound(s, query);
        return;
    }
    double off = 0, q_norm16 = 0;
    for (int32_t j = 0; j < s->pairs; j++) {
        uint16_t h[2] = { 0 };
        const int32_t n = s->D - 2 * j < 2 ? s->D - 2 * j : 2;
        num->vec->to_bf16(h, query + 2 * j, n);
        q16[j] = h[0] | (uint32_t)h[1] << 16;
        for (int32_t d = 0; d < n; d++) {
            const double x = (double)from_bf16(h[d]), o = (double)query[2 * j + d] - x;
            k->shift += (double)query[2 * j + d] * (double)s->mean[2 * j + d];
            q_norm16 += x * x;
            off += o * o;
        }
    }
    const double rounding = (sqrt(off) * s->most16 + q * s->off16) * (1 + 0x1p-20);
    const double sums = gamma32(s->D) * (sqrt(q_norm16) * s->most16 + q * s->most);
    k->bound = or_unknown(s, q, rounding + sums + flushed(s, q));
}

static void *carve(char **at, size_t nb)
{
    char *p = *at;
    *at += (nb + 63) / 64 * 64;
    return p;
}

/* Lays a pass for `nq` queries out in the thread's scratch. */
static struct pass *start_pass(const struct scan *s, const struct scan_job *job, int32_t first,
                               int32_t nq, const int32_t *list)
{
    const int32_t k = job->k < s->V ? job->k : s->V;
    const size_t room = (size_t)(k > ROOM ? 2 * k : k + ROOM) + BLOCK * SCAN_PANEL + SCAN_SPARE,
                 n_keys = room + (size_t)k, n = (size_t)nq, D = (size_t)s->D;
    char *at = ann_scratch(SCRATCH_SCAN, sizeof(struct pass) + (n + 1) * (n_keys * 8 + 64) +
                                             n * (room * 8 + 128) + n * (size_t)s->pairs * 4 +
                                             BLOCK * SCAN_PANEL * D * sizeof(float) + 256);
    struct pass *p = carve(&at, sizeof *p);
    *p = (struct pass){ .s = s, .k = k, .nq = nq, .list = list };
    p->room = (int32_t)room - SCAN_SPARE;
    p->fp32 = job->fp32 || list;
    p->tmp = carve(&at, n_keys * sizeof *p->tmp);
    p->turned = carve(&at, BLOCK * SCAN_PANEL * D * sizeof *p->turned);
    uint32_t *q16 = carve(&at, n * (size_t)s->pairs * sizeof *q16);
    for (int i = 0; i < nq; i++) {
        p->seek[i].best = carve(&at, n_keys * sizeof *p->seek[i].best);
        p->hits[i].score = carve(&at, room * sizeof(float));
        p->hits[i].at = carve(&at, room * sizeof(int32_t));
        start_query(p, i, job->queries + (size_t)(first + i) * D, q16 + i * s->pairs);
    }
    p->queries = p->fp32 ? (const void *)p->seek[0].query : q16;
    return p;
}

static void end_pass(int32_t *ids, float *scores, struct pass *p, int32_t k)
{
    if (p->n_panels > 0) flush(p);
    for (int i = 0; i < p->nq; i++) {
        finish(p, i);
        rank_out(ids + (size_t)i * (size_t)k, scores + (size_t)i * (size_t)k, p->seek[i].best,
                 p->seek[i].n_best, k);
    }
}

static int64_t scan(int32_t *ids, float *scores, const struct scan *s,
                    const struct scan_job *job, const int32_t *list, int32_t n_list)
{
    int64_t scored = 0;
    for (int32_t i = 0; i < job->nq; i += GROUP) {
        const int32_t nq = job->nq - i < GROUP ? job->nq - i : GROUP;
        struct pass *p = start_pass(s, job, i, nq, list);
        if (list)
            pass_list(p, n_list);
        else
            pass_rows(p, job);
        end_pass(ids + (size_t)i * (size_t)job->k, scores + (size_t)i * (size_t)job->k, p,
                 job->k);
        scored += p->scored;
    }
    return scored;
}

int64_t scan_all(int32_t *ids, float *scores, const struct scan *s, const struct scan_job *job)
{
    return scan(ids, scores, s, job, NULL, 0);
}

int64_t scan_list(int32_t *ids, float *scores, const struct scan *s, const struct scan_job *job,
                  const int32_t *rows, int32_t n)
{
    return scan(ids, scores, s, job, rows, n);
}

int32_t scan_panels(const uint64_t *allow, int32_t V)
{
    int32_t n = 0;
    for (int32_t w = 0; w < (V + 63) / 64; w++) {
        const uint64_t x = allow[w];
        n += ((x & 0xffff) != 0) + ((x >> 16 & 0xffff) != 0) + ((x >> 32 & 0xffff) != 0) +
             (x >> 48 != 0);
    }
    return n;
}

int32_t scan_rescore(int32_t *ids, float *scores, const struct scan *s, const float *query,
                     int32_t k, const int64_t *rows, int64_t n, const uint64_t *allow)
{
    uint64_t *key = ann_scratch(SCRATCH_SCAN, 2 * (size_t)n * sizeof *key);
    int32_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t r = rows[i];
        if (r < 0 || (allow && !(allow[r / 64] >> (r % 64) & 1))) continue;
        key[found++] = rank_key(num->vec->dot(query, s->rows + (size_t)r * (size_t)s->D, s->D),
                                (int32_t)r);
    }
    rank_sort(key, key + n, found);
    int32_t once = 0;
    for (int32_t i = 0; i < found; i++)
        if (i == 0 || key[i] != key[once - 1]) key[once++] = key[i];
    rank_out(ids, scores, key, once < k ? once : k, k);
    return once < k ? once : k;
}
