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
    GROUP = 32, /* queries of one pass over the rows */
    FIRST = 16, /* panels of the first call of the kernel, all of whose rows are hits */
    BLOCK_BYTES =
        128 << 10, /* of panels of later calls, which stay in the second-level cache */
    MORE = 96,     /* hits that come in before they are thinned out again */
    ROOM = 512,    /* hits beside k that there is room for, beside a call's */
    FEW = 2,       /* queries for which rows are not worth turning */
    AHEAD = 6,     /* rows that are asked of memory before their turn */
    PROBES = 8,    /* rows that try bytes out, as queries */
    PROBE_K = 32,
    DOT_COST = 40, /* of a row scored by dot, in steps of the kernel */
};

struct scan {
    const float *rows;
    int32_t V, D, n_panels;
    int32_t block; /* panels of one call of the kernel, at most */
    bool bytes;
    int32_t words;       /* of a row: bytes ceil(D/4), bf16 ceil(D/2) */
    size_t stride;       /* words of a panel */
    float *mean;         /* [D] */
    uint32_t *panel;     /* [n_panels,stride] */
    double mean_norm;    /* |mean| */
    double most;         /* max |row| */
    double most_rounded; /* max |row'| */
    double off;          /* max |row - mean - row'| */
    double ones_rounded; /* bytes: both in what a one of the row stands for */
    double ones_off;
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

static void find_mean(struct scan *s)
{
    const int32_t D = s->D;
    double *sum = xcalloc((size_t)D, sizeof *sum);
    for (int32_t v = 0; v < s->V; v++)
        for (int32_t d = 0; d < D; d++)
            sum[d] += (double)s->rows[(size_t)v * (size_t)D + (size_t)d];
    for (int32_t d = 0; d < D; d++) s->mean[d] = (float)(sum[d] / s->V);
    s->mean_norm = norm(s->mean, D);
    free(sum);
}

/* word [words]: what the panel holds of centred. */
static void pack_bf16(struct scan *s, uint32_t *word, const float *row, const float *centred)
{
    double off = 0, n16 = 0;
    uint16_t *h = (uint16_t *)(void *)word;
    num->vec->to_bf16(h, centred, s->D);
    for (int32_t d = 0; d < s->D; d++) {
        const double r = (double)from_bf16(h[d]), x = (double)row[d] - (double)s->mean[d] - r;
        n16 += r * r;
        off += x * x;
    }
    s->most_rounded = fmax(s->most_rounded, sqrt(n16));
    s->off = fmax(s->off, sqrt(off));
}

/* Returns what a one stands for. */
static float pack_bytes(struct scan *s, uint32_t *word, const float *centred)
{
    struct scan_bytes of;
    num->scan->to_bytes((int8_t *)(void *)word, &of, centred, s->D);
    for (int32_t i = 0; i < s->words; i++) word[i] ^= 0x80808080u;
    /* centred is off by 2^-24 of itself. */
    const double rounded = sqrt((double)of.square),
                 off = (double)of.off + 0x1p-23 * (double)of.norm;
    s->ones_rounded = fmax(s->ones_rounded, rounded);
    s->ones_off = fmax(s->ones_off, off);
    s->most_rounded = fmax(s->most_rounded, rounded * (double)of.scale);
    return of.scale;
}

static void pack(struct scan *s, bool as_bytes)
{
    s->bytes = as_bytes;
    s->words = as_bytes ? (s->D + 3) / 4 : (s->D + 1) / 2;
    s->stride = (size_t)(s->words + as_bytes) * SCAN_PANEL;
    s->block = BLOCK_BYTES / (int32_t)(s->stride * sizeof *s->panel);
    s->block = s->block < FIRST         ? FIRST
               : s->block > SCAN_PANELS ? SCAN_PANELS
                                        : s->block / 4 * 4;
    s->most = s->most_rounded = s->off = s->ones_rounded = s->ones_off = 0;
    const size_t nb = (size_t)s->n_panels * s->stride * sizeof *s->panel;
    free(s->panel);
    s->panel = xaligned(nb);
    memset(s->panel, 0, nb); /* rows past the last one are never counted, but added up */
    float *centred = xmalloc((size_t)s->D * sizeof *centred);
    uint32_t *word = xcalloc((size_t)s->words, sizeof *word);
    for (int32_t v = 0; v < s->V; v++) {
        const float *row = s->rows + (size_t)v * (size_t)s->D;
        uint32_t *to = s->panel + (size_t)(v / SCAN_PANEL) * s->stride + v % SCAN_PANEL;
        for (int32_t d = 0; d < s->D; d++) centred[d] = row[d] - s->mean[d];
        s->most = fmax(s->most, norm(row, s->D));
        if (as_bytes) {
            const float one = pack_bytes(s, word, centred);
            memcpy(to + s->words * SCAN_PANEL, &one, sizeof one);
        } else {
            pack_bf16(s, word, row, centred);
        }
        for (int32_t i = 0; i < s->words; i++) to[i * SCAN_PANEL] = word[i];
    }
    free(word);
    free(centred);
}

bool scan_has_bytes(const struct scan *s) { return s->bytes; }

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
    return s->D * 0x1p-120 * (1 + q + s->most + s->most_rounded);
}

