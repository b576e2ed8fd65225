#include "core/base/buf.h"
#include "core/base/mem.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for n more bytes and the terminator; false (and failed) past the cap. */
static bool reserve(struct buf *b, size_t n)
{
    size_t cap_max = b->cap_max ? b->cap_max : (size_t)1 << 30;
    if (b->failed || n >= cap_max || b->len > cap_max - n - 1) {
        b->failed = true;
        return false;
    }
    if (b->len + n + 1 > b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 256;
        while (cap < b->len + n + 1) cap *= 2;
        if (cap > cap_max) cap = cap_max;
        b->data = xrealloc(b->data, cap, 1);
        b->cap = cap;
    }
    return true;
}

void buf_put_grow(struct buf *b, const void *p, size_t n)
{
    if (reserve(b, n)) buf_put(b, p, n);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_json_str(struct buf *b, const char *s, size_t n)
{
    buf_putc(b, '"');
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        buf_put(b, s + from, i - from);
        from = i + 1;
        if (c == '"' || c == '\\') {
            buf_putc(b, '\\');
            buf_putc(b, (char)c);
        } else if (c == '\n') {
            buf_puts(b, "\\n");
        } else if (c == '\t') {
            buf_puts(b, "\\t");
        } else {
            buf_printf(b, "\\u%04x", c);
        }
    }
    buf_put(b, s + from, n - from);
    buf_putc(b, '"');
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data) b->data[0] = '\0';
}

void buf_free(struct buf *b)
{
    free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}
