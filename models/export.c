#include "models/export.h"
#include "core/base/buf.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/fmt/ckpt.h"
#include "core/fmt/npy.h"
#include "core/serve/load.h"
#include "models/foreign.h"
#include "models/onnx_model.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct export
{
    const struct model *m;
    const struct items *items;
    const char *out;
    char *encoder; /* JSON of its settings */
    char order[17];
};

static char *in_out(const struct export *x, const char *name, const char *suffix)
{
    return xasprintf("%s/%s%s", x->out, name, suffix);
}

static int write_ids(const struct export *x, struct err *e)
{
    struct buf text = { .cap_max = (size_t)1 << 40 };
    for (int32_t r = 0; r < items_count(x->items); r++) {
        struct str id = items_id(x->items, r);
        if (memchr(id.p, '\n', (size_t)id.len)) {
            buf_free(&text);
            return err_set(e, ERR_INVALID,
                           "item %d: its id has a line break, and ids.txt a line for each item",
                           r);
        }
        buf_put(&text, id.p, (size_t)id.len);
        buf_putc(&text, '\n');
    }
    char *path = in_out(x, "ids.txt", "");
    int rc = io_write_atomic(path, text.data, text.len, e);
    free(path);
    buf_free(&text);
    return rc;
}

static int write_safetensors(const struct export *x, struct err *e)
{
    const char *const meta[] = { "format",   "intent",           FOREIGN_META_ENCODER,
                                 x->encoder, FOREIGN_META_ITEMS, x->order,
                                 NULL };
    char *path = in_out(x, BUNDLE_WEIGHTS, "");
    int rc = ckpt_save_with(path, model_params(x->m), GROUPS_BUNDLE, meta, e);
    free(path);
    return rc;
}

static int write_param(const struct export *x, const struct param *p, struct err *e)
{
    char *path = in_out(x, p->name, ".npy");
    int rc = npy_write(path, p->t.x, p->t.rows, p->t.cols, e);
    free(path);
    return rc;
}

static int write_npy(const struct export *x, struct err *e)
{
    const struct params *ps = model_params(x->m);
    for (int32_t i = 0; i < params_count(ps); i++) TRY(write_param(x, params_at(ps, i), e));
    char *path = in_out(x, "encoder.json", "");
    int rc = io_write_atomic(path, x->encoder, strlen(x->encoder), e);
    free(path);
    return rc;
}

static int write_onnx(const struct export *x, struct err *e)
{
    struct onnx *o = onnx_new("intent");
    char *path = in_out(x, "model.onnx", "");
    onnx_meta(o, FOREIGN_META_ENCODER, x->encoder);
    onnx_meta(o, FOREIGN_META_ITEMS, x->order);
    onnx_model(o, x->m);
    int rc = onnx_write(o, path, e);
    free(path);
    onnx_free(o);
    return rc < 0 ? rc : write_param(x, model_items(x->m), e);
}

/* A bundle's own files are not to be written over: its manifest knows them by their hashes. */
static int check_place(const struct export *x, struct err *e)
{
    char *manifest = in_out(x, BUNDLE_MANIFEST, "");
    bool bundle = io_exists(manifest);
    free(manifest);
    return bundle
               ? err_set(e, ERR_USAGE, "%s is a bundle: export into another directory", x->out)
               : io_mkdirs(x->out, e);
}

static int write_all(struct export *x, enum export_format format, struct err *e)
{
    static int (*const write[])(const struct export *,
                                struct err *) = { [EXPORT_SAFETENSORS] = write_safetensors,
                                                  [EXPORT_NPY] = write_npy,
                                                  [EXPORT_ONNX] = write_onnx };
    json_t *o = bundle_opts_to_json(model_opts, model_config(x->m));
    x->encoder = json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    snprintf(x->order, sizeof x->order, "%016" PRIx64, items_order_hash(x->items));
    int rc = check_place(x, e);
    if (rc == 0) rc = write_ids(x, e);
    if (rc == 0) rc = write[format](x, e);
    free(x->encoder);
    return rc;
}

int export_bundle(const char *bundle_path, enum export_format format, const char *out,
                  struct err *e)
{
    struct bundle b;
    struct model *m = NULL;
    struct items *it = NULL;
    TRY(bundle_open(&b, bundle_path, false, e));
    int rc = load_model(&m, &it, &b, false, e);
    if (rc == 0) {
        struct export x = { .m = m, .items = it, .out = out };
        rc = write_all(&x, format, e);
    }
    model_free(m);
    if (it) items_close(it);
    bundle_close(&b);
    return rc;
}
