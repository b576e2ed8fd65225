/* The exact scan, with every instruction set: its list is the one that sorting all scores gives,
 * whatever the data. */
#include "core/ann/ann_rank.h"
#include "core/ann/ann_scan.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *suite_ann_scan(void);

static const struct num_ops *isa[3], *before;
static int n_isa;
static struct rng rng;

static void set_up(void)
{
    before = num;
    n_isa = num_available(isa);
    rng = rng_make(5, RNG_TEST);
}

static void tear_down(void) { num = before; }

/* ---- data ---- */

enum {
    NORMAL,
    FAR_FROM_ZERO,
    GRID,
    ALL_EQUAL,
    ZERO,
    SIZES_DIFFER,
    HUGE_VALUES,
    TINY,
    NEARLY_EQUAL,
    HEAVY_TAILED,
    CLUSTERED,
    EACH_CONSTANT,
    ONE_LARGE_DIMENSION,
    KINDS
};

static float value(int kind, int32_t row, int32_t d)
{
    const float x = rng_normal(&rng);
    switch (kind) {
    case FAR_FROM_ZERO: return 100 + (float)d + x;
    case GRID: return (float)((int)(rng_u64(&rng) % 5) - 2);
    case ALL_EQUAL: return (float)(d % 3) - 0.7f;
    case ZERO: return 0;
    case SIZES_DIFFER: return x * ldexpf(1, row % 40 - 20);
    case HUGE_VALUES: return x * 1e37f;
    case TINY: return x * 1e-40f;
    case HEAVY_TAILED: return x * ldexpf(1, __builtin_ctz((uint32_t)row | 1u << 12));
    case CLUSTERED: return (float)((row % 7 * 31 + d * 17) % 11 - 5) + 0.01f * x;
    case EACH_CONSTANT: return (float)(row % 1000) - 499.5f;
    case ONE_LARGE_DIMENSION: return d == row % 5 ? 1000 * x : x;
    case NEARLY_EQUAL: return 1 + x * 1e-7f;
    default: return x;
    }
}

static int by_key(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x > y ? -1 : x < y;
}

struct world {
    int32_t V, D, nq, k;
    float *rows, *queries;
    uint64_t *allow, *key;
    int32_t *ids;
    float *scores;
};

static struct world world_new(int kind, int32_t V, int32_t D, int32_t nq, int32_t k)
{
    struct world w = { .V = V, .D = D, .nq = nq, .k = k };
    w.rows = xmalloc(sizeof(float) * (size_t)V * (size_t)D);
    w.queries = xmalloc(sizeof(float) * (size_t)nq * (size_t)D);
    w.allow = xcalloc((size_t)(V + 63) / 64, sizeof *w.allow);
    w.key = xmalloc(sizeof *w.key * (size_t)V);
    w.ids = xmalloc(sizeof(int32_t) * (size_t)nq * (size_t)k);
    w.scores = xmalloc(sizeof(float) * (size_t)nq * (size_t)k);
    for (int32_t v = 0; v < V; v++)
        for (int32_t d = 0; d < D; d++) w.rows[v * D + d] = value(kind, v, d);
    for (int32_t i = 0; i < nq; i++)
        for (int32_t d = 0; d < D; d++)
            w.queries[i * D + d] = value(kind == TINY ? NORMAL : kind, i, d);
    return w;
}

static void world_free(struct world *w)
{
    free(w->rows);
    free(w->queries);
    free(w->allow);
    free(w->key);
    free(w->ids);
    free(w->scores);
}

static bool is_allowed(const struct world *w, int32_t v)
{
    return w->allow[v / 64] >> (v % 64) & 1;
}

static void assert_exact(const struct world *w, bool filtered)
{
    for (int32_t i = 0; i < w->nq; i++) {
        int32_t n = 0;
        for (int32_t v = 0; v < w->V; v++)
            if (!filtered || is_allowed(w, v))
                w->key[n++] =
                    rank_key(num->vec->dot(w->queries + i * w->D, w->rows + v * w->D, w->D), v);
        qsort(w->key, (size_t)n, sizeof *w->key, by_key);
        int32_t wrong = 0; /* Check's assertions are dear */
        for (int32_t j = 0; j < w->k; j++) {
            const float s = j < n ? rank_score(w->key[j]) : -INFINITY;
            wrong += w->ids[i * w->k + j] != (j < n ? rank_row(w->key[j]) : -1) ||
                     memcmp(&w->scores[i * w->k + j], &s, sizeof s) != 0;
        }
        ck_assert_int_eq(wrong, 0);
    }
}

