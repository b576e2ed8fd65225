/* text.h — pure scanning of untrusted text: lines, separated and quoted fields, numbers, UTF-8.
 * Nothing is copied and nothing is read outside [p, p+n): the bytes need no terminator.
 *   struct text_lines l = text_begin(data, nb);
 *   while (text_line(&l, &line)) n = text_fields(f, 8, line, ',', true);      l.no is the line's number
 * Thread: any (pure). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
    const char *p;
    size_t n;
};

struct text_lines {
    const char *p, *end;
    int64_t no; /* of the line returned last, from 1 */
};

/* Skips a UTF-8 byte order mark. */
struct text_lines text_begin(const char *data, size_t nb);
/* The next line that is not empty, without "\n" or "\r\n"; the last one may lack its end. */
bool text_line(struct text_lines *l, struct span *out);

struct field {
    const char *p;
    size_t n;
    bool doubled; /* a quoted field that holds "" for " */
};

/* Fields of a line at single separators.  With quotes, a field may be "in quotes" as in RFC 4180, on
 * one line.  Returns how many there are (at most max are stored), 0 for a quote that is never closed or
 * not followed by a separator. */
size_t text_fields(struct field *out, size_t max, struct span line, char sep, bool quotes);
/* Content of a field; buf [f.n] is only used when quotes were doubled. */
struct span text_unquote(struct field f, char *buf);
/* The next run of bytes that are neither space nor tab; shortens *rest.  false: none is left. */
bool text_word(struct span *rest, struct span *out);
struct span text_trim(struct span s); /* without spaces and tabs at both ends */
/* The next part of rest up to sep, trimmed; shortens *rest.  false: none is left. */
bool text_part(struct span *rest, char sep, struct span *out);
bool text_same(struct span s, const char *word); /* whatever the case of ASCII letters */

/* A finite decimal number that fills s. */
bool text_number(struct span s, double *out);
/* Seconds since 1970 (UTC): a number of seconds, milliseconds, microseconds or nanoseconds, told apart by their
 * size, or ISO 8601 (2021-03-04, 2021-03-04T05:06:07.8Z, 2021-03-04 05:06+01:00).  false: neither, before 1970 or
 * after 2100. */
bool text_time(struct span s, double *out);
bool text_utf8_ok(const char *p, size_t n);
bool text_has_control(const char *p, size_t n); /* a byte below 0x20, or 0x7f */
/* Longest prefix of at most max bytes that does not cut a UTF-8 character in two. */
size_t text_utf8_cut(const char *p, size_t n, size_t max);
