#include "core/serve/gen.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/fmt/manifest.h"
#include "core/serve/embed.h"
#include "core/serve/filter_cache.h"
#include "core/serve/load.h"
#include "core/serve/rank_model.h"
#include "core/serve/score.h"
#include "core/serve/states.h"
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct gen {
    atomic_int refs;
    struct bundle bundle; /* owns what info points to */
    struct model *model;
    struct items *items;
    struct ann *index;
    struct attrs_index *attrs;
    struct filter_cache *filters;
    struct states *states;   /* NULL: none are kept */
    struct embed *embed;     /* NULL: no tower */
    struct rank_model *rank; /* owns the items then; NULL: it retrieves */
    char *recipe;
    struct gen_info info;
};

static void gen_free(struct gen *g)
{
    states_free(g->states);
    filter_cache_free(g->filters);
    attrs_close(g->attrs);
    ann_free(g->index);
    embed_free(g->embed);
    model_free(g->model);
    if (g->rank)
        rank_model_free(g->rank);
    else if (g->items)
        items_close(g->items);
    bundle_close(&g->bundle);
    free(g->recipe);
    free(g);
}

/* The index must hold the model's own item vectors: then a wrong, stale or reordered index
 * can't be served. */
static int check_rows(const struct gen *g, struct err *e)
{
    const struct ten *item = &model_items(g->model)->t;
    const float *rows = ann_rows(g->index);
    size_t nb_row = (size_t)item->cols * sizeof(float);
    if (memcmp(rows, item->x, (size_t)item->rows * nb_row) == 0) return 0;
    int32_t at = 0;
    while (at < item->rows - 1 &&
           memcmp(rows + (size_t)at * (size_t)item->cols,
                  item->x + (size_t)at * (size_t)item->cols, nb_row) == 0)
        at++;
    return err_set(e, ERR_BAD_BUNDLE,
                   "%s: row %d is not the model's item vector: made for other weights?",
                   BUNDLE_INDEX, at);
}

static int open_index(struct gen *g, struct err *e)
{
    const struct ten *item = &model_items(g->model)->t;
    const json_t *index = json_object_get(g->bundle.manifest, "index");
    const char *said = json_string_value(json_object_get(index, "type"));
    char *path = bundle_path(&g->bundle, BUNDLE_INDEX);
    int rc = ann_open(&g->index, path, said, item->rows, item->cols, e);
    free(path);
    TRY(rc);
    return check_rows(g, e);
}

/* ---- self-test ---- */

enum { TEST_HISTORIES = 8, TEST_DEPTH = 100 };

/* Histories of lengths spread evenly from 1 to L, of items drawn by a fixed seed. */
static void make_histories(struct seqpack *sp, int32_t **ids, struct arena *a,
                           const struct model_cfg *cfg)
{
    struct rng rng = rng_make(1, RNG_TEST);
    int32_t *cu = ARENA_NEW(a, int32_t, TEST_HISTORIES + 1);
    cu[0] = 0;
    for (int32_t b = 0; b < TEST_HISTORIES; b++)
        cu[b + 1] = cu[b] + 1 + b * (cfg->max_len - 1) / (TEST_HISTORIES - 1);
    int32_t N = cu[TEST_HISTORIES], *pos = ARENA_NEW(a, int32_t, N);
    *ids = ARENA_NEW(a, int32_t, N);
    for (int32_t i = 0; i < N; i++)
        (*ids)[i] = (int32_t)rng_below(&rng, (uint32_t)cfg->n_items);
    seqpack_positions(pos, cu, TEST_HISTORIES, cfg->max_len, cfg->positions);
    *sp = (struct seqpack){ .B = TEST_HISTORIES, .N = N, .cu = cu, .pos = pos };
}

static int check_vectors(const struct ten *phi, struct err *e)
{
    int64_t n = (int64_t)phi->rows * phi->cols;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(phi->x[i]))
            return err_set(e, ERR_BAD_BUNDLE,
                           "self-test: the encoder computes NaN or infinity");
    return 0;
}

