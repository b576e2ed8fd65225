#include "models/add_items.h"
#include "core/base/mem.h"
#include "core/data/items_read.h"
#include "core/fmt/bundle.h"
#include "core/fmt/ckpt.h"
#include "core/serve/embed.h"
#include "core/serve/load.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct adding {
    struct bundle b;
    struct model *old; /* as it serves */
    struct items *was, *now;
    float *item; /* [now's, D] */
};

/* ---- the catalogue ---- */

/* "brand:values,year:number": the fields the bundle has, so that a short file is not read in another way. */
static char *field_list(const struct items *it)
{
    char *list = xstrdup("");
    for (int32_t f = 0; f < items_fields(it); f++) {
        struct str name = items_field_name(it, f);
        char *more = xasprintf("%s%s%.*s:%s", list, f ? "," : "", (int)name.len, name.p,
                               items_field_kind(it, f) == FIELD_NUMBER ? "number" : "values");
        free(list);
        list = more;
    }
    return list;
}

/* The new catalogue in the directory that is being written. */
static int write_items(struct adding *a, const char *dir, const char *file, FILE *report,
                       struct err *e)
{
    struct items_stats st;
    char *fields = field_list(a->was), *path = xasprintf("%s/" BUNDLE_ITEMS, dir);
    struct items_builder *b = items_builder_from(a->was);
    int rc = read_items(b, file, &(struct items_opts){ .fields = fields, .add = true }, &st, e);
    if (rc == 0 && items_builder_count(b) == items_count(a->was))
        rc = err_set(e, ERR_EMPTY, "%s: no item that the bundle does not have already", file);
    if (rc == 0) rc = items_write(b, path, e);
    if (rc == 0) rc = items_open(&a->now, path, e);
    if (rc == 0 && report)
        fprintf(report, "%s: %d new items, %lld entries of items that are there\n", file,
                items_builder_count(b) - items_count(a->was), (long long)st.unknown);
    items_builder_free(b);
    free(fields);
    free(path);
    return rc;
}

/* ---- vectors ---- */

/* What the bundle's tower makes of the items it does not have. */
static int make_vectors(struct adding *a, struct err *e)
{
    const struct ten *old = &model_items(a->old)->t;
    const int32_t D = old->cols, V = items_count(a->now), n = V - old->rows;
    struct embed *m;
    TRY(embed_open(&m, &a->b, a->old, a->now, e));
    struct arena *mem = arena_new("add_items", 1 << 20, 0);
    struct attrs *attrs = ARENA_NEW(mem, struct attrs, n);
    for (int32_t i = 0; i < n; i++) attrs[i] = attrs_of_item(a->now, old->rows + i, mem);
    a->item = xcalloc((size_t)V * (size_t)D, sizeof *a->item);
    memcpy(a->item, old->x, (size_t)old->rows * (size_t)D * sizeof *a->item);
    embed_items(a->item + (size_t)old->rows * (size_t)D, m, attrs, n);
    arena_free(mem);
    embed_free(m);
    return 0;
}

/* The old weights with the new vectors. */
static int write_weights(struct adding *a, const char *dir, struct err *e)
{
    char *path = xasprintf("%s/" BUNDLE_WEIGHTS, dir);
    struct ten *t = &model_items(a->old)->t, was = *t;
    t->x = a->item;
    t->rows = items_count(a->now);
    int rc = ckpt_save(path, model_params(a->old), GROUPS_BUNDLE, e);
    *t = was;
    free(path);
    return rc;
}

/* ---- the bundle ---- */

static int fill(struct adding *a, const struct bundle_writer *w, const char *file, FILE *report,
                struct err *e)
{
    TRY(write_items(a, w->tmp_dir, file, report, e));
    TRY(make_vectors(a, e));
    TRY(write_weights(a, w->tmp_dir, e));
    return bundle_reuse(w, &a->b, BUNDLE_TOWER, e);
}

static int write_version(struct adding *a, const char *file, FILE *report, char **out,
                         struct err *e)
{
    struct bundle_writer w;
    char *model_dir = NULL;
    TRY(index_model_dir(&model_dir, &a->b, e));
    int rc = bundle_begin(&w, model_dir, 0, e);
    if (rc == 0) {
        json_t *m = json_deep_copy(a->b.manifest);
        const int64_t version = w.version;
        rc = fill(a, &w, file, report, e);
        json_object_del(m, "index");
        json_object_del(m, "created");
        json_object_set_new(m, "space", json_string(load_space(&a->b)));
        if (rc == 0) json_object_set_new(m, "items", json_integer(items_count(a->now)));
        if (rc == 0)
            rc = bundle_commit(&w, m, e);
        else
            bundle_abort(&w);
        if (rc == 0) *out = xasprintf("%s/%" PRId64, model_dir, version);
        json_decref(m);
    }
    free(model_dir);
    return rc;
}

int add_items(const char *bundle_path, const char *file, const struct index_cfg *cfg,
              FILE *report, struct err *e)
{
    struct adding a = { .item = NULL };
    char *dir = NULL;
    TRY(bundle_open(&a.b, bundle_path, false, e));
    int rc = 0;
    if (!json_object_get(a.b.manifest, "tower"))
        rc = err_set(e, ERR_USAGE,
                     "%s has no item tower, which makes vectors from attributes: train with "
                     "model.item_tower = true",
                     a.b.dir);
    if (rc == 0) rc = load_model(&a.old, &a.was, &a.b, false, e);
    if (rc == 0) rc = write_version(&a, file, report, &dir, e);
    if (rc < 0) err_ctx(e, "adding items to %s", a.b.dir);
    model_free(a.old);
    if (a.now) items_close(a.now);
    if (a.was) items_close(a.was);
    free(a.item);
    bundle_close(&a.b);
    if (rc == 0) rc = index_bundle(dir, cfg, report, e);
    free(dir);
    return rc;
}
