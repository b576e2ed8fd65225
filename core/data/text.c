#include "core/data/text.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct text_lines text_begin(const char *data, size_t nb)
{
    if (!data) return (struct text_lines){ 0 };
    const char *end = data + nb;
    if (nb >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) data += 3;
    return (struct text_lines){ .p = data, .end = end };
}

bool text_line(struct text_lines *l, struct span *out)
{
    while (l->p < l->end) {
        const char *start = l->p;
        const char *nl = memchr(start, '\n', (size_t)(l->end - start));
        const char *stop = nl ? nl : l->end;
        l->p = nl ? nl + 1 : l->end;
        l->no++;
        if (stop > start && stop[-1] == '\r') stop--;
        if (stop == start) continue;
        *out = (struct span){ start, (size_t)(stop - start) };
        return true;
    }
    return false;
}

/* Reads a quoted field that starts after its opening quote; *at moves behind the closing one. */
static bool quoted_field(struct field *f, const char **at, const char *end)
{
    const char *p = *at;
    *f = (struct field){ .p = p };
    for (;;) {
        p = memchr(p, '"', (size_t)(end - p));
        if (!p) return false;
        if (p + 1 == end || p[1] != '"') break;
        f->doubled = true;
        p += 2;
    }
    f->n = (size_t)(p - f->p);
    *at = p + 1;
    return true;
}

size_t text_fields(struct field *out, size_t max, struct span line, char sep, bool quotes)
{
    const char *p = line.p, *end = line.p + line.n;
    for (size_t n = 0;;) {
        struct field f;
        if (quotes && p < end && *p == '"') {
            p++;
            if (!quoted_field(&f, &p, end)) return 0;
            if (p < end && *p != sep) return 0;
        } else {
            const char *stop = memchr(p, sep, (size_t)(end - p));
            if (!stop) stop = end;
            f = (struct field){ .p = p, .n = (size_t)(stop - p) };
            p = stop;
        }
        if (n < max) out[n] = f;
        n++;
        if (p == end) return n;
        p++;
    }
}