/* Recall of the index on the encoder's own vectors, which must not fall far below the
 * manifest's. */
static int check_recall(struct gen *g, const struct ten *phi, struct err *e)
{
    double said = json_number_value(
        json_object_get(json_object_get(g->bundle.manifest, "index"), "recall"));
    TRY(ann_recall(&g->info.recall, g->index, phi->x, phi->rows, TEST_DEPTH, 0, e));
    if (g->info.recall >= said / 2) return 0;
    return err_set(
        e, ERR_BAD_BUNDLE,
        "self-test: the index finds %.1f %% of the best %d, the manifest says %.1f %%",
        100 * g->info.recall, TEST_DEPTH, 100 * said);
}

static int self_test(struct gen *g, struct err *e)
{
    struct arena *own = arena_new("self-test", 1 << 16, 0),
                 *step = arena_new("self-test step", 1 << 20, 0);
    struct tape *tp = tape_new(step, NULL);
    struct seqpack sp;
    int32_t *ids;
    make_histories(&sp, &ids, own, model_config(g->model));
    tape_begin(tp, 0, 0, false);
    struct encoded enc = model_encode(g->model, tp, &sp, ids, BETA_IN);
    int rc = check_vectors(enc.phi, e);
    if (rc == 0) rc = check_recall(g, enc.phi, e);
    tape_free(tp);
    arena_free(step);
    arena_free(own);
    return rc;
}

/* ---- opening ---- */

/* "next_item + dssrec": the recipe's sections that have a weight. */
static char *objectives(const json_t *recipe)
{
    static const char suffix[] = ".weight";
    char *names = xstrdup("");
    const char *key;
    json_t *v;
    json_object_foreach ((json_t *)(uintptr_t)recipe, key, v) {
        size_t len = strlen(key), n = sizeof suffix - 1;
        if (len <= n || strcmp(key + len - n, suffix) != 0) continue;
        char *longer = xasprintf("%s%s%.*s", names, *names ? " + " : "", (int)(len - n), key);
        free(names);
        names = longer;
    }
    return names;
}

static void fill_info(struct gen *g)
{
    const struct model_cfg *cfg = model_config(g->model);
    const json_t *m = g->bundle.manifest;
    g->recipe = objectives(json_object_get(m, "recipe"));
    g->info = (struct gen_info){
        .name = g->bundle.name,
        .version = g->bundle.version,
        .sha256 = g->bundle.sha256,
        .space = load_space(&g->bundle),
        .index_type = ann_type(g->index),
        .dir = g->bundle.dir,
        .created = json_string_value(json_object_get(m, "created")),
        .recipe = g->recipe,
        .n_items = cfg->n_items,
        .D = cfg->width,
        .K = model_interests(g->model),
        .L = cfg->max_len,
    };
}

/* ---- rank models ---- */

/* Some items as candidates of nobody, and as the history. */
static int self_test_rank(struct gen *g, struct err *e)
{
    struct str id[TEST_HISTORIES];
    struct score_request r = { .history = id, .candidate = id };
    struct score_answer a;
    struct arena *step = arena_new("self-test", 1 << 20, 0);
    struct tape *tp = tape_new(step, NULL);
    while (r.n_candidates < TEST_HISTORIES && r.n_candidates < g->info.n_items) {
        id[r.n_candidates] = items_id(g->items, r.n_candidates);
        r.n_candidates++;
    }
    if (g->rank->no_history < 0) r.n_history = r.n_candidates;
    int rc = score_candidates(&a, tp, g, &r, e);
    tape_free(tp);
    arena_free(step);
    return rc < 0 ? err_ctx(e, "self-test") : 0;
}

