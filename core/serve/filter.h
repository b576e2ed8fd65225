/* filter.h — which items a request allows: clauses over attributes, checked item by item or,
 * for a whole catalogue, turned into a set of rows.
 *   struct filter_rows ok;  struct filter_fault where;
 *   if (filter_compile(&ok, arena, ix, NULL, &filter, &where, &e) < 0) ... where says which clause
 *   if (filter_rows_has(&ok, row)) ...
 *   if (filter_match(&filter, &attrs)) ...    the same of one item that is in no catalogue yet
 * An item passes when all `must` clauses hold and none of `must_not`.  A clause about a
 * field that the item does not have never holds, but for `exists: false`.
 * Thread: any (pure). */
#pragma once
#include "core/base/arena.h"
#include "core/serve/attr_names.h"
#include "core/serve/attrs.h"

enum filter_op { FILTER_ANY, FILTER_RANGE, FILTER_EXISTS };

/* What a clause looks for: a text equals a field's value; a number that too, as its shortest
 * decimal text, and in a field of numbers the same number. */
struct filter_value {
    struct str text;
    double number; /* NaN: a text */
};
struct filter_clause {
    struct str key; /* name of a field */
    enum filter_op op;
    int32_t n_values, n_numbers;
    bool exists;                      /* EXISTS: whether it has the field */
    const struct filter_value *value; /* ANY: the item has one of these; none never hold */
    const double
        *number; /* [n_numbers] of filter_sorted: value is in order of its texts, and these
                           * are its numbers in order; NULL: value is in no order */
    struct attrs_bounds range; /* RANGE: its number is inside all bounds; NaN: no such bound */
};
struct filter {
    const struct filter_clause *must, *must_not;
    int32_t n_must, n_must_not;
};

struct filter_rows {
    const uint64_t *bits; /* [(V+63)/64]: bit row & 63 of word row >> 6; none beyond V */
    int32_t n;            /* rows that pass */
};
static inline bool filter_rows_has(const struct filter_rows *s, int32_t row)
{
    return s->bits[row >> 6] >> (row & 63) & 1;
}

struct filter_fault { /* the clause that can't be asked of this catalogue */
    bool must_not;
    int32_t clause;
    bool key; /* its key alone is wrong */
};

/* The rows of a catalogue that pass, in the arena.  Names (or NULL): attributes that other items
 * have; none of the catalogue's rows has them.  ERR_UNKNOWN_ATTRIBUTE: neither has such a
 * field; ERR_INVALID: a range over values, a text where numbers are; ERR_LIMIT: the arena is
 * full, which is about no clause. */
NODISCARD int filter_compile(struct filter_rows *out, struct arena *a,
                             const struct attrs_index *ix, const struct attr_names *names,
                             const struct filter *f, struct filter_fault *where, struct err *e);
/* The same of one item: what an attribute of the other kind makes of a clause is that it
 * does not hold. */
bool filter_match(const struct filter *f, const struct attrs *item);
/* The same filter, in the arena, for many items: of long lists of values each costs a search instead of a pass. */
struct filter filter_sorted(const struct filter *f, struct arena *a);
