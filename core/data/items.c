#include "core/data/items.h"
#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/items_fmt.h"
#include "core/data/text.h"
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct strings {
    const uint64_t *off; /* [n+1] */
    const char *heap;
};

struct items {         /* immutable after open */
    struct io_map map; /* empty for items_open_mem */
    int32_t n;
    struct strings id, title;
    const int64_t *pop;
    const int32_t *order, *slot;
    uint64_t slot_mask;
    int32_t n_fields;
    const struct items_field *field;
    struct strings value;                  /* of all fields */
    int32_t value0[LIMIT_FIELDS + 1];      /* first value of each field */
    const uint64_t *attr_at[LIMIT_FIELDS]; /* [n+1] for fields of values */
    const int32_t *attr;
    const double *number[LIMIT_FIELDS]; /* [n] for fields of numbers */
};

/* With half of the slots empty a chain this long does not happen: the table is damaged. */
enum { PROBE_MAX = 4096 };

static const char *const sec_name[] = {
#define SEC_NAME_(name, tag, text) text,
    ITEMS_SECTION_MAP(SEC_NAME_)
#undef SEC_NAME_
};
static const uint32_t sec_tag[] = {
#define SEC_TAG_(name, tag, text) tag,
    ITEMS_SECTION_MAP(SEC_TAG_)
#undef SEC_TAG_
};

struct view {
    const void *p;
    uint64_t nb;
};

static int header_check(struct items_header *h, const void *data, size_t nb, struct err *e)
{
    if (nb < sizeof *h) {
        err_set(e, ERR_FORMAT, "%zu bytes are too few for a header", nb);
        return ERR_FORMAT;
    }
    memcpy(h, data, sizeof *h);
    if (memcmp(h->magic, ITEMS_MAGIC, sizeof h->magic) != 0)
        return err_set(e, ERR_FORMAT, "does not begin with " ITEMS_MAGIC);
    if (h->version != ITEMS_VERSION)
        return err_set(e, ERR_FORMAT, "version %u; this program reads %d", h->version,
                       ITEMS_VERSION);
    if (h->nb_file != nb)
        return err_set(e, ERR_FORMAT, "%zu bytes long; its header says %llu", nb,
                       (unsigned long long)h->nb_file);
    if ((uintptr_t)data % sizeof(uint64_t) != 0)
        return err_set(e, ERR_FORMAT, "not aligned to 8 bytes in memory");
    if (h->n_items < 1 || h->n_items > (uint32_t)LIMIT_USERS)
        return err_set(e, ERR_FORMAT, "%u rows; allowed are 1 to %d", h->n_items, LIMIT_USERS);
    if (h->n_sections > ITEMS_SECTIONS_MAX ||
        nb - sizeof *h < h->n_sections * sizeof(struct items_section))
        return err_set(e, ERR_FORMAT, "table of %u sections does not fit", h->n_sections);
    return 0;
}

static int sections_find(struct view *v, const struct items_header *h, const void *data,
                         size_t nb, struct err *e)
{
    const struct items_section *s =
        (const struct items_section *)((const char *)data + sizeof *h);
    for (uint32_t i = 0; i < h->n_sections; i++, s++) {
        if (s->off % ITEMS_ALIGN != 0 || s->off > nb || s->nb > nb - s->off)
            return err_set(e, ERR_FORMAT, "section %u (offset %llu, %llu bytes) does not fit",
                           i, (unsigned long long)s->off, (unsigned long long)s->nb);
        for (int k = 0; k < SEC_COUNT; k++) {
            if (s->tag != sec_tag[k]) continue;
            if (v[k].p) return err_set(e, ERR_FORMAT, "two sections hold the %s", sec_name[k]);
            v[k] = (struct view){ (const char *)data + s->off, s->nb };
        }
    }
    return 0;
}

static int sections_check(const struct view *v, const struct items_header *h, struct err *e)
{
    uint64_t n = h->n_items;
    const uint64_t want[SEC_COUNT] = { [SEC_ID_OFF] = 8 * (n + 1),
                                       [SEC_TITLE_OFF] = 8 * (n + 1),
                                       [SEC_POP] = 8 * n,
                                       [SEC_ORDER] = 4 * n };
    for (int k = 0; k < SEC_COUNT; k++) {
        if (!v[k].p && k >= SEC_NEEDED && !v[SEC_FIELD].p) continue;
        if (!v[k].p) {
            err_set(e, ERR_FORMAT, "no section holds the %s", sec_name[k]);
            return ERR_FORMAT;
        }
        if (want[k] && v[k].nb != want[k])
            return err_set(e, ERR_FORMAT, "%s: %llu bytes for %u rows", sec_name[k],
                           (unsigned long long)v[k].nb, h->n_items);
    }
    return 0;
}

