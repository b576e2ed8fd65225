/* unpack.h — a text file's bytes, gzip and zstd unpacked (told by content, whatever the name).
 *   struct unpacked u;  unpack_open(&u, "clicks.csv.gz", &e);   u.data [u.nb]   unpack_close(&u);
 * A plain file is mapped.  What a damaged or cut file gives before the damage is kept, by unpack_open up to
 * its last whole line, and u.damage says what is wrong.  Thread: any. */
#pragma once
#include "core/base/io.h"
#include <stdbool.h>

struct unpacked {
    const char *data; /* NULL for no bytes */
    size_t nb;
    const char *packed; /* "gzip", "zstd"; NULL: as it lies on disk */
    char damage[128];   /* "" when all is well */
    bool cut;           /* the end is missing: the last line may be half of one */
    struct io_map map_; /* owned */
    char *own_;
};

NODISCARD int unpack_open(struct unpacked *u, const char *path, struct err *e);
/* Bytes that must outlive u; at most nb_max are unpacked.  ERR_LIMIT: there are more. */
NODISCARD int unpack_mem(struct unpacked *u, const void *data, size_t nb, size_t nb_max,
                         struct err *e);
void unpack_close(struct unpacked *u);
