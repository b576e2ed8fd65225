#include "models/save.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/fmt/ckpt.h"
#include <inttypes.h>
#include <stdlib.h>

json_t *save_manifest(const struct model *m, const struct dataset *d, uint64_t fingerprint,
                      json_t *recipe, json_t *metrics)
{
    const struct model_cfg *c = model_config(m);
    json_t *o = json_pack("{s:o, s:i, s:i, s:i, s:i, s:s, s:o, s:o, s:{s:s}}", "encoder",
                          bundle_opts_to_json(model_opts, c), "items", c->n_items, "interests",
                          model_interests(m), "width", c->width, "max_len", c->max_len,
                          "metric", "inner_product", "recipe", recipe, "metrics", metrics,
                          "data", "name", d->name);
    json_object_set_new(json_object_get(o, "data"), "fingerprint",
                        json_sprintf("%016" PRIx64, fingerprint));
    return o;
}

/* Item vectors as they are searched; what they were made of goes into a file of its own. */
static int save_weights(struct model *m, const char *dir, struct err *e)
{
    char *weights = xasprintf("%s/" BUNDLE_WEIGHTS, dir);
    char *tower = xasprintf("%s/" BUNDLE_TOWER, dir);
    model_bake(m, NULL);
    int rc = ckpt_save(weights, model_params(m), GROUPS_BUNDLE, e);
    model_bake(m, NULL);
    if (rc == 0 && model_tower(m)) rc = ckpt_save(tower, model_params(m), GROUP_TOWER, e);
    free(weights);
    free(tower);
    return rc;
}

int save_bundle(const char *out, int64_t version, struct model *m, const char *data_dir,
                const json_t *manifest, struct err *e)
{
    struct bundle_writer w;
    int rc = bundle_begin(&w, out, version, e);
    if (rc == 0) {
        char *items = xasprintf("%s/" BUNDLE_ITEMS, w.tmp_dir);
        char *source = xasprintf("%s/" BUNDLE_ITEMS, data_dir);
        rc = save_weights(m, w.tmp_dir, e);
        if (rc == 0) rc = io_copy_file(items, source, e);
        if (rc == 0)
            rc = bundle_commit(&w, manifest, e);
        else
            bundle_abort(&w);
        free(items);
        free(source);
    }
    return rc < 0 ? err_ctx(e, "writing the bundle %s/%" PRId64, out, version) : 0;
}
