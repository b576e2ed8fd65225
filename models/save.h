/* save.h — a model as a version of a model directory: what training and importing share.
 *   json_t *m = save_manifest(model, &ds, fingerprint, recipe, metrics);
 *   save_bundle("var/models/beauty", 3, model, "var/beauty", m, &e);    json_decref(m);
 * Thread: main. */
#pragma once
#include "core/data/dataset.h"
#include "core/nn/model.h"
#include <jansson.h>

/* What the manifest says of a model and its data; the caller may add members.  Takes recipe and metrics. */
json_t *save_manifest(const struct model *m, const struct dataset *d, uint64_t fingerprint,
                      json_t *recipe, json_t *metrics);
/* Weights, the items of data_dir and the manifest, in the place of what the version was; no index. */
NODISCARD int save_bundle(const char *out, int64_t version, struct model *m,
                          const char *data_dir, const json_t *manifest, struct err *e);
