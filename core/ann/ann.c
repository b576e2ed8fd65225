#include "core/ann/ann.h"
#include "core/ann/ann_faiss.h"
#include "core/ann/ann_file.h"
#include "core/ann/ann_impl.h"
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
    DEFAULT_EF = 128,
    DEFAULT_PROBES = 16,
    MAX_M = 256,
    LIST_ROWS = 16, /* rows of a list, at least, on average */
    MIN_WIDTH_HNSW = 32,
    MIN_WIDTH_IVF = 4,
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

static void name_type(struct ann *a)
{
    if (a->kind == ANN_HNSW)
        snprintf(a->type, sizeof a->type, "hnsw%d", a->n);
    else if (a->kind == ANN_IVF)
        snprintf(a->type, sizeof a->type, "ivf%d", a->n);
    else
        snprintf(a->type, sizeof a->type, "%s", a->kind == ANN_SCAN ? "scan" : "flat");
}

/* Takes the index, also when it fails. */
static int wrap(struct ann **out, struct FaissIndex_H *index, const struct ann *like,
                struct err *e)
{
    struct ann *a = xcalloc(1, sizeof *a);
    *a = *like;
    a->index = index;
    name_type(a);
    if (a->kind == ANN_IVF) {
        int32_t n;
        const float *centroid = annf_centroids(index, &n);
        a->own_rows = xaligned((size_t)a->V * (size_t)a->D * sizeof *a->own_rows);
        annf_copy_rows(a->own_rows, index);
        a->rows = a->own_rows;
        a->centroids = scan_new(centroid, n, a->D);
    } else {
        a->rows = annf_rows(index);
    }
    a->scan = scan_new(a->rows, a->V, a->D);
    int rc = ann_measure(a, e);
    if (rc < 0) {
        ann_free(a);
        return rc;
    }
    *out = a;
    return 0;
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

static int build_exact(struct ann **out, const float *rows, int32_t V, int32_t D,
                       enum ann_kind kind, struct err *e)
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
    return wrap(out, flat, &(struct ann){ .kind = kind, .V = V, .D = D }, e);
}

int ann_build_flat(struct ann **out, const float *rows, int32_t V, int32_t D, struct err *e)
{
    return build_exact(out, rows, V, D, ANN_FLAT, e);
}

int ann_build_scan(struct ann **out, const float *rows, int32_t V, int32_t D, struct err *e)
{
    return build_exact(out, rows, V, D, ANN_SCAN, e);
}

/* Only while the index is private to its builder, before any search of another thread: FAISS
 * writes the value into the index itself. */
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
                   int32_t ef_construction, int32_t ef, struct err *e)
{
    *out = NULL;
    if (M == 0) M = DEFAULT_M;
    if (ef_construction == 0) ef_construction = DEFAULT_EF_CONSTRUCTION;
    if (ef == 0) ef = DEFAULT_EF;
    if (M < 2 || M > MAX_M)
        return err_set(e, ERR_INVALID, "HNSW M is %d, not 2 to %d", M, MAX_M);
    if (ef_construction < 1 || ef_construction > ANN_MAX_EF || ef < 1 || ef > ANN_MAX_EF)
        return err_set(e, ERR_INVALID, "HNSW ef is %d and %d, not 1 to %d", ef_construction, ef,
                       ANN_MAX_EF);
    TRY(check_rows(rows, V, D, e));
    /* Two threads would link the same nodes in a different order each time. */
    annf_single_thread();
    FaissIndex *index = NULL;
    char recipe[32];
    snprintf(recipe, sizeof recipe, "HNSW%d,Flat", M);
    if (faiss_index_factory(&index, D, recipe, METRIC_INNER_PRODUCT) != 0)
        return faiss_failed(e, "making an HNSW index");
    int rc = set_parameter(index, "efConstruction", ef_construction, e);
    if (rc == 0) rc = set_parameter(index, "efSearch", ef, e);
    if (rc == 0 && faiss_Index_add(index, V, rows) != 0)
        rc = faiss_failed(e, "adding rows to an HNSW index");
    if (rc < 0) {
        faiss_Index_free(index);
        return rc;
    }
    struct ann like = { .kind = ANN_HNSW, .V = V, .D = D, .n = M, .width = ef };
    return wrap(out, index, &like, e);
}

static int32_t lists_for(int32_t V)
{
    const int32_t n = (int32_t)lround(4 * sqrt(V)), most = V / LIST_ROWS;
    return most < 1 ? 1 : n < most ? n : most;
}

