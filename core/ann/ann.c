#include "core/ann/ann.h"
#include "core/ann/ann_faiss.h"
#include "core/ann/ann_file.h"
#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include <faiss/c_api/AutoTune_c.h>
#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/error_c.h>
#include <faiss/c_api/index_factory_c.h>
#include <faiss/c_api/index_io_c.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_M = 32,
    DEFAULT_EF_CONSTRUCTION = 200,
    DEFAULT_EF_SEARCH = 128,
    DEFAULT_FLAT_BELOW = 30000,
    DEFAULT_RECALL_K = 100,
    MAX_M = 256,
    MAX_EF = 4096,
    SAMPLE_QUERIES = 256,
    MIN_TUNED_EF = 32,
    ROWS_PER_EF = 100, /* a step of ef costs as much as scanning about this many rows */
};

struct ann { /* immutable once its builder or ann_open has returned it */
    FaissIndex *index;
    int32_t V, D;
    int32_t M;  /* 0: flat */
    int32_t ef; /* 0: flat */
    char type[16];
};

static int faiss_failed(struct err *e, const char *what)
{
    const char *why = faiss_get_last_error();
    return err_set(e, ERR_ANN, "%s: %s", what, why ? why : "unknown error");
}

/* FAISS's library is compiled for the processors that the build was asked for. */
static int check_processor(struct err *e)
{
#ifdef FAISS_NEEDS_AVX2
    if (!__builtin_cpu_supports("avx2"))
        return err_set(e, ERR_ANN,
                       "this build's FAISS needs AVX2, which this processor lacks: build with "
                       "FAISS_OPT=generic");
#endif
    (void)e;
    return 0;
}

static struct ann *wrap(FaissIndex *index, int32_t V, int32_t D, int32_t M, int32_t ef)
{
    struct ann *a = xcalloc(1, sizeof *a);
    *a = (struct ann){ .index = index, .V = V, .D = D, .M = M, .ef = ef };
    if (M > 0)
        snprintf(a->type, sizeof a->type, "hnsw%d", M);
    else
        snprintf(a->type, sizeof a->type, "flat");
    return a;
}

static int check_rows(const float *rows, int32_t V, int32_t D, struct err *e)
{
    REQUIRE(V >= 0 && D > 0, "V=%d D=%d", V, D);
    TRY(check_processor(e));
    if (V == 0) return err_set(e, ERR_EMPTY, "no rows to index");
    for (size_t i = 0; i < (size_t)V * (size_t)D; i++)
        if (!isfinite(rows[i]))
            return err_set(e, ERR_INVALID, "row %zu to index is not finite", i / (size_t)D);
    return 0;
}

int ann_build_flat(struct ann **out, const float *rows, int32_t V, int32_t D, struct err *e)
{
    *out = NULL;
    TRY(check_rows(rows, V, D, e));
    annf_single_thread();
    FaissIndexFlatIP *flat = NULL;
    if (faiss_IndexFlatIP_new_with(&flat, D) != 0)
        return faiss_failed(e, "making a flat index");
    if (faiss_Index_add(flat, V, rows) != 0) {
        int rc = faiss_failed(e, "adding rows to a flat index");
        faiss_Index_free(flat);
        return rc;
    }
    *out = wrap(flat, V, D, 0, 0);
    return 0;
}

/* Only while the index is private to its builder, before any search of another thread: FAISS writes the value into the index itself. */
static int set_parameter(FaissIndex *index, const char *name, int32_t value, struct err *e)
{
    FaissParameterSpace *space = NULL;
    if (faiss_ParameterSpace_new(&space) != 0)
        return faiss_failed(e, "making a parameter space");
    int rc = 0;
    if (faiss_ParameterSpace_set_index_parameter(space, index, name, value) != 0)
        rc = faiss_failed(e, name);
    faiss_ParameterSpace_free(space);
    return rc;
}

