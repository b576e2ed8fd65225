#include "core/data/columns.h"
#include "core/base/limits.h"
#include <stdio.h>
#include <string.h>

const char *const column_text[COL_KINDS] = { "user", "item", "time", "event", "title" };

/* In order of preference. */
static const char *const guesses[COL_KINDS][10] = {
    [COL_USER] = { "user_id", "userId", "user", "uid", "visitorid", "visitor_id", "session_id",
                   "sessionId", "customer_id", "reviewerID" },
    [COL_ITEM] = { "item_id", "itemId", "item", "movieId", "movie_id", "product_id",
                   "article_id", "business_id", "parent_asin", "asin" },
    [COL_TIME] = { "timestamp", "time", "ts", "event_time", "created_at", "datetime", "date",
                   "t_dat", "unixReviewTime" },
    [COL_EVENT] = { "event", "event_type", "eventType", "behavior", "action" },
    [COL_TITLE] = { "title", "movie_title", "name", "item_name", "attributes" },
};

struct span columns_name(struct field f, struct span *type)
{
    const char *colon = f.n ? memchr(f.p, ':', f.n) : NULL;
    if (type)
        *type = colon ? (struct span){ colon + 1, (size_t)(f.p + f.n - colon - 1) }
                      : (struct span){ "", 0 };
    return text_trim((struct span){ f.p, colon ? (size_t)(colon - f.p) : f.n });
}

static size_t count_of(struct span s, char c)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) n += s.p[i] == c;
    return n;
}

char columns_separator(struct span line)
{
    if (memchr(line.p, '\t', line.n)) return '\t';
    return count_of(line, ';') > count_of(line, ',') ? ';' : ',';
}

static bool quoted(char sep) { return sep != '\t'; }

char columns_separator_of(struct span line, size_t n)
{
    static const char seps[] = { '\t', ',', ';' };
    struct field f[1];
    for (size_t i = 0; i < sizeof seps; i++)
        if (text_fields(f, 1, line, seps[i], quoted(seps[i])) == n) return seps[i];
    return columns_separator(line);
}

struct span columns_id(struct field f, char *buf)
{
    struct span s = { f.p, f.n };
    if (f.doubled && f.n <= 2 * LIMIT_ID_BYTES) s = text_unquote(f, buf);
    return text_trim(s);
}

bool columns_typed(struct span header)
{
    static const char *const types[] = { "token", "token_seq", "float", "float_seq" };
    struct field f[FIELDS_MAX];
    size_t n = text_fields(f, FIELDS_MAX, header, '\t', false);
    if (n > FIELDS_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        struct span type;
        (void)columns_name(f[i], &type);
        bool known = false;
        for (int t = 0; t < 4; t++) known |= text_same(type, types[t]);
        if (!known) return false;
    }
    return true;
}

/* Places of the first and the last column of a name; how many there are. */
static int places(const struct field *f, size_t n, const char *name, int *first, int *last)
{
    int found = 0;
    for (size_t i = 0; i < n; i++) {
        if (!text_same(columns_name(f[i], NULL), name) &&
            !text_same(text_trim((struct span){ f[i].p, f[i].n }), name))
            continue;
        if (found++ == 0) *first = (int)i;
        *last = (int)i;
    }
    return found;
}

void columns_list(char *out, size_t n, struct span header, char sep)
{
    struct field f[FIELDS_MAX];
    size_t k = text_fields(f, FIELDS_MAX, header, sep, quoted(sep)), at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < k && i < FIELDS_MAX && at + 64 < n; i++) {
        struct span s = columns_name(f[i], NULL);
        at += (size_t)snprintf(out + at, n - at, "%s'%.*s'", i ? ", " : "",
                               (int)text_utf8_cut(s.p, s.n, 40), s.p);
        if (i + 1 < k && at + 64 >= n) snprintf(out + at, n - at, " ...");
    }
}

static int missing(enum column kind, const char *name, struct span header, char sep,
                   const char *file, int64_t line, struct err *e)
{
    char list[256];
    columns_list(list, sizeof list, header, sep);
    return err_set(e, ERR_FORMAT, "%s:%lld: no column '%s' (--%s-col); the header has %s", file,
                   (long long)line, name, column_text[kind], list);
}

int columns_find(struct columns *c, struct span header, char sep, unsigned kinds,
                 const struct column_names *want, const char *file, int64_t line, struct err *e)
{
    struct field f[FIELDS_MAX];
    *c = (struct columns){ .at = { -1, -1, -1, -1, -1 }, .quotes = quoted(sep), .sep = sep };
    c->n = text_fields(f, FIELDS_MAX, header, sep, c->quotes);
    if (c->n > FIELDS_MAX)
        return err_set(e, ERR_FORMAT, "%s:%lld: %zu columns, at most %d are read", file,
                       (long long)line, c->n, FIELDS_MAX);
    for (int kind = 0; kind < COL_KINDS; kind++) {
        const char *named = want ? want->name[kind] : NULL, *name = named;
        int found = 0, first = -1, last = -1;
        if (!(kinds >> kind & 1) || (named && strcmp(named, "-") == 0)) continue;
        if (named) found = places(f, c->n, named, &first, &last);
        for (int k = 0; !named && k < 10 && guesses[kind][k] && found == 0; k++)
            found = places(f, c->n, name = guesses[kind][k], &first, &last);
        if (named && found == 0)
            return missing((enum column)kind, named, header, sep, file, line, e);
        if (found > 1)
            return err_set(e, ERR_FORMAT,
                           "%s:%lld: columns %d and %d are both called '%s'; rename one", file,
                           (long long)line, first + 1, last + 1, name);
        c->at[kind] = first;
    }
    return 0;
}

void columns_describe(char *out, size_t n, const struct columns *c, struct span header)
{
    struct field f[FIELDS_MAX];
    size_t k = text_fields(f, FIELDS_MAX, header, c->sep, c->quotes), at = 0;
    out[0] = '\0';
    for (int kind = 0; kind < COL_KINDS; kind++) {
        if (c->at[kind] < 0 || (size_t)c->at[kind] >= k) continue;
        struct span s = columns_name(f[c->at[kind]], NULL);
        size_t room = n - at;
        int put = snprintf(out + at, room, "%s%s = %.*s", at ? ", " : "", column_text[kind],
                           (int)text_utf8_cut(s.p, s.n, 40), s.p);
        at += put > 0 && (size_t)put < room ? (size_t)put : 0;
    }
}
