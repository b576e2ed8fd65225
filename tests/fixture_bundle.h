/* fixture_bundle.h — complete little bundles with random weights for tests.
 *   struct fixture fx = fixture_defaults();          V 40, K 4, D 16, L 8, 1 layer, seed 1
 *   fx.V = 300; fixture_bundle(&fx, models_dir);     writes <models_dir>/<name>/<version>
 * Item ids are "i0" .. "i<V-1>", titles "Film 0" .. when titles is set; the popularity of row r
 * is (r * 7) % 50, so that there are ties.  Failing to write aborts: benchmarks may use this too. */
#pragma once
#include "core/nn/model.h"
#include <stdbool.h>
#include <stdint.h>

struct fixture {
    const char *name; /* model directory */
    int64_t version;
    int32_t V, K, D, L, layers; /* K 0: single vector */
    uint64_t seed;
    float scale; /* factor on every weight matrix: 1 gives the initialisation's tiny scores */
    float active_share;
    bool titles;
    bool
        attributes; /* category (values), colour (values, several or none), price (a number or none) */
    bool hnsw;  /* else a flat index */
    bool index; /* false: no index.faiss */
};
struct fixture fixture_defaults(void);
void fixture_bundle(const struct fixture *fx, const char *models_dir);
/* The same parameters in memory, for comparing. */
struct model *fixture_model(const struct fixture *fx);

/* A fresh directory below $TMPDIR, else in memory where there is /dev/shm (bundles are synced,
 * which takes a disk long); the caller frees the string and removes it with fixture_rmdir. */
char *fixture_tmpdir(void);
void fixture_rmdir(const char *dir); /* recursive */
