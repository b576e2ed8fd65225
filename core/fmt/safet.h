/* safet.h — safetensors: 8-byte little-endian header length, JSON header, raw data.
 *   struct safet *s = ...; safet_open(&s, path, &e);
 *   const struct safet_tensor *t = safet_find(s, "item.weight");
 * Everything is checked before use: sizes, offsets, overlap, dtype against shape.
 * Immutable after open; any thread may read. */
#pragma once
#include "core/base/err.h"
#include <stdint.h>

enum safet_dtype { SAFET_F32, SAFET_F64, SAFET_I32, SAFET_I64, SAFET_U8, SAFET_DTYPES };

struct safet_tensor {
    const char *name;
    enum safet_dtype dtype;
    int32_t rank; /* <= 4 */
    int64_t shape[4];
    const void *data; /* aligned to the element when opened through safet_open */
    int64_t n;        /* elements */
};

struct safet;
NODISCARD int safet_open(struct safet **out, const char *path, struct err *e);
NODISCARD int safet_open_mem(struct safet **out, const void *data, size_t nb,
                             struct err *e); /* borrows */
void safet_close(struct safet *s);
int32_t safet_count(const struct safet *s);
const struct safet_tensor *safet_at(const struct safet *s, int32_t i);
const struct safet_tensor *safet_find(const struct safet *s, const char *name); /* or NULL */
const char *safet_meta(const struct safet *s, const char *key); /* __metadata__ entry or NULL */

/* Writes tensors in the given order (8-byte aligned data) atomically. meta: key, value, ...,
 * NULL. */
NODISCARD int safet_write(const char *path, const struct safet_tensor *t, int32_t n,
                          const char *const *meta, struct err *e);
