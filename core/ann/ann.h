/* ann.h — nearest rows by inner product: FAISS behind a C face.
 *   struct ann *a = NULL;  TRY(ann_build_auto(&a, &report, rows, V, D, queries, nq, NULL, &e));
 *   TRY(ann_save(a, path, &e));  ann_free(a);                     offline
 *   TRY(ann_open(&a, path, V, D, &e));                            in the daemon
 *   TRY(ann_search(ids, scores, a, phi, K, 100, &(struct ann_params){ .exclude = seen, .n_exclude = n }, &e));
 * An index is immutable once built or opened; everything a search needs travels with the call.
 * Thread: any, except where said. */
#pragma once
#include "core/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ann;

struct ann_params {    /* zeroed is a good default */
    int32_t ef_search; /* HNSW's width of search; 0: the index's own, which is also the least */
    bool exact;        /* scan every row, whatever the type */
    const int32_t *exclude; /* rows never to return, any order; out of range is ignored */
    int32_t n_exclude;
};

struct ann_auto {            /* zeroed members take the defaults in brackets */
    int32_t flat_below;      /* fewer items than this are scanned exactly [30000] */
    double want_recall;      /* [0.99] */
    int32_t recall_k;        /* recall is measured at this depth [100] */
    int32_t M;               /* HNSW: links of a node [32] */
    int32_t ef_construction; /* HNSW: width while building [200] */
};

struct ann_report {    /* what ann_build_auto chose */
    int32_t ef_search; /* 0 for a flat index */
    double recall;     /* measured; 1 for a flat index */
    double build_ms;
};

/* Builders copy rows [V,D].  Same rows, same index, bit for bit (built on one thread). */
NODISCARD int ann_build_flat(struct ann **out, const float *rows, int32_t V, int32_t D,
                             struct err *e);
/* HNSW of Malkov & Yashunin 2016.  M, ef_construction, ef_search: 0 takes 32, 200, 128. */
NODISCARD int ann_build_hnsw(struct ann **out, const float *rows, int32_t V, int32_t D,
                             int32_t M, int32_t ef_construction, int32_t ef_search,
                             struct err *e);
/* Flat for few items, else HNSW whose ef_search doubles until recall on queries [nq,D] is reached;
 * flat again when the scan would be faster by then.  queries = NULL: rows themselves, evenly spaced, are the sample. */
NODISCARD int ann_build_auto(struct ann **out, struct ann_report *report, const float *rows,
                             int32_t V, int32_t D, const float *queries, int32_t nq,
                             const struct ann_auto *opts, struct err *e);

/* The file must hold exactly V rows of D (each of its sizes, links and values is checked before
 * FAISS sees it), else ERR_BAD_BUNDLE with the reason. */
NODISCARD int ann_open(struct ann **out, const char *path, int32_t V, int32_t D, struct err *e);
NODISCARD int ann_open_mem(struct ann **out, const void *data, size_t nb, int32_t V, int32_t D,
                           struct err *e);
/* Writes path in place: the bundle's writer makes it atomic. */
NODISCARD int ann_save(const struct ann *a, const char *path, struct err *e);
void ann_free(struct ann *a); /* NULL is fine */

/* The k best rows of each query.
 *   ids, scores [nq,k]   score descending, then row ascending; -1 and -INFINITY where rows ran out
 *   queries     [nq,D]   an all-zero query gets the first rows, score 0; NaN or Inf: ERR_INVALID
 *   p                    may be NULL; its exclusions hold for every query of the call
 * Never fewer rows than an exact scan would return.  Where more than a tenth is excluded, or the graph
 * yields too few, HNSW falls back to that scan.  k > V is fine.  Runs on the calling thread alone. */
NODISCARD int ann_search(int32_t *ids, float *scores, const struct ann *a, const float *queries,
                         int32_t nq, int32_t k, const struct ann_params *p, struct err *e);

/* Share of the exact k best that a search with ef_search finds, mean over queries [nq,D].  A row that ties
 * with the last of them counts. */
NODISCARD int ann_recall(double *recall, const struct ann *a, const float *queries, int32_t nq,
                         int32_t k, int32_t ef_search, struct err *e);

const char *ann_type(const struct ann *a);  /* "flat", "hnsw32" */
int32_t ann_count(const struct ann *a);     /* V */
int32_t ann_ef(const struct ann *a);        /* the index's own ef_search; 0 for flat */
const float *ann_rows(const struct ann *a); /* [V,D], borrowed */
