#include "core/serve/fields.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/base/order.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 32 };

struct fields {
    struct item_fields all;
    struct item_field field[LIMIT_FIELDS];
    enum field_kind kind[LIMIT_FIELDS];
    char *name[LIMIT_FIELDS];
    const struct items *items;  /* fields_known: borrowed */
    int32_t from[LIMIT_FIELDS]; /* fields_known: where it is among the items' */
    int32_t
        *by_text[LIMIT_FIELDS]; /* fields_known: [n_values], values in order of their text */
    double
        bound[LIMIT_FIELDS]
             [BUCKETS - 1]; /* numbers from bound[b-1] up to below bound[b] are in bucket b */
    int32_t *cu[LIMIT_FIELDS], *id[LIMIT_FIELDS]; /* owned */
};

/* Bounds between quantiles, each once; the number of buckets. */
static int32_t make_bounds(double *bound, const struct items *it, int32_t f)
{
    const int32_t V = items_count(it);
    double *x = xcalloc((size_t)V, sizeof *x);
    int32_t n = 0, buckets = 1;
    for (int32_t v = 0; v < V; v++)
        if (!isnan(items_number(it, f, v))) x[n++] = items_number(it, f, v);
    qsort(x, (size_t)n, sizeof *x, order_f64);
    for (int b = 1; b < BUCKETS && n > 0; b++) {
        double at = x[(int64_t)n * b / BUCKETS];
        if (at > x[0] && (buckets == 1 || at > bound[buckets - 2])) bound[buckets++ - 1] = at;
    }
    free(x);
    return buckets;
}

static int32_t bucket_of(const double *bound, int32_t buckets, double x)
{
    int32_t b = 0;
    while (b < buckets - 1 && x >= bound[b]) b++;
    return b;
}

/* The values of item v, into id where that is given. */
static int32_t list(int32_t *id, const struct fields *f, int32_t j, const struct items *it,
                    int32_t from, int32_t v)
{
    int32_t count;
    if (f->kind[j] == FIELD_NUMBER) {
        double x = items_number(it, from, v);
        if (isnan(x)) return 0;
        if (id) *id = bucket_of(f->bound[j], f->field[j].n_values, x);
        return 1;
    }
    const int32_t *value = items_values(it, from, v, &count);
    if (id) memcpy(id, value, (size_t)count * sizeof *id);
    return count;
}

static void fill(struct fields *f, int32_t j, const struct items *it, int32_t from)
{
    const int32_t V = items_count(it);
    int32_t *cu = f->cu[j] = xcalloc((size_t)V + 1, sizeof *cu);
    for (int32_t v = 0; v < V; v++) cu[v + 1] = cu[v] + list(NULL, f, j, it, from, v);
    f->id[j] = xcalloc((size_t)cu[V] + 1, sizeof *f->id[j]);
    for (int32_t v = 0; v < V; v++) (void)list(f->id[j] + cu[v], f, j, it, from, v);
    f->field[j].cu = cu;
    f->field[j].id = f->id[j];
}

static char *name_of(const struct items *it, int32_t f)
{
    struct str s = items_field_name(it, f);
    return xstrndup(s.p, (size_t)s.len);
}

/* Of field j: each name once, and none that the tower's own parameters have (tower.h). */
static int take_name(struct fields *f, int32_t j, char *name, enum err_code code, struct err *e)
{
    static const char *const own[] = { "id", "mlp.0", "mlp.1" };
    f->field[j].name = f->name[j] = name;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(name, own[i]) == 0)
            return err_set(
                e, code,
                "model.item_tower: the tower has a part called '%s': give the items' "
                "field another name",
                name);
    for (int32_t i = 0; i < j; i++)
        if (strcmp(name, f->name[i]) == 0)
            return err_set(e, code, "tower: field '%s' twice", name);
    return 0;
}

/* Every field of the catalogue that says anything. */
static int take_all(struct fields *f, const struct items *it, struct err *e)
{
    for (int32_t from = 0; from < items_fields(it); from++) {
        const int32_t j = f->all.n;
        f->kind[j] = items_field_kind(it, from);
        f->field[j].n_values = f->kind[j] == FIELD_NUMBER ? make_bounds(f->bound[j], it, from)
                                                          : items_field_values(it, from);
        if (f->field[j].n_values == 0) continue;
        TRY(take_name(f, j, name_of(it, from), ERR_CONFIG, e));
        fill(f, j, it, from);
        f->all.n++;
    }
    return f->all.n > 0
               ? 0
               : err_set(
                     e, ERR_CONFIG,
                     "model.item_tower: the items have no attribute fields; prepare the data "
                     "set with --items FILE, or set item_tower = false");
}

/* ---- of a trained tower ---- */

