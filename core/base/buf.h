/* buf.h — growable byte string with a cap.
 *   struct buf b = { .cap_max = LIMIT_REPLY_BYTES };
 *   buf_puts(&b, "{"); buf_printf(&b, "%d", n);
 *   if (b.failed) ...    once a write would pass cap_max nothing more is appended
 * data is NUL-terminated when not NULL.  Thread: owner. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct buf {
    char *data;
    size_t len, cap;
    size_t cap_max; /* 0 = 1 GiB */
    bool failed;
};

void buf_put_grow(struct buf *b, const void *p,
                  size_t n); /* buf_put where there may be no room */

/* Inline: a reply is put together of hundreds of pieces, most of them constants. */
static inline void buf_put(struct buf *b, const void *p, size_t n)
{
    if (b->failed || n >= b->cap - b->len) {
        buf_put_grow(b, p, n);
        return;
    }
    if (n) memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
}
static inline void buf_puts(struct buf *b, const char *s) { buf_put(b, s, strlen(s)); }
static inline void buf_putc(struct buf *b, char c) { buf_put(b, &c, 1); }
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends s as a JSON string with quotes; control characters escaped, bytes >= 0x80 kept. */
void buf_json_str(struct buf *b, const char *s, size_t n);
void buf_clear(struct buf *b); /* keeps the memory */
void buf_free(struct buf *b);