int ann_build_hnsw(struct ann **out, const float *rows, int32_t V, int32_t D, int32_t M,
                   int32_t ef_construction, int32_t ef_search, struct err *e)
{
    *out = NULL;
    if (M == 0) M = DEFAULT_M;
    if (ef_construction == 0) ef_construction = DEFAULT_EF_CONSTRUCTION;
    if (ef_search == 0) ef_search = DEFAULT_EF_SEARCH;
    if (M < 2 || M > MAX_M)
        return err_set(e, ERR_INVALID, "HNSW M is %d, not 2 to %d", M, MAX_M);
    if (ef_construction < 1 || ef_construction > MAX_EF || ef_search < 1 || ef_search > MAX_EF)
        return err_set(e, ERR_INVALID, "HNSW ef is %d and %d, not 1 to %d", ef_construction,
                       ef_search, MAX_EF);
    TRY(check_rows(rows, V, D, e));
    /* Two threads would link the same nodes in a different order each time. */
    annf_single_thread();
    FaissIndex *index = NULL;
    char recipe[32];
    snprintf(recipe, sizeof recipe, "HNSW%d,Flat", M);
    if (faiss_index_factory(&index, D, recipe, METRIC_INNER_PRODUCT) != 0)
        return faiss_failed(e, "making an HNSW index");
    int rc = set_parameter(index, "efConstruction", ef_construction, e);
    if (rc == 0) rc = set_parameter(index, "efSearch", ef_search, e);
    if (rc == 0 && faiss_Index_add(index, V, rows) != 0)
        rc = faiss_failed(e, "adding rows to an HNSW index");
    if (rc < 0) {
        faiss_Index_free(index);
        return rc;
    }
    *out = wrap(index, V, D, M, ef_search);
    return 0;
}

/* Doubles the index's ef until the sample's recall suffices, or a scan would be faster. */
static int tune(double *recall, struct ann *a, const float *queries, int32_t nq, int32_t k,
                double want, struct err *e)
{
    int32_t most = a->V / ROWS_PER_EF;
    if (most < MIN_TUNED_EF) most = MIN_TUNED_EF;
    if (most > MAX_EF) most = MAX_EF;
    *recall = 0;
    for (int32_t ef = MIN_TUNED_EF; ef <= most && *recall < want; ef *= 2) {
        TRY(set_parameter(a->index, "efSearch", ef, e));
        a->ef = ef;
        TRY(ann_recall(recall, a, queries, nq, k, 0, e));
    }
    return 0;
}

static float *sample_rows(const float *rows, int32_t V, int32_t D, int32_t n)
{
    float *sample = xmalloc((size_t)n * (size_t)D * sizeof *sample);
    for (int32_t i = 0; i < n; i++)
        memcpy(sample + (size_t)i * (size_t)D, rows + (size_t)((int64_t)i * V / n) * (size_t)D,
               (size_t)D * sizeof *sample);
    return sample;
}

static int build_tuned(struct ann **out, struct ann_report *report, const float *rows,
                       int32_t V, int32_t D, const float *queries, int32_t nq,
                       const struct ann_auto *o, struct err *e)
{
    double want = o->want_recall > 0 ? o->want_recall : 0.99;
    int32_t k = o->recall_k > 0 ? o->recall_k : DEFAULT_RECALL_K;
    float *sample = NULL;
    TRY(ann_build_hnsw(out, rows, V, D, o->M, o->ef_construction, 0, e));
    if (!queries || nq < 1) {
        nq = V < SAMPLE_QUERIES ? V : SAMPLE_QUERIES;
        queries = sample = sample_rows(rows, V, D, nq);
    }
    int rc = tune(&report->recall, *out, queries, nq, k, want, e);
    free(sample);
    report->ef_search = (*out)->ef;
    if (rc == 0 && report->recall >= want) return 0;
    report->ef_search = 0;
    ann_free(*out);
    *out = NULL;
    return rc < 0 ? rc : 1;
}

int ann_build_auto(struct ann **out, struct ann_report *report, const float *rows, int32_t V,
                   int32_t D, const float *queries, int32_t nq, const struct ann_auto *opts,
                   struct err *e)
{
    struct ann_auto o = opts ? *opts : (struct ann_auto){ 0 };
    struct ann_report ignored;
    if (!report) report = &ignored;
    *report = (struct ann_report){ 0 };
    *out = NULL;
    double started = clock_s();
    int rc = 1; /* 1: no graph that is good enough */
    if (V >= (o.flat_below > 0 ? o.flat_below : DEFAULT_FLAT_BELOW))
        rc = build_tuned(out, report, rows, V, D, queries, nq, &o, e);
    if (rc > 0) {
        rc = ann_build_flat(out, rows, V, D, e);
        report->recall = 1;
    }
    report->build_ms = (clock_s() - started) * 1e3;
    return rc;
}

