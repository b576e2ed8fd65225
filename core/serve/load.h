/* load.h — the encoder and the catalogue of an opened bundle, checked against its manifest.
 *   struct model *m; struct items *it;
 *   load_model(&m, &it, &bundle, false, &e);     model_free(m); items_close(it);
 * What the daemon serves, what `intent eval` measures and what `intent index` indexes is loaded
 * here.  Thread: any, on different bundles. */
#pragma once
#include "core/data/items.h"
#include "core/fmt/bundle.h"
#include "core/nn/model.h"

/* Options from the manifest (all of model_opts, nothing else), item count from items.bin,
 * weights from model.safetensors.  ERR_BAD_BUNDLE when the parts disagree: item counts, K, D,
 * L, shapes, NaN. trainable: parameters get gradients. */
NODISCARD int load_model(struct model **m, struct items **it, const struct bundle *b,
                         bool trainable, struct err *e);
/* Names what an item vector can be compared with: the manifest's "space", which versions with other items take over from
 * the one they were made of, or else the sha256 of the weights.  Into the manifest. */
const char *load_space(const struct bundle *b);