static void scan_rows(struct world *w, const struct scan *s)
{
    struct scan_job job = { .queries = w->queries, .nq = w->nq, .k = w->k };
    int32_t *list = xmalloc(sizeof *list * (size_t)w->V), n = 0;
    for (int fp32 = 0; fp32 < 2; fp32++) {
        job.fp32 = fp32;
        ck_assert_int_eq(scan_all(w->ids, w->scores, s, &job), (int64_t)w->nq * w->V);
        assert_exact(w, false);
    }
    memset(w->allow, 0, sizeof *w->allow * (size_t)((w->V + 63) / 64));
    for (int32_t v = 0; v < w->V; v++)
        if (v / 16 % 3 && rng_u64(&rng) % 4 == 0) {
            w->allow[v / 64] |= (uint64_t)1 << (v % 64);
            list[n++] = v;
        }
    rng_shuffle(&rng, list, n);
    job.allow = w->allow;
    for (int fp32 = 0; fp32 < 2; fp32++) {
        job.fp32 = fp32;
        ck_assert_int_eq(scan_all(w->ids, w->scores, s, &job), (int64_t)w->nq * n);
        assert_exact(w, true);
    }
    ck_assert_int_eq(scan_list(w->ids, w->scores, s, &job, list, n), (int64_t)w->nq * n);
    assert_exact(w, true);
    free(list);
}

static void scan_every_way(struct world *w)
{
    for (int bytes = 0; bytes < 2; bytes++) {
        struct scan *s = scan_new_as(w->rows, w->V, w->D, bytes);
        ck_assert_int_eq(scan_has_bytes(s), bytes);
        scan_rows(w, s);
        scan_free(s);
    }
}

static const int32_t shapes[][4] = {
    /* V, D, nq, k */
    { 1, 1, 1, 1 },       { 15, 2, 2, 5 },       { 16, 3, 3, 16 },    { 17, 4, 7, 20 },
    { 100, 5, 1, 1 },     { 300, 17, 33, 10 },   { 64, 64, 6, 64 },   { 5000, 8, 5, 100 },
    { 4000, 64, 2, 100 }, { 3000, 33, 12, 900 }, { 1500, 130, 4, 3 }, { 700, 7, 40, 1000 },
    { 3, 6, 2, 1 },
};

START_TEST(a_scan_of_any_shape_is_exact)
{
    for (int i = 0; i < n_isa; i++) {
        num = isa[i];
        struct world w =
            world_new(NORMAL, shapes[_i][0], shapes[_i][1], shapes[_i][2], shapes[_i][3]);
        scan_every_way(&w);
        world_free(&w);
    }
}
END_TEST

START_TEST(a_scan_of_any_data_is_exact)
{
    for (int i = 0; i < n_isa; i++) {
        num = isa[i];
        struct world w = world_new(_i, 2500, 24, 7, 50);
        scan_every_way(&w);
        world_free(&w);
    }
}
END_TEST

START_TEST(rows_that_round_to_the_same_are_told_apart)
{
    enum { V = 6000, D = 16 };
    struct world w = world_new(ZERO, V, D, 1, 40);
    for (int32_t v = 0; v < V; v++)
        for (int32_t d = 0; d < D; d++)
            w.rows[v * D + d] = (v % 2 ? 1.0f : -1.0f) + (float)((v * 7919) % V) * 1e-6f;
    for (int32_t d = 0; d < D; d++) w.queries[d] = 1;
    scan_every_way(&w);
    world_free(&w);
}
END_TEST

