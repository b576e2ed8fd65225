/* ann_impl.h — what an index is made of.  Private to core/ann. */
#pragma once
#include "core/ann/ann.h"
#include "core/ann/ann_scan.h"
#include "core/num/k_scan.h"

enum ann_kind { ANN_FLAT, ANN_SCAN, ANN_HNSW, ANN_IVF };
enum { ANN_MAX_EF = 4096, ANN_DEPTH = 100 /* widths are tuned for this many rows */ };

/* us of a row for a call of nq queries: fixed + nq * query. */
struct ann_rate {
    double fixed, query;
};
/* Measured on the index itself, in the thread's own time.  Plans are chosen by it; what they
 * find never depends on it. */
struct ann_cost {
    struct ann_rate row; /* scanned in place */
    double gap; /* us of a call more for each panel that does not follow the last one */
    struct ann_rate listed; /* gathered */
    double ranking; /* us of a query beside its rows: thinning out, scoring the best, sorting */
    double width, width2; /* us of a query to graph or lists: width * w + width2 * w * w */
};

struct ann { /* immutable once its builder or ann_open has returned it */
    struct FaissIndex_H *index;
    enum ann_kind kind;
    int32_t V, D;
    int32_t n;     /* HNSW: links of a node; IVF: lists */
    int32_t width; /* 0: flat, scan */
    char type[16];
    const float *rows; /* [V,D] */
    float *own_rows;   /* IVF's lists are in another order; else NULL */
    struct scan *scan;
    struct scan *centroids; /* IVF; else NULL */
    struct ann_cost cost;
};

/* Fills in cost: milliseconds. */
NODISCARD int ann_measure(struct ann *a, struct err *e);
