#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/items.h"
#include "core/data/items_fmt.h"
#include "core/data/text.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct heap {
    char *p;
    size_t nb, cap;
};

struct row {
    uint64_t hash;
    size_t id, title; /* offsets in the heaps */
    uint32_t len, len_title;
    int64_t pop;
};

/* An attribute field.  Pairs come in any order and more than once. */
struct pair {
    int32_t row, value;
};
struct field_builder {
    char name[LIMIT_FIELD_NAME + 1];
    enum field_kind kind;
    struct items_builder *values; /* their vocabulary */
    struct pair *pair;
    size_t n_pairs, cap_pairs;
    double *number; /* [cap of rows] NaN: none */
    size_t cap_number;
};

struct items_builder {
    struct heap ids, titles;
    struct row *row;
    int32_t n;
    size_t cap;
    int32_t *slot; /* [n_slots], -1 empty; at most half full, as it is written */
    size_t n_slots;
    struct field_builder *field; /* [n_fields] */
    int32_t n_fields;
};

struct items_builder *items_builder_new(void)
{
    struct items_builder *b = xcalloc(1, sizeof *b);
    b->n_slots = 16;
    b->slot = xmalloc(b->n_slots * sizeof *b->slot);
    memset(b->slot, 0xff, b->n_slots * sizeof *b->slot);
    return b;
}

void items_builder_free(struct items_builder *b)
{
    if (!b) return;
    free(b->ids.p);
    free(b->titles.p);
    free(b->row);
    free(b->slot);
    for (int32_t f = 0; f < b->n_fields; f++) {
        items_builder_free(b->field[f].values);
        free(b->field[f].pair);
        free(b->field[f].number);
    }
    free(b->field);
    free(b);
}

int32_t items_builder_count(const struct items_builder *b) { return b->n; }

static size_t heap_put(struct heap *h, const char *p, size_t n)
{
    if (n > h->cap - h->nb) {
        h->cap = 2 * h->cap + n + 256;
        h->p = xrealloc(h->p, h->cap, 1);
    }
    size_t at = h->nb;
    if (n) memcpy(h->p + at, p, n);
    h->nb += n;
    return at;
}

/* Slot that holds the id, or the empty one where it would go. */
static size_t slot_of(const struct items_builder *b, const char *id, size_t len, uint64_t hash)
{
    size_t at = hash & (b->n_slots - 1);
    for (; b->slot[at] >= 0; at = (at + 1) & (b->n_slots - 1)) {
        const struct row *r = &b->row[b->slot[at]];
        if (r->hash == hash && r->len == len && memcmp(b->ids.p + r->id, id, len) == 0) break;
    }
    return at;
}

static void slots_grow(struct items_builder *b)
{
    b->n_slots *= 2;
    free(b->slot);
    b->slot = xmalloc(b->n_slots * sizeof *b->slot);
    memset(b->slot, 0xff, b->n_slots * sizeof *b->slot);
    for (int32_t i = 0; i < b->n; i++) {
        size_t at = b->row[i].hash & (b->n_slots - 1);
        while (b->slot[at] >= 0) at = (at + 1) & (b->n_slots - 1);
        b->slot[at] = i;
    }
}

int32_t items_lookup(const struct items_builder *b, const char *id, size_t len)
{
    return b->slot[slot_of(b, id, len, XXH3_64bits(id, len))];
}

int32_t items_add(struct items_builder *b, const char *id, size_t len)
{
    REQUIRE(len >= 1 && len <= LIMIT_ID_BYTES && b->n < LIMIT_USERS, "id of %zu bytes, row %d",
            len, b->n);
    uint64_t hash = XXH3_64bits(id, len);
    size_t at = slot_of(b, id, len, hash);
    if (b->slot[at] >= 0) return b->slot[at];
    if ((size_t)b->n == b->cap) {
        b->cap = 2 * b->cap + 64;
        b->row = xrealloc(b->row, b->cap, sizeof *b->row);
    }
    b->row[b->n] =
        (struct row){ .hash = hash, .id = heap_put(&b->ids, id, len), .len = (uint32_t)len };
    b->slot[at] = b->n++;
    if (2 * (size_t)b->n > b->n_slots) slots_grow(b);
    return b->n - 1;
}

struct str items_builder_id(const struct items_builder *b, int32_t row)
{
    return (struct str){ b->ids.p + b->row[row].id, (int32_t)b->row[row].len };
}

