/* Bytes as a manifest, and its encoder as a model's options. */
#include "core/fmt/bundle.h"
#include "core/fmt/manifest.h"
#include "core/nn/model.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

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
    json_decref(m);
    return 0;
}
