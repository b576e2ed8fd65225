#include "core/ann/ann_faiss.h"
#include <cstdio>
#include <cstring>
#include <exception>
#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/impl/IDSelector.h>
#include <vector>

extern "C" void
omp_set_num_threads(int); /* libgomp's; omp.h would ask clang for its own runtime */

namespace {

struct Allowed : faiss::IDSelector {
    const uint64_t *bits;
    explicit Allowed(const uint64_t *bits_) : bits(bits_) {}
    bool is_member(int64_t id) const override { return bits[id >> 6] >> (id & 63) & 1; }
};

const faiss::Index *index_of(const FaissIndex_H *index)
{
    return reinterpret_cast<const faiss::Index *>(index);
}

/* Of an index that is one: annf_centroids has looked. */
const faiss::IndexIVFFlat *ivf_of(const FaissIndex_H *index)
{
    return static_cast<const faiss::IndexIVFFlat *>(index_of(index));
}

/* What FAISS throws, in words. */
template <class F> int guarded(char *msg, size_t nb_msg, F f)
{
    try {
        annf_single_thread();
        f();
        return 0;
    } catch (const std::exception &ex) {
        std::snprintf(msg, nb_msg, "%s", ex.what());
    } catch (...) {
        std::snprintf(msg, nb_msg, "unknown exception");
    }
    return -1;
}

} // namespace

int annf_search(int64_t *ids, float *scores, const FaissIndex_H *index, const annf_query *q,
                char *msg, size_t nb_msg)
{
    return guarded(msg, nb_msg, [=] {
        faiss::SearchParametersHNSW p;
        const faiss::Index *x = index_of(index);
        p.efSearch = q->ef;
        x->search(q->nq, q->queries, q->k, scores, ids, q->ef > 0 ? &p : nullptr);
    });
}

int annf_search_lists(int64_t *ids, float *scores, const FaissIndex_H *index,
                      const annf_query *q, char *msg, size_t nb_msg)
{
    return guarded(msg, nb_msg, [=] {
        faiss::SearchParametersIVF p;
        faiss::IndexIVFStats stats; /* else all threads would count in one */
        Allowed selector(q->allow);
        p.nprobe = (size_t)q->n_lists;
        p.sel = q->allow ? &selector : nullptr;
        /* A flat list's scan does not read the distances to centroids. */
        static thread_local std::vector<float> unread;
        unread.resize((size_t)q->nq * (size_t)q->n_lists);
        ivf_of(index)->search_preassigned(q->nq, q->queries, q->k, q->lists, unread.data(),
                                          scores, ids, false, &p, &stats);
    });
}

const float *annf_rows(const FaissIndex_H *index)
{
    const faiss::Index *x = index_of(index);
    if (auto hnsw = dynamic_cast<const faiss::IndexHNSW *>(x)) x = hnsw->storage;
    auto flat = dynamic_cast<const faiss::IndexFlat *>(x);
    return flat ? flat->get_xb() : nullptr;
}

const float *annf_centroids(const FaissIndex_H *index, int32_t *n)
{
    auto ivf = dynamic_cast<const faiss::IndexIVFFlat *>(index_of(index));
    auto flat = ivf ? dynamic_cast<const faiss::IndexFlat *>(ivf->quantizer) : nullptr;
    *n = flat ? (int32_t)ivf->nlist : 0;
    return flat ? flat->get_xb() : nullptr;
}

const int64_t *annf_list(const FaissIndex_H *index, int32_t list, int32_t *n)
{
    const faiss::InvertedLists *lists = ivf_of(index)->invlists;
    *n = (int32_t)lists->list_size((size_t)list);
    return lists->get_ids((size_t)list); /* of lists in memory: nothing to release */
}

void annf_copy_rows(float *rows, const FaissIndex_H *index)
{
    const faiss::IndexIVFFlat *ivf = ivf_of(index);
    const size_t nb = ivf->code_size;
    for (size_t l = 0; l < ivf->nlist; l++) {
        const int64_t *id = ivf->invlists->get_ids(l);
        const uint8_t *code = ivf->invlists->get_codes(l);
        for (size_t i = 0; i < ivf->invlists->list_size(l); i++)
            std::memcpy(reinterpret_cast<uint8_t *>(rows) + (size_t)id[i] * nb, code + i * nb,
                        nb);
    }
}

void annf_training(FaissIndex_H *index)
{
    auto ivf = static_cast<faiss::IndexIVFFlat *>(reinterpret_cast<faiss::Index *>(index));
    ivf->cp.seed = 1;
    ivf->cp.min_points_per_centroid = 1;
}

void annf_single_thread(void) { omp_set_num_threads(1); }
