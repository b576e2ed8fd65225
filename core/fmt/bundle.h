/* bundle.h — <models>/<name>/<version>/: what the trainer exports and the daemon loads.
 *   manifest.json       what it is, how it was made, sha256 and size of every other file
 *                       (manifest.h)
 *   model.safetensors   weights
 *   items.bin           catalogue
 *   index.faiss         rows in item order (absent until indexed)
 *   tower.safetensors   of a model with an item tower: what makes vectors of further items
 * A version directory that can be seen is complete: it is written under a temporary name,
 * synced and renamed (exchanged when the version exists).  Thread: any, on different bundles. */
#pragma once
#include "core/base/conf.h"
#include "core/base/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { BUNDLE_FORMAT = 1 };
#define BUNDLE_MANIFEST "manifest.json"
#define BUNDLE_WEIGHTS  "model.safetensors"
#define BUNDLE_ITEMS    "items.bin"
#define BUNDLE_INDEX    "index.faiss"
#define BUNDLE_TOWER    "tower.safetensors"

struct bundle { /* an opened, verified version */
    char *dir;
    char *name;
    int64_t version;
    json_t *manifest;
    char sha256[65];   /* of manifest.json: names the generation */
    uint64_t dev, ino; /* of dir when it was opened */
};

/* path: a version directory, or a model directory (its highest version).  Checks the manifest
 * and size and sha256 of every file it names; need_index: index.faiss must be among them, unless it is
 * a rank model's. */
NODISCARD int bundle_open(struct bundle *b, const char *path, bool need_index, struct err *e);
void bundle_close(struct bundle *b);
/* False once another commit has put a different directory in b's place: what was read by path
 * since bundle_open may be a mix of two. */
bool bundle_is_current(const struct bundle *b);
char *bundle_path(const struct bundle *b, const char *file); /* malloc'd */
int64_t bundle_bytes(const struct bundle *b,
                     const char *file); /* its size; 0: it is not there */
/* Highest version under a model directory, and the highest below another one; 0: none. */
NODISCARD int bundle_latest(const char *model_dir, int64_t *version, struct err *e);
NODISCARD int bundle_before(const char *model_dir, int64_t below, int64_t *version,
                            struct err *e);

/* Writing: begin makes a temporary directory next to the target; the caller writes files into
 * tmp_dir; commit hashes them into the manifest, syncs, and puts the directory in place in one
 * step (an exchange when the version exists).  abort removes the temporary directory.  The
 * temporary directory is locked while its writer lives; begin removes what dead writers left. */
struct bundle_writer {
    char *tmp_dir, *dir, *name;
    int64_t version;
    char *model_dir;
    int lock; /* descriptor of tmp_dir, flock'ed */
};
/* version 0: one more than the highest there. */
NODISCARD int bundle_begin(struct bundle_writer *w, const char *model_dir, int64_t version,
                           struct err *e);
/* Takes a file of an opened bundle over unchanged: hard link, or a copy where that fails. */
NODISCARD int bundle_reuse(const struct bundle_writer *w, const struct bundle *b,
                           const char *file, struct err *e);
/* Borrows manifest: format, name, version and files are filled in, `created` when it is absent;
 * all else must be there (manifest_check).  Releases the writer, after a failure too. */
NODISCARD int bundle_commit(struct bundle_writer *w, const json_t *manifest, struct err *e);
void bundle_abort(struct bundle_writer *w);

/* Options <-> a JSON object.  On the way in with conf_set's checks: every key of the table is
 * needed, others are refused (ERR_BAD_BUNDLE); cfg need not be initialised. */
json_t *bundle_opts_to_json(const struct opt *o, const void *cfg);
NODISCARD int bundle_opts_from_json(const struct opt *o, void *cfg, const json_t *obj,
                                    struct err *e);
/* Hex digest and size of a file's bytes. */
NODISCARD int bundle_sha256_file(char hex[65], uint64_t *nb, const char *path, struct err *e);