struct str items_builder_title(const struct items_builder *b, int32_t row)
{
    uint32_t len = b->row[row].len_title;
    return (struct str){ len ? b->titles.p + b->row[row].title : "", (int32_t)len };
}

void items_set_title(struct items_builder *b, int32_t row, const char *title, size_t len)
{
    len = text_utf8_cut(title, len, LIMIT_TITLE_BYTES);
    b->row[row].title = heap_put(&b->titles, title, len);
    b->row[row].len_title = (uint32_t)len;
}

void items_set_popularity(struct items_builder *b, int32_t row, int64_t n)
{
    b->row[row].pop = n;
}

/* ---- attribute fields ---- */

int32_t items_field_add(struct items_builder *b, const char *name, size_t len,
                        enum field_kind kind)
{
    REQUIRE(len >= 1 && len <= LIMIT_FIELD_NAME, "field name of %zu bytes", len);
    for (int32_t f = 0; f < b->n_fields; f++)
        if (strlen(b->field[f].name) == len && memcmp(b->field[f].name, name, len) == 0)
            return b->field[f].kind == kind ? f : -1;
    if (b->n_fields == LIMIT_FIELDS) return -1;
    b->field = xrealloc(b->field, (size_t)b->n_fields + 1, sizeof *b->field);
    struct field_builder *x = &b->field[b->n_fields];
    *x = (struct field_builder){ .kind = kind };
    memcpy(x->name, name, len);
    if (kind == FIELD_VALUES) x->values = items_builder_new();
    return b->n_fields++;
}

static void add_pair(struct field_builder *x, int32_t row, int32_t value)
{
    if (x->n_pairs == x->cap_pairs) {
        x->cap_pairs = 2 * x->cap_pairs + 64;
        x->pair = xrealloc(x->pair, x->cap_pairs, sizeof *x->pair);
    }
    x->pair[x->n_pairs++] = (struct pair){ row, value };
}

void items_add_value(struct items_builder *b, int32_t f, int32_t row, const char *value,
                     size_t len)
{
    struct field_builder *x = &b->field[f];
    REQUIRE(x->kind == FIELD_VALUES && row >= 0 && row < b->n, "field %s, row %d", x->name,
            row);
    add_pair(x, row, items_add(x->values, value, len));
}

void items_set_number(struct items_builder *b, int32_t f, int32_t row, double number)
{
    struct field_builder *x = &b->field[f];
    REQUIRE(x->kind == FIELD_NUMBER && row >= 0 && row < b->n, "field %s, row %d", x->name,
            row);
    if ((size_t)row >= x->cap_number) {
        size_t cap = (size_t)b->n + (size_t)b->n / 2;
        x->number = xrealloc(x->number, cap, sizeof *x->number);
        for (size_t i = x->cap_number; i < cap; i++) x->number[i] = (double)NAN;
        x->cap_number = cap;
    }
    x->number[row] = number;
}

void items_fields_copy(struct items_builder *dst, const struct items_builder *src,
                       const int32_t *row)
{
    for (int32_t f = 0; f < src->n_fields; f++) {
        const struct field_builder *x = &src->field[f];
        int32_t to = items_field_add(dst, x->name, strlen(x->name), x->kind);
        REQUIRE(to >= 0, "field %s", x->name);
        for (size_t i = 0; i < x->n_pairs; i++) {
            struct str v = items_builder_id(x->values, x->pair[i].value);
            if (row[x->pair[i].row] >= 0)
                items_add_value(dst, to, row[x->pair[i].row], v.p, (size_t)v.len);
        }
        for (int32_t i = 0; i < src->n && (size_t)i < x->cap_number; i++)
            if (row[i] >= 0 && !isnan(x->number[i]))
                items_set_number(dst, to, row[i], x->number[i]);
    }
}

/* to [count]: the row of b, -1: none. */
static void field_from(struct items_builder *b, const struct items *it, int32_t f,
                       const int32_t *to)
{
    struct str name = items_field_name(it, f);
    int32_t at = items_field_add(b, name.p, (size_t)name.len, items_field_kind(it, f));
    if (items_field_kind(it, f) == FIELD_NUMBER) {
        for (int32_t row = 0; row < items_count(it); row++)
            if (to[row] >= 0 && !isnan(items_number(it, f, row)))
                items_set_number(b, at, to[row], items_number(it, f, row));
        return;
    }
    for (int32_t v = 0; v < items_field_values(it, f); v++) {
        struct str value = items_field_value(it, f, v);
        (void)items_add(b->field[at].values, value.p, (size_t)value.len);
    }
    for (int32_t row = 0; row < items_count(it); row++) {
        int32_t n;
        const int32_t *value = items_values(it, f, row, &n);
        for (int32_t i = 0; i < n && to[row] >= 0; i++)
            add_pair(&b->field[at], to[row], value[i]);
    }
}

