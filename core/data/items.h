/* items.h — the item catalogue: external id <-> row, title, popularity.  One mapped file,
 * `items.bin`, the same in a data set and in a bundle; checked when opened, not parsed.
 *   struct items *it = items_open(path, &e);   row = items_find(it, "B00A1", 5);  items_close(it);
 * Layout (little endian) is documented in items_fmt.h.  Immutable after open; any thread may read. */
#pragma once
#include "core/base/err.h"
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
/* ERR_EMPTY without a row.  Written atomically. */
NODISCARD int items_write(const struct items_builder *b, const char *path, struct err *e);
void items_builder_free(struct items_builder *b);
