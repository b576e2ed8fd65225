/* ann.h — nearest rows by inner product: FAISS behind a C face, and an exact scan of our own
 * beside it.
 *   struct ann *a = NULL;  TRY(ann_build_auto(&a, &report, rows, V, D, queries, nq, NULL, &e));
 *   TRY(ann_save(a, path, &e));  ann_free(a);                     offline
 *   TRY(ann_open(&a, path, "scan", V, D, &e));                    in the daemon
 *   struct ann_params p = { .allow = bits, .n_allow = n };
 *   TRY(ann_search(ids, scores, a, phi, K, 100, &p, &e));
 *
 * Types: "flat" (FAISS's exact index), "scan" (ours, exact as well; its file is a flat
 * index), "hnswM" (graph of M links), "ivfN" (N lists).  Whatever the type, a score is
 * num->vec->dot(query, row, D) to the bit, and rows are in order of score descending, then
 * row ascending; flat and scan return the list that sorting all rows gives.  So what a
 * search returns depends on its query, k, width and filter, not on the type's rounding nor
 * on the queries beside it; where a graph or lists are filtered, the plan also depends on nq
 * and on what this machine takes for each (an approximate list or the exact one).
 *
 * An index is immutable once built or opened; everything a search needs travels with the
 * call.  Beside FAISS's copy it holds its rows once more as bytes or bf16, for scans; IVF once more
 * as fp32. Thread: any, except where said.  num_init comes before. */
#pragma once
#include "core/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ann;

struct ann_plan { /* how a search was done */
    const char *
        mode; /* "flat", "scan": every row that is allowed, in place; "allowed": such rows gathered first;
                         "graph", "lists"; "over_fetch": the graph's best, of which those allowed are kept */
    bool exact;      /* the lists are those that sorting all rows gives */
    int64_t scored;  /* rows scored, of all queries together; of a graph those it returned */
    int32_t rescued; /* queries for which that was not enough rows: a scan answered */
};

struct ann_params { /* zeroed is a good default */
    int32_t width;  /* HNSW's ef, IVF's number of lists; 0: the index's own */
    bool exact;     /* scan, whatever the type */
    const uint64_t
        *allow; /* rows that may be returned: bit r of word r/64; ceil(V/64) words; NULL: all */
    int32_t n_allow;       /* how many of allow's bits below V are set */
    struct ann_plan *plan; /* out; may be NULL */
};

/* ---- building ---- */

/* Builders copy rows [V,D].  Same rows, same index, bit for bit (built on one thread). */
NODISCARD int ann_build_flat(struct ann **out, const float *rows, int32_t V, int32_t D,
                             struct err *e);
NODISCARD int ann_build_scan(struct ann **out, const float *rows, int32_t V, int32_t D,
                             struct err *e);
/* HNSW of Malkov & Yashunin 2016.  M, ef_construction, ef: 0 takes 32, 200, 128. */
NODISCARD int ann_build_hnsw(struct ann **out, const float *rows, int32_t V, int32_t D,
                             int32_t M, int32_t ef_construction, int32_t ef, struct err *e);
/* n_lists and n_probe: 0 takes 4 sqrt(V) rounded (fewer below 4096 rows) and 16. */
NODISCARD int ann_build_ivf(struct ann **out, const float *rows, int32_t V, int32_t D,
                            int32_t n_lists, int32_t n_probe, struct err *e);

/* Doubles the own width of a graph or lists until recall at k of queries [nq,D] is `want`,
 * or the width is `most` (0: the largest there is); *recall is what the width it ends with
 * reaches.  Only before other threads see the index. */
NODISCARD int ann_tune(double *recall, struct ann *a, const float *queries, int32_t nq,
                       int32_t k, double want, int32_t most, struct err *e);

struct ann_auto {            /* zeroed members take the defaults in brackets */
    int32_t exact_below;     /* fewer rows than this: graph and lists are not tried [20000] */
    double want_recall;      /* [0.99] */
    int32_t recall_k;        /* recall and time are measured at this depth [100] */
    int32_t M;               /* HNSW: links of a node [32] */
    int32_t ef_construction; /* HNSW: width while building [200] */
};

struct ann_candidate {
    char type[16];
    int32_t width;   /* 0 where it has none */
    double recall;   /* measured; 1 where it is exact */
    double us_one;   /* us a query alone */
    double us_batch; /* us a query of 32 */
    double build_ms;
};
enum { ANN_CANDIDATES = 4 };
struct ann_report { /* what ann_build_auto chose, and from what */
    int32_t width;
    double recall, build_ms;
    int n, chosen;
    struct ann_candidate of[ANN_CANDIDATES];
};
/* Builds flat, scan and, for many rows, IVF and HNSW tuned to the wanted recall on queries
 * [nq,D]; times each on this machine, one thread; takes the least of  3/4 us_batch + 1/4
 * us_one  among those that reach the recall.  In that order one must be 10 % better than the
 * one chosen before it, so equals do not change places from run to run. queries = NULL: rows
 * themselves, evenly spaced, are the sample. */
NODISCARD int ann_build_auto(struct ann **out, struct ann_report *report, const float *rows,
                             int32_t V, int32_t D, const float *queries, int32_t nq,
                             const struct ann_auto *opts, struct err *e);

/* ---- files ---- */

/* The file must hold exactly V rows of D (each of its sizes, links, lists and values is
 * checked before FAISS sees it) and be of the type said ("scan" is a flat file; NULL: what
 * the file says), else ERR_BAD_BUNDLE with the reason. */
NODISCARD int ann_open(struct ann **out, const char *path, const char *type, int32_t V,
                       int32_t D, struct err *e);
NODISCARD int ann_open_mem(struct ann **out, const void *data, size_t nb, const char *type,
                           int32_t V, int32_t D, struct err *e);
/* Writes path in place: the bundle's writer makes it atomic. */
NODISCARD int ann_save(const struct ann *a, const char *path, struct err *e);
void ann_free(struct ann *a); /* NULL is fine */

/* ---- searching ---- */

/* The k best rows of each query.
 *   ids, scores [nq,k]   -1 and -INFINITY where rows ran out
 *   queries     [nq,D]   an all-zero query gets the first rows, score 0; NaN or Inf: ERR_INVALID
 *   p                    may be NULL; its filter holds for every query of the call
 * Every row returned is allowed, and min(k, rows allowed) of them are.  With a filter the
 * cheapest of these is done, by costs measured when the index was built or opened: a scan of
 * the allowed rows in place or gathered; the graph, fetching k / selectivity, with a width
 * to match; the lists, as many as hold the allowed rows that a search without filter looks
 * at.  Where graph or lists yield too few, the scan answers.  k > V is fine.  Runs on the
 * calling thread alone; no malloc of ours once its scratch has grown. */
NODISCARD int ann_search(int32_t *ids, float *scores, const struct ann *a, const float *queries,
                         int32_t nq, int32_t k, const struct ann_params *p, struct err *e);

/* Share of the exact k best that a search of `width` (0: the index's own) finds, mean over
 * queries [nq,D].  A row that ties with the last of them counts. */
NODISCARD int ann_recall(double *recall, const struct ann *a, const float *queries, int32_t nq,
                         int32_t k, int32_t width, struct err *e);

const char *ann_type(const struct ann *a); /* "flat", "scan", "hnsw32", "ivf440" */
int32_t ann_count(const struct ann *a);    /* V */
int32_t ann_width(const struct ann *a); /* the own ef or number of lists; 0 for flat and scan */
const float *ann_rows(const struct ann *a); /* [V,D], borrowed */
