/* buf.h — growable byte string with a cap.
 *   struct buf b = { .cap_max = LIMIT_REPLY_BYTES };
 *   buf_puts(&b, "{"); buf_printf(&b, "%d", n);
 *   if (b.failed) ...    once a write would pass cap_max nothing more is appended
 * data is NUL-terminated when not NULL.  Thread: owner. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data;
    size_t len, cap;
    size_t cap_max; /* 0 = 1 GiB */
    bool failed;
};

void buf_put(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends s as a JSON string with quotes; control characters escaped, bytes >= 0x80 kept. */
void buf_json_str(struct buf *b, const char *s, size_t n);
void buf_clear(struct buf *b); /* keeps the memory */
void buf_free(struct buf *b);