static int strings_check(const struct strings *s, int32_t n, uint64_t nb_heap, uint64_t len_min,
                         uint64_t len_max, const char *what, struct err *e)
{
    if (s->off[0] != 0 || s->off[n] != nb_heap)
        return err_set(e, ERR_FORMAT, "%s: offsets do not span the section", what);
    for (int32_t i = 0; i < n; i++) {
        /* The sum is not formed before both ends are known to lie inside the heap. */
        if (s->off[i + 1] < s->off[i] || s->off[i + 1] > nb_heap)
            return err_set(e, ERR_FORMAT, "%s: offset of row %d goes backwards or outside",
                           what, i);
        uint64_t len = s->off[i + 1] - s->off[i];
        if (len < len_min || len > len_max)
            return err_set(e, ERR_FORMAT, "%s: row %d has %llu bytes", what, i,
                           (unsigned long long)len);
        if (!text_utf8_ok(s->heap + s->off[i], (size_t)len))
            return err_set(e, ERR_FORMAT, "%s: row %d is not UTF-8", what, i);
    }
    return 0;
}

/* A strict order over rows in range holds each of them once. */
static int order_check(const struct items *it, struct err *e)
{
    for (int32_t i = 0; i < it->n; i++) {
        int32_t row = it->order[i];
        if (row < 0 || row >= it->n)
            return err_set(e, ERR_FORMAT, "order by popularity: place %d holds row %d", i, row);
        if (it->pop[row] < 0)
            return err_set(e, ERR_FORMAT, "popularity of row %d is negative", row);
        if (i == 0) continue;
        int32_t before = it->order[i - 1];
        if (it->pop[before] < it->pop[row] ||
            (before >= row && it->pop[before] == it->pop[row]))
            return err_set(e, ERR_FORMAT, "order by popularity: place %d is out of order", i);
    }
    return 0;
}

static int32_t hash_find(const struct items *it, const char *id, size_t len, int64_t probe_max)
{
    uint64_t at = XXH3_64bits(id, len) & it->slot_mask;
    for (int64_t i = 0; i < probe_max; i++, at = (at + 1) & it->slot_mask) {
        int32_t row = it->slot[at];
        if (row < 0) return -1;
        struct str s = items_id(it, row);
        if ((size_t)s.len == len && memcmp(s.p, id, len) == 0) return row;
    }
    return -1;
}

static int hash_check(struct items *it, uint64_t nb, struct err *e)
{
    uint64_t m = nb / sizeof(int32_t);
    if (nb % sizeof(int32_t) != 0 || m < 2 * (uint64_t)it->n || (m & (m - 1)) != 0)
        return err_set(e, ERR_FORMAT, "hash table: %llu bytes for %d rows",
                       (unsigned long long)nb, it->n);
    it->slot_mask = m - 1;
    uint64_t filled = 0;
    for (uint64_t i = 0; i < m; i++) {
        if (it->slot[i] < -1 || it->slot[i] >= it->n)
            return err_set(e, ERR_FORMAT, "hash table: slot %llu holds row %d",
                           (unsigned long long)i, it->slot[i]);
        filled += it->slot[i] >= 0;
    }
    if (filled != (uint64_t)it->n)
        return err_set(e, ERR_FORMAT, "hash table: %llu slots for %d rows",
                       (unsigned long long)filled, it->n);
    for (int32_t i = 0; i < it->n; i++) {
        struct str s = items_id(it, i);
        if (hash_find(it, s.p, (size_t)s.len, PROBE_MAX) != i)
            return err_set(e, ERR_FORMAT, "hash table: row %d is not found under its id", i);
    }
    return 0;
}

/* ---- attribute fields ---- */

static int field_check(const struct items *it, int32_t f, struct err *e)
{
    const struct items_field *x = &it->field[f];
    size_t len = strnlen(x->name, sizeof x->name);
    if (len == 0 || len > LIMIT_FIELD_NAME || !text_utf8_ok(x->name, len))
        return err_set(e, ERR_FORMAT, "field %d has no proper name", f);
    for (int32_t g = 0; g < f; g++)
        if (strcmp(it->field[g].name, x->name) == 0)
            return err_set(e, ERR_FORMAT, "two fields are called %s", x->name);
    if (x->kind > FIELD_NUMBER || (x->kind == FIELD_NUMBER && x->n_values != 0) ||
        x->n_values > (uint32_t)INT32_MAX - (uint32_t)it->value0[f])
        return err_set(e, ERR_FORMAT, "field %s: kind %u with %u values", x->name, x->kind,
                       x->n_values);
    return 0;
}

