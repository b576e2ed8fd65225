#include "models/index.h"
#include "core/ann/ann.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/data/sampler.h"
#include "core/fmt/bundle.h"
#include "core/serve/load.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERIES = 256, /* vectors the recall is measured on, at least */
    BLOCK = 16,    /* histories encoded at once */
    DEPTH = 100,
};

/* ---- vectors to measure with ---- */

/* Encodes one block of made-up histories of 1 to L events; q [BLOCK*K,D]. */
static void encode_block(float *q, const struct model *m, struct tape *tp, struct arena *a,
                         const struct sampler *s, struct rng *r)
{
    const struct model_cfg *cfg = model_config(m);
    arena_reset(a);
    int32_t *cu = ARENA_NEW(a, int32_t, BLOCK + 1), L = cfg->max_len;
    cu[0] = 0;
    for (int32_t b = 0; b < BLOCK; b++)
        cu[b + 1] = cu[b] + 1 + (int32_t)rng_below(r, (uint32_t)L);
    int32_t N = cu[BLOCK], *pos = ARENA_NEW(a, int32_t, N), *ids = ARENA_NEW(a, int32_t, N);
    for (int32_t i = 0; i < N; i++) ids[i] = sampler_draw(s, r);
    seqpack_positions(pos, cu, BLOCK, L, cfg->positions);
    struct seqpack sp = { .B = BLOCK, .N = N, .cu = cu, .pos = pos };
    tape_begin(tp, 0, 0, false);
    const struct ten *phi = model_encode(m, tp, &sp, ids, BETA_IN).phi;
    memcpy(q, phi->x, (size_t)phi->rows * (size_t)phi->cols * sizeof *q);
}

/* Interest vectors of histories drawn by popularity: no data set is at hand, and an index is
 * asked with the encoder's vectors, not with items'.  Returns [n,D], malloc'd. */
static float *sample_queries(int32_t *n, const struct model *m, const struct items *it)
{
    int32_t K = model_interests(m), D = model_config(m)->width;
    int32_t blocks = (QUERIES + BLOCK * K - 1) / (BLOCK * K);
    struct arena *step = arena_new("index step", 1 << 20, 0),
                 *own = arena_new("index", 1 << 16, 0);
    struct tape *tp = tape_new(step, NULL);
    struct sampler *s = sampler_new(it, SAMPLE_POPULARITY, 1);
    struct rng r = rng_make(1, RNG_SAMPLE);
    *n = blocks * BLOCK * K;
    float *q = xmalloc((size_t)*n * (size_t)D * sizeof *q);
    for (int32_t b = 0; b < blocks; b++)
        encode_block(q + (size_t)b * BLOCK * (size_t)K * (size_t)D, m, tp, own, s, &r);
    sampler_free(s);
    tape_free(tp);
    arena_free(own);
    arena_free(step);
    return q;
}

/* ---- the index ---- */

/* A graph or lists whatever their speed, wide enough for the recall. */
static int build_tuned(struct ann **out, struct ann_report *rep, const struct ten *item,
                       const float *q, int32_t nq, const struct index_cfg *cfg, struct err *e)
{
    const double want = (double)cfg->recall;
    TRY(cfg->type == INDEX_HNSW
            ? ann_build_hnsw(out, item->x, item->rows, item->cols, 0, 0, 0, e)
            : ann_build_ivf(out, item->x, item->rows, item->cols, 0, 0, e));
    int rc = ann_tune(&rep->recall, *out, q, nq, DEPTH, want, 0, e);
    if (rc == 0 && rep->recall < want)
        rc = err_set(e, ERR_ANN,
                     "%s finds %.4f of the best %d even with a width of %d, %.4f are wanted",
                     ann_type(*out), rep->recall, DEPTH, ann_width(*out), want);
    rep->width = ann_width(*out);
    if (rc < 0) {
        ann_free(*out);
        *out = NULL;
    }
    return rc;
}

static int build(struct ann **out, struct ann_report *rep, const struct model *m,
                 const struct items *it, const struct index_cfg *cfg, struct err *e)
{
    const struct ten *item = &model_items(m)->t;
    *rep = (struct ann_report){ .recall = 1 };
    if (cfg->type == INDEX_FLAT) return ann_build_flat(out, item->x, item->rows, item->cols, e);
    if (cfg->type == INDEX_SCAN) return ann_build_scan(out, item->x, item->rows, item->cols, e);
    int32_t nq;
    float *q = sample_queries(&nq, m, it);
    struct ann_auto o = { .want_recall = (double)cfg->recall, .recall_k = DEPTH };
    int rc = cfg->type == INDEX_AUTO
                 ? ann_build_auto(out, rep, item->x, item->rows, item->cols, q, nq, &o, e)
                 : build_tuned(out, rep, item, q, nq, cfg, e);
    free(q);
    return rc;
}

