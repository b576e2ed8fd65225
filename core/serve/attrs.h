/* attrs.h — the catalogue's attribute fields turned round: from a value, or a span of
 * numbers, to the rows.
 *   struct attrs_index *ix;  attrs_open(&ix, items, &e);
 *   uint64_t *bits = ARENA_NEW0(a, uint64_t, attrs_words(ix));
 *   int32_t f = items_field_find(items, key.p, key.len), v = attrs_value(ix, f, text);
 *   if (v >= 0) attrs_or_value(bits, ix, f, v);      bit row & 63 of word row >> 6
 *   attrs_close(ix);
 * Built once a generation, immutable, any thread may read; the items must outlive it, texts
 * stay theirs.  (attr.h is the other way: what one item has.)
 *
 * Memory: a value's rows are a Roaring bitmap in its portable form, all of a field in one
 * block: 2 bytes a row, or less where rows are dense or follow one another, and 8 bytes for
 * every 65,536 rows in which a value occurs; 24 to 32 bytes a value of the vocabulary.  A
 * number takes 12 bytes, and a bit in each of up to 64 marks: 20 in all. */
#pragma once
#include "core/data/items.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct attrs_index;
/* ERR_INTERNAL when memory is out. */
NODISCARD int attrs_open(struct attrs_index **out, const struct items *it, struct err *e);
void attrs_close(struct attrs_index *ix); /* NULL is fine */

const struct items *attrs_items(const struct attrs_index *ix);
size_t attrs_words(const struct attrs_index *ix); /* of a set of rows: (items + 63) / 64 */
size_t attrs_bytes(const struct attrs_index *ix); /* memory it holds */
/* Value of a text in a field of values; -1: there is none. */
int32_t attrs_value(const struct attrs_index *ix, int32_t f, struct str text);

/* Each adds rows to a set: those with a value of a field of values; those with a number
 * inside all bounds, of which NaN is none; those that have the field at all. */
void attrs_or_value(uint64_t *bits, const struct attrs_index *ix, int32_t f, int32_t v);
struct attrs_bounds {
    double gte, gt, lte, lt;
};
void attrs_or_range(uint64_t *bits, const struct attrs_index *ix, int32_t f,
                    const struct attrs_bounds *b);
void attrs_or_exists(uint64_t *bits, const struct attrs_index *ix, int32_t f);