/* Where sums may overflow, nothing is known: every row is scored by dot. */
static double or_unknown(const struct scan *s, double q, double bound)
{
    const bool safe =
        q * (s->most + s->most_rounded) < 0x1p100 && q < 0x1p100 && s->most < 0x1p100;
    return safe ? bound : HUGE_VAL;
}

double scan_bound(const struct scan *s, const float *query)
{
    const double q = norm(query, s->D);
    return or_unknown(s, q, 2 * gamma32(s->D) * q * s->most + flushed(s, q));
}

/* ---- scanning ---- */

struct tally {
    int64_t scored; /* rows, summed over the queries */
    int64_t dotted; /* those of them that were scored by dot as well */
};

/* One query under way: |unit * x + shift - score| <= bound for some x in [low, high] of a hit. */
struct seeker {
    const float *query;
    double unit, shift, bound;
    uint64_t *best; /* [k + room] the k best that are scored, then room for more */
    int32_t n_best;
    int32_t thin_at; /* hits */
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
    int32_t *likely;     /* [room] */
    float *turned;       /* [FIRST,D,16] */
    struct scan_panel panel[SCAN_PANELS];
    int32_t n_panels, block, most_block;
    struct tally tally;
};

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

static void raise(struct scan_hits *h, double least)
{
    const float x = nextafterf((float)least, -INFINITY);
    if (x > h->least) h->least = x;
}

/* Scores the n rows at `at` by dot: they join the best. */
static void score_by_dot(struct pass *p, int i, const int32_t *at, int32_t n)
{
    struct seeker *k = &p->seek[i];
    const struct scan *s = p->s;
    uint64_t *to = k->best + k->n_best;
    for (int32_t j = 0; j < n && j < AHEAD; j++) ask_for(s, row_at(p, at[j]));
    for (int32_t j = 0; j < n; j++) {
        const int32_t row = row_at(p, at[j]);
        if (j + AHEAD < n) ask_for(s, row_at(p, at[j + AHEAD]));
        to[j] = rank_key(num->vec->dot(k->query, row_of(s, row), s->D), row);
    }
    k->n_best += n;
    p->tally.dotted += n;
}

/* The bar for hits, once k rows score as much as the key. */
static void raise_to(struct pass *p, int i, uint64_t key)
{
    const struct seeker *k = &p->seek[i];
    if (k->n_best >= p->k)
        raise(&p->hits[i], ((double)rank_score(key) - k->shift - k->bound) / k->unit);
}

