/* ann_file.h — checks an index file before FAISS reads it: FAISS believes sizes, offsets and links.
 * Thread: any (pure). */
#pragma once
#include "core/base/err.h"
#include <stddef.h>
#include <stdint.h>

struct ann_file { /* what a valid file says about itself */
    int32_t M;    /* HNSW: links of a node; 0: flat */
    int32_t ef_search;
};

/* data [nb] must be, to the last byte, a flat or HNSW-over-flat inner product index as FAISS writes it,
 * with V finite rows of D.  Otherwise ERR_BAD_BUNDLE. */
NODISCARD int ann_file_check(struct ann_file *f, const void *data, size_t nb, int32_t V,
                             int32_t D, struct err *e);
