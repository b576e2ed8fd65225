#include "core/serve/filter.h"
#include "core/base/conf.h"
#include "core/base/limits.h"
#include "core/base/order.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same(struct str a, struct str b)
{
    return a.len == b.len && memcmp(a.p, b.p, (size_t)a.len) == 0;
}

/* ---- one item ---------------------------------------------------------------------------- */

enum { SORTED_FROM = 8 }; /* values: fewer are passed through */

static int by_text(const void *a, const void *b)
{
    const struct str x = ((const struct filter_value *)a)->text,
                     y = ((const struct filter_value *)b)->text;
    const int order = memcmp(x.p, y.p, (size_t)(x.len < y.len ? x.len : y.len));
    return order ? order : x.len - y.len;
}

static bool has_any_sorted(const struct filter_clause *c, const struct attr *x)
{
    if (!x->value)
        return bsearch(&x->number, c->number, (size_t)c->n_numbers, sizeof x->number,
                       order_f64);
    for (int32_t j = 0; j < x->n_values; j++) {
        const struct filter_value want = { .text = x->value[j] };
        if (bsearch(&want, c->value, (size_t)c->n_values, sizeof want, by_text)) return true;
    }
    return false;
}

static bool has_any(const struct filter_clause *c, const struct attr *x)
{
    if (c->number) return has_any_sorted(c, x);
    for (int32_t i = 0; i < c->n_values; i++) {
        if (!x->value && x->number == c->value[i].number) return true; /* NaN equals nothing */
        for (int32_t j = 0; x->value && j < x->n_values; j++)
            if (same(x->value[j], c->value[i].text)) return true;
    }
    return false;
}

static bool inside(const struct attrs_bounds *b, double x)
{
    return !isnan(x) && !(x < b->gte) && !(x <= b->gt) && !(x > b->lte) && !(x >= b->lt);
}

static bool holds(const struct filter_clause *c, const struct attrs *item)
{
    const struct attr *x = NULL;
    for (int32_t i = 0; i < item->n && !x; i++)
        if (same(item->at[i].name, c->key)) x = &item->at[i];
    bool has = x && (x->value ? x->n_values > 0 : !isnan(x->number));
    switch (c->op) {
    case FILTER_EXISTS: return has == c->exists;
    case FILTER_RANGE: return has && !x->value && inside(&c->range, x->number);
    default: return has && has_any(c, x);
    }
}

bool filter_match(const struct filter *f, const struct attrs *item)
{
    for (int32_t i = 0; i < f->n_must; i++)
        if (!holds(&f->must[i], item)) return false;
    for (int32_t i = 0; i < f->n_must_not; i++)
        if (holds(&f->must_not[i], item)) return false;
    return true;
}

static struct filter_clause *sort_clauses(const struct filter_clause *c, int32_t n,
                                          struct arena *a)
{
    struct filter_clause *out = ARENA_NEW(a, struct filter_clause, n + 1);
    for (int32_t i = 0; i < n; i++) {
        out[i] = c[i];
        if (c[i].op != FILTER_ANY || c[i].n_values < SORTED_FROM) continue;
        const size_t nv = (size_t)c[i].n_values;
        struct filter_value *value = ARENA_NEW(a, struct filter_value, nv);
        double *number = ARENA_NEW(a, double, nv);
        memcpy(value, c[i].value, nv * sizeof *value);
        qsort(value, nv, sizeof *value, by_text);
        for (size_t j = 0; j < nv; j++)
            if (!isnan(value[j].number)) number[out[i].n_numbers++] = value[j].number;
        qsort(number, (size_t)out[i].n_numbers, sizeof *number, order_f64);
        out[i].value = value;
        out[i].number = number;
    }
    return out;
}

struct filter filter_sorted(const struct filter *f, struct arena *a)
{
    return (struct filter){ sort_clauses(f->must, f->n_must, a),
                            sort_clauses(f->must_not, f->n_must_not, a), f->n_must,
                            f->n_must_not };
}

/* ---- a catalogue ------------------------------------------------------------------------- */

enum { SHOWN = 60 }; /* most bytes of a text that a message repeats */

/* A catalogue's fields and the names beside them can be asked for. */
static int unknown_key(const struct items *it, const struct attr_names *names, struct str key,
                       struct err *e)
{
    struct opt known[2 * LIMIT_FIELDS + 1] = { 0 }; /* as conf_nearest searches them */
    char text[SHOWN + 1], list[160] = "";
    int32_t n = 0;
    size_t at = 0;
    snprintf(text, sizeof text, "%.*s", (int)key.len, key.p);
    for (int32_t f = 0; f < items_fields(it); f++) known[n++].key = items_field_name(it, f).p;
    for (int32_t i = 0; names && i < names->n; i++) known[n++].key = names->at[i].name;
    const char *near = conf_nearest(known, text);
    if (near)
        return err_set(e, ERR_UNKNOWN_ATTRIBUTE, "no attribute \"%s\"; did you mean \"%s\"?",
                       text, near);
    if (n == 0)
        return err_set(e, ERR_UNKNOWN_ATTRIBUTE,
                       "no attribute \"%s\": this catalogue has no attributes", text);
    for (int32_t i = 0; i < n && at < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, i ? ", %s" : "%s", known[i].key);
    return err_set(e, ERR_UNKNOWN_ATTRIBUTE, "no attribute \"%s\"; there are %s", text, list);
}

struct compile {
    const struct attrs_index *ix;
    const struct attr_names *names;
    size_t words;
    uint64_t *bits, *clause; /* what passes so far; room for a clause's rows */
};