static int compare(struct str a, struct str b)
{
    int c = memcmp(a.p, b.p, (size_t)(a.len < b.len ? a.len : b.len));
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

struct sorting {
    const struct items *it;
    int32_t from;
};

static int by_text(const void *x, const void *y, void *ctx)
{
    const struct sorting *s = ctx;
    return compare(items_field_value(s->it, s->from, *(const int32_t *)x),
                   items_field_value(s->it, s->from, *(const int32_t *)y));
}

static void sort_values(struct fields *f, int32_t j)
{
    const int32_t n = f->field[j].n_values;
    struct sorting s = { f->items, f->from[j] };
    f->by_text[j] = xcalloc((size_t)n, sizeof *f->by_text[j]);
    for (int32_t v = 0; v < n; v++) f->by_text[j][v] = v;
    qsort_r(f->by_text[j], (size_t)n, sizeof *f->by_text[j], by_text, &s);
}

/* The value of this text, or -1. */
static int32_t find_value(const struct fields *f, int32_t j, struct str text)
{
    int32_t lo = 0, hi = f->field[j].n_values;
    while (lo < hi) {
        const int32_t mid = lo + (hi - lo) / 2, v = f->by_text[j][mid];
        int c = compare(text, items_field_value(f->items, f->from[j], v));
        if (c == 0) return v;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return -1;
}

static int32_t ids_of(int32_t *id, const struct fields *f, int32_t j, const struct attr *a)
{
    int32_t n = 0;
    if ((f->kind[j] == FIELD_NUMBER) != !a->value) return 0;
    if (!a->value) {
        id[0] = bucket_of(f->bound[j], f->field[j].n_values, a->number);
        return 1;
    }
    for (int32_t i = 0; i < a->n_values && i < LIMIT_TAGS; i++) {
        const int32_t v = find_value(f, j, a->value[i]);
        int32_t at = n;
        while (at > 0 && id[at - 1] > v) at--;
        if (v < 0 || (at > 0 && id[at - 1] == v)) continue;
        memmove(id + at + 1, id + at, (size_t)(n - at) * sizeof *id);
        id[at] = v;
        n++;
    }
    return n;
}

int32_t fields_ids(int32_t *id, const struct fields *f, int32_t j, const struct attrs *a)
{
    const struct str name = { f->name[j], (int32_t)strlen(f->name[j]) };
    for (int32_t i = 0; i < a->n; i++)
        if (compare(a->at[i].name, name) == 0) return ids_of(id, f, j, &a->at[i]);
    return 0;
}

static int take_known(struct fields *f, const struct items *it, const json_t *o, struct err *e)
{
    const char *name = json_string_value(json_object_get(o, "name"));
    const json_t *bounds = json_object_get(o, "bounds"), *values = json_object_get(o, "values");
    const int32_t j = f->all.n, from = name ? items_field_find(it, name, strlen(name)) : -1;
    if (j == LIMIT_FIELDS || from < 0)
        return err_set(e, ERR_BAD_BUNDLE, "tower: the items have no field '%s'",
                       name ? name : "?");
    f->kind[j] = items_field_kind(it, from);
    if (f->kind[j] == FIELD_NUMBER) {
        size_t n = json_array_size(bounds);
        if (!json_is_array(bounds) || n >= BUCKETS)
            return err_set(e, ERR_BAD_BUNDLE, "tower: field '%s' has no bounds", name);
        for (size_t b = 0; b < n; b++)
            f->bound[j][b] = json_number_value(json_array_get(bounds, b));
        f->field[j].n_values = (int32_t)n + 1;
    } else {
        json_int_t n = json_integer_value(values);
        if (n < 1 || n > items_field_values(it, from))
            return err_set(e, ERR_BAD_BUNDLE,
                           "tower: field '%s' has %lld values, %d in the items", name,
                           (long long)n, items_field_values(it, from));
        f->field[j].n_values = (int32_t)n;
    }
    TRY(take_name(f, j, xstrdup(name), ERR_BAD_BUNDLE, e));
    f->from[j] = from;
    if (f->kind[j] == FIELD_VALUES) sort_values(f, j);
    f->all.n++;
    return 0;
}

int fields_new(struct fields **out, const struct items *it, struct err *e)
{
    struct fields *f = xcalloc(1, sizeof *f);
    f->all = (struct item_fields){ items_count(it), 0, f->field };
    int rc = take_all(f, it, e);
    if (rc < 0) {
        fields_free(f);
        f = NULL;
    }
    *out = f;
    return rc;
}

int fields_known(struct fields **out, const struct items *it, const json_t *known,
                 struct err *e)
{
    struct fields *f = xcalloc(1, sizeof *f);
    int rc = 0;
    f->items = it;
    f->all.field = f->field;
    for (size_t i = 0; i < json_array_size(known) && rc == 0; i++)
        rc = take_known(f, it, json_array_get(known, i), e);
    if (rc == 0 && f->all.n == 0) rc = err_set(e, ERR_BAD_BUNDLE, "tower: no fields");
    if (rc < 0) {
        fields_free(f);
        f = NULL;
    }
    *out = f;
    return rc;
}

void fields_free(struct fields *f)
{
    if (!f) return;
    for (int32_t j = 0; j < LIMIT_FIELDS; j++) {
        free(f->name[j]);
        free(f->cu[j]);
        free(f->id[j]);
        free(f->by_text[j]);
    }
    free(f);
}

const struct item_fields *fields_of(const struct fields *f) { return &f->all; }

json_t *fields_json(const struct fields *f)
{
    json_t *all = json_array();
    for (int32_t j = 0; j < f->all.n; j++) {
        json_t *o = json_pack("{s:s}", "name", f->name[j]);
        if (f->kind[j] == FIELD_VALUES) {
            json_object_set_new(o, "values", json_integer(f->field[j].n_values));
        } else {
            json_t *bounds = json_array();
            for (int32_t b = 0; b + 1 < f->field[j].n_values; b++)
                json_array_append_new(bounds, json_real(f->bound[j][b]));
            json_object_set_new(o, "bounds", bounds);
        }
        json_array_append_new(all, o);
    }
    return all;
}
