#include "core/serve/attrs.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include <math.h>
#include <roaring/roaring.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    CHUNK_WORDS = 1024, /* of 65,536 rows, which a Roaring container is about */
    MARKS = 64,
    MARK_LEAST = 2048 /* numbers between two marks: so many bits are set in 2 us */
};

struct field {
    enum field_kind kind;
    /* FIELD_VALUES: bitmap v at rows + at[v]; the one after the last value's has the rows
     * that have any. */
    int32_t n_values;
    uint8_t *rows;
    uint64_t *at;
    int32_t *slot; /* [slot_mask + 1]: open addressing, -1 is free */
    uint64_t slot_mask;
    /* FIELD_NUMBER: ascending numbers and their rows; mark j, 1 to n_marks, is the set of
     * the first j * step rows. */
    int32_t n_numbers, step, n_marks;
    double *number;
    int32_t *row;
    uint64_t *mark; /* [n_marks, words] */
};

struct attrs_index { /* immutable after open */
    const struct items *it;
    size_t words, nb;
    int32_t n_fields;
    struct field field[LIMIT_FIELDS];
};

static void *keep(struct attrs_index *ix, size_t n, size_t nb)
{
    ix->nb += n * nb;
    return xcalloc(n ? n : 1, nb);
}

static inline void set_bit(uint64_t *bits, uint32_t row)
{
    bits[row >> 6] |= (uint64_t)1 << (row & 63);
}

/* ---- fields of values -------------------------------------------------------------------- */

static void hash_values(struct attrs_index *ix, int32_t f)
{
    struct field *x = &ix->field[f];
    uint64_t m = 2;
    while (m < 2 * (uint64_t)x->n_values) m *= 2;
    x->slot = keep(ix, m, sizeof *x->slot);
    x->slot_mask = m - 1;
    memset(x->slot, 0xff, m * sizeof *x->slot);
    for (int32_t v = 0; v < x->n_values; v++) {
        struct str s = items_field_value(ix->it, f, v);
        uint64_t i = XXH3_64bits(s.p, (size_t)s.len) & x->slot_mask;
        while (x->slot[i] >= 0) i = (i + 1) & x->slot_mask;
        x->slot[i] = v;
    }
}

int32_t attrs_value(const struct attrs_index *ix, int32_t f, struct str text)
{
    const struct field *x = &ix->field[f];
    uint64_t i = XXH3_64bits(text.p, (size_t)text.len) & x->slot_mask;
    for (; x->slot[i] >= 0; i = (i + 1) & x->slot_mask) {
        struct str s = items_field_value(ix->it, f, x->slot[i]);
        if (s.len == text.len && memcmp(s.p, text.p, (size_t)s.len) == 0) return x->slot[i];
    }
    return -1;
}

/* Appends the set of n ascending rows to what is written of x->rows up to *end, which has
 * room for *cap. */
static int put_rows(struct field *x, uint64_t *end, uint64_t *cap, const uint32_t *row,
                    size_t n)
{
    roaring_bitmap_t *b = roaring_bitmap_of_ptr(n, row);
    if (!b) return ERR_INTERNAL;
    roaring_bitmap_run_optimize(b);
    uint64_t nb = roaring_bitmap_portable_size_in_bytes(b);
    if (*cap - *end < nb) {
        *cap = 2 * *cap + nb;
        x->rows = xrealloc(x->rows, *cap, 1);
    }
    *end += roaring_bitmap_portable_serialize(b, (char *)x->rows + *end);
    roaring_bitmap_free(b);
    return 0;
}

/* Rows of every value one after the other, ascending in each: from [n_values + 1] places,
 * the rows, and at their end the n_any rows that have a value. */
struct turned {
    uint64_t *from;
    uint32_t *row;
    size_t n_any;
};

static struct turned turn_round(const struct items *it, int32_t f, int32_t n_values)
{
    struct turned t = { xcalloc((size_t)n_values + 2, sizeof *t.from), NULL, 0 };
    int32_t n_rows = items_count(it), n;
    for (int32_t row = 0; row < n_rows; row++) {
        const int32_t *v = items_values(it, f, row, &n);
        for (int32_t i = 0; i < n; i++) t.from[v[i] + 2]++;
        t.n_any += n > 0;
    }
    for (int32_t v = 2; v <= n_values + 1; v++) t.from[v] += t.from[v - 1];
    uint64_t total = t.from[n_values + 1];
    t.row = xcalloc(total + t.n_any + 1, sizeof *t.row);
    for (int32_t row = 0; row < n_rows; row++) {
        const int32_t *v = items_values(it, f, row, &n);
        for (int32_t i = 0; i < n; i++) t.row[t.from[v[i] + 1]++] = (uint32_t)row;
        if (n) t.row[total++] = (uint32_t)row;
    }
    return t;
}