int ann_build_ivf(struct ann **out, const float *rows, int32_t V, int32_t D, int32_t n_lists,
                  int32_t n_probe, struct err *e)
{
    *out = NULL;
    TRY(check_rows(rows, V, D, e));
    if (n_lists == 0) n_lists = lists_for(V);
    if (n_probe == 0) n_probe = n_lists < DEFAULT_PROBES ? n_lists : DEFAULT_PROBES;
    if (n_lists < 1 || n_lists > V || n_probe < 1 || n_probe > n_lists)
        return err_set(e, ERR_INVALID, "%d of %d lists for %d rows", n_probe, n_lists, V);
    annf_single_thread(); /* sums of the same rows in the same order */
    FaissIndex *index = NULL;
    char recipe[32];
    snprintf(recipe, sizeof recipe, "IVF%d,Flat", n_lists);
    if (faiss_index_factory(&index, D, recipe, METRIC_INNER_PRODUCT) != 0)
        return faiss_failed(e, "making an IVF index");
    annf_training(index);
    int rc = set_parameter(index, "nprobe", n_probe, e);
    if (rc == 0 && faiss_Index_train(index, V, rows) != 0)
        rc = faiss_failed(e, "training an IVF index");
    if (rc == 0 && faiss_Index_add(index, V, rows) != 0)
        rc = faiss_failed(e, "adding rows to an IVF index");
    if (rc < 0) {
        faiss_Index_free(index);
        return rc;
    }
    struct ann like = { .kind = ANN_IVF, .V = V, .D = D, .n = n_lists, .width = n_probe };
    return wrap(out, index, &like, e);
}

int ann_tune(double *recall, struct ann *a, const float *queries, int32_t nq, int32_t k,
             double want, int32_t most, struct err *e)
{
    const bool graph = a->kind == ANN_HNSW;
    REQUIRE(graph || a->kind == ANN_IVF, "%s has no width", a->type);
    const int32_t largest = graph ? ANN_MAX_EF : a->n;
    if (most <= 0 || most > largest) most = largest;
    *recall = 0;
    for (int32_t w = graph ? MIN_WIDTH_HNSW : MIN_WIDTH_IVF;; w *= 2) {
        if (w > most) w = most;
        TRY(set_parameter(a->index, graph ? "efSearch" : "nprobe", w, e));
        a->width = w;
        TRY(ann_recall(recall, a, queries, nq, k, 0, e));
        if (*recall >= want || w == most) break;
    }
    return ann_measure(a, e);
}

static int kind_of(struct ann *like, const struct ann_file *file, const char *type,
                   struct err *e)
{
    like->kind = file->n_lists ? ANN_IVF : file->M ? ANN_HNSW : ANN_FLAT;
    like->n = file->n_lists ? file->n_lists : file->M;
    like->width = file->width;
    if (like->kind == ANN_FLAT && type && strcmp(type, "scan") == 0) like->kind = ANN_SCAN;
    name_type(like);
    if (type && strcmp(type, like->type) != 0)
        return err_set(e, ERR_BAD_BUNDLE, "index file: said to be \"%.32s\", it is %s", type,
                       like->type);
    return 0;
}

static bool rows_can_be_read(const struct ann *like, const FaissIndex *index)
{
    int32_t n;
    return like->kind == ANN_IVF ? annf_centroids(index, &n) != NULL : annf_rows(index) != NULL;
}

int ann_open_mem(struct ann **out, const void *data, size_t nb, const char *type, int32_t V,
                 int32_t D, struct err *e)
{
    struct ann_file file;
    struct ann like = { .V = V, .D = D };
    *out = NULL;
    TRY(check_processor(e));
    TRY(ann_file_check(&file, data, nb, V, D, e));
    TRY(kind_of(&like, &file, type, e));
    annf_single_thread();
    /* Read only, whatever fmemopen's parameter says. */
    FILE *f = fmemopen((void *)(uintptr_t)data, nb, "rb");
    if (!f) return err_sys(e, ERR_IO, "reading an index from memory");
    FaissIndex *index = NULL;
    int failed = faiss_read_index(f, 0, &index);
    fclose(f);
    if (failed) return faiss_failed(e, "reading an index");
    if (!rows_can_be_read(&like, index)) {
        faiss_Index_free(index);
        return err_set(e, ERR_BAD_BUNDLE, "index file: its rows can't be read back");
    }
    return wrap(out, index, &like, e);
}

int ann_open(struct ann **out, const char *path, const char *type, int32_t V, int32_t D,
             struct err *e)
{
    struct io_map map;
    *out = NULL;
    TRY(io_map_open(&map, path, e));
    int rc = ann_open_mem(out, map.data, map.nb, type, V, D, e);
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
    scan_free(a->scan);
    scan_free(a->centroids);
    free(a->own_rows);
    faiss_Index_free(a->index);
    free(a);
}

const char *ann_type(const struct ann *a) { return a->type; }

int32_t ann_count(const struct ann *a) { return a->V; }

int32_t ann_width(const struct ann *a) { return a->width; }

const float *ann_rows(const struct ann *a) { return a->rows; }