START_TEST(a_scan_needs_no_more_memory_the_second_time)
{
    struct world w = world_new(NORMAL, 3000, 16, 40, 300);
    struct scan *s = scan_new(w.rows, w.V, w.D);
    const struct scan_job job = { .queries = w.queries, .nq = w.nq, .k = w.k };
    (void)scan_all(w.ids, w.scores, s, &job);
    const void *was = ann_scratch(SCRATCH_SCAN, 1);
    (void)scan_all(w.ids, w.scores, s, &job);
    ck_assert_ptr_eq(ann_scratch(SCRATCH_SCAN, 1), was);
    scan_free(s);
    world_free(&w);
}
END_TEST

/* As bytes the first value is 127 and the others 50: one row in 40 loses its lead. */
START_TEST(rows_that_rounding_puts_behind_are_found)
{
    enum { V = 4000, D = 17 };
    struct world w = world_new(ZERO, V, D, 1, 30);
    for (int32_t v = 0; v < V; v++)
        for (int32_t d = 0; d < D; d++) {
            const float x = v / 2 % 40 == 39 ? 50.4f : d == 1 ? 53 : 49.6f;
            w.rows[v * D + d] =
                (v % 2 ? -1.0f : 1.0f) * (d == 0 ? 127 : x + 1e-4f * rng_normal(&rng));
        }
    for (int32_t d = 1; d < D; d++) w.queries[d] = 1;
    for (int i = 0; i < n_isa; i++) {
        num = isa[i];
        scan_every_way(&w);
    }
    world_free(&w);
}
END_TEST

START_TEST(queries_of_any_size_find_the_same_list)
{
    enum { V = 3000, D = 12 };
    for (int i = 0; i < n_isa; i++) {
        num = isa[i];
        struct world w = world_new(NORMAL, V, D, 6, 20);
        for (int32_t d = 0; d < D; d++) {
            w.queries[d] = 0;
            w.queries[D + d] *= 1e-42f;
            w.queries[2 * D + d] *= 1e-34f;
            w.queries[3 * D + d] *= 1e34f;
            w.queries[4 * D + d] = d == 3 ? 1e30f : 1e-30f;
        }
        scan_every_way(&w);
        world_free(&w);
    }
}
END_TEST

START_TEST(rows_that_bytes_do_not_tell_apart_are_kept_as_bf16)
{
    enum { V = 8000, D = 16 };
    struct world w = world_new(NORMAL, V, D, 3, 10);
    struct scan *s = scan_new(w.rows, V, D);
    ck_assert_int_eq(scan_has_bytes(s), num->scan->bytes_are_fast());
    scan_rows(&w, s);
    scan_free(s);
    for (int32_t v = 0; v < V; v++)
        for (int32_t d = 0; d < D; d++)
            w.rows[v * D + d] = (v % 2 ? 1.0f : -1.0f) + 1e-3f * rng_normal(&rng);
    s = scan_new(w.rows, V, D);
    ck_assert(!scan_has_bytes(s));
    scan_rows(&w, s);
    scan_free(s);
    world_free(&w);
}
END_TEST

/* ---- kernels ---- */

enum {
    PANELS = SCAN_PANELS,
    MOST_NQ = 13,
    MOST_D = 70,
    FOUND = PANELS * SCAN_PANEL + SCAN_SPARE
};