int ann_open_mem(struct ann **out, const void *data, size_t nb, int32_t V, int32_t D,
                 struct err *e)
{
    struct ann_file file;
    *out = NULL;
    TRY(check_processor(e));
    TRY(ann_file_check(&file, data, nb, V, D, e));
    /* Read only, whatever fmemopen's parameter says. */
    FILE *f = fmemopen((void *)(uintptr_t)data, nb, "rb");
    if (!f) return err_sys(e, ERR_IO, "reading an index from memory");
    FaissIndex *index = NULL;
    int failed = faiss_read_index(f, 0, &index);
    fclose(f);
    if (failed) return faiss_failed(e, "reading an index");
    if (annf_rows(index) == NULL) {
        faiss_Index_free(index);
        return err_set(e, ERR_BAD_BUNDLE, "index file: its rows can't be read back");
    }
    *out = wrap(index, V, D, file.M, file.ef_search);
    return 0;
}

int ann_open(struct ann **out, const char *path, int32_t V, int32_t D, struct err *e)
{
    struct io_map map;
    *out = NULL;
    TRY(io_map_open(&map, path, e));
    int rc = ann_open_mem(out, map.data, map.nb, V, D, e);
    if (rc < 0) err_ctx(e, "%s", path);
    io_map_close(&map);
    return rc;
}

int ann_save(const struct ann *a, const char *path, struct err *e)
{
    FILE *f = fopen(path, "wb");
    if (!f) return err_sys(e, ERR_IO, "%s", path);
    int rc = 0;
    if (faiss_write_index(a->index, f) != 0) {
        rc = faiss_failed(e, "writing an index");
        err_ctx(e, "%s", path);
    }
    if (fclose(f) != 0 && rc == 0) rc = err_sys(e, ERR_IO, "%s", path);
    return rc;
}

void ann_free(struct ann *a)
{
    if (!a) return;
    faiss_Index_free(a->index);
    free(a);
}

int ann_search(int32_t *ids, float *scores, const struct ann *a, const float *queries,
               int32_t nq, int32_t k, const struct ann_params *p, struct err *e)
{
    REQUIRE(nq >= 0 && k > 0, "nq=%d k=%d", nq, k);
    for (size_t i = 0; i < (size_t)nq * (size_t)a->D; i++)
        if (!isfinite(queries[i]))
            return err_set(e, ERR_INVALID, "query %zu is not finite", i / (size_t)a->D);
    struct annf_query q = { .queries = queries, .nq = nq, .k = k, .ef = a->ef };
    if (p) {
        if (p->ef_search > 0) q.ef = p->ef_search < MAX_EF ? p->ef_search : MAX_EF;
        q.exact = p->exact;
        q.exclude = p->exclude;
        q.n_exclude = p->n_exclude;
    }
    char msg[256];
    if (annf_search(ids, scores, a->index, &q, msg, sizeof msg) != 0)
        return err_set(e, ERR_ANN, "searching the index: %s", msg);
    return 0;
}

int ann_recall(double *recall, const struct ann *a, const float *queries, int32_t nq, int32_t k,
               int32_t ef_search, struct err *e)
{
    REQUIRE(nq > 0 && k > 0, "nq=%d k=%d", nq, k);
    if (k > a->V) k = a->V;
    int32_t *ids = xmalloc((size_t)k * sizeof *ids);
    float *found = xmalloc((size_t)k * sizeof *found),
          *truth = xmalloc((size_t)k * sizeof *truth);
    int64_t hits = 0;
    int rc = 0;
    for (int32_t i = 0; i < nq && rc == 0; i++) {
        const float *query = queries + (size_t)i * (size_t)a->D;
        rc = ann_search(ids, truth, a, query, 1, k, &(struct ann_params){ .exact = true }, e);
        if (rc == 0)
            rc = ann_search(ids, found, a, query, 1, k,
                            &(struct ann_params){ .ef_search = ef_search }, e);
        if (rc < 0) break;
        /* The two ways add up a dot product in the same order, so equal rows score equal bits. */
        for (int32_t j = 0; j < k && found[j] >= truth[k - 1]; j++) hits++;
    }
    *recall = rc < 0 ? 0 : (double)hits / ((double)nq * k);
    free(truth);
    free(found);
    free(ids);
    return rc;
}

const char *ann_type(const struct ann *a) { return a->type; }

int32_t ann_count(const struct ann *a) { return a->V; }

int32_t ann_ef(const struct ann *a) { return a->ef; }

const float *ann_rows(const struct ann *a) { return annf_rows(a->index); }