static void fill_rank_info(struct gen *g)
{
    g->items = g->rank->items;
    g->info = (struct gen_info){
        .kind = GEN_RANK,
        .name = g->bundle.name,
        .version = g->bundle.version,
        .sha256 = g->bundle.sha256,
        .index_type = "none",
        .dir = g->bundle.dir,
        .created = json_string_value(json_object_get(g->bundle.manifest, "created")),
        .recipe = "rank",
        .n_items = items_count(g->items),
        .L = ranker_config(g->rank->ranker)->max_len,
        .recall = 1,
    };
}

static int open_rank(struct gen *g, struct err *e)
{
    TRY(rank_model_load(&g->rank, &g->bundle, e));
    fill_rank_info(g);
    return self_test_rank(g, e);
}

static int open_retrieval(struct gen *g, struct err *e)
{
    TRY(load_model(&g->model, &g->items, &g->bundle, false, e));
    TRY(attrs_open(&g->attrs, g->items, e));
    g->filters = filter_cache_new(g->attrs);
    TRY(open_index(g, e));
    TRY(embed_open(&g->embed, &g->bundle, g->model, g->items, e));
    fill_info(g);
    return self_test(g, e);
}

static int open_once(struct gen *g, const char *path, struct err *e)
{
    TRY(bundle_open(&g->bundle, path, true, e));
    int rc = manifest_is_rank(g->bundle.manifest) ? open_rank(g, e) : open_retrieval(g, e);
    if (rc < 0) err_ctx(e, "bundle %s", g->bundle.dir);
    return rc;
}

int gen_open(struct gen **out, const char *bundle_path, struct err *e)
{
    enum { TRIES = 3 };
    uint64_t start = clock_ns();
    struct err why = { 0 };
    int rc = ERR_IO;
    for (int i = 0; i < TRIES; i++) {
        struct gen *g = xcalloc(1, sizeof *g);
        why = (struct err){ 0 };
        rc = open_once(g, bundle_path, &why);
        /* Exchanged by a commit meanwhile: the parts may not belong together. */
        bool moved = g->bundle.dir && !bundle_is_current(&g->bundle);
        if (rc == 0 && !moved) {
            atomic_init(&g->refs, 1);
            g->info.load_ms = (double)(clock_ns() - start) * 1e-6;
            *out = g;
            return 0;
        }
        gen_free(g);
        if (!moved) break;
        if (rc == 0)
            rc = err_set(&why, ERR_IO, "bundle %s: the directory keeps changing", bundle_path);
    }
    if (e && !e->code) *e = why;
    return rc;
}

struct gen *gen_ref(struct gen *g)
{
    atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    return g;
}

void gen_unref(struct gen *g)
{
    if (!g) return;
    int before = atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel);
    REQUIRE(before > 0, "generation %s released once too often", g->info.dir);
    if (before == 1) gen_free(g);
}

const struct gen_info *gen_info(const struct gen *g) { return &g->info; }
const struct model *gen_model(const struct gen *g) { return g->model; }
const struct items *gen_items(const struct gen *g) { return g->items; }
const struct ann *gen_index(const struct gen *g) { return g->index; }
const struct rank_model *gen_rank(const struct gen *g) { return g->rank; }
const struct attrs_index *gen_attrs(const struct gen *g) { return g->attrs; }
struct filter_cache *gen_filters(const struct gen *g) { return g->filters; }
const struct embed *gen_embed(const struct gen *g) { return g->embed; }

uint64_t gen_folded(const struct gen *g, const char *store_id)
{
    const json_t *folded = json_object_get(g->bundle.manifest, "folded");
    json_int_t seq = json_integer_value(json_object_get(folded, store_id));
    return seq > 0 ? (uint64_t)seq : 0;
}

void gen_keep_states(struct gen *g, size_t nb)
{
    REQUIRE(!g->states, "states of %s are kept already", g->info.dir);
    if (g->model) g->states = states_new(g->model, nb);
}

struct states *gen_states(const struct gen *g) { return g->states; }