struct items_builder *items_builder_of(const struct items *it, const bool *gone,
                                       const bool *bare)
{
    struct items_builder *b = items_builder_new();
    int32_t *to = xcalloc((size_t)items_count(it), sizeof *to);
    for (int32_t row = 0; row < items_count(it); row++) {
        to[row] = -1;
        if (gone[row]) continue;
        struct str id = items_id(it, row), title = items_title(it, row);
        const int32_t at = items_add(b, id.p, (size_t)id.len);
        if (title.len) items_set_title(b, at, title.p, (size_t)title.len);
        items_set_popularity(b, at, items_popularity(it, row));
        if (!bare[row]) to[row] = at;
    }
    for (int32_t f = 0; f < items_fields(it); f++) field_from(b, it, f, to);
    free(to);
    return b;
}

struct items_builder *items_builder_from(const struct items *it)
{
    bool *none = xcalloc((size_t)items_count(it), sizeof *none);
    struct items_builder *b = items_builder_of(it, none, none);
    free(none);
    return b;
}

static int by_row_value(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    if (x->row != y->row) return x->row < y->row ? -1 : 1;
    return (x->value > y->value) - (x->value < y->value);
}

/* Pairs by row and value, each once; they stay so until more are added. */
static void sort_pairs(struct field_builder *x)
{
    size_t n = 0;
    if (x->n_pairs) qsort(x->pair, x->n_pairs, sizeof *x->pair, by_row_value);
    for (size_t i = 0; i < x->n_pairs; i++)
        if (i == 0 || by_row_value(&x->pair[i], &x->pair[n - 1]) != 0)
            x->pair[n++] = x->pair[i];
    x->n_pairs = n;
}

/* ---- writing ---- */

static int by_popularity(const void *x, const void *y, void *ctx)
{
    const struct row *row = ctx;
    int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;
    if (row[a].pop != row[b].pop) return row[a].pop > row[b].pop ? -1 : 1;
    return (a > b) - (a < b);
}

static uint64_t align_up(uint64_t x)
{
    return (x + ITEMS_ALIGN - 1) / ITEMS_ALIGN * ITEMS_ALIGN;
}

static void lay_out_fields(struct items_section *s, const struct items_builder *b)
{
    uint64_t n = (uint64_t)b->n;
    s[SEC_FIELD].nb = (uint64_t)b->n_fields * sizeof(struct items_field);
    s[SEC_VALUE_OFF].nb = 8;
    for (int32_t f = 0; f < b->n_fields; f++) {
        const struct field_builder *x = &b->field[f];
        if (x->kind == FIELD_NUMBER) {
            s[SEC_NUMBER].nb += 8 * n;
            continue;
        }
        s[SEC_VALUE_OFF].nb += 8 * (uint64_t)x->values->n;
        s[SEC_VALUE].nb += x->values->ids.nb;
        s[SEC_ATTR_OFF].nb += 8 * (n + 1);
        s[SEC_ATTR].nb += 4 * x->n_pairs;
    }
}

/* Sizes and places of the sections; returns the size of the file. */
static uint64_t lay_out(struct items_section *s, const struct items_builder *b)
{
    uint64_t n = (uint64_t)b->n, nb_title = 0;
    for (int32_t i = 0; i < b->n; i++) nb_title += b->row[i].len_title;
    const struct items_section want[SEC_COUNT] = {
#define SECTION_(name, code, text) [name] = { .tag = (code) },
        ITEMS_SECTION_MAP(SECTION_)
#undef SECTION_
    };
    memcpy(s, want, sizeof want);
    s[SEC_ID_OFF].nb = s[SEC_TITLE_OFF].nb = 8 * (n + 1);
    s[SEC_ID].nb = b->ids.nb;
    s[SEC_TITLE].nb = nb_title;
    s[SEC_POP].nb = 8 * n;
    s[SEC_ORDER].nb = 4 * n;
    s[SEC_HASH].nb = 4 * b->n_slots;
    lay_out_fields(s, b);
    uint64_t at = align_up(sizeof(struct items_header) + SEC_COUNT * sizeof *s);
    for (int k = 0; k < SEC_COUNT; k++) {
        s[k].off = at;
        at = align_up(at + s[k].nb);
    }
    return at;
}

