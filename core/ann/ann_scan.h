/* ann_scan.h — the exact k best rows by inner product, by looking at all of them.
 *   struct scan *s = scan_new(rows, V, D);
 *   struct scan_job job = { .queries = q, .nq = nq, .k = 100 };
 *   scan_all(ids, scores, s, &job);                every row, or those that job.allow has
 *   scan_list(ids, scores, s, &job, list, n);      the rows listed
 *   scan_free(s);
 * A score is num->vec->dot(query, row, D), to the bit, and the list is the one that sorting
 * all of them gives: score descending, then row ascending.  How so fast: rows less their
 * mean are kept as bf16 in panels of 16; a pass over them finds s' with |s' + query . mean -
 * score| <= B, so no row that may be among the best has s' below t - 2B, t being what k rows
 * reach; those few rows are scored by dot.  B is proved, not guessed, by Cauchy-Schwarz:
 *   query . (row - mean) - query' . row' = (query - query') . row' + query . (row - mean - row')
 *   B = |query - query'| max |row'| + |query| max |row - mean - row'| + what fp32 sums lose
 * where the primed are the rounded ones and the maxima are those of the rows.  Data of which
 * many rows lie within B of the k-th, ties among them, cost time, never exactness.  Private
 * to core/ann.  Immutable, rows are borrowed.  Thread: any. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct scan;

struct scan *scan_new(const float *rows, int32_t V, int32_t D);
void scan_free(struct scan *s); /* NULL is fine */

struct scan_job {
    const float *queries;  /* [nq,D], finite */
    int32_t nq, k;         /* k > 0 */
    const uint64_t *allow; /* bit r of word r/64: row r counts; NULL: all */
    int32_t from, to;      /* rows [from,to), multiples of 16 but for V; 0, 0: all */
    bool fp32;             /* rows as they are instead of bf16: same result */
};

/* ids, scores [nq,k]; -1 and -INFINITY where rows ran out.  Returns the rows whose product
 * with a query was taken, summed over the queries. */
int64_t scan_all(int32_t *ids, float *scores, const struct scan *s, const struct scan_job *job);
/* As scan_all, of rows [n], each once, in any order; job's rows are ignored. */
int64_t scan_list(int32_t *ids, float *scores, const struct scan *s, const struct scan_job *job,
                  const int32_t *rows, int32_t n);

/* Panels of 16 with a row that allow [V bits] has. */
int32_t scan_panels(const uint64_t *allow, int32_t V);
/* The k best of rows [n], n < 2^31, which may repeat or be -1; only those in allow; a score
 * is a product with dot.  How many: fewer than k where fewer are left. */
int32_t scan_rescore(int32_t *ids, float *scores, const struct scan *s, const float *query,
                     int32_t k, const int64_t *rows, int64_t n, const uint64_t *allow);
/* B of scores that were summed in fp32 in any order, for |score - dot|. */
double scan_bound(const struct scan *s, const float *query);