/* ---- the bundle ---- */

int index_model_dir(char **out, const struct bundle *b, struct err *e)
{
    char *path = realpath(b->dir, NULL), *slash = path ? strrchr(path, '/') : NULL;
    if (!slash) {
        free(path);
        return err_sys(e, ERR_IO, "%s", b->dir);
    }
    char *version = xasprintf("%" PRId64, b->version);
    bool is_version = strcmp(slash + 1, version) == 0;
    free(version);
    if (!is_version) {
        free(path);
        return err_set(e, ERR_USAGE,
                       "%s is not MODEL/%" PRId64 ": a bundle is changed where it lies", b->dir,
                       b->version);
    }
    *slash = '\0';
    *out = path;
    return 0;
}

static int reuse_files(const struct bundle_writer *w, const struct bundle *b, struct err *e)
{
    json_t *files = json_object_get(b->manifest, "files"), *v;
    const char *name;
    json_object_foreach (files, name, v) {
        if (strcmp(name, BUNDLE_INDEX) != 0) TRY(bundle_reuse(w, b, name, e));
    }
    return 0;
}

/* The same version with another index, in one step. */
static int write_bundle(const struct bundle *b, const struct ann *a,
                        const struct ann_report *rep, struct err *e)
{
    struct bundle_writer w;
    char *model_dir = NULL;
    TRY(index_model_dir(&model_dir, b, e));
    int rc = bundle_begin(&w, model_dir, b->version, e);
    free(model_dir);
    TRY(rc);
    char *path = xasprintf("%s/%s", w.tmp_dir, BUNDLE_INDEX);
    rc = reuse_files(&w, b, e);
    if (rc == 0) rc = ann_save(a, path, e);
    free(path);
    if (rc < 0) {
        bundle_abort(&w);
        return rc;
    }
    json_t *m = json_deep_copy(b->manifest);
    const bool graph = strncmp(ann_type(a), "hnsw", 4) == 0;
    json_t *index = json_pack("{s:s, s:i, s:f}", "type", ann_type(a), "ef_search",
                              graph ? ann_width(a) : 0, "recall", rep->recall);
    if (!graph && ann_width(a) > 0)
        json_object_set_new(index, "nprobe", json_integer(ann_width(a)));
    json_object_set_new(m, "index", index);
    rc = bundle_commit(&w, m, e);
    json_decref(m);
    return rc;
}

static void tell_candidates(FILE *f, const struct ann_report *rep)
{
    if (rep->n == 0) return;
    fprintf(f, "  %-10s %6s %9s %10s %12s %9s\n", "type", "width", "recall", "us alone",
            "us of 32", "build s");
    for (int i = 0; i < rep->n; i++) {
        const struct ann_candidate *c = &rep->of[i];
        fprintf(f, "%c %-10s %6d %9.4f %10.1f %12.1f %9.2f\n", i == rep->chosen ? '*' : ' ',
                c->type, c->width, c->recall, c->us_one, c->us_batch, c->build_ms * 1e-3);
    }
}

static void tell(FILE *f, const struct bundle *b, const struct ann *a,
                 const struct ann_report *rep, double s)
{
    tell_candidates(f, rep);
    fprintf(f, "index of %s@%" PRId64 ": %s, %d items, ", b->name, b->version, ann_type(a),
            ann_count(a));
    if (ann_width(a) == 0)
        fprintf(f, "exact");
    else
        fprintf(f, "width %d, recall@%d %.4f on interest vectors of made-up histories",
                ann_width(a), DEPTH, rep->recall);
    fprintf(f, ", %.1f s\n", s);
}

int index_bundle(const char *bundle_path, const struct index_cfg *cfg, FILE *report,
                 struct err *e)
{
    double start = clock_s();
    struct bundle b;
    struct model *m = NULL;
    struct items *it = NULL;
    struct ann *a = NULL;
    struct ann_report rep;
    TRY(bundle_open(&b, bundle_path, false, e));
    int rc = load_model(&m, &it, &b, false, e);
    if (rc == 0) rc = build(&a, &rep, m, it, cfg, e);
    if (rc == 0) rc = write_bundle(&b, a, &rep, e);
    if (rc == 0 && report) tell(report, &b, a, &rep, clock_s() - start);
    if (rc < 0) err_ctx(e, "indexing %s", b.dir);
    ann_free(a);
    model_free(m);
    if (it) items_close(it);
    bundle_close(&b);
    return rc;
}
