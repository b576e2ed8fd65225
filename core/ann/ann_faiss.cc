#include "core/ann/ann_faiss.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/impl/IDSelector.h>
#include <limits>
#include <vector>

extern "C" void
omp_set_num_threads(int); /* libgomp's; omp.h would ask clang for its own runtime */

namespace {

/* Grows to the largest need of its thread and stays: a search then allocates nothing of ours. */
struct Scratch {
    std::vector<uint8_t> bits; /* all zero between calls */
    std::vector<int64_t> ids;
    std::vector<float> scores;
    std::vector<int32_t> order, retry;
};
thread_local Scratch scratch;

struct NotExcluded : faiss::IDSelector {
    const uint8_t *bits;
    explicit NotExcluded(const uint8_t *bits_) : bits(bits_) {}
    bool is_member(int64_t id) const override { return !(bits[id >> 3] >> (id & 7) & 1); }
};

/* The call's exclusions as a bitmap of the thread; wiped bit by bit on the way out, thrown or not. */
class Exclusion {
  public:
    int64_t n = 0;
    const uint8_t *bits = nullptr;

    Exclusion(const annf_query &q_, int64_t V_) : q(q_), V(V_)
    {
        if (q.n_exclude <= 0) return;
        size_t nb = (size_t)(V + 7) / 8;
        if (scratch.bits.size() < nb) scratch.bits.resize(nb, 0);
        bits = scratch.bits.data();
        for (int32_t i = 0; i < q.n_exclude; i++) {
            int64_t id = q.exclude[i];
            if (id < 0 || id >= V) continue;
            uint8_t bit = (uint8_t)(1U << (id & 7)), &byte = scratch.bits[(size_t)id >> 3];
            n += !(byte & bit);
            byte |= bit;
        }
    }
    ~Exclusion()
    {
        for (int32_t i = 0; i < q.n_exclude; i++)
            if (q.exclude[i] >= 0 && q.exclude[i] < V)
                scratch.bits[(size_t)q.exclude[i] >> 3] = 0;
    }
    Exclusion(const Exclusion &) = delete;
    Exclusion &operator=(const Exclusion &) = delete;

    bool has(int64_t id) const { return bits && (bits[id >> 3] >> (id & 7) & 1); }

  private:
    const annf_query &q;
    int64_t V;
};

const faiss::IndexFlat *flat_of(const faiss::Index *index)
{
    if (auto hnsw = dynamic_cast<const faiss::IndexHNSW *>(index)) index = hnsw->storage;
    return dynamic_cast<const faiss::IndexFlat *>(index);
}

void pad(int32_t *ids, float *scores, int32_t from, int32_t k)
{
    std::fill(ids + from, ids + k, -1);
    std::fill(scores + from, scores + k, -std::numeric_limits<float>::infinity());
}

/* Copies a query's n candidates to its row of k: order by score, then id; the rest is padding. */
int32_t finish(int32_t *ids, float *scores, const int64_t *cand, const float *cand_score,
               int32_t n, int32_t k)
{
    std::vector<int32_t> &order = scratch.order;
    order.clear();
    for (int32_t i = 0; i < n; i++)
        if (cand[i] >= 0 && !std::isnan(cand_score[i])) order.push_back(i);
    std::sort(order.begin(), order.end(), [=](int32_t a, int32_t b) {
        if (cand_score[a] > cand_score[b]) return true;
        if (cand_score[a] < cand_score[b]) return false;
        return cand[a] < cand[b];
    });
    const int32_t found = std::min((int32_t)order.size(), k);
    for (int32_t i = 0; i < found; i++) {
        ids[i] = (int32_t)cand[order[(size_t)i]];
        scores[i] = cand_score[order[(size_t)i]];
    }
    pad(ids, scores, found, k);
    return found;
}

class Search {
  public:
    Search(const faiss::Index *index_, const annf_query &q_)
        : index(index_), flat(flat_of(index_)), q(q_), V(index_->ntotal), excluded(q_, V),
          selector(excluded.bits)
    {
    }

    void run(int32_t *ids, float *scores)
    {
        /* A selective filter starves the graph: it walks through excluded rows and finds few others. */
        const bool graph = index != flat && !q.exact && excluded.n <= V / 10;
        for (int32_t i = 0; i < q.nq;) {
            int32_t n = run_of_nonzero(i);
            if (n == 0)
                first_rows(ids + at(i), scores + at(i)), n = 1;
            else if (graph)
                by_graph(ids, scores, i, n);
            else
                by_scan(ids, scores, i, n);
            i += n;
        }
    }

