/* index.h — builds a bundle's index.faiss from item.weight and measures its recall.
 *   struct index_cfg cfg = { .type = INDEX_AUTO, .recall = 0.99f };
 *   index_bundle("models/ml/1", &cfg, stderr, &e);
 * The bundle keeps its version: weights and items are the same files, index.faiss and the
 * manifest's "index" are new, and the directory changes in one step.  Thread: any, on different
 * bundles. */
#pragma once
#include "core/base/err.h"
#include <stdio.h>

enum index_type { INDEX_AUTO, INDEX_FLAT, INDEX_SCAN, INDEX_HNSW, INDEX_IVF };
#define INDEX_TYPES "auto|flat|scan|hnsw|ivf" /* the same as a command's choice */
struct index_cfg {
    enum index_type type; /* AUTO: what is fastest on this machine (ann_build_auto) */
    float
        recall; /* least recall@100 against an exact scan, for which a graph or lists are searched wider */
};

/* bundle_path: a version directory, or a model directory (its highest version).  report: where
 * the result is told, NULL for nowhere.  ERR_ANN when a graph (lists) of any width misses the recall with
 * --type hnsw (ivf); AUTO takes an exact one then. */
NODISCARD int index_bundle(const char *bundle_path, const struct index_cfg *cfg, FILE *report,
                           struct err *e);
/* The model directory of an opened version: realpath without its last step; malloc'd. */
struct bundle;
NODISCARD int index_model_dir(char **out, const struct bundle *b, struct err *e);
