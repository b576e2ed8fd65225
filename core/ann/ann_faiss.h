/* ann_faiss.h — the part of FAISS that its C API lacks: parameters of one search, and what
 * an IVF index holds. Functions that can fail return 0, or -1 with FAISS's words in msg.
 * Private to core/ann.  Thread: any, except where said. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct FaissIndex_H;

struct annf_query {
    const float *queries; /* [nq,D], finite */
    int32_t nq, k;
    int32_t ef; /* HNSW: at least k; flat: 0 */
    /* IVF: the lists to look into, their order does not matter; -1: none */
    const int64_t *lists; /* [nq,n_lists] */
    int32_t n_lists;
    const uint64_t *allow; /* IVF: bit r of word r/64: row r counts; NULL: all */
};

/* The k best of a flat or HNSW index, in FAISS's order and with its rounding: ids, scores
 * [nq,k], -1 where rows ran out. */
int annf_search(int64_t *ids, float *scores, const struct FaissIndex_H *index,
                const struct annf_query *q, char *msg, size_t nb_msg);
/* The same of the rows in lists of an IVF index. */
int annf_search_lists(int64_t *ids, float *scores, const struct FaissIndex_H *index,
                      const struct annf_query *q, char *msg, size_t nb_msg);

/* The rows a flat or HNSW index holds; NULL for any other type. */
const float *annf_rows(const struct FaissIndex_H *index);
/* The centroids [*n,D] of an IVF index, borrowed; NULL for any other type. */
const float *annf_centroids(const struct FaissIndex_H *index, int32_t *n);
/* An IVF list's row numbers [*n], borrowed. */
const int64_t *annf_list(const struct FaissIndex_H *index, int32_t list, int32_t *n);
/* The rows of an IVF index by number: rows [V,D]. */
void annf_copy_rows(float *rows, const struct FaissIndex_H *index);
/* Before an IVF index is trained: the same seed each time, and no word about small
 * catalogues. */
void annf_training(struct FaissIndex_H *index);
/* FAISS's OpenMP loops stay on the calling thread. */
void annf_single_thread(void);

#ifdef __cplusplus
}
#endif
