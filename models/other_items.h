/* other_items.h — the next version of a bundle: the same encoder with other items.
 *   struct other_items o = { &bundle, model, builder, vectors, ctx, NULL };
 *   other_items_write(&dir, &o, &e);
 * Thread: any, on different bundles. */
#pragma once
#include "core/data/items.h"
#include "core/fmt/bundle.h"
#include "core/nn/model.h"

/* Fills out [count of now, D]. */
typedef int other_vectors_fn(float *out, const struct items *now, void *ctx, struct err *e);

struct other_items {
    const struct bundle *bundle;
    struct model *model;         /* as it serves */
    struct items_builder *items; /* the catalogue of the new version */
    other_vectors_fn *vectors;
    void *ctx;
    json_t
        *folded; /* the manifest's "folded" (core/fmt/manifest.h), borrowed; NULL: as it is */
};
/* Without an index; *dir is where it lies, malloc'd. */
NODISCARD int other_items_write(char **dir, const struct other_items *o, struct err *e);
