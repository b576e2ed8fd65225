#include "models/other_items.h"
#include "core/base/mem.h"
#include "core/fmt/ckpt.h"
#include "core/serve/load.h"
#include "models/index.h"
#include <inttypes.h>
#include <stdlib.h>

/* The old weights with the new vectors. */
static int write_weights(const struct other_items *o, const char *dir, const struct items *now,
                         struct err *e)
{
    struct ten *t = &model_items(o->model)->t, was = *t;
    float *vector = xcalloc((size_t)items_count(now) * (size_t)t->cols, sizeof *vector);
    int rc = o->vectors(vector, now, o->ctx, e);
    if (rc == 0) {
        char *path = xasprintf("%s/" BUNDLE_WEIGHTS, dir);
        t->x = vector;
        t->rows = items_count(now);
        rc = ckpt_save(path, model_params(o->model), GROUPS_BUNDLE, e);
        *t = was;
        free(path);
    }
    free(vector);
    return rc;
}

static int fill(const struct other_items *o, const struct bundle_writer *w, int32_t *n,
                struct err *e)
{
    struct items *now = NULL;
    char *path = xasprintf("%s/" BUNDLE_ITEMS, w->tmp_dir);
    int rc = items_write(o->items, path, e);
    if (rc == 0) rc = items_open(&now, path, e);
    free(path);
    TRY(rc);
    *n = items_count(now);
    rc = write_weights(o, w->tmp_dir, now, e);
    if (rc == 0 && json_object_get(o->bundle->manifest, "tower"))
        rc = bundle_reuse(w, o->bundle, BUNDLE_TOWER, e);
    items_close(now);
    return rc;
}

static int write_version(const struct other_items *o, struct bundle_writer *w, struct err *e)
{
    int32_t n = 0;
    int rc = fill(o, w, &n, e);
    if (rc < 0) {
        bundle_abort(w);
        return rc;
    }
    json_t *m = json_deep_copy(o->bundle->manifest);
    json_object_del(m, "index");
    json_object_del(m, "created");
    json_object_set_new(m, "items", json_integer(n));
    json_object_set_new(m, "space", json_string(load_space(o->bundle)));
    if (o->folded) json_object_set(m, "folded", o->folded);
    rc = bundle_commit(w, m, e);
    json_decref(m);
    return rc;
}

int other_items_write(char **dir, const struct other_items *o, struct err *e)
{
    struct bundle_writer w;
    char *model_dir = NULL;
    TRY(index_model_dir(&model_dir, o->bundle, e));
    int rc = bundle_begin(&w, model_dir, 0, e);
    if (rc == 0) {
        const int64_t version = w.version;
        rc = write_version(o, &w, e);
        if (rc == 0) *dir = xasprintf("%s/%" PRId64, model_dir, version);
    }
    free(model_dir);
    return rc;
}
