/* gen.h — a generation: encoder, items and index of one bundle, or its rank model, loaded, checked, immutable.
 *   struct gen *g; gen_open(&g, path, &e);  gen_ref(g) ... gen_unref(g): freed with its last user
 * Thread: any after open. */
#pragma once
#include "core/ann/ann.h"
#include "core/data/items.h"
#include "core/nn/model.h"
#include "core/serve/attrs.h"
#include <stdint.h>

struct gen;
struct embed;
struct rank_model;
struct filter_cache;
enum gen_kind { GEN_RETRIEVAL, GEN_RANK };
/* Opens, verifies and self-tests: hashes, shapes, finite weights, an index that holds the
 * model's own item vectors, a few histories encoded, the index's recall on them against an
 * exact scan; of a rank model: a few candidates scored.  Otherwise refused with the reason. */
NODISCARD int gen_open(struct gen **out, const char *bundle_path, struct err *e);
struct gen *gen_ref(struct gen *g); /* returns g */
void gen_unref(struct gen *g);      /* NULL is fine */

struct gen_info {
    enum gen_kind kind;
    const char *name;
    int64_t version;
    const char *sha256;     /* of the manifest */
    const char *index_type; /* "flat", "scan", "hnsw32", "ivf440"; of a rank model "none" */
    const char *space;      /* of item vectors (load_space); of a rank model NULL */
    const char *dir, *created, *recipe; /* recipe: objective names, for people */
    int32_t n_items, D, K, L;           /* of a rank model D and K are 0 */
    double load_ms;
    double
        recall; /* at 100, of the index against an exact scan, on self-test queries; of a rank model 1 */
};
const struct gen_info *gen_info(const struct gen *g);
const struct model *gen_model(const struct gen *g); /* NULL for a rank model */
const struct items *gen_items(const struct gen *g);
const struct ann *gen_index(const struct gen *g);         /* NULL for a rank model */
const struct rank_model *gen_rank(const struct gen *g);   /* NULL for one that retrieves */
const struct attrs_index *gen_attrs(const struct gen *g); /* NULL for a rank model */
struct filter_cache *gen_filters(const struct gen *g);    /* NULL for a rank model */
const struct embed *gen_embed(const struct gen *g);       /* NULL: without an item tower */
/* Which changes of an item store this version holds already: up to this one of the store's count; 0: none. */
uint64_t gen_folded(const struct gen *g, const char *store_id);
/* States of histories are kept in so many bytes (states.h; 0: none are), from before the first request on. */
struct states;
void gen_keep_states(struct gen *g, size_t nb);
struct states *gen_states(const struct gen *g); /* NULL: none are kept */
