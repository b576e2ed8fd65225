/* io.h — files: read-only maps, whole reads, atomic writes.
 * Thread: any. */
#pragma once
#include "core/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io_map { /* immutable; data is NULL for an empty file */
    const uint8_t *data;
    size_t nb;
};

NODISCARD int io_map_open(struct io_map *m, const char *path, struct err *e);
void io_map_close(struct io_map *m);
/* Whole file as a NUL-terminated malloc'd string of at most nb_max bytes. */
NODISCARD int io_read_all(char **out, size_t *nb, const char *path, size_t nb_max,
                          struct err *e);
/* Writes path.tmp.PID, fsyncs, renames over path: readers see the old file or the new one. */
NODISCARD int io_write_atomic(const char *path, const void *data, size_t nb, struct err *e);
NODISCARD int io_mkdirs(const char *path, struct err *e); /* like mkdir -p */
NODISCARD int io_sync_tree(const char *dir,
                           struct err *e); /* fsync files of dir and dir itself */
NODISCARD int io_remove_tree(const char *dir, struct err *e); /* one level of files, then dir */
bool io_exists(const char *path);