/* Field of a clause's key, -1: of no row of the catalogue; when what it asks can be asked of it. */
static int clause_field(int32_t *f, const struct compile *p, const struct filter_clause *c,
                        struct filter_fault *where, struct err *e)
{
    const struct items *it = attrs_items(p->ix);
    const struct attr_name *beside = p->names ? attr_names_find(p->names, c->key) : NULL;
    *f = items_field_find(it, c->key.p, (size_t)c->key.len);
    if (*f < 0 && !beside) {
        where->key = true;
        return unknown_key(it, p->names, c->key, e);
    }
    const char *name = *f < 0 ? beside->name : items_field_name(it, *f).p;
    bool numbers = *f < 0 ? beside->number : items_field_kind(it, *f) == FIELD_NUMBER;
    if (c->op == FILTER_RANGE && !numbers)
        return err_set(e, ERR_INVALID,
                       "attribute \"%s\" has values, not numbers: ask it with \"any\"", name);
    for (int32_t i = 0; c->op == FILTER_ANY && numbers && i < c->n_values; i++)
        if (isnan(c->value[i].number))
            return err_set(e, ERR_INVALID, "attribute \"%s\" has numbers; \"%.*s\" is a text",
                           name,
                           c->value[i].text.len < SHOWN ? (int)c->value[i].text.len : SHOWN,
                           c->value[i].text.p);
    return 0;
}

/* The rows that have a value, added to bits; of a value that no item has there are none. */
static void or_value(uint64_t *bits, const struct attrs_index *ix, int32_t f,
                     const struct filter_value *x)
{
    if (items_field_kind(attrs_items(ix), f) == FIELD_NUMBER) {
        const double none = (double)NAN;
        attrs_or_range(bits, ix, f, &(struct attrs_bounds){ x->number, none, x->number, none });
        return;
    }
    int32_t v = attrs_value(ix, f, x->text);
    if (v >= 0) attrs_or_value(bits, ix, f, v);
}

/* The rows for which a clause holds, or of "does not exist" for which it does not, added to
 * bits. */
static void or_clause(uint64_t *bits, const struct attrs_index *ix, int32_t f,
                      const struct filter_clause *c)
{
    switch (c->op) {
    case FILTER_EXISTS: attrs_or_exists(bits, ix, f); break;
    case FILTER_RANGE: attrs_or_range(bits, ix, f, &c->range); break;
    default:
        for (int32_t i = 0; i < c->n_values; i++) or_value(bits, ix, f, &c->value[i]);
    }
}

/* Takes rows away: those for which the clause holds, or those for which it does not. */
static void apply(struct compile *p, int32_t f, const struct filter_clause *c, bool must_not)
{
    memset(p->clause, 0, p->words * sizeof *p->clause);
    if (f >= 0) or_clause(p->clause, p->ix, f, c);
    bool absent = c->op == FILTER_EXISTS && !c->exists;
    uint64_t flip = must_not != absent ? ~(uint64_t)0 : 0;
    for (size_t i = 0; i < p->words; i++) p->bits[i] &= p->clause[i] ^ flip;
}

static int apply_all(struct compile *p, const struct filter_clause *c, int32_t n, bool must_not,
                     struct filter_fault *where, struct err *e)
{
    for (int32_t i = 0; i < n; i++) {
        int32_t f;
        *where = (struct filter_fault){ .must_not = must_not, .clause = i };
        TRY(clause_field(&f, p, &c[i], where, e));
        apply(p, f, &c[i], must_not);
    }
    return 0;
}

/* Byte-wise sums over a block of words: the compiler's own count is a call a word where
 * popcnt may be missing. */
static int32_t count_bits(const uint64_t *bits, size_t words)
{
    const uint64_t m1 = 0x5555555555555555, m2 = 0x3333333333333333, m4 = 0x0f0f0f0f0f0f0f0f;
    enum { BLOCK = 31 }; /* 8 ones a byte and word: 248 fit a byte */
    int32_t n = 0;
    for (size_t at = 0; at < words; at += BLOCK) {
        size_t end = words - at < BLOCK ? words : at + BLOCK;
        uint64_t bytes = 0;
        for (size_t i = at; i < end; i++) {
            uint64_t x = bits[i];
            x -= x >> 1 & m1;
            x = (x & m2) + (x >> 2 & m2);
            bytes += (x + (x >> 4)) & m4;
        }
        for (; bytes; bytes >>= 8) n += (int32_t)(bytes & 0xff);
    }
    return n;
}

int filter_compile(struct filter_rows *out, struct arena *a, const struct attrs_index *ix,
                   const struct attr_names *names, const struct filter *f,
                   struct filter_fault *where, struct err *e)
{
    int32_t n_items = items_count(attrs_items(ix));
    size_t words = attrs_words(ix), nb = words * sizeof(uint64_t);
    *where = (struct filter_fault){ 0 };
    struct compile p = { ix, names, words, arena_try(a, nb), NULL };
    struct arena_mark m = arena_mark(a);
    p.clause = p.bits ? arena_try(a, nb) : NULL;
    if (!p.clause) return err_set(e, ERR_LIMIT, "no room for a filter over %d items", n_items);
    memset(p.bits, 0xff, nb);
    if (n_items & 63) p.bits[words - 1] = ~(uint64_t)0 >> (64 - (n_items & 63));
    int rc = apply_all(&p, f->must, f->n_must, false, where, e);
    if (rc == 0) rc = apply_all(&p, f->must_not, f->n_must_not, true, where, e);
    arena_release(a, m);
    *out = (struct filter_rows){ p.bits, rc == 0 ? count_bits(p.bits, words) : 0 };
    return rc;
}
