#include "models/init.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/serve/load.h"
#include <inttypes.h>
#include <string.h>

static int same_config(const struct model *m, const struct model *from, struct err *e)
{
    static const char *const keys[] = { "width",      "layers",    "heads",
                                        "max_len",    "interests", "positions",
                                        "activation", "ffn_mult",  "item_tower" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct opt *o = conf_find(model_opts, keys[i]);
        char a[64], b[64];
        conf_get(o, model_config(m), a, sizeof a);
        conf_get(o, model_config(from), b, sizeof b);
        if (strcmp(a, b) != 0)
            return err_set(
                e, ERR_CONFIG,
                "model.%s is %s in the recipe and %s in the bundle, whose weights do "
                "not fit then: set it to %s",
                o->key, a, b, b);
    }
    return 0;
}

/* Rows by id; how many of them there are. */
static int32_t copy_items(struct ten *to, const struct ten *from, const struct items *it,
                          const struct items *from_it)
{
    int32_t n = 0;
    for (int32_t row = 0; row < to->rows; row++) {
        struct str id = items_id(it, row);
        int32_t at = items_find(from_it, id.p, (size_t)id.len);
        if (at < 0) continue;
        memcpy(to->x + (int64_t)row * to->cols, from->x + (int64_t)at * to->cols,
               (size_t)to->cols * sizeof *to->x);
        n++;
    }
    return n;
}

static int copy_weights(struct model *m, const struct items *it, const struct model *from,
                        const struct items *from_it, FILE *report, struct err *e)
{
    TRY(same_config(m, from, e));
    if (model_config(m)->item_tower)
        return err_set(
            e, ERR_CONFIG,
            "model.item_tower = true: a bundle does not say what its item vectors are "
            "to be made of; begin without weights");
    const struct params *ps = model_params(from);
    for (int32_t i = 0; i < params_count(ps); i++) {
        const struct param *p = params_at(ps, i);
        struct param *to = params_find(model_params(m), p->name);
        if (p == model_items(from)) continue;
        REQUIRE(to && to->t.rows == p->t.rows && to->t.cols == p->t.cols, "parameter %s",
                p->name);
        memcpy(to->t.x, p->t.x, (size_t)p->t.rows * (size_t)p->t.cols * sizeof *p->t.x);
    }
    int32_t n = copy_items(&model_items(m)->t, &model_items(from)->t, it, from_it);
    if (n == 0) return err_set(e, ERR_INVALID, "it knows none of the data set's items");
    fprintf(report, "began with weights of %d of %d items\n", n, items_count(it));
    return 0;
}

int init_from(struct model *m, const struct items *it, const char *bundle, FILE *report,
              struct err *e)
{
    struct bundle b;
    struct model *from = NULL;
    struct items *from_it = NULL;
    TRY(bundle_open(&b, bundle, false, e));
    int rc = load_model(&from, &from_it, &b, false, e);
    if (rc == 0) rc = copy_weights(m, it, from, from_it, report, e);
    if (rc < 0) err_ctx(e, "--init %s", b.dir);
    model_free(from);
    if (from_it) items_close(from_it);
    bundle_close(&b);
    return rc;
}

int init_label(char **out, const char *bundle, struct err *e)
{
    struct bundle b;
    TRY(bundle_open(&b, bundle, false, e));
    const json_t *files = json_object_get(b.manifest, "files");
    const char *sum =
        json_string_value(json_object_get(json_object_get(files, BUNDLE_WEIGHTS), "sha256"));
    REQUIRE(sum, "%s names no weights", b.dir);
    *out = xasprintf("%s@%" PRId64 " %s", b.name, b.version, sum);
    bundle_close(&b);
    return 0;
}