static void fill_strings(uint64_t *off, char *heap, const struct items_builder *b,
                         struct str (*get)(const struct items_builder *, int32_t))
{
    uint64_t at = 0;
    for (int32_t i = 0; i < b->n; i++) {
        struct str s = get(b, i);
        off[i] = at;
        memcpy(heap + at, s.p, (size_t)s.len);
        at += (uint64_t)s.len;
    }
    off[b->n] = at;
}

/* Where the next field's parts go. */
struct field_places {
    struct items_field *field;
    uint64_t *value_off, *attr_off;
    char *value;
    int32_t *attr;
    double *number;
    uint64_t n_value_bytes, n_attr;
};

static void fill_values(struct field_places *p, const struct field_builder *x, int32_t n)
{
    for (int32_t v = 0; v < x->values->n; v++) {
        struct str s = items_builder_id(x->values, v);
        memcpy(p->value + p->n_value_bytes, s.p, (size_t)s.len);
        p->n_value_bytes += (uint64_t)s.len;
        *++p->value_off = p->n_value_bytes;
    }
    size_t i = 0;
    for (int32_t row = 0; row < n; row++) {
        *p->attr_off++ = p->n_attr;
        for (; i < x->n_pairs && x->pair[i].row == row; i++)
            p->attr[p->n_attr++] = x->pair[i].value;
    }
    *p->attr_off++ = p->n_attr;
}

static void fill_fields(char *file, const struct items_section *s,
                        const struct items_builder *b)
{
    struct field_places p = { .field = (struct items_field *)(file + s[SEC_FIELD].off),
                              .value_off = (uint64_t *)(file + s[SEC_VALUE_OFF].off),
                              .attr_off = (uint64_t *)(file + s[SEC_ATTR_OFF].off),
                              .value = file + s[SEC_VALUE].off,
                              .attr = (int32_t *)(file + s[SEC_ATTR].off),
                              .number = (void *)(file + s[SEC_NUMBER].off) };
    for (int32_t f = 0; f < b->n_fields; f++) {
        const struct field_builder *x = &b->field[f];
        p.field[f].kind = x->kind;
        memcpy(p.field[f].name, x->name, strlen(x->name));
        if (x->kind == FIELD_VALUES) {
            p.field[f].n_values = (uint32_t)x->values->n;
            fill_values(&p, x, b->n);
            continue;
        }
        for (int32_t i = 0; i < b->n; i++)
            *p.number++ = (size_t)i < x->cap_number ? x->number[i] : (double)NAN;
    }
}

int items_write(struct items_builder *b, const char *path, struct err *e)
{
    for (int32_t f = 0; f < b->n_fields; f++) sort_pairs(&b->field[f]);
    if (b->n == 0) return err_set(e, ERR_EMPTY, "%s: nothing to write", path);
    struct items_section s[SEC_COUNT];
    uint64_t nb = lay_out(s, b);
    char *file = xcalloc(1, (size_t)nb);
    struct items_header h = { .magic = ITEMS_MAGIC,
                              .version = ITEMS_VERSION,
                              .n_sections = SEC_COUNT,
                              .nb_file = nb,
                              .n_items = (uint32_t)b->n };
    memcpy(file, &h, sizeof h);
    memcpy(file + sizeof h, s, sizeof s);
    fill_strings((uint64_t *)(file + s[SEC_ID_OFF].off), file + s[SEC_ID].off, b,
                 items_builder_id);
    fill_strings((uint64_t *)(file + s[SEC_TITLE_OFF].off), file + s[SEC_TITLE].off, b,
                 items_builder_title);
    int64_t *pop = (int64_t *)(file + s[SEC_POP].off);
    int32_t *order = (int32_t *)(file + s[SEC_ORDER].off);
    for (int32_t i = 0; i < b->n; i++) {
        pop[i] = b->row[i].pop;
        order[i] = i;
    }
    qsort_r(order, (size_t)b->n, sizeof *order, by_popularity, b->row);
    memcpy(file + s[SEC_HASH].off, b->slot, (size_t)s[SEC_HASH].nb);
    fill_fields(file, s, b);
    int rc = io_write_atomic(path, file, (size_t)nb, e);
    free(file);
    return rc;
}
