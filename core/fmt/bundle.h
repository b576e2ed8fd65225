/* bundle.h — <models>/<name>/<version>/: what the trainer exports and the daemon loads.
 *   manifest.json       format, name, version, created, encoder, K, D, L, metric, items, recipe, metrics, index,
 *                       sha256 and size of every other file
 *   model.safetensors   weights
 *   items.bin           catalogue
 *   index.faiss         rows in item order (absent until indexed)
 * A version directory that can be seen is complete: it is written under a temporary name, synced
 * and renamed (exchanged when the version exists).  Thread: any, on different bundles. */
#pragma once
#include "core/base/conf.h"
#include "core/base/err.h"
#include <jansson.h>
#include <stdint.h>

enum { BUNDLE_FORMAT = 1 };
#define BUNDLE_MANIFEST "manifest.json"
#define BUNDLE_WEIGHTS "model.safetensors"
#define BUNDLE_ITEMS "items.bin"
#define BUNDLE_INDEX "index.faiss"

struct bundle { /* an opened, verified version */
    char *dir;
    char *name;
    int64_t version;
    json_t *manifest;
    char sha256[65]; /* of manifest.json: names the generation */
};

/* path: a version directory, or a model directory (its highest version).  Checks the manifest and
 * size and sha256 of every file it names; need_index: index.faiss must be among them. */
NODISCARD int bundle_open(struct bundle *b, const char *path, bool need_index, struct err *e);
void bundle_close(struct bundle *b);
char *bundle_path(const struct bundle *b, const char *file); /* malloc'd */
/* Highest version under a model directory; 0: none. */
NODISCARD int bundle_latest(const char *model_dir, int64_t *version, struct err *e);

/* Writing: begin makes a temporary directory next to the target; the caller writes files into tmp_dir; commit
 * hashes them into the manifest, syncs, renames.  abort removes the temporary directory. */
struct bundle_writer {
    char *tmp_dir, *dir, *name;
    int64_t version;
};
NODISCARD int bundle_begin(struct bundle_writer *w, const char *model_dir, int64_t version,
                           struct err *e);
NODISCARD int bundle_commit(struct bundle_writer *w, json_t *manifest, struct err *e); /* borrows manifest */
void bundle_abort(struct bundle_writer *w);

/* Options <-> a JSON object, with conf_set's checks on the way in (all keys of the table needed,
 * others refused). */
json_t *bundle_opts_to_json(const struct opt *o, const void *cfg);
NODISCARD int bundle_opts_from_json(const struct opt *o, void *cfg, const json_t *obj,
                                    struct err *e);
NODISCARD int bundle_sha256_file(char hex[65], uint64_t *nb, const char *path, struct err *e);
