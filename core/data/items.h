/* items.h — the item catalogue: external id <-> row, title, popularity, attribute fields.  One mapped file,
 * `items.bin`, the same in a data set and in a bundle; checked when opened, not parsed.
 *   struct items *it = items_open(path, &e);   row = items_find(it, "B00A1", 5);  items_close(it);
 * Layout (little endian) is documented in items_fmt.h.  Immutable after open; any thread may read. */
#pragma once
#include "core/base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct items;
struct str {
    const char *p; /* not terminated; into the map */
    int32_t len;
};

NODISCARD int items_open(struct items **out, const char *path, struct err *e);
/* Pure check and view of bytes that must outlive it (tests, fuzzing); aligned to 8 bytes. */
NODISCARD int items_open_mem(struct items **out, const void *data, size_t nb, struct err *e);
void items_close(struct items *it);
int32_t items_count(const struct items *it);
int32_t items_find(const struct items *it, const char *id, size_t len); /* row or -1 */
struct str items_id(const struct items *it, int32_t row);
struct str items_title(const struct items *it, int32_t row);   /* len 0: none */
int64_t items_popularity(const struct items *it, int32_t row); /* events in the training part */
/* Rows by popularity, descending, ties by row: [count]. */
const int32_t *items_by_popularity(const struct items *it);

/* Tells these ids in this order from others: a hash of both. */
uint64_t items_order_hash(const struct items *it);

/* Attribute fields: named, each holding values from a vocabulary of its own (brand, genres: none, one or several an
 * item) or a number.  A catalogue without any has none. */
enum field_kind { FIELD_VALUES, FIELD_NUMBER };
int32_t items_fields(const struct items *it);
struct str items_field_name(const struct items *it, int32_t f);
enum field_kind items_field_kind(const struct items *it, int32_t f);
/* The field of a name, or -1. */
int32_t items_field_find(const struct items *it, const char *name, size_t len);
/* FIELD_VALUES: size of the vocabulary; text of value v; the values of a row, ascending, [*n]. */
int32_t items_field_values(const struct items *it, int32_t f);
struct str items_field_value(const struct items *it, int32_t f, int32_t v);
const int32_t *items_values(const struct items *it, int32_t f, int32_t row, int32_t *n);
double items_number(const struct items *it, int32_t f,
                    int32_t row); /* FIELD_NUMBER; NaN: none */

/* Builder: rows are numbered in order of first items_add of an id (1 to LIMIT_ID_BYTES bytes, UTF-8).
 * Strings are copied; a title is cut at LIMIT_TITLE_BYTES.  Thread: owner. */
struct items_builder;
struct items_builder *items_builder_new(void);
int32_t items_add(struct items_builder *b, const char *id, size_t len); /* row, new or old */
int32_t items_lookup(const struct items_builder *b, const char *id, size_t len); /* row or -1 */
void items_set_title(struct items_builder *b, int32_t row, const char *title, size_t len);
void items_set_popularity(struct items_builder *b, int32_t row, int64_t n);
int32_t items_builder_count(const struct items_builder *b);
/* Valid until the next call that changes b. */
struct str items_builder_id(const struct items_builder *b, int32_t row);
struct str items_builder_title(const struct items_builder *b, int32_t row);
/* The field of a name (1 to LIMIT_FIELD_NAME bytes, UTF-8), new or old; -1: there are LIMIT_FIELDS, or it is of
 * the other kind. */
int32_t items_field_add(struct items_builder *b, const char *name, size_t len,
                        enum field_kind kind);
/* Values (1 to LIMIT_ID_BYTES bytes, UTF-8) add up, each counted once an item; of numbers the last one stays. */
void items_add_value(struct items_builder *b, int32_t f, int32_t row, const char *value,
                     size_t len);
void items_set_number(struct items_builder *b, int32_t f, int32_t row, double x);
/* All fields of src; row [src's count] tells the row in dst, -1: left out. */
void items_fields_copy(struct items_builder *dst, const struct items_builder *src,
                       const int32_t *row);
/* A builder of what a catalogue holds: the same rows, fields and values in the same order. */
struct items_builder *items_builder_from(const struct items *it);
/* The same of some rows, in their order; fields and values keep their numbers.  gone [count]: rows that are left out; bare
 * [count]: rows that have no attributes there. */
struct items_builder *items_builder_of(const struct items *it, const bool *gone,
                                       const bool *bare);
/* ERR_EMPTY without a row.  Written atomically. */
NODISCARD int items_write(struct items_builder *b, const char *path, struct err *e);
void items_builder_free(struct items_builder *b);
