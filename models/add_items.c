#include "models/add_items.h"
#include "core/base/mem.h"
#include "core/data/items_read.h"
#include "core/serve/embed.h"
#include "core/serve/load.h"
#include "models/other_items.h"
#include <stdlib.h>
#include <string.h>

struct adding {
    struct bundle b;
    struct model *old; /* as it serves */
    struct items *was;
    struct items_builder *items;
    const char *file; /* of the new items */
    FILE *report;     /* NULL: quiet */
};

/* "brand:values,year:number": the fields the bundle has, so that a short file is not read in
 * another way. */
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

/* The old catalogue, and what the file has beside it. */
static int read_new(struct adding *a, struct err *e)
{
    struct items_stats st;
    char *fields = field_list(a->was);
    a->items = items_builder_from(a->was);
    int rc = read_items(a->items, a->file,
                        &(struct items_opts){ .fields = fields, .add = true }, &st, e);
    const int32_t n = items_builder_count(a->items) - items_count(a->was);
    if (rc == 0 && n == 0)
        rc =
            err_set(e, ERR_EMPTY, "%s: no item that the bundle does not have already", a->file);
    if (rc == 0 && a->report)
        fprintf(a->report, "%s: %d new items, %lld entries of items that are there\n", a->file,
                n, (long long)st.unknown);
    free(fields);
    return rc;
}

/* Items of which the tower is told nothing are worth a word, nothing but such items a refusal. */
static int check_told(const struct adding *a, const struct embed *m, const struct attrs *attrs,
                      int32_t n, struct err *e)
{
    const int32_t silent = embed_silent(m, attrs, n);
    if (silent > 0 && silent < n && a->report)
        fprintf(a->report, "%d of them have no value that the item tower was trained with\n",
                silent);
    if (silent < n) return 0;
    char *fields = field_list(a->was);
    (void)err_set(e, ERR_EMPTY,
                  "%s: none of the new items has a value that the item tower was trained with "
                  "(fields: %s): all would get the same vector",
                  a->file, fields);
    free(fields);
    return ERR_EMPTY;
}

/* The old vectors, and what the bundle's tower makes of the items it does not have. */
static int make_vectors(float *out, const struct items *now, void *ctx, struct err *e)
{
    const struct adding *a = ctx;
    const struct ten *old = &model_items(a->old)->t;
    const int32_t n = items_count(now) - old->rows;
    const size_t nb_old = (size_t)old->rows * (size_t)old->cols;
    struct embed *m;
    TRY(embed_open(&m, &a->b, a->old, now, e));
    struct arena *mem = arena_new("add_items", 1 << 20, 0);
    struct attrs *attrs = ARENA_NEW(mem, struct attrs, n);
    for (int32_t i = 0; i < n; i++) attrs[i] = attrs_of_item(now, old->rows + i, mem);
    const int rc = check_told(a, m, attrs, n, e);
    memcpy(out, old->x, nb_old * sizeof *out);
    if (rc == 0) embed_items(out + nb_old, m, attrs, n);
    arena_free(mem);
    embed_free(m);
    return rc;
}

int add_items(const char *bundle_path, const char *file, const struct index_cfg *cfg,
              FILE *report, struct err *e)
{
    struct adding a = { .file = file, .report = report };
    char *dir = NULL;
    TRY(bundle_open(&a.b, bundle_path, false, e));
    int rc = 0;
    if (!json_object_get(a.b.manifest, "tower"))
        rc = err_set(e, ERR_USAGE,
                     "%s has no item tower, which makes vectors from attributes: train with "
                     "model.item_tower = true",
                     a.b.dir);
    if (rc == 0) rc = load_model(&a.old, &a.was, &a.b, false, e);
    if (rc == 0) rc = read_new(&a, e);
    if (rc == 0)
        rc = other_items_write(
            &dir, &(struct other_items){ &a.b, a.old, a.items, make_vectors, &a, NULL }, e);
    if (rc < 0) err_ctx(e, "adding items to %s", a.b.dir);
    items_builder_free(a.items);
    model_free(a.old);
    if (a.was) items_close(a.was);
    bundle_close(&a.b);
    if (rc == 0) rc = index_bundle(dir, cfg, report, e);
    free(dir);
    return rc;
}
