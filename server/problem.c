#include "server/problem.h"
#include "core/serve/reply.h"
#include <stdint.h>
#include <string.h>

/* Length of the well-formed UTF-8 sequence at s (Unicode table 3-7), or 0. */
static size_t utf8_len(const unsigned char *s)
{
    unsigned lo = 0x80, hi = 0xbf;
    size_t n;
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
    if (s[0] < 0xe0)
        n = 2;
    else
        n = s[0] < 0xf0 ? 3 : 4;
    if (s[0] == 0xe0) lo = 0xa0;
    if (s[0] == 0xed) hi = 0x9f;
    if (s[0] == 0xf0) lo = 0x90;
    if (s[0] == 0xf4) hi = 0x8f;
    if (s[1] < lo || s[1] > hi) return 0;
    for (size_t i = 2; i < n; i++) /* a terminator inside ends the sequence */
        if (s[i] < 0x80 || s[i] > 0xbf) return 0;
    return n;
}

void problem_text(struct buf *b, const char *text)
{
    char clean[1024];
    size_t at = 0;
    const unsigned char *s = (const unsigned char *)text;
    while (*s && at + 4 < sizeof clean) {
        size_t n = utf8_len(s);
        if (n)
            memcpy(clean + at, s, n);
        else
            clean[at] = '?';
        at += n ? n : 1;
        s += n ? n : 1;
    }
    buf_json_str(b, clean, at);
}

static void member(struct buf *b, const char *name, const char *value)
{
    buf_puts(b, ",\"");
    buf_puts(b, name);
    buf_puts(b, "\":");
    problem_text(b, value);
}

static void write_faults(struct buf *b, const struct faults *f)
{
    buf_puts(b, ",\"errors\":[");
    for (int i = 0; i < f->n; i++) {
        buf_puts(b, i ? ",{\"pointer\":" : "{\"pointer\":");
        problem_text(b, f->at[i].pointer);
        member(b, "code", err_slug(f->at[i].code));
        member(b, "detail", f->at[i].detail);
        buf_putc(b, '}');
    }
    buf_putc(b, ']');
}

void problem_write(struct buf *b, const struct problem *p)
{
    const char *slug = err_slug(p->code);
    buf_puts(b, "{\"type\":\"urn:intentd:error:");
    buf_puts(b, slug);
    buf_putc(b, '"');
    member(b, "title", err_title(p->code));
    buf_puts(b, ",\"status\":");
    reply_int(b, p->status ? p->status : err_http(p->code));
    member(b, "code", slug);
    member(b, "detail", p->detail);
    member(b, "error", p->detail);
    member(b, "instance", p->instance);
    member(b, "request_id", p->request_id);
    if (p->retry_after_s) {
        buf_puts(b, ",\"retry_after_ms\":");
        reply_int(b, p->retry_after_ms ? p->retry_after_ms : p->retry_after_s * 1000);
    }
    if (p->faults && p->faults->n) write_faults(b, p->faults);
    buf_puts(b, "}\n");
}
