#include "models/add_items.h"
#include "core/base/mem.h"
#include "core/data/items_read.h"
#include "core/fmt/bundle.h"
#include "core/fmt/ckpt.h"
#include "core/fmt/safet.h"
#include "core/serve/load.h"
#include "models/fields.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4096 }; /* items that go through the tower at once */

struct adding {
    struct bundle b;
    struct model *old; /* as it serves */
    struct items *was, *now;
    struct fields *fields;
    struct model *tower; /* of the ids that were trained, with the tower */
    float *item;         /* [now's, D] */
    int32_t n_trained;   /* ids with an embedding */
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

/* How many ids the tower was trained with: rows of its item.weight. */
static int count_trained(struct adding *a, const char *path, struct err *e)
{
    struct safet *s;
    TRY(safet_open(&s, path, e));
    const struct safet_tensor *t = safet_find(s, "item.weight");
    const int64_t n = t && t->rank == 2 ? t->shape[0] : 0;
    safet_close(s);
    if (n < 1 || n > items_count(a->was))
        return err_set(e, ERR_BAD_BUNDLE,
                       BUNDLE_TOWER ": item.weight has %" PRId64 " rows, %d items are there", n,
                       items_count(a->was));
    a->n_trained = (int32_t)n;
    return 0;
}

static int open_tower(struct adding *a, struct err *e)
{
    const json_t *known = json_object_get(a->b.manifest, "tower");
    struct model_cfg cfg = *model_config(a->old);
    char *path = bundle_path(&a->b, BUNDLE_TOWER);
    int rc = fields_new(&a->fields, a->now, known, e);
    if (rc == 0) rc = count_trained(a, path, e);
    if (rc == 0) {
        struct item_fields f = *fields_of(a->fields);
        cfg.n_items = f.n_items = a->n_trained;
        a->tower = model_new(&cfg, false);
        model_add_tower(a->tower, &f);
        rc = ckpt_load(model_params(a->tower), GROUP_TOWER, path, e);
    }
    free(path);
    return rc;
}

/* Vectors of rows first .. first+n-1, whose ids the tower does not know. */
static void embed(struct adding *a, struct tape *tp, int32_t first, int32_t n)
{
    const struct item_fields *f = fields_of(a->fields);
    const int32_t D = model_config(a->old)->width;
    struct item_field bag[LIMIT_FIELDS];
    tape_begin(tp, 0, 0, false);
    int32_t *ids = ARENA_NEW(tape_arena(tp), int32_t, n);
    for (int32_t i = 0; i < n; i++) ids[i] = EMBED_MASK;
    for (int32_t j = 0; j < f->n; j++) {
        bag[j] = f->field[j];
        bag[j].cu += first;
    }
    struct ten *x = tower_vectors(model_tower(a->tower), tp, ids, n, bag);
    memcpy(a->item + (int64_t)first * D, x->x, (size_t)n * (size_t)D * sizeof *a->item);
}

static void make_vectors(struct adding *a)
{
    const struct ten *old = &model_items(a->old)->t;
    const int32_t V = items_count(a->now);
    a->item = xcalloc((size_t)V * (size_t)old->cols, sizeof *a->item);
    memcpy(a->item, old->x, (size_t)old->rows * (size_t)old->cols * sizeof *a->item);
    struct arena *mem = arena_new("add_items", 1 << 20, 0);
    struct tape *tp = tape_new(mem, NULL);
    for (int32_t v = old->rows; v < V; v += ROWS) embed(a, tp, v, V - v < ROWS ? V - v : ROWS);
    tape_free(tp);
    arena_free(mem);
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
    TRY(open_tower(a, e));
    make_vectors(a);
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
    model_free(a.tower);
    model_free(a.old);
    fields_free(a.fields);
    if (a.now) items_close(a.now);
    if (a.was) items_close(a.was);
    free(a.item);
    bundle_close(&a.b);
    if (rc == 0) rc = index_bundle(dir, cfg, report, e);
    free(dir);
    return rc;
}