static float value_of_bf16(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

struct kernel { /* rows and queries as a kind has them, and as numbers */
    int32_t D;
    int kind; /* 0 fp32, 1 bf16, 2 bytes */
    double row[PANELS * SCAN_PANEL][MOST_D], query[MOST_NQ][MOST_D];
    double score[MOST_NQ][PANELS * SCAN_PANEL], size[MOST_NQ][PANELS * SCAN_PANEL];
    float one[PANELS * SCAN_PANEL];
    float panel[PANELS][(MOST_D + 1) * SCAN_PANEL];
    uint32_t words[MOST_NQ * MOST_D];
};

static int32_t words_of(const struct kernel *k)
{
    return k->kind == 0 ? k->D : k->kind == 1 ? (k->D + 1) / 2 : (k->D + 3) / 4;
}

/* Element d of what starts at `word`, whose words are `step` apart. */
static void put(struct kernel *k, double *x, uint32_t *word, int step, int32_t d, bool is_row)
{
    const float y = rng_normal(&rng);
    uint16_t h;
    switch (k->kind) {
    case 0:
        memcpy(word + d * step, &y, sizeof y);
        *x = (double)y;
        break;
    case 1:
        num->vec->to_bf16(&h, &y, 1);
        memcpy((char *)(word + d / 2 * step) + d % 2 * 2, &h, sizeof h);
        *x = (double)value_of_bf16(h);
        break;
    default: {
        const int b = (int)(rng_u64(&rng) % 255) - 127;
        ((uint8_t *)(word + d / 4 * step))[d % 4] = (uint8_t)(is_row ? b + 128 : b);
        *x = b;
    }
    }
}

static void kernel_fill(struct kernel *k, int kind, int32_t D)
{
    memset(k, 0, sizeof *k);
    k->kind = kind;
    k->D = D;
    for (int r = 0; r < PANELS * SCAN_PANEL; r++) {
        uint32_t *word = (uint32_t *)(void *)k->panel[r / SCAN_PANEL] + r % SCAN_PANEL;
        k->one[r] = kind == 2 ? ldexpf(1, r % 9 - 4) : 1;
        for (int32_t d = 0; d < D; d++) put(k, &k->row[r][d], word, SCAN_PANEL, d, true);
        if (kind == 2) memcpy(word + words_of(k) * SCAN_PANEL, &k->one[r], sizeof(float));
    }
    for (int i = 0; i < MOST_NQ; i++)
        for (int32_t d = 0; d < D; d++)
            put(k, &k->query[i][d], k->words + i * words_of(k), 1, d, false);
    for (int i = 0; i < MOST_NQ; i++)
        for (int r = 0; r < PANELS * SCAN_PANEL; r++)
            for (int32_t d = 0; d < D; d++) {
                k->score[i][r] += k->row[r][d] * k->query[i][d];
                k->size[i][r] += fabs(k->row[r][d] * k->query[i][d]);
            }
}

static void assert_found(const struct kernel *k, const struct scan_hits *h, int i, float least)
{
    int32_t n = 0, wrong = 0;
    for (int r = 0; r < PANELS * SCAN_PANEL; r++) {
        double s = k->score[i][r];
        const double tol = k->kind == 2 ? 0 : k->size[i][r] * 1e-5;
        if (k->kind == 2) s = (s + i) * (double)k->one[r];
        const bool found = n < h->n && h->at[n] == 100 + r;
        wrong += found && (r % 16 == 5 || s < (double)least - tol);
        wrong += !found && r % 16 != 5 && s > (double)least + tol;
        if (!found) continue;
        wrong += fabs((double)h->high[n] - s) > tol;
        wrong += h->low[n] != h->high[n] - 3 * k->one[r];
        n++;
    }
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(n, h->n);
}

static void run_kernel(const struct kernel *k, int32_t nq, int32_t n, float least)
{
    static float high[MOST_NQ][FOUND], low[MOST_NQ][FOUND];
    static int32_t at[MOST_NQ][FOUND];
    struct scan_hits hits[MOST_NQ];
    struct scan_panel panel[PANELS];
    for (int p = 0; p < PANELS; p++)
        panel[p] =
            (struct scan_panel){ k->panel[p], 100 + p * SCAN_PANEL, 0xffffu & ~(1u << 5) };
    for (int32_t i = 0; i < nq; i++) {
        double sum = 0;
        for (int32_t d = 0; d < k->D; d++) sum += k->query[i][d];
        hits[i] = (struct scan_hits){
            .high = high[i], .low = low[i], .at = at[i], .width = 3, .least = least
        };
        if (k->kind == 2) hits[i].start = i - 128 * (int32_t)sum;
    }
    for (int32_t p = 0, m; p < PANELS; p += m) {
        m = PANELS - p < n ? PANELS - p : n;
        if (k->kind == 0)
            num->scan->fp32(hits, (const float *)(const void *)k->words, nq, k->D, panel + p,
                            m);
        else
            (k->kind == 1 ? num->scan->bf16 : num->scan->bytes)(hits, k->words, nq, words_of(k),
                                                                panel + p, m);
    }
    for (int32_t i = 0; i < nq; i++) assert_found(k, &hits[i], i, least);
}

START_TEST(kernels_find_what_is_not_less_than_the_least)
{
    static const int32_t dims[] = { 1, 3, 4, 33, 70 };
    struct kernel *k = xmalloc(sizeof *k);
    for (int i = 0; i < n_isa; i++)
        for (size_t j = 0; j < sizeof dims / sizeof *dims; j++) {
            num = isa[i];
            kernel_fill(k, _i, dims[j]);
            for (int32_t nq = 1; nq <= MOST_NQ; nq += 1 + nq / 7) {
                run_kernel(k, nq, 1 + 5 * nq, -INFINITY);
                run_kernel(k, nq, PANELS, _i == 2 ? 1000 : 0.5f);
                run_kernel(k, nq, PANELS - 1, _i == 2 ? 2e5f : 9);
            }
        }
    free(k);
}
END_TEST

static double norm_of(const double *x, int32_t n)
{
    double s = 0;
    for (int32_t i = 0; i < n; i++) s += x[i] * x[i];
    return sqrt(s);
}

START_TEST(bytes_are_near_what_they_stand_for_and_say_how_near)
{
    enum { MOST = 70 };
    float x[MOST];
    double exact[MOST], off[MOST], whole[MOST];
    int8_t b[MOST + 4];
    struct scan_bytes of;
    for (int i = 0; i < n_isa; i++)
        for (int32_t n = 1; n <= MOST; n++)
            for (int e = -110; e <= 120; e += 23) {
                int32_t sum = 0, far = 0;
                for (int32_t d = 0; d < n; d++)
                    x[d] = n % 10 == 9 ? 0 : ldexpf(rng_normal(&rng), d % 7 == 2 ? e - 5 : e);
                memset(b, 99, sizeof b);
                isa[i]->scan->to_bytes(b, &of, x, n);
                for (int32_t d = 0; d < n; d++) {
                    const double one = (double)of.scale;
                    exact[d] = (double)x[d] / one;
                    whole[d] = b[d];
                    off[d] = exact[d] - whole[d];
                    sum += b[d];
                    far += b[d] < -127 || fabs(off[d]) > 0.5001;
                }
                for (int32_t d = n; d < (n + 3) / 4 * 4; d++) far += b[d] != 0;
                ck_assert_int_eq(far, 0);
                ck_assert_int_eq(b[(n + 3) / 4 * 4], 99);
                ck_assert_int_eq(of.sum, sum);
                ck_assert_double_eq(of.square, round(pow(norm_of(whole, n), 2)));
                ck_assert_double_ge((double)of.norm, norm_of(exact, n));
                ck_assert_double_ge((double)of.off, norm_of(off, n));
                ck_assert_double_le((double)of.norm, norm_of(exact, n) * 1.0001);
                ck_assert_double_le((double)of.off, norm_of(off, n) * 1.0001 + 1e-3);
            }
}
END_TEST

START_TEST(rank_sorts_keys)
{
    enum { N = 200 };
    uint64_t key[N + SCAN_SPARE], sorted[N], out[N];
    for (int i = 0; i < n_isa; i++)
        for (int32_t n = 0; n <= N; n++) {
            for (int32_t j = 0; j < N + SCAN_SPARE; j++) key[j] = rng_u64(&rng);
            memcpy(sorted, key, sizeof sorted);
            qsort(sorted, (size_t)n, sizeof *sorted, by_key);
            isa[i]->scan->rank(out, key, n);
            ck_assert_mem_eq(out, sorted, sizeof *out * (size_t)n);
        }
}
END_TEST

START_TEST(least_of_is_reached_by_k_scores_and_seldom_by_many_more)
{
    enum { N = 1000 };
    float x[N];
    for (int i = 0; i < n_isa; i++)
        for (int kind = 0; kind < 3; kind++)
            for (int32_t k = 1; k <= N; k += 37) {
                for (int j = 0; j < N; j++)
                    x[j] = kind == 0   ? rng_normal(&rng)
                           : kind == 1 ? (float)(rng_u64(&rng) % 3)
                                       : 5;
                const float t = isa[i]->scan->least_of(x, N, k);
                int32_t n = 0;
                for (int j = 0; j < N; j++) n += x[j] >= t;
                ck_assert_int_ge(n, k);
                if (kind == 0) ck_assert_int_le(n, k + k / 8);
            }
}
END_TEST

START_TEST(keep_moves_what_is_not_less_to_the_front_in_order)
{
    enum { N = 100 };
    float high[N + SCAN_SPARE], low[N + SCAN_SPARE];
    int32_t at[N + SCAN_SPARE];
    for (int i = 0; i < n_isa; i++)
        for (int32_t n = 0; n <= N; n++) {
            struct scan_hits h = { .high = high, .low = low, .at = at, .n = n };
            int32_t want[N] = { 0 }, m = 0;
            for (int32_t j = 0; j < n; j++) {
                high[j] = j % 11 == 3 ? NAN : rng_normal(&rng);
                low[j] = (float)j;
                at[j] = 1000 + j;
                if (!(high[j] < 0.5f)) want[m++] = at[j];
            }
            isa[i]->scan->keep(&h, 0.5f);
            ck_assert_int_eq(h.n, m);
            ck_assert_mem_eq(at, want, sizeof *at * (size_t)m);
            for (int32_t j = 0; j < m; j++) {
                ck_assert(!(high[j] < 0.5f));
                ck_assert(low[j] == (float)(at[j] - 1000));
            }
        }
}
END_TEST

/* ---- rankings ---- */

START_TEST(keys_rank_by_score_then_row)
{
    static const float s[] = { INFINITY, 3, 1e-40f, 0, -1e-40f, -2, -INFINITY };
    enum { N = sizeof s / sizeof *s };
    for (int i = 0; i < N; i++) {
        ck_assert(rank_score(rank_key(s[i], 7)) == s[i]);
        ck_assert_int_eq(rank_row(rank_key(s[i], 0x7ffffffe)), 0x7ffffffe);
        ck_assert(rank_key(s[i], 3) > rank_key(s[i], 4));
        if (i + 1 < N) ck_assert(rank_key(s[i], 900) > rank_key(s[i + 1], 0));
    }
    ck_assert(rank_key(-0.0f, 5) == rank_key(0.0f, 5));
    ck_assert(rank_key(NAN, 5) == rank_key(-INFINITY, 5));
}
END_TEST

START_TEST(keys_are_sorted_whatever_their_number)
{
    uint64_t x[300], y[300] = { 0 }, tmp[300];
    for (int32_t n = 0; n <= 300; n++) {
        for (int32_t i = 0; i < n; i++) x[i] = y[i] = rng_u64(&rng) % (n % 2 ? 1u << 30 : 20);
        rank_sort(x, tmp, n);
        qsort(y, (size_t)n, sizeof *y, by_key);
        ck_assert_mem_eq(x, y, sizeof *x * (size_t)n);
    }
}
END_TEST

Suite *suite_ann_scan(void)
{
    Suite *s = suite_create("ann_scan");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_scan_of_any_shape_is_exact, 0,
                        (int)(sizeof shapes / sizeof *shapes));
    tcase_add_loop_test(t, a_scan_of_any_data_is_exact, 0, KINDS);
    tcase_add_test(t, rows_that_round_to_the_same_are_told_apart);
    tcase_add_test(t, a_scan_needs_no_more_memory_the_second_time);
    tcase_add_test(t, rows_that_rounding_puts_behind_are_found);
    tcase_add_test(t, queries_of_any_size_find_the_same_list);
    tcase_add_test(t, rows_that_bytes_do_not_tell_apart_are_kept_as_bf16);
    tcase_add_loop_test(t, kernels_find_what_is_not_less_than_the_least, 0, 3);
    tcase_add_test(t, bytes_are_near_what_they_stand_for_and_say_how_near);
    tcase_add_test(t, rank_sorts_keys);
    tcase_add_test(t, least_of_is_reached_by_k_scores_and_seldom_by_many_more);
    tcase_add_test(t, keep_moves_what_is_not_less_to_the_front_in_order);
    tcase_add_test(t, keys_rank_by_score_then_row);
    tcase_add_test(t, keys_are_sorted_whatever_their_number);
    suite_add_tcase(s, t);
    return s;
}
