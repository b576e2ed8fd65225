/* ann_impl.h — what an index is made of.  Private to core/ann. */
#pragma once
#include "core/ann/ann.h"
#include "core/ann/ann_scan.h"

enum ann_kind { ANN_FLAT, ANN_SCAN, ANN_HNSW, ANN_IVF };
enum { ANN_MAX_EF = 4096, ANN_DEPTH = 100 /* widths are tuned for this many rows */ };

/* us, measured on the index itself: fixed + nq * per query.  Plans are chosen by them, what they find never depends on them. */
struct ann_rate {
    double fixed, query;
};
struct ann_cost {
    struct ann_rate row;    /* of a row scanned in place */
    struct ann_rate listed; /* of a row that is gathered */
    double width, width2;   /* of one query to graph or lists: width * w + width2 * w * w */
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
