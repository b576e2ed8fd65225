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
/* The same from n pieces, one after the other. */
struct io_piece {
    const void *data;
    size_t nb;
};
NODISCARD int io_write_pieces(const char *path, const struct io_piece *piece, int32_t n,
                              struct err *e);
/* Copies a file; `to` is written as io_write_atomic does. */
NODISCARD int io_copy_file(const char *to, const char *from, struct err *e);
/* Puts directory fresh in the place of dir, which exists; what was there is at fresh afterwards.  One
 * step where the file system can exchange two names, else io_exchange_aside. */
NODISCARD int io_exchange_dir(const char *fresh, const char *dir, const char *aside,
                              struct err *e);
/* The same in three renames by way of the free name aside: there is an instant without dir, never one
 * with half of it.  On an error dir is what it was, or the message says where the old one lies. */
NODISCARD int io_exchange_aside(const char *fresh, const char *dir, const char *aside,
                                struct err *e);
NODISCARD int io_mkdirs(const char *path, struct err *e); /* like mkdir -p, synced */
/* fsync files of dir and dir itself */
NODISCARD int io_sync_tree(const char *dir, struct err *e);
/* fsync the directory that holds path: a rename is then as durable as what it named */
NODISCARD int io_sync_parent(const char *path, struct err *e);
NODISCARD int io_remove_tree(const char *dir, struct err *e); /* one level of files, then dir */
bool io_exists(const char *path);