/* A row's values, ascending and of the vocabulary. */
static int attrs_check(const struct items *it, int32_t f, uint64_t from, uint64_t n_attr,
                       struct err *e)
{
    const uint64_t *at = it->attr_at[f];
    if (at[0] != from)
        return err_set(e, ERR_FORMAT, "field %s does not go on where the one before ends",
                       it->field[f].name);
    for (int32_t i = 0; i < it->n; i++) {
        if (at[i + 1] < at[i] || at[i + 1] > n_attr)
            return err_set(e, ERR_FORMAT, "field %s: place of row %d", it->field[f].name, i);
        for (uint64_t j = at[i]; j < at[i + 1]; j++)
            if (it->attr[j] < 0 || it->attr[j] >= (int32_t)it->field[f].n_values ||
                (j > at[i] && it->attr[j] <= it->attr[j - 1]))
                return err_set(e, ERR_FORMAT, "field %s: row %d has value %d of %u",
                               it->field[f].name, i, it->attr[j], it->field[f].n_values);
    }
    return 0;
}

static int numbers_check(const struct items *it, int32_t f, struct err *e)
{
    for (int32_t i = 0; i < it->n; i++)
        if (isinf(it->number[f][i]))
            return err_set(e, ERR_FORMAT, "field %s: row %d is infinite", it->field[f].name, i);
    return 0;
}

/* Sizes of the sections against the fields; then pointers into them are formed. */
static int fields_place(struct items *it, const struct view *v, int32_t n_values_fields,
                        struct err *e)
{
    uint64_t n = (uint64_t)it->n, g = (uint64_t)n_values_fields,
             w = (uint64_t)it->value0[it->n_fields];
    uint64_t numbers = (uint64_t)it->n_fields - g;
    if (v[SEC_VALUE_OFF].nb != 8 * (w + 1) || v[SEC_ATTR_OFF].nb != 8 * g * (n + 1) ||
        v[SEC_ATTR].nb % sizeof(int32_t) != 0 || v[SEC_NUMBER].nb != 8 * numbers * n)
        return err_set(e, ERR_FORMAT, "sections of %d fields do not have their sizes",
                       it->n_fields);
    const uint64_t *at = v[SEC_ATTR_OFF].p;
    const double *number = v[SEC_NUMBER].p;
    it->value = (struct strings){ v[SEC_VALUE_OFF].p, v[SEC_VALUE].p };
    it->attr = v[SEC_ATTR].p;
    for (int32_t f = 0; f < it->n_fields; f++) {
        if (it->field[f].kind == FIELD_VALUES) {
            it->attr_at[f] = at;
            at += n + 1;
        } else {
            it->number[f] = number;
            number += n;
        }
    }
    return 0;
}

static int fields_view(struct items *it, const struct view *v, struct err *e)
{
    if (!v[SEC_FIELD].p) return 0;
    int32_t n_values_fields = 0;
    uint64_t n_attr = v[SEC_ATTR].nb / sizeof(int32_t), from = 0;
    if (v[SEC_FIELD].nb % sizeof *it->field != 0 ||
        v[SEC_FIELD].nb / sizeof *it->field > LIMIT_FIELDS)
        return err_set(e, ERR_FORMAT, "fields: %llu bytes",
                       (unsigned long long)v[SEC_FIELD].nb);
    it->n_fields = (int32_t)(v[SEC_FIELD].nb / sizeof *it->field);
    it->field = v[SEC_FIELD].p;
    for (int32_t f = 0; f < it->n_fields; f++) {
        TRY(field_check(it, f, e));
        it->value0[f + 1] = it->value0[f] + (int32_t)it->field[f].n_values;
        n_values_fields += it->field[f].kind == FIELD_VALUES;
    }
    TRY(fields_place(it, v, n_values_fields, e));
    TRY(strings_check(&it->value, it->value0[it->n_fields], v[SEC_VALUE].nb, 1, LIMIT_ID_BYTES,
                      "values", e));
    for (int32_t f = 0; f < it->n_fields; f++) {
        if (it->number[f]) TRY(numbers_check(it, f, e));
        if (!it->attr_at[f]) continue;
        TRY(attrs_check(it, f, from, n_attr, e));
        from = it->attr_at[f][it->n];
    }
    return from == n_attr ? 0
                          : err_set(e, ERR_FORMAT, "attributes: %llu of %llu belong to a row",
                                    (unsigned long long)from, (unsigned long long)n_attr);
}