/* Sorts the best and keeps k. */
static void cut(struct pass *p, int i)
{
    struct seeker *k = &p->seek[i];
    if (k->n_best <= SCAN_FEW_KEYS) {
        uint64_t *was = k->best;
        num->scan->rank(p->tmp, was, k->n_best);
        k->best = p->tmp;
        p->tmp = was;
    } else {
        rank_sort(k->best, p->tmp, k->n_best);
    }
    k->n_best = k->n_best < p->k ? k->n_best : p->k;
}

/* Leaves out what can't be among the k best.  Returns what at least k of the lows left reach. */
static float thin(struct pass *p, int i)
{
    const struct seeker *k = &p->seek[i];
    struct scan_hits *h = &p->hits[i];
    if (h->n <= p->k || isinf(k->bound)) return -INFINITY;
    const float reached = num->scan->least_of(h->low, h->n, p->k);
    raise(h, (double)reached - 2 * k->bound / k->unit);
    num->scan->keep(h, h->least);
    return reached;
}

/* Takes the hits whose low reaches `least` away, to p->likely; how many. */
static int32_t take_likely(struct pass *p, struct scan_hits *h, float least)
{
    int32_t n = 0, left = 0;
    for (int32_t j = 0; j < h->n; j++) { /* no branch: none could be foretold */
        const bool likely = !(h->low[j] < least);
        p->likely[n] = h->at[j];
        h->high[left] = h->high[j];
        h->at[left] = h->at[j];
        n += likely;
        left += !likely;
    }
    h->n = left;
    return n;
}

/* The likely ones first: their exact scores rule out most of the others. */
static void finish(struct pass *p, int i)
{
    struct seeker *k = &p->seek[i];
    struct scan_hits *h = &p->hits[i];
    score_by_dot(p, i, p->likely, take_likely(p, h, thin(p, i)));
    uint64_t last = UINT64_MAX;
    for (int32_t j = 0; j < k->n_best; j++) last = k->best[j] < last ? k->best[j] : last;
    raise_to(p, i, last);
    num->scan->keep(h, h->least);
    score_by_dot(p, i, h->at, h->n);
    cut(p, i);
}

/* Room for a block's rows. */
static void make_room(struct pass *p)
{
    for (int i = 0; i < p->nq; i++) {
        struct scan_hits *h = &p->hits[i];
        if (h->n < p->seek[i].thin_at) continue;
        (void)thin(p, i);
        if (h->n + SCAN_PANELS * SCAN_PANEL + MORE > p->room) {
            /* Many rows lie within B of the k-th: exact scores are a higher bar. */
            score_by_dot(p, i, h->at, h->n);
            h->n = 0;
            cut(p, i);
            raise_to(p, i, p->seek[i].best[p->k - 1]);
        }
        p->seek[i].thin_at = h->n + MORE;
    }
}

static void flush(struct pass *p)
{
    make_room(p);
    if (p->fp32)
        num->scan->fp32(p->hits, p->queries, p->nq, p->s->D, p->panel, p->n_panels);
    else
        (p->s->bytes ? num->scan->bytes : num->scan->bf16)(p->hits, p->queries, p->nq,
                                                           p->s->words, p->panel, p->n_panels);
    p->n_panels = 0;
    p->block = 2 * p->block < p->most_block ? 2 * p->block : p->most_block;
}

/* Of a panel; nearly always of a full one. */
static int32_t count_rows(uint32_t rows)
{
    return rows == 0xffffu ? SCAN_PANEL : __builtin_popcount(rows);
}

