#include "core/serve/load.h"
#include "core/base/limits.h"
#include "core/fmt/ckpt.h"
#include "core/fmt/manifest.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int expect(const struct bundle *b, const char *key, int64_t have, const char *what,
                  struct err *e)
{
    int64_t said = json_integer_value(json_object_get(b->manifest, key));
    if (said == have) return 0;
    return err_set(e, ERR_BAD_BUNDLE, "\"%s\" is %" PRId64 ", %s has %" PRId64, key, said, what,
                   have);
}

/* Bundles that are older than a key have its default. */
static void add_newer(json_t *encoder)
{
    static const char *const newer[] = { "item_tower", "field_width", "tower_width",
                                         "id_dropout" };
    struct model_cfg c;
    char text[64];
    conf_defaults(model_opts, &c);
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++) {
        if (json_object_get(encoder, newer[i])) continue;
        conf_get(conf_find(model_opts, newer[i]), &c, text, sizeof text);
        json_object_set_new(encoder, newer[i], json_string(text));
    }
}

static int read_cfg(struct model_cfg *cfg, const struct bundle *b, struct err *e)
{
    json_t *encoder = json_object_get(b->manifest, "encoder");
    add_newer(encoder);
    if (bundle_opts_from_json(model_opts, cfg, encoder, e) < 0) {
        err_ctx(e, BUNDLE_MANIFEST ": encoder");
        return ERR_BAD_BUNDLE;
    }
    TRY(expect(b, "width", cfg->width, "the encoder", e));
    TRY(expect(b, "max_len", cfg->max_len, "the encoder", e));
    return expect(b, "interests", cfg->interests ? cfg->interests : 1, "the encoder", e);
}

/* Before memory is taken for what the manifest claims, the weights file must be large enough
 * for it: the item table and the big matrices of every block. */
static int check_size(const struct bundle *b, const struct model_cfg *cfg, struct err *e)
{
    int64_t nb = bundle_bytes(b, BUNDLE_WEIGHTS), D = cfg->width;
    int64_t need = (cfg->n_items * D + cfg->layers * D * D * (4 + 2 * (int64_t)cfg->ffn_mult)) *
                   (int64_t)sizeof(float);
    if (nb >= need) return 0;
    return err_set(e, ERR_BAD_BUNDLE,
                   "%s: %" PRId64 " bytes, %d items and %d blocks of width %d need %" PRId64,
                   BUNDLE_WEIGHTS, nb, cfg->n_items, cfg->layers, cfg->width, need);
}

static int open_items(struct items **it, const struct bundle *b, struct err *e)
{
    char *path = bundle_path(b, BUNDLE_ITEMS);
    int rc = items_open(it, path, e);
    free(path);
    return rc;
}

static int open_weights(struct model **m, const struct model_cfg *cfg, const struct bundle *b,
                        bool trainable, struct err *e)
{
    TRY(check_size(b, cfg, e));
    TRY(model_check(cfg, e));
    char *path = bundle_path(b, BUNDLE_WEIGHTS);
    struct model *made = model_new(cfg, trainable);
    int rc = ckpt_load(model_params(made), GROUPS_BUNDLE, path, e);
    free(path);
    if (rc < 0)
        model_free(made);
    else
        *m = made;
    return rc;
}

int load_model(struct model **m, struct items **it, const struct bundle *b, bool trainable,
               struct err *e)
{
    struct model_cfg cfg;
    struct items *items = NULL;
    if (manifest_is_rank(b->manifest))
        return err_set(e, ERR_BAD_BUNDLE,
                       "%s@%" PRId64
                       " ranks candidates and does not retrieve them: see `intent "
                       "rank`",
                       b->name, b->version);
    int rc = read_cfg(&cfg, b, e);
    if (rc == 0) rc = open_items(&items, b, e);
    if (rc == 0) {
        cfg.n_items = items_count(items);
        rc = expect(b, "items", cfg.n_items, BUNDLE_ITEMS, e);
    }
    if (rc == 0) rc = open_weights(m, &cfg, b, trainable, e);
    if (rc == 0) {
        *it = items;
        return 0;
    }
    if (items) items_close(items);
    if (e)
        e->code =
            ERR_BAD_BUNDLE; /* whatever part is at fault, it is the bundle that is refused */
    return ERR_BAD_BUNDLE;
}

const char *load_space(const struct bundle *b)
{
    const char *said = json_string_value(json_object_get(b->manifest, "space"));
    const json_t *file = json_object_get(json_object_get(b->manifest, "files"), BUNDLE_WEIGHTS);
    return said && *said && strlen(said) <= LIMIT_SPACE
               ? said
               : json_string_value(json_object_get(file, "sha256"));
}
