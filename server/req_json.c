#include "server/req_json.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *req_type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a fractional number";
    case JSON_NULL: return "null";
    default: return "a boolean";
    }
}

void req_bad_type(struct req_json *p, const char *ptr, const char *want, const json_t *v)
{
    fault_add(p->f, ERR_BAD_TYPE, ptr, "%s: expected %s, got %s", ptr + 1, want,
              req_type_name(v));
}

json_t *req_open_body(struct faults *f, const char *body, size_t n)
{
    json_error_t je;
    /* No JSON has a NUL byte, but jansson skips one that follows a number. */
    const char *nul = n ? memchr(body, '\0', n) : NULL;
    if (nul) {
        fault_add(f, ERR_BAD_JSON, "", "a NUL byte at offset %td", nul - body);
        return NULL;
    }
    json_t *root = n ? json_loadb(body, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je) : NULL;
    if (!root && n == 0) fault_add(f, ERR_BAD_JSON, "", "the body is empty");
    if (!root && n > 0)
        fault_add(f, ERR_BAD_JSON, "", "line %d, column %d: %s", je.line, je.column, je.text);
    return root;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int64_t req_base64(unsigned char *out, const char *s, size_t n)
{
    int64_t nb = 0;
    uint32_t bits = 0;
    if (n % 4 == 1) return -1;
    for (size_t i = 0; i < n; i++) {
        const int d = base64_digit(s[i]);
        if (d < 0) return -1;
        bits = bits << 6 | (uint32_t)d;
        if (i % 4 != 0)
            out[nb++] = (unsigned char)(bits >> (i % 4 == 1 ? 4 : i % 4 == 2 ? 2 : 0));
    }
    return nb;
}

void *req_take(struct req_json *p, size_t nb)
{
    void *m = arena_try(p->a, nb ? nb : 1);
    if (!m) fault_add(p->f, ERR_LIMIT, "", "the request needs more memory than one may have");
    return m;
}

bool req_read_int(struct req_json *p, const char *ptr, const json_t *v, int32_t lo, int32_t hi,
                  int32_t *out)
{
    if (!json_is_integer(v)) return req_bad_type(p, ptr, "an integer", v), false;
    json_int_t x = json_integer_value(v);
    if (x < lo || x > hi) {
        fault_add(p->f, ERR_INVALID, ptr,
                  "%s: must be from %d to %d, not %" JSON_INTEGER_FORMAT, ptr + 1, lo, hi, x);
        return false;
    }
    *out = (int32_t)x;
    return true;
}

bool req_read_bool(struct req_json *p, const char *ptr, const json_t *v, bool *out)
{
    if (!json_is_boolean(v)) return req_bad_type(p, ptr, "true or false", v), false;
    *out = json_is_true(v);
    return true;
}

int req_read_word(struct req_json *p, const char *ptr, const json_t *v, const char *words)
{
    if (!json_is_string(v)) return req_bad_type(p, ptr, "a string", v), -1;
    const char *s = json_string_value(v);
    size_t n = json_string_length(v);
    int i = 0;
    for (const char *w = words; *w; i++) {
        size_t len = strcspn(w, "|");
        if (len == n && memcmp(w, s, n) == 0) return i;
        w += len + (w[len] == '|');
    }
    fault_add(p->f, ERR_INVALID, ptr, "%s: \"%.40s\" is not one of %s", ptr + 1, s, words);
    return -1;
}

bool req_read_text(struct req_json *p, const char *ptr, const char *what, const json_t *v,
                   struct str *out)
{
    char number[24];
    const char *s = number;
    size_t n;
    if (json_is_integer(v)) {
        n = (size_t)snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT,
                             json_integer_value(v));
    } else if (json_is_string(v)) {
        s = json_string_value(v);
        n = json_string_length(v);
    } else {
        return req_bad_type(p, ptr, "a string or an integer", v), false;
    }
    const char *why = NULL;
    if (n == 0) why = "is empty";
    if (n > LIMIT_ID_BYTES) why = "is longer than 1024 bytes";
    if (n && memchr(s, '\0', n)) why = "contains a NUL character";
    if (why) {
        fault_add(p->f, ERR_INVALID, ptr, "%s: the %s %s", ptr + 1, what, why);
        return false;
    }
    memcpy(p->text, s, n);
    *out = (struct str){ p->text, (int32_t)n };
    p->text += n;
    return true;
}

bool req_read_id(struct req_json *p, const char *ptr, const json_t *v, struct str *out)
{
    return req_read_text(p, ptr, "id", v, out);
}

bool req_read_ids(struct req_json *p, const char *ptr, const json_t *v, size_t most,
                  const struct str **out, int32_t *n_out)
{
    if (!json_is_array(v)) return req_bad_type(p, ptr, "an array", v), false;
    size_t n = json_array_size(v);
    if (n > most) {
        fault_add(p->f, ERR_INVALID, ptr, "%s: %zu elements, the limit is %zu", ptr + 1, n,
                  most);
        return false;
    }
    struct str *ids = req_take(p, n * sizeof *ids);
    if (!ids) return false;
    for (size_t i = 0; i < n; i++) {
        char at[64];
        req_pointer_index(at, sizeof at, ptr, i);
        if (!req_read_id(p, at, json_array_get(v, i), &ids[i])) return false;
    }
    *out = ids;
    *n_out = (int32_t)n;
    return true;
}

bool req_real_text(struct req_json *p, double x, bool point, struct str *out)
{
    enum { ROOM = 32 };
    char *text = req_take(p, ROOM);
    if (!text) return false;
    int n = 0;
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(text, ROOM, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    if (point && !strpbrk(text, ".e")) n += snprintf(text + n, ROOM - (size_t)n, ".0");
    *out = (struct str){ text, n };
    return true;
}

/* Of to as much as leaves `room`, and a slash. */
static size_t start_pointer(char *out, size_t n, size_t room, const char *to)
{
    size_t at = 0;
    REQUIRE(n > room, "a pointer of %zu bytes", n);
    for (; to[at] && at < n - room; at++) out[at] = to[at];
    out[at] = '/';
    return at + 1;
}

void req_pointer_step(char *out, size_t n, const char *to, const char *key)
{
    size_t at = start_pointer(out, n, 2, to);
    for (const size_t most = at + 60; *key && at + 3 < n && at < most; key++) {
        bool special = *key == '~' || *key == '/';
        out[at++] = special ? '~' : *key;
        if (special) out[at++] = *key == '~' ? '0' : '1';
    }
    out[at] = '\0';
}

void req_pointer_index(char *out, size_t n, const char *to, size_t i)
{
    enum { DIGITS = 20 };
    char digit[DIGITS], *first = digit + DIGITS;
    const size_t at = start_pointer(out, n, DIGITS + 2, to);
    do *--first = (char)('0' + i % 10);
    while (i /= 10);
    const size_t n_digits = (size_t)(digit + DIGITS - first);
    memcpy(out + at, first, n_digits);
    out[at + n_digits] = '\0';
}

bool req_unknown_member(struct req_json *p, const char *ptr, const char *key, const char *known)
{
    char at[128];
    if (!p->strict) return true;
    req_pointer_step(at, sizeof at, ptr, key);
    fault_add(p->f, ERR_UNKNOWN_FIELD, at, "%s has no member \"%.40s\"; it may have %s",
              ptr + 1, key, known);
    return false;
}