  private:
    const faiss::Index *index;
    const faiss::IndexFlat *flat;
    const annf_query &q;
    int64_t V;
    Exclusion excluded;
    NotExcluded selector;

    size_t at(int32_t i) const { return (size_t)i * (size_t)q.k; }
    const float *query(int32_t i) const { return q.queries + (size_t)i * (size_t)index->d; }

    int32_t run_of_nonzero(int32_t i) const
    {
        int32_t n = 0;
        while (i + n < q.nq && std::any_of(query(i + n), query(i + n) + index->d,
                                           [](float x) { return x != 0; }))
            n++;
        return n;
    }

    /* Every score of an all-zero query is 0: FAISS would return whatever its heap kept. */
    void first_rows(int32_t *ids, float *scores) const
    {
        int32_t n = 0;
        for (int64_t row = 0; row < V && n < q.k; row++) {
            if (excluded.has(row)) continue;
            ids[n] = (int32_t)row;
            scores[n++] = 0;
        }
        pad(ids, scores, n, q.k);
    }

    void by_scan(int32_t *ids, float *scores, int32_t first, int32_t n)
    {
        const int32_t k = (int32_t)std::min<int64_t>(q.k, V);
        faiss::SearchParameters p;
        p.sel = &selector;
        call(flat, query(first), n, k, excluded.n > 0 ? &p : nullptr);
        for (int32_t i = 0; i < n; i++) copy_out(ids, scores, first + i, i, k);
    }

    void by_graph(int32_t *ids, float *scores, int32_t first, int32_t n)
    {
        /* Excluded rows hold places in the queue: make room for those that lie near the query. */
        const int64_t ef = (int64_t)q.ef + std::min<int64_t>(excluded.n, q.ef);
        /* FAISS 1.7.3 sizes the queue by the index's own ef or by k, never by the parameters': so ask for ef. */
        const int32_t k = (int32_t)std::min(std::max<int64_t>(q.k, ef), V);
        const int64_t owed = std::min<int64_t>(q.k, V - excluded.n);
        faiss::SearchParametersHNSW p;
        p.efSearch = std::max((int)ef, (int)k);
        p.sel = excluded.n > 0 ? &selector : nullptr;
        call(index, query(first), n, k, &p);
        /* A scan reuses the candidates' memory: it comes after every query has been copied out. */
        scratch.retry.clear();
        for (int32_t i = 0; i < n; i++)
            if (copy_out(ids, scores, first + i, i, k) < owed)
                scratch.retry.push_back(first + i);
        for (int32_t i : scratch.retry) by_scan(ids, scores, i, 1);
    }

    static void call(const faiss::Index *target, const float *x, int32_t n, int32_t k,
                     const faiss::SearchParameters *p)
    {
        scratch.ids.resize((size_t)n * (size_t)k);
        scratch.scores.resize((size_t)n * (size_t)k);
        target->search(n, x, k, scratch.scores.data(), scratch.ids.data(), p);
    }

    int32_t copy_out(int32_t *ids, float *scores, int32_t to, int32_t from, int32_t k) const
    {
        const size_t c = (size_t)from * (size_t)k;
        return finish(ids + at(to), scores + at(to), scratch.ids.data() + c,
                      scratch.scores.data() + c, k, q.k);
    }
};

} // namespace

int annf_search(int32_t *ids, float *scores, const FaissIndex_H *index, const annf_query *q,
                char *msg, size_t nb_msg)
{
    try {
        annf_single_thread();
        Search(reinterpret_cast<const faiss::Index *>(index), *q).run(ids, scores);
        return 0;
    } catch (const std::exception &ex) {
        std::snprintf(msg, nb_msg, "%s", ex.what());
    } catch (...) {
        std::snprintf(msg, nb_msg, "unknown exception");
    }
    return -1;
}

const float *annf_rows(const FaissIndex_H *index)
{
    const faiss::IndexFlat *flat = flat_of(reinterpret_cast<const faiss::Index *>(index));
    return flat ? flat->get_xb() : nullptr;
}

void annf_single_thread(void) { omp_set_num_threads(1); }