static void add_panel(struct pass *p, const void *x, int32_t at, uint32_t rows)
{
    p->panel[p->n_panels++] = (struct scan_panel){ .x = x, .at = at, .rows = rows };
    p->tally.scored += (int64_t)count_rows(rows) * p->nq;
    if (p->n_panels == p->block) flush(p);
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
    p->tally.scored += (int64_t)count_rows(rows) * p->nq;
    for (; rows; rows &= rows - 1) {
        const int32_t r = __builtin_ctz(rows);
        const float *x = row_of(p->s, row_at(p, at + r));
        if (r + AHEAD < n) ask_for(p->s, row_at(p, at + r + AHEAD));
        for (int i = 0; i < p->nq; i++) {
            struct scan_hits *h = &p->hits[i];
            const float score = num->vec->dot(p->seek[i].query, x, p->s->D);
            if (score < h->least) continue;
            h->high[h->n] = h->low[h->n] = score;
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
            add_panel(p, s->panel + (size_t)i * s->stride, i * SCAN_PANEL, rows);
    }
}

static void pass_list(struct pass *p, int32_t n)
{
    for (int32_t at = 0; at < n; at += SCAN_PANEL)
        add_rows(p, at, n - at, rows_of_panel(NULL, at / SCAN_PANEL, n));
}

static void start_bf16(struct pass *p, int i, uint32_t *word)
{
    const struct scan *s = p->s;
    struct seeker *k = &p->seek[i];
    uint16_t *h = (uint16_t *)(void *)word;
    double off = 0, rounded = 0, q = 0;
    word[s->words - 1] = 0;
    num->vec->to_bf16(h, k->query, s->D);
    for (int32_t d = 0; d < s->D; d++) {
        const double x = (double)k->query[d], r = (double)from_bf16(h[d]);
        k->shift += x * (double)s->mean[d];
        q += x * x;
        rounded += r * r;
        off += (x - r) * (x - r);
    }
    q = sqrt(q);
    const double rounding = (sqrt(off) * s->most_rounded + q * s->off) * (1 + 0x1p-20);
    const double sums = gamma32(s->D) * (sqrt(rounded) * s->most_rounded + q * s->most);
    k->bound = or_unknown(s, q, rounding + sums + flushed(s, q));
}

/* The rounding's share of B goes into the sums: a hit's high is beyond its score, its low below. */
static void start_bytes(struct pass *p, int i, uint32_t *word)
{
    const struct scan *s = p->s;
    struct seeker *k = &p->seek[i];
    struct scan_bytes of;
    num->scan->to_bytes((int8_t *)(void *)word, &of, k->query, s->D);
    const double q = (double)of.norm * (double)of.scale,
                 rounding = (double)of.off * s->ones_rounded + (double)of.norm * s->ones_off,
                 fp32 = s->D * 127.0 * 127.0 * 0x1p-21;
    const double sums = gamma32(s->D) * q * (s->most + s->mean_norm);
    k->unit = (double)of.scale;
    k->shift = (double)num->vec->dot(k->query, s->mean, s->D);
    k->bound = or_unknown(s, q, sums + flushed(s, q));
    if (!(k->bound < (double)INFINITY)) return;
    const double ones = ceil(rounding * (1 + 0x1p-20) + fp32 + 1);
    p->hits[i].start = (int32_t)ones - 128 * of.sum;
    p->hits[i].width = nextafterf((float)(2 * ones), INFINITY);
}

/* A query as the kernel wants it, and its B. */
static void start_query(struct pass *p, int i, const float *query, uint32_t *word)
{
    struct seeker *k = &p->seek[i];
    k->query = query;
    k->unit = 1;
    k->thin_at = p->k + MORE;
    p->hits[i].least = -INFINITY;
    if (p->fp32)
        k->bound = scan_bound(p->s, query);
    else if (p->s->bytes)
        start_bytes(p, i, word);
    else
        start_bf16(p, i, word);
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
    const size_t room = (size_t)(k > ROOM ? 2 * k : k + ROOM) + SCAN_PANELS * SCAN_PANEL +
                        SCAN_SPARE,
                 n_keys = room + (size_t)k, n = (size_t)nq, D = (size_t)s->D,
                 words = (size_t)s->words;
    char *at = ann_scratch(SCRATCH_SCAN, sizeof(struct pass) + (n + 1) * (n_keys * 8 + 64) +
                                             n * (room * 12 + 192) + n * words * 4 + room * 4 +
                                             FIRST * SCAN_PANEL * D * sizeof(float) + 320);
    struct pass *p = carve(&at, sizeof *p);
    memset(p, 0, sizeof *p);
    p->s = s;
    p->k = k;
    p->nq = nq;
    p->list = list;
    p->room = (int32_t)room - SCAN_SPARE;
    p->fp32 = job->fp32 || list;
    p->block = FIRST;
    p->most_block = p->fp32 ? FIRST : s->block;
    p->tmp = carve(&at, n_keys * sizeof *p->tmp);
    p->likely = carve(&at, room * sizeof *p->likely);
    p->turned = carve(&at, FIRST * SCAN_PANEL * D * sizeof *p->turned);
    uint32_t *word = carve(&at, n * words * sizeof *word);
    for (int i = 0; i < nq; i++) {
        p->seek[i].best = carve(&at, n_keys * sizeof *p->seek[i].best);
        p->hits[i].high = carve(&at, room * sizeof(float));
        p->hits[i].low = carve(&at, room * sizeof(float));
        p->hits[i].at = carve(&at, room * sizeof(int32_t));
        start_query(p, i, job->queries + (size_t)(first + i) * D, word + (size_t)i * words);
    }
    p->queries = p->fp32 ? (const void *)p->seek[0].query : word;
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

static struct tally scan(int32_t *ids, float *scores, const struct scan *s,
                         const struct scan_job *job, const int32_t *list, int32_t n_list)
{
    struct tally sum = { 0 };
    for (int32_t i = 0; i < job->nq; i += GROUP) {
        const int32_t nq = job->nq - i < GROUP ? job->nq - i : GROUP;
        struct pass *p = start_pass(s, job, i, nq, list);
        if (list)
            pass_list(p, n_list);
        else
            pass_rows(p, job);
        end_pass(ids + (size_t)i * (size_t)job->k, scores + (size_t)i * (size_t)job->k, p,
                 job->k);
        sum.scored += p->tally.scored;
        sum.dotted += p->tally.dotted;
    }
    return sum;
}

int64_t scan_all(int32_t *ids, float *scores, const struct scan *s, const struct scan_job *job)
{
    return scan(ids, scores, s, job, NULL, 0).scored;
}

int64_t scan_list(int32_t *ids, float *scores, const struct scan *s, const struct scan_job *job,
                  const int32_t *rows, int32_t n)
{
    return scan(ids, scores, s, job, rows, n).scored;
}

/* Do bytes tell these rows apart?  What they leave to dot must cost less than bf16 would. */
static bool bytes_suffice(const struct scan *s)
{
    int32_t ids[PROBES * PROBE_K];
    float scores[PROBES * PROBE_K];
    int64_t dotted = 0;
    for (int32_t i = 0; i < PROBES; i++)
        dotted += scan(ids, scores, s,
                       &(struct scan_job){ .queries =
                                               row_of(s, (int32_t)((int64_t)i * s->V / PROBES)),
                                           .nq = 1,
                                           .k = PROBE_K },
                       NULL, 0)
                      .dotted;
    const double in_vain = (double)dotted / PROBES - (s->V < PROBE_K ? s->V : PROBE_K);
    return in_vain * DOT_COST <= (double)s->n_panels * s->words;
}

struct scan *scan_new_as(const float *rows, int32_t V, int32_t D, bool bytes)
{
    struct scan *s = xcalloc(1, sizeof *s);
    *s = (struct scan){ .rows = rows, .V = V, .D = D };
    s->n_panels = (V + SCAN_PANEL - 1) / SCAN_PANEL;
    s->mean = xcalloc((size_t)D, sizeof *s->mean);
    find_mean(s);
    pack(s, bytes);
    return s;
}

struct scan *scan_new(const float *rows, int32_t V, int32_t D)
{
    struct scan *s = scan_new_as(rows, V, D, num->scan->bytes_are_fast() && D <= SCAN_MOST_D);
    if (s->bytes && !bytes_suffice(s)) pack(s, false);
    return s;
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
