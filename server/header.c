#include "server/header.h"
#include "core/base/limits.h"
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* Length of s without the blanks at its end. */
static size_t trimmed(const char *s, size_t n)
{
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\t')) n--;
    return n;
}

static bool is(const char *s, size_t n, const char *word)
{
    return n == strlen(word) && strncasecmp(s, word, n) == 0;
}

bool header_is_json(const char *content_type)
{
    if (!content_type) return true;
    content_type += strspn(content_type, " \t");
    return is(content_type, trimmed(content_type, strcspn(content_type, ";")),
              "application/json");
}

/* Does the parameter list after a media range carry q=0, q=0.0 ...? */
static bool refused(const char *params, size_t n)
{
    for (const char *end = params + n; params < end;) {
        params += strspn(params, "; \t");
        size_t len = strcspn(params, ";,");
        if (params >= end) break;
        if (len > 2 && (params[0] == 'q' || params[0] == 'Q') && params[1] == '=')
            return strspn(params + 2, "0.") == trimmed(params + 2, len - 2);
        params += len;
    }
    return false;
}

/* How exactly a media range names JSON: 3 by name, 2 as application/any, 1 as anything, 0 not. */
static int precision(const char *range, size_t n)
{
    if (is(range, n, "application/json")) return 3;
    if (is(range, n, "application/*")) return 2;
    return is(range, n, "*/*");
}

bool header_accepts_json(const char *accept)
{
    int best = 0;
    bool ok = !accept || accept[strspn(accept, " \t")] == '\0';
    for (const char *s = accept; s && *s;) {
        s += strspn(s, ", \t");
        size_t len = strcspn(s, ","), type = strcspn(s, ";,");
        int exact = precision(s, trimmed(s, type));
        if (exact > best) {
            best = exact;
            ok = !refused(s + type, len - type);
        }
        s += len;
    }
    return ok;
}

bool header_good_id(const char *id)
{
    if (!id) return false;
    size_t n = 0;
    for (; id[n]; n++)
        if (n == LIMIT_REQUEST_ID || id[n] <= ' ' || id[n] > '~') return false;
    return n > 0;
}

int header_timeout_ms(const char *text)
{
    enum { MOST = 3600000 };
    int ms = 0;
    if (!text) return 0;
    for (; *text >= '0' && *text <= '9' && ms <= MOST; text++) ms = 10 * ms + (*text - '0');
    return *text == '\0' && ms >= 1 && ms <= MOST ? ms : -1;
}
