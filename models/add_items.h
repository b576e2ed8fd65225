/* add_items.h — items that a model was not trained on: their vectors come from the item tower and their attributes.
 * Thread: any, on different bundles. */
#pragma once
#include "models/index.h"

/* Writes the bundle's next version, in which the items of the file (items_read.h) that it does not have yet follow the
 * others; the index is built anew.  Items that are there stay as they are.  ERR_USAGE: a bundle without an item tower;
 * ERR_EMPTY: the file has no new item.  report: where the result is told, NULL for nowhere. */
NODISCARD int add_items(const char *bundle_path, const char *file, const struct index_cfg *cfg,
                        FILE *report, struct err *e);
