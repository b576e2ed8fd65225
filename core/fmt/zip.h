/* zip.h — the entries of a ZIP archive that are stored as they are, which is what torch.save writes and all that is read
 * here: tensors are then used where they lie, so no library that copies or unpacks is wanted.
 *   struct zip *z; zip_open_mem(&z, bytes, nb, &e);     borrows the bytes
 *   const struct zip_entry *x = zip_find(z, "archive/data.pkl");
 * From the central directory, 64-bit sizes included; checked against the archive's size.  Packed or encrypted entries and
 * archives in several parts are refused; checksums are not computed.  Thread: any may read. */
#pragma once
#include "core/base/err.h"
#include <stdint.h>

struct zip_entry {
    char *name; /* terminated */
    const uint8_t *data;
    size_t nb;
};

struct zip;
NODISCARD int zip_open_mem(struct zip **out, const void *data, size_t nb, struct err *e);
void zip_close(struct zip *z); /* NULL is fine */
int32_t zip_count(const struct zip *z);
const struct zip_entry *zip_at(const struct zip *z, int32_t i); /* by name, ascending */
const struct zip_entry *zip_find(const struct zip *z, const char *name); /* or NULL */