struct span text_unquote(struct field f, char *buf)
{
    if (!f.doubled) return (struct span){ f.p, f.n };
    size_t n = 0;
    for (size_t i = 0; i < f.n; i++) {
        buf[n++] = f.p[i];
        if (f.p[i] == '"') i++;
    }
    return (struct span){ buf, n };
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

bool text_word(struct span *rest, struct span *out)
{
    const char *p = rest->p, *end = p + rest->n;
    while (p < end && is_blank(*p)) p++;
    const char *start = p;
    while (p < end && !is_blank(*p)) p++;
    *rest = (struct span){ p, (size_t)(end - p) };
    *out = (struct span){ start, (size_t)(p - start) };
    return p > start;
}

struct span text_trim(struct span s)
{
    while (s.n && is_blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && is_blank(s.p[s.n - 1])) s.n--;
    return s;
}

bool text_part(struct span *rest, char sep, struct span *out)
{
    if (!rest->p) return false;
    const char *end = rest->n ? memchr(rest->p, sep, rest->n) : NULL;
    size_t n = end ? (size_t)(end - rest->p) : rest->n;
    *out = text_trim((struct span){ rest->p, n });
    *rest = end ? (struct span){ end + 1, rest->n - n - 1 } : (struct span){ NULL, 0 };
    return true;
}

bool text_same(struct span s, const char *word)
{
    return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

bool text_number(struct span s, double *out)
{
    char buf[64];
    if (s.n == 0 || s.n >= sizeof buf) return false;
    /* strtod would also take hexadecimal, infinities, NaN and leading blanks. */
    for (size_t i = 0; i < s.n; i++)
        if (!s.p[i] || !strchr("0123456789+-.eE", s.p[i])) return false;
    memcpy(buf, s.p, s.n);
    buf[s.n] = 0;
    char *stop;
    *out = strtod(buf, &stop);
    return stop == buf + s.n && isfinite(*out);
}

/* Takes n digits off s. */
static bool digits(struct span *s, size_t n, int *out)
{
    if (s->n < n) return false;
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9') return false;
        *out = *out * 10 + (s->p[i] - '0');
    }
    *s = (struct span){ s->p + n, s->n - n };
    return true;
}

static bool mark(struct span *s, const char *any)
{
    if (s->n == 0 || !s->p[0] || !strchr(any, s->p[0])) return false;
    *s = (struct span){ s->p + 1, s->n - 1 };
    return true;
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar; months from March, so that a leap day ends a year. */
static int64_t days_of(int y, int m, int d)
{
    y -= m <= 2;
    int64_t era = y / 400, yoe = y % 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* hh:mm[:ss[.fraction]] */
static bool clock_time(struct span *s, double *out)
{
    int h, m, sec = 0;
    double part = 0;
    if (!digits(s, 2, &h) || !mark(s, ":") || !digits(s, 2, &m)) return false;
    if (mark(s, ":") && !digits(s, 2, &sec)) return false;
    if (mark(s, ".")) {
        double unit = 0.1;
        int digit;
        if (!digits(s, 1, &digit)) return false;
        do {
            part += digit * unit;
            unit /= 10;
        } while (digits(s, 1, &digit));
    }
    *out = h * 3600 + m * 60 + sec + part;
    return h < 24 && m < 60 && sec <= 60;
}

/* Nothing, Z, UTC, GMT, +hh, +hhmm or +hh:mm, a blank before it or not: seconds to take off. */
static bool zone(struct span *s, double *out)
{
    *out = 0;
    *s = text_trim(*s);
    if (s->n == 0 || text_same(*s, "UTC") || text_same(*s, "GMT")) return true;
    if (mark(s, "Zz")) return s->n == 0;
    double sign = s->p[0] == '-' ? -1 : 1;
    int h, m = 0;
    if (!mark(s, "+-") || !digits(s, 2, &h)) return false;
    (void)mark(s, ":");
    if (s->n && !digits(s, 2, &m)) return false;
    *out = sign * (h * 3600 + m * 60);
    return s->n == 0 && h < 24 && m < 60;
}

static bool iso_time(struct span s, double *out)
{
    static const int days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    int y, m, d;
    double clock = 0, east = 0;
    if (!digits(&s, 4, &y) || !mark(&s, "-") || !digits(&s, 2, &m) || !mark(&s, "-") ||
        !digits(&s, 2, &d) || m < 1 || m > 12 || d < 1 || d > days[m - 1])
        return false;
    bool leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    if (m == 2 && d == 29 && !leap) return false;
    if (s.n && (!mark(&s, "Tt ") || !clock_time(&s, &clock) || !zone(&s, &east))) return false;
    *out = (double)days_of(y, m, d) * 86400 + clock - east;
    return true;
}

bool text_time(struct span s, double *out)
{
    static const double year_2100 = 4102444800;
    double x;
    if (text_number(s, &x))
        x /= x < 1e11 ? 1 : x < 1e14 ? 1e3 : x < 1e17 ? 1e6 : 1e9;
    else if (!iso_time(s, &x))
        return false;
    *out = x;
    return x >= 0 && x < year_2100;
}

/* Length of the well-formed UTF-8 character at p, 0 if there is none (Unicode 15, table 3-7). */
static size_t utf8_char(const unsigned char *p, size_t n)
{
    unsigned c = p[0];
    if (c < 0x80) return 1;
    if (c < 0xc2 || c > 0xf4) return 0;
    size_t len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (n < len) return 0;
    unsigned lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    unsigned hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < lo || p[1] > hi) return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return len;
}

bool text_utf8_ok(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    while (n) {
        uint64_t w;
        if (n >= sizeof w) {
            memcpy(&w, p, sizeof w);
            if (!(w & 0x8080808080808080u)) {
                p += sizeof w;
                n -= sizeof w;
                continue;
            }
        }
        size_t len = utf8_char(p, n);
        if (!len) return false;
        p += len;
        n -= len;
    }
    return true;
}

bool text_has_control(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] < ' ' || p[i] == 0x7f) return true;
    return false;
}

size_t text_utf8_cut(const char *p, size_t n, size_t max)
{
    if (n <= max) return n;
    while (max && ((unsigned char)p[max] & 0xc0) == 0x80) max--;
    return max;
}
