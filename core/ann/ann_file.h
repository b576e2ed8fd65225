/* ann_file.h — checks an index file before FAISS reads it: FAISS believes sizes, offsets and
 * links. Thread: any (pure). */
#pragma once
#include "core/base/err.h"
#include <stddef.h>
#include <stdint.h>

struct ann_file {    /* what a valid file says about itself; a flat one: zeros */
    int32_t M;       /* HNSW: links of a node */
    int32_t n_lists; /* IVF */
    int32_t width;   /* HNSW's efSearch, IVF's nprobe */
};

/* data [nb] must be, to the last byte, a flat, HNSW-over-flat or IVF-flat inner product
 * index as FAISS writes it, with V finite rows of D, each of them once.  Otherwise
 * ERR_BAD_BUNDLE. */
NODISCARD int ann_file_check(struct ann_file *f, const void *data, size_t nb, int32_t V,
                             int32_t D, struct err *e);
