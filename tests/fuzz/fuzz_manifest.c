/* Bytes as a manifest, its encoder as a model's options, its schema as features. */
#include "core/fmt/bundle.h"
#include "core/fmt/manifest.h"
#include "core/nn/model.h"
#include "core/serve/rank_model.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

/* A schema that is accepted is written as JSON that makes the same one. */
static void try_schema(const json_t *o)
{
    struct schema s, again;
    struct ranker_shape shape;
    struct err e = { 0 };
    if (rank_schema_from_json(&s, o, &e) < 0) {
        if (e.msg[0] == '\0') abort();
        return;
    }
    json_t *back = rank_schema_json(&s), *twice;
    if (rank_schema_from_json(&again, back, &e) < 0) abort();
    twice = rank_schema_json(&again);
    if (!json_equal(back, twice)) abort();
    rank_shape(&shape, &s);
    for (int32_t i = 0; i < shape.n_tables; i++)
        if (shape.table[i].rows < 1 || shape.table[i].width < 1) abort();
    json_decref(back);
    json_decref(twice);
    schema_free(&s);
    schema_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    json_t *m;
    struct err e = { 0 };
    if (manifest_parse(&m, (const char *)data, nb, &e) < 0) {
        if (e.code != ERR_BAD_BUNDLE || e.msg[0] == '\0') abort();
        return 0;
    }
    struct model_cfg cfg, again;
    if (bundle_opts_from_json(model_opts, &cfg, json_object_get(m, "encoder"), &e) == 0) {
        json_t *back = bundle_opts_to_json(model_opts, &cfg);
        if (bundle_opts_from_json(model_opts, &again, back, &e) < 0) abort();
        cfg.n_items = (int32_t)json_integer_value(json_object_get(m, "items"));
        if (model_check(&cfg, &e) < 0 && e.msg[0] == '\0') abort();
        json_decref(back);
    }
    if (manifest_is_rank(m)) try_schema(json_object_get(m, "schema"));
    json_decref(m);
    return 0;
}
