/* manifest.h — what manifest.json must hold.
 *   format      1                         name        "ml", of the model directory
 *   version     integer >= 1              created     "2026-11-22T18:04:11Z" (RFC 3339, UTC)
 *   encoder     options of model_opts     metric      "inner_product"
 *   items       rows, >= 1                interests   vectors of a request, >= 1
 *   width       D                         max_len     L
 *   recipe      { key: string }           metrics     { "valid": { "hr@10": .1 }, "test" }
 *   files       { name: { "sha256", "bytes" } }: every other file of the directory
 *   index       { "type", "ef_search", "recall" }: there exactly when index.faiss is
 *   kind        "retrieval" (also when absent) or "rank"; a rank model has no encoder, metric, interests, width, max_len
 *               and index, but: ranker (options of ranker_opts), schema { features, groups }, columns { label, user,
 *               item }
 *   space       names what item vectors can be compared with; absent: the sha256 of model.safetensors (core/serve/load.h)
 *   folded      { store id: sequence number }: changes of item stores that items and vectors hold already
 * Other members are ignored.  Thread: any (pure). */
#pragma once
#include "core/base/err.h"
#include <jansson.h>
#include <stdbool.h>

/* ERR_BAD_BUNDLE names the member that is missing, of a wrong type or out of range. */
NODISCARD int manifest_check(const json_t *m, struct err *e);
bool manifest_is_rank(const json_t *m);
/* Text of a file to a checked manifest; the caller owns *out. */
NODISCARD int manifest_parse(json_t **out, const char *text, size_t nb, struct err *e);
