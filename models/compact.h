/* compact.h — `intent index --compact`: what an item store has beside a bundle becomes part
 * of its next version. Thread: any, on different bundles. */
#pragma once
#include "models/index.h"

/* Writes the next version of the bundle: deleted items leave the catalogue and the weights
 * (a history that names one then has an unknown item), changed ones stay in their rows, new
 * ones follow with their vectors; the index is built anew.  The manifest says up to which
 * change of which store ("folded"): a daemon that loads the version removes those from its
 * store. The store may be in use; changes that cannot be served by the bundle (vectors of
 * another space, attributes without a tower) stay there.  ERR_EMPTY: nothing to do.  report:
 * where the result is told, NULL for nowhere. */
NODISCARD int compact(const char *bundle_path, const char *store_dir,
                      const struct index_cfg *cfg, FILE *report, struct err *e);