static int items_view(struct items *it, const void *data, size_t nb, struct err *e)
{
    struct items_header h;
    struct view v[SEC_COUNT] = { 0 };
    TRY(header_check(&h, data, nb, e));
    TRY(sections_find(v, &h, data, nb, e));
    TRY(sections_check(v, &h, e));
    it->n = (int32_t)h.n_items;
    it->id = (struct strings){ v[SEC_ID_OFF].p, v[SEC_ID].p };
    it->title = (struct strings){ v[SEC_TITLE_OFF].p, v[SEC_TITLE].p };
    it->pop = v[SEC_POP].p;
    it->order = v[SEC_ORDER].p;
    it->slot = v[SEC_HASH].p;
    TRY(strings_check(&it->id, it->n, v[SEC_ID].nb, 1, LIMIT_ID_BYTES, "ids", e));
    TRY(strings_check(&it->title, it->n, v[SEC_TITLE].nb, 0, LIMIT_TITLE_BYTES, "titles", e));
    TRY(order_check(it, e));
    TRY(hash_check(it, v[SEC_HASH].nb, e));
    return fields_view(it, v, e);
}

int items_open_mem(struct items **out, const void *data, size_t nb, struct err *e)
{
    struct items *it = xcalloc(1, sizeof *it);
    int rc = items_view(it, data, nb, e);
    if (rc < 0) {
        free(it);
        it = NULL;
    }
    *out = it;
    return rc;
}

int items_open(struct items **out, const char *path, struct err *e)
{
    *out = NULL;
    struct io_map map;
    TRY(io_map_open(&map, path, e));
    int rc = items_open_mem(out, map.data, map.nb, e);
    if (rc < 0) {
        err_ctx(e, "%s", path);
        io_map_close(&map);
        return rc;
    }
    (*out)->map = map;
    return 0;
}

void items_close(struct items *it)
{
    if (!it) return;
    if (it->map.data) io_map_close(&it->map);
    free(it);
}

int32_t items_count(const struct items *it) { return it->n; }

int32_t items_find(const struct items *it, const char *id, size_t len)
{
    return hash_find(it, id, len, INT64_MAX);
}

static struct str string_at(const struct strings *s, int32_t row)
{
    return (struct str){ s->heap + s->off[row], (int32_t)(s->off[row + 1] - s->off[row]) };
}

struct str items_id(const struct items *it, int32_t row) { return string_at(&it->id, row); }
struct str items_title(const struct items *it, int32_t row)
{
    return string_at(&it->title, row);
}
int64_t items_popularity(const struct items *it, int32_t row) { return it->pop[row]; }
const int32_t *items_by_popularity(const struct items *it) { return it->order; }

uint64_t items_order_hash(const struct items *it)
{
    uint64_t h = 0;
    for (int32_t i = 0; i < items_count(it); i++) {
        struct str id = items_id(it, i);
        h = XXH3_64bits_withSeed(id.p, (size_t)id.len, h);
    }
    return h;
}

int32_t items_fields(const struct items *it) { return it->n_fields; }

struct str items_field_name(const struct items *it, int32_t f)
{
    const char *name = it->field[f].name;
    return (struct str){ name, (int32_t)strlen(name) };
}

enum field_kind items_field_kind(const struct items *it, int32_t f)
{
    return (enum field_kind)it->field[f].kind;
}

int32_t items_field_find(const struct items *it, const char *name, size_t len)
{
    for (int32_t f = 0; f < it->n_fields; f++) {
        const struct str s = items_field_name(it, f);
        if ((size_t)s.len == len && memcmp(s.p, name, len) == 0) return f;
    }
    return -1;
}

int32_t items_field_values(const struct items *it, int32_t f)
{
    return (int32_t)it->field[f].n_values;
}

struct str items_field_value(const struct items *it, int32_t f, int32_t v)
{
    return string_at(&it->value, it->value0[f] + v);
}

const int32_t *items_values(const struct items *it, int32_t f, int32_t row, int32_t *n)
{
    const uint64_t *at = it->attr_at[f];
    *n = (int32_t)(at[row + 1] - at[row]);
    return it->attr + at[row];
}

double items_number(const struct items *it, int32_t f, int32_t row)
{
    return it->number[f][row];
}
