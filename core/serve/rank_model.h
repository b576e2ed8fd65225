/* rank_model.h — the rank model of a bundle: its schema, its weights, and the rows of its catalogue's features.
 *   struct rank_model *m;  rank_model_load(&m, &bundle, &e);  ...  rank_model_free(m);
 * What the daemon serves and what `intent rank` measures is loaded here.  Immutable after load; any thread may read. */
#pragma once
#include "core/data/items.h"
#include "core/data/schema.h"
#include "core/fmt/bundle.h"
#include "core/nn/ranker.h"

struct rank_columns { /* of a table of impressions */
    char *label, *user, *item;
};
extern const struct opt rank_column_opts[];

struct rank_model {
    struct schema schema;
    struct rank_columns columns;
    struct ranker *ranker;
    struct items *items;
    /* By feature, of the item's features that are not of the request: rows of item i, [items], or of tags
     * [cu[items]]; NULL for other features. */
    int32_t *row[LIMIT_FEATURES], *cu[LIMIT_FEATURES];
    int32_t id_feature; /* whose value is the item's id itself; -1: none */
    int32_t
        no_history; /* a feature of the sequence that no history gives; -1: histories are fine */
};

NODISCARD int rank_model_load(struct rank_model **out, const struct bundle *b, struct err *e);
void rank_model_free(struct rank_model *m); /* NULL is fine */

/* Tables and inputs of a checked schema: the user's features, then the item's. */
void rank_shape(struct ranker_shape *out, const struct schema *s);
int32_t rank_inputs(const struct schema *s, int32_t *feature); /* those inputs; their number */
/* {"features": {"brand": {...}, ...}, "groups": {"user": "a,b", ...}} */
json_t *rank_schema_json(const struct schema *s);
NODISCARD int rank_schema_from_json(struct schema *s, const json_t *o, struct err *e);