static int open_values(struct attrs_index *ix, int32_t f)
{
    struct field *x = &ix->field[f];
    x->n_values = items_field_values(ix->it, f);
    x->at = keep(ix, (size_t)x->n_values + 1, sizeof *x->at);
    hash_values(ix, f);
    struct turned t = turn_round(ix->it, f, x->n_values);
    uint64_t end = 0, cap = 0;
    int rc = 0;
    for (int32_t v = 0; v <= x->n_values && rc == 0; v++) {
        x->at[v] = end;
        size_t n = v < x->n_values ? t.from[v + 1] - t.from[v] : t.n_any;
        rc = put_rows(x, &end, &cap, t.row + t.from[v], n);
    }
    free(t.from);
    free(t.row);
    x->rows = xrealloc(x->rows, end, 1);
    ix->nb += end;
    return rc;
}

static uint32_t u16_at(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32_at(const uint8_t *p) { return u16_at(p) | u16_at(p + 2) << 16; }

static void or_span(uint64_t *bits, uint32_t first, uint32_t last)
{
    uint64_t head = ~(uint64_t)0 << (first & 63), tail = ~(uint64_t)0 >> (63 - (last & 63));
    uint32_t w = first >> 6, w_last = last >> 6;
    if (w == w_last) {
        bits[w] |= head & tail;
        return;
    }
    bits[w++] |= head;
    while (w < w_last) bits[w++] = ~(uint64_t)0;
    bits[w] |= tail;
}

/* One container of a Roaring bitmap; returns what follows it. */
static const uint8_t *or_container(uint64_t *bits, size_t words, const uint8_t *p,
                                   uint32_t n_rows, bool runs)
{
    if (runs) {
        uint32_t n = u16_at(p);
        p += 2;
        for (uint32_t i = 0; i < n; i++, p += 4)
            or_span(bits, u16_at(p), u16_at(p) + u16_at(p + 2));
    } else if (n_rows <= 4096) {
        for (uint32_t i = 0; i < n_rows; i++, p += 2) set_bit(bits, u16_at(p));
    } else {
        if (words > CHUNK_WORDS) words = CHUNK_WORDS;
        for (size_t i = 0; i < words; i++) {
            uint64_t w;
            memcpy(&w, p + i * sizeof w, sizeof w);
            bits[i] |= w;
        }
        p += CHUNK_WORDS * sizeof *bits;
    }
    return p;
}

/* Adds a set in Roaring's portable form (github.com/RoaringBitmap/RoaringFormatSpec), which
 * CRoaring wrote: so that the answer, which is dense, takes one pass without copies in
 * between. */
static void or_roaring(uint64_t *bits, size_t words, const uint8_t *p)
{
    enum { COOKIE_RUNS = 12347, OFFSETS_FROM = 4 };
    uint32_t cookie = u32_at(p);
    bool has_runs = (cookie & 0xffff) == COOKIE_RUNS;
    uint32_t n = has_runs ? (cookie >> 16) + 1 : u32_at(p + 4);
    const uint8_t *is_run = p + 4, *head = has_runs ? is_run + (n + 7) / 8 : p + 8;
    const uint8_t *at = head + (size_t)4 * n;
    if (!has_runs || n >= OFFSETS_FROM) at += (size_t)4 * n;
    for (uint32_t i = 0; i < n; i++, head += 4) {
        size_t w = (size_t)CHUNK_WORDS * u16_at(head);
        at = or_container(bits + w, words - w, at, u16_at(head + 2) + 1,
                          has_runs && is_run[i / 8] >> i % 8 & 1);
    }
}

void attrs_or_value(uint64_t *bits, const struct attrs_index *ix, int32_t f, int32_t v)
{
    const struct field *x = &ix->field[f];
    or_roaring(bits, ix->words, x->rows + x->at[v]);
}

/* ---- fields of numbers ------------------------------------------------------------------- */

struct numbered {
    double number;
    int32_t row;
};

static int by_number(const void *a, const void *b)
{
    const struct numbered *x = a, *y = b;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static void set_marks(struct attrs_index *ix, struct field *x)
{
    x->step = x->n_numbers / MARKS + 1;
    if (x->step < MARK_LEAST) x->step = MARK_LEAST;
    x->n_marks = x->n_numbers / x->step;
    x->mark = keep(ix, (size_t)x->n_marks * ix->words, sizeof *x->mark);
    for (int32_t j = 0; j < x->n_marks; j++) {
        uint64_t *m = x->mark + (size_t)j * ix->words;
        if (j) memcpy(m, m - ix->words, ix->words * sizeof *m);
        for (int32_t i = j * x->step; i < (j + 1) * x->step; i++)
            set_bit(m, (uint32_t)x->row[i]);
    }
}

static void open_numbers(struct attrs_index *ix, int32_t f)
{
    struct field *x = &ix->field[f];
    int32_t n_rows = items_count(ix->it);
    struct numbered *all = xcalloc((size_t)n_rows, sizeof *all);
    for (int32_t row = 0; row < n_rows; row++) {
        double number = items_number(ix->it, f, row);
        if (!isnan(number)) all[x->n_numbers++] = (struct numbered){ number, row };
    }
    qsort(all, (size_t)x->n_numbers, sizeof *all, by_number);
    x->number = keep(ix, (size_t)x->n_numbers, sizeof *x->number);
    x->row = keep(ix, (size_t)x->n_numbers, sizeof *x->row);
    for (int32_t i = 0; i < x->n_numbers; i++) {
        x->number[i] = all[i].number;
        x->row[i] = all[i].row;
    }
    free(all);
    set_marks(ix, x);
}

/* Numbers below v, or those that are not above it. */
static int32_t count_below(const struct field *x, double v, bool or_equal)
{
    int32_t lo = 0, hi = x->n_numbers;
    while (lo < hi) {
        int32_t mid = lo + (hi - lo) / 2;
        if (x->number[mid] < v || (or_equal && x->number[mid] == v))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void or_sorted(uint64_t *bits, const struct field *x, int32_t lo, int32_t hi)
{
    for (int32_t i = lo; i < hi; i++) set_bit(bits, (uint32_t)x->row[i]);
}

/* The rows of numbers lo to hi - 1: what lies between two marks at once, the rest one by
 * one. */
static void or_numbers(uint64_t *bits, const struct attrs_index *ix, const struct field *x,
                       int32_t lo, int32_t hi)
{
    int32_t from = lo / x->step + (lo % x->step != 0), to = hi / x->step;
    if (from >= to) {
        or_sorted(bits, x, lo, hi);
        return;
    }
    const uint64_t *m = x->mark + (size_t)(to - 1) * ix->words,
                   *out = from ? x->mark + (size_t)(from - 1) * ix->words : NULL;
    for (size_t i = 0; i < ix->words; i++) bits[i] |= out ? m[i] & ~out[i] : m[i];
    or_sorted(bits, x, lo, from * x->step);
    or_sorted(bits, x, to * x->step, hi);
}

void attrs_or_range(uint64_t *bits, const struct attrs_index *ix, int32_t f,
                    const struct attrs_bounds *b)
{
    const struct field *x = &ix->field[f];
    int32_t lo = 0, hi = x->n_numbers, at;
    if (!isnan(b->gte)) lo = count_below(x, b->gte, false);
    if (!isnan(b->gt) && (at = count_below(x, b->gt, true)) > lo) lo = at;
    if (!isnan(b->lte)) hi = count_below(x, b->lte, true);
    if (!isnan(b->lt) && (at = count_below(x, b->lt, false)) < hi) hi = at;
    or_numbers(bits, ix, x, lo, hi);
}

/* ---- both -------------------------------------------------------------------------------- */

int attrs_open(struct attrs_index **out, const struct items *it, struct err *e)
{
    *out = NULL;
    struct attrs_index *ix = xcalloc(1, sizeof *ix);
    ix->it = it;
    ix->nb = sizeof *ix;
    ix->words = ((size_t)items_count(it) + 63) / 64;
    ix->n_fields = items_fields(it);
    for (int32_t f = 0; f < ix->n_fields; f++) {
        ix->field[f].kind = items_field_kind(it, f);
        if (ix->field[f].kind == FIELD_NUMBER) {
            open_numbers(ix, f);
        } else if (open_values(ix, f) < 0) {
            attrs_close(ix);
            return err_set(e, ERR_INTERNAL, "no memory for the attributes' bitmaps");
        }
    }
    *out = ix;
    return 0;
}

void attrs_close(struct attrs_index *ix)
{
    if (!ix) return;
    for (int32_t f = 0; f < ix->n_fields; f++) {
        struct field *x = &ix->field[f];
        free(x->rows);
        free(x->at);
        free(x->slot);
        free(x->number);
        free(x->row);
        free(x->mark);
    }
    free(ix);
}

const struct items *attrs_items(const struct attrs_index *ix) { return ix->it; }
size_t attrs_words(const struct attrs_index *ix) { return ix->words; }
size_t attrs_bytes(const struct attrs_index *ix) { return ix->nb; }

void attrs_or_exists(uint64_t *bits, const struct attrs_index *ix, int32_t f)
{
    const struct field *x = &ix->field[f];
    if (x->kind == FIELD_NUMBER)
        or_numbers(bits, ix, x, 0, x->n_numbers);
    else
        attrs_or_value(bits, ix, f, x->n_values);
}
