#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/data/interact.h"
#include <string.h>
#include <strings.h>

const char *const read_drop_text[DROP_KINDS] = {
#define DROP_TEXT_(n, t) t,
    READ_DROP_MAP(DROP_TEXT_)
#undef DROP_TEXT_
};
const char *const read_format_name[] = { "auto", "seq", "inter", "movielens" };

/* ---- headers and formats ---- */

/* Without RecBole's ":token". */
static struct span column_name(struct field f)
{
    const char *colon = f.n ? memchr(f.p, ':', f.n) : NULL;
    return text_trim((struct span){ f.p, colon ? (size_t)(colon - f.p) : f.n });
}

static bool same_word(struct span s, const char *word)
{
    return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

struct columns interact_columns(struct span header, char sep)
{
    static const char *const names[COL_KINDS][8] = {
        [COL_USER] = { "user_id", "userId", "user", "uid", "session_id" },
        [COL_ITEM] = { "item_id", "itemId", "item", "movieId", "movie_id", "business_id",
                       "asin" },
        [COL_TIME] = { "timestamp", "time", "ts" },
        [COL_TITLE] = { "title", "movie_title", "name", "item_name", "attributes" },
    };
    struct columns c = { .at = { -1, -1, -1, -1 } };
    struct field f[FIELDS_MAX];
    c.n = text_fields(f, FIELDS_MAX, header, sep, sep == ',');
    if (c.n > FIELDS_MAX) return c;
    for (int kind = 0; kind < COL_KINDS; kind++)
        for (int k = 0; k < 8 && names[kind][k] && c.at[kind] < 0; k++)
            for (size_t i = 0; i < c.n && c.at[kind] < 0; i++)
                if (same_word(column_name(f[i]), names[kind][k])) c.at[kind] = (int)i;
    return c;
}

/* Every field of a RecBole header ends in its type. */
static bool is_typed_header(struct span line)
{
    static const char *const types[] = { "token", "token_seq", "float", "float_seq" };
    struct field f[FIELDS_MAX];
    size_t n = text_fields(f, FIELDS_MAX, line, '\t', false);
    if (n > FIELDS_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        const char *colon = f[i].n ? memchr(f[i].p, ':', f[i].n) : NULL;
        if (!colon) return false;
        struct span type = { colon + 1, (size_t)(f[i].p + f[i].n - colon - 1) };
        bool known = false;
        for (int t = 0; t < 4; t++) known |= same_word(type, types[t]);
        if (!known) return false;
    }
    return true;
}

/* Plain words and spaces, of which some line has at least two.  Tabs and commas are refused: such a file is a table
 * whose columns are not known (--format seq reads it all the same). */
static bool looks_like_sequences(const char *data, size_t nb)
{
    enum { LINES = 10, BYTES = 1 << 16 };
    struct text_lines l = text_begin(data, nb);
    struct span line, word;
    bool pair = false;
    for (int i = 0; i < LINES && text_line(&l, &line); i++) {
        if (line.n > BYTES) line.n = BYTES;
        for (size_t k = 0; k < line.n; k++)
            if ((unsigned char)line.p[k] < ' ' || line.p[k] == ',' || line.p[k] == 0x7f)
                return false;
        int n_words = 0;
        while (n_words < 2 && text_word(&line, &word)) n_words++;
        pair |= n_words == 2;
    }
    return pair;
}

static enum read_format detect(const char *data, size_t nb, struct span first)
{
    if (is_typed_header(first)) return READ_INTER;
    struct columns c = interact_columns(first, ',');
    if (c.at[COL_USER] >= 0 && c.at[COL_ITEM] >= 0) return READ_MOVIELENS;
    return looks_like_sequences(data, nb) ? READ_SEQ : READ_AUTO;
}

static int unknown_format(struct span first, const char *name, int64_t line, struct err *e)
{
    if (first.n >= 2 && memcmp(first.p, "\x1f\x8b", 2) == 0)
        return err_set(e, ERR_FORMAT, "%s: gzip-compressed; unpack it first", name);
    if (first.n >= 4 && memcmp(first.p, "\x28\xb5\x2f\xfd", 4) == 0)
        return err_set(e, ERR_FORMAT, "%s: zstd-compressed; unpack it first", name);
    char begin[33];
    size_t n = first.n < sizeof begin - 1 ? first.n : sizeof begin - 1;
    for (size_t i = 0; i < n; i++)
        begin[i] = first.p[i] >= ' ' && first.p[i] < 0x7f ? first.p[i] : '?';
    begin[n] = 0;
    return err_set(
        e, ERR_FORMAT,
        "%s:%lld: unknown format (begins with '%s'): neither user-sequence text "
        "(user item item ...), nor a RecBole header (user_id:token TAB item_id:token ...), nor "
        "a CSV header with userId and movieId",
        name, (long long)line, begin);
}

/* ---- events ---- */

struct reader {
    struct interactions *x;
    struct read_stats *st;
    const char *name;
    struct err *e;
};

static void drop(struct read_stats *st, enum read_drop why, int64_t line, int64_t n)
{
    if (st->dropped[why] == 0) st->first_line[why] = line;
    st->dropped[why] += n;
    st->events += n;
}

/* Why an id cannot be used, or -1. */
static int id_fault(struct span id)
{
    if (id.n == 0) return DROP_EMPTY_ID;
    if (id.n > LIMIT_ID_BYTES) return DROP_LONG_ID;
    if (memchr(id.p, 0, id.n)) return DROP_NUL;
    return text_utf8_ok(id.p, id.n) ? -1 : DROP_UTF8;
}

static int take_event(struct reader *r, struct span user, struct span item, double time,
                      int64_t line)
{
    int why = id_fault(user);
    if (why < 0) why = id_fault(item);
    if (why >= 0) {
        drop(r->st, (enum read_drop)why, line, 1);
        return 0;
    }
    if (interact_add(r->x, user, item, time, line, r->e) < 0)
        return err_ctx(r->e, "%s:%lld", r->name, (long long)line);
    r->st->events++;
    r->st->kept++;
    return 0;
}

static bool line_fits(struct reader *r, struct span line, int64_t no)
{
    if (line.n <= LIMIT_LINE_BYTES) return true;
    drop(r->st, DROP_LONG_LINE, no, 1);
    return false;
}

static int read_sequences(struct reader *r, struct text_lines *l)
{
    struct span line, user, item;
    while (text_line(l, &line)) {
        int64_t before = r->st->events;
        if (!line_fits(r, line, l->no)) continue;
        if (!text_word(&line, &user)) continue; /* blanks only */
        while (text_word(&line, &item)) TRY(take_event(r, user, item, 0, l->no));
        if (r->st->events == before) drop(r->st, DROP_FIELDS, l->no, 1);
    }
    return 0;
}

/* Content of a field that is used as an id; a longer one keeps a length that is refused. */
static struct span id_field(struct field f, char *buf)
{
    struct span s = { f.p, f.n };
    if (f.doubled && f.n <= 2 * LIMIT_ID_BYTES) s = text_unquote(f, buf);
    return text_trim(s);
}

static int take_record(struct reader *r, const struct columns *c, const struct field *f,
                       int64_t line)
{
    char user[2 * LIMIT_ID_BYTES], item[2 * LIMIT_ID_BYTES];
    double time = 0;
    if (c->at[COL_TIME] >= 0) {
        const struct field *t = &f[c->at[COL_TIME]];
        if (!text_number(text_trim((struct span){ t->p, t->n }), &time) || time < -1e15 ||
            time > 1e15) {
            drop(r->st, DROP_TIME, line, 1);
            return 0;
        }
    }
    return take_event(r, id_field(f[c->at[COL_USER]], user), id_field(f[c->at[COL_ITEM]], item),
                      time, line);
}

static int read_table(struct reader *r, struct text_lines *l, char sep)
{
    struct span line;
    if (!text_line(l, &line)) return 0;
    struct columns c = interact_columns(line, sep);
    if (c.at[COL_USER] < 0 || c.at[COL_ITEM] < 0)
        return err_set(r->e, ERR_FORMAT, "%s:%lld: the header names no %s column", r->name,
                       (long long)l->no, c.at[COL_USER] < 0 ? "user" : "item");
    bool has_time = c.at[COL_TIME] >= 0;
    if (r->x->n > 0 && r->x->has_time != has_time)
        return err_set(r->e, ERR_FORMAT, "%s:%lld: %s timestamps, unlike the files before it",
                       r->name, (long long)l->no, has_time ? "has" : "has no");
    r->x->has_time = has_time;
    struct field f[FIELDS_MAX];
    while (text_line(l, &line)) {
        if (!line_fits(r, line, l->no)) continue;
        size_t n = text_fields(f, FIELDS_MAX, line, sep, sep == ',');
        if (n == c.n)
            TRY(take_record(r, &c, f, l->no));
        else
            drop(r->st, DROP_FIELDS, l->no, 1);
    }
    return 0;
}

static int read_as(struct reader *r, struct text_lines *l, enum read_format f)
{
    if (f == READ_INTER) return read_table(r, l, '\t');
    if (f == READ_MOVIELENS) return read_table(r, l, ',');
    if (r->x->n > 0 && r->x->has_time)
        return err_set(r->e, ERR_FORMAT, "%s: has no timestamps, unlike the files before it",
                       r->name);
    r->x->has_time = false;
    return read_sequences(r, l);
}

int read_events_mem(struct interactions *x, const char *data, size_t nb, const char *name,
                    enum read_format f, struct read_stats *st, struct err *e)
{
    *st = (struct read_stats){ .format = f };
    struct text_lines l = text_begin(data, nb), peek = l;
    struct span first;
    if (!text_line(&peek, &first)) {
        st->format = READ_AUTO;
        return 0;
    }
    if (f == READ_AUTO) f = detect(data, nb, first);
    if (f == READ_AUTO) return unknown_format(first, name, peek.no, e);
    st->format = f;
    struct reader r = { x, st, name, e };
    interact_begin(x, name);
    int rc = read_as(&r, &l, f);
    st->lines = l.no;
    interact_end(x, st);
    return rc;
}

int read_events(struct interactions *x, const char *path, enum read_format f,
                struct read_stats *st, struct err *e)
{
    struct io_map m;
    *st = (struct read_stats){ 0 };
    TRY(io_map_open(&m, path, e));
    int rc = read_events_mem(x, (const char *)m.data, m.nb, path, f, st, e);
    io_map_close(&m);
    return rc;
}

void read_report(const struct read_stats *st, const char *name, FILE *f)
{
    if (st->format == READ_AUTO && st->lines == 0 && st->events == 0)
        fprintf(f, "%s: empty\n", name);
    else
        fprintf(f, "%s: %s, %lld lines, %lld events, %lld kept\n", name,
                read_format_name[st->format], (long long)st->lines, (long long)st->events,
                (long long)st->kept);
    for (int k = 0; k < DROP_SHORT_USER; k++)
        if (st->dropped[k])
            fprintf(f, "%s:%lld: %s: %lld dropped, the first here\n", name,
                    (long long)st->first_line[k], read_drop_text[k], (long long)st->dropped[k]);
}

void read_report_users(const struct read_stats *st, FILE *f)
{
    if (st->short_users)
        fprintf(f, "%s:%lld: %s: %lld dropped with %lld events, the first here\n",
                st->short_file, (long long)st->first_line[DROP_SHORT_USER],
                read_drop_text[DROP_SHORT_USER], (long long)st->short_users,
                (long long)st->dropped[DROP_SHORT_USER]);
}
