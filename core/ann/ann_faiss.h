/* ann_faiss.h — the part of FAISS that its C API lacks: parameters and exclusions of one search.
 * Private to core/ann.  Thread: any. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct FaissIndex_H;

struct annf_query {
    const float *queries; /* [nq,D], finite */
    int32_t nq, k, ef;
    int exact;
    const int32_t *exclude;
    int32_t n_exclude;
};

/* As ann_search.  0, or -1 with FAISS's words in msg. */
int annf_search(int32_t *ids, float *scores, const struct FaissIndex_H *index,
                const struct annf_query *q, char *msg, size_t nb_msg);
/* The rows a flat or HNSW index holds; NULL for any other type. */
const float *annf_rows(const struct FaissIndex_H *index);
/* FAISS's OpenMP loops stay on the calling thread. */
void annf_single_thread(void);

#ifdef __cplusplus
}
#endif
