#include "core/base/limits.h"
#include "core/data/interact.h"
#include "core/data/unpack.h"
#include <string.h>

const char *const read_drop_text[DROP_KINDS] = {
#define DROP_TEXT_(n, t) t,
    READ_DROP_MAP(DROP_TEXT_)
#undef DROP_TEXT_
};
const char *const read_format_name[] = { "auto", "seq", "inter", "csv", "tsv" };

/* ---- headers and formats ---- */

enum {
    EVENT_COLUMNS = 1u << COL_USER | 1u << COL_ITEM | 1u << COL_TIME | 1u << COL_EVENT,
    ID_COLUMNS = 1u << COL_USER | 1u << COL_ITEM
};

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

/* A header of this separator has a user and an item column, or something that looks like one and is wrong (a name
 * twice, too many columns), which its reader then says. */
static bool is_table(struct span first, char sep, const struct read_opts *o)
{
    struct columns c;
    int rc = columns_find(&c, first, sep, ID_COLUMNS, &o->columns, "", 1, NULL);
    return rc < 0 || (c.at[COL_USER] >= 0 && c.at[COL_ITEM] >= 0);
}

/* A header with blanks between its names: such a table is not read, and must not be taken for sequences. */
static bool is_blank_table(struct span first)
{
    struct columns c;
    int rc = columns_find(&c, first, ' ', ID_COLUMNS, NULL, "", 1, NULL);
    return rc == 0 && c.at[COL_USER] >= 0 && c.at[COL_ITEM] >= 0;
}

/* Names given for columns promise a table, whatever its header says. */
static bool promises_table(const struct read_opts *o)
{
    return o->header || o->columns.name[COL_USER] || o->columns.name[COL_ITEM];
}

static enum read_format detect(const char *data, size_t nb, struct span first,
                               const struct read_opts *o)
{
    char sep = columns_separator(first);
    if (columns_typed(first)) return READ_INTER;
    if (promises_table(o) || is_table(first, sep, o)) return sep == '\t' ? READ_TSV : READ_CSV;
    return !is_blank_table(first) && looks_like_sequences(data, nb) ? READ_SEQ : READ_AUTO;
}

static int unknown_format(struct span first, const char *name, int64_t line, struct err *e)
{
    char begin[33];
    size_t n = first.n < sizeof begin - 1 ? first.n : sizeof begin - 1;
    for (size_t i = 0; i < n; i++)
        begin[i] = first.p[i] >= ' ' && first.p[i] < 0x7f ? first.p[i] : '?';
    begin[n] = 0;
    return err_set(
        e, ERR_FORMAT,
        "%s:%lld: unknown format (begins with '%s'): neither user-sequence text "
        "(user item item ...), nor a RecBole header (user_id:token TAB item_id:token ...), nor "
        "a CSV or TSV header with a user and an item column (name them with --user-col and "
        "--item-col, or give the names of all with --header where the file has none)",
        name, (long long)line, begin);
}

/* ---- events ---- */

struct reader {
    struct interactions *x;
    const struct read_opts *o;
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
    if (text_has_control(id.p, id.n)) return DROP_CONTROL;
    return text_utf8_ok(id.p, id.n) ? -1 : DROP_UTF8;
}

static int take_event(struct reader *r, struct span user, struct span item, double time,
                      float weight, int64_t line)
{
    int why = id_fault(user);
    if (why < 0) why = id_fault(item);
    if (why >= 0) {
        drop(r->st, (enum read_drop)why, line, 1);
        return 0;
    }
    if (interact_add(r->x, user, item, time, weight, line, r->e) < 0)
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
        while (text_word(&line, &item)) TRY(take_event(r, user, item, 0, 1, l->no));
        if (r->st->events == before) drop(r->st, DROP_FIELDS, l->no, 1);
    }
    return 0;
}

static void count_type(struct read_stats *st, struct span type)
{
    if (type.n == 0) type = (struct span){ "(none)", 6 };
    struct type_count t = { .n = 1 };
    size_t n = text_utf8_cut(type.p, type.n, sizeof t.name - 1);
    for (size_t i = 0; i < n; i++) t.name[i] = (unsigned char)type.p[i] < ' ' ? '?' : type.p[i];
    for (int i = 0; i < st->n_types; i++) {
        if (strcmp(st->type[i].name, t.name) != 0) continue;
        st->type[i].n++;
        return;
    }
    if (st->n_types == READ_TYPES || !text_utf8_ok(t.name, n))
        st->other_types++;
    else
        st->type[st->n_types++] = t;
}

/* The event's weight, 0 where its type is not asked for. */
static float type_weight(struct reader *r, const struct columns *c, const struct field *f)
{
    if (c->at[COL_EVENT] < 0) return 1;
    char buf[2 * LIMIT_ID_BYTES];
    struct span type = columns_id(f[c->at[COL_EVENT]], buf);
    count_type(r->st, type);
    return r->o->types ? event_types_weight(r->o->types, type) : 1;
}

static int take_record(struct reader *r, const struct columns *c, const struct field *f,
                       int64_t line)
{
    char user[2 * LIMIT_ID_BYTES], item[2 * LIMIT_ID_BYTES];
    double time = 0;
    float weight = type_weight(r, c, f);
    if (weight <= 0) {
        drop(r->st, DROP_EVENT_TYPE, line, 1);
        return 0;
    }
    if (c->at[COL_TIME] >= 0) {
        const struct field *t = &f[c->at[COL_TIME]];
        if (!text_time(text_trim((struct span){ t->p, t->n }), &time)) {
            drop(r->st, DROP_TIME, line, 1);
            return 0;
        }
    }
    return take_event(r, columns_id(f[c->at[COL_USER]], user),
                      columns_id(f[c->at[COL_ITEM]], item), time, weight, line);
}

static int need_column(struct reader *r, const struct columns *c, enum column kind,
                       struct span header, int64_t line)
{
    if (c->at[kind] >= 0) return 0;
    char list[256];
    columns_list(list, sizeof list, header, c->sep);
    if (r->o->header)
        return err_set(r->e, ERR_FORMAT, "--header names no %s column: name it with --%s-col",
                       column_text[kind], column_text[kind]);
    return err_set(r->e, ERR_FORMAT,
                   "%s:%lld: the header names no %s column: name it with --%s-col; it has %s",
                   r->name, (long long)line, column_text[kind], column_text[kind], list);
}

/* The columns, and the first line of the events in l. */
static int read_header(struct reader *r, struct columns *c, struct text_lines *l, char sep)
{
    struct span header = { r->o->header, r->o->header ? strlen(r->o->header) : 0 };
    struct text_lines after = *l;
    int64_t line = 0;
    if (r->o->header) {
        struct span first;
        TRY(columns_find(c, header, ',', EVENT_COLUMNS, &r->o->columns, "--header", 1, r->e));
        if (text_line(&after, &first)) sep = columns_separator_of(first, c->n);
        c->sep = sep;
        c->quotes = sep != '\t';
    } else {
        (void)text_line(&after, &header);
        *l = after;
        line = l->no;
        TRY(columns_find(c, header, sep, EVENT_COLUMNS, &r->o->columns, r->name, line, r->e));
    }
    struct columns shown = *c;
    if (r->o->header) shown.sep = ',';
    TRY(need_column(r, &shown, COL_USER, header, line));
    TRY(need_column(r, &shown, COL_ITEM, header, line));
    if (r->o->types) TRY(need_column(r, &shown, COL_EVENT, header, line));
    columns_describe(r->st->columns, sizeof r->st->columns, &shown, header);
    bool has_time = c->at[COL_TIME] >= 0;
    r->st->file_order = !has_time && !r->o->columns.name[COL_TIME];
    if (r->x->n > 0 && r->x->has_time != has_time)
        return err_set(r->e, ERR_FORMAT, "%s:%lld: %s timestamps, unlike the files before it",
                       r->name, (long long)line, has_time ? "has" : "has no");
    r->x->has_time = has_time;
    return 0;
}

static int read_table(struct reader *r, struct text_lines *l, char sep)
{
    struct columns c;
    struct span line;
    struct field f[FIELDS_MAX];
    TRY(read_header(r, &c, l, sep));
    while (text_line(l, &line)) {
        if (!line_fits(r, line, l->no)) continue;
        size_t n = text_fields(f, FIELDS_MAX, line, sep, c.quotes);
        if (n == c.n)
            TRY(take_record(r, &c, f, l->no));
        else
            drop(r->st, DROP_FIELDS, l->no, 1);
    }
    return 0;
}

static int read_as(struct reader *r, struct text_lines *l, enum read_format f,
                   struct span first)
{
    if (f == READ_INTER || f == READ_TSV) return read_table(r, l, '\t');
    if (f == READ_CSV) {
        char sep = columns_separator(first);
        return read_table(r, l, sep == '\t' ? ',' : sep); /* a tab may stand inside quotes */
    }
    if (r->x->n > 0 && r->x->has_time)
        return err_set(r->e, ERR_FORMAT, "%s: has no timestamps, unlike the files before it",
                       r->name);
    if (r->o->types)
        return err_set(r->e, ERR_FORMAT,
                       "%s: user-sequence text has no event types; leave --events out",
                       r->name);
    r->x->has_time = false;
    return read_sequences(r, l);
}

int read_events_mem(struct interactions *x, const char *data, size_t nb, const char *name,
                    const struct read_opts *o, struct read_stats *st, struct err *e)
{
    static const struct read_opts guess = { 0 };
    if (!o) o = &guess;
    enum read_format f = o->format;
    *st = (struct read_stats){ .format = f, .all_types = !o->types };
    struct text_lines l = text_begin(data, nb), peek = l;
    struct span first;
    if (!text_line(&peek, &first)) {
        st->format = READ_AUTO;
        return 0;
    }
    if (f == READ_AUTO) f = detect(data, nb, first, o);
    if (f == READ_AUTO) return unknown_format(first, name, peek.no, e);
    st->format = f;
    struct reader r = { x, o, st, name, e };
    interact_begin(x, name);
    int rc = read_as(&r, &l, f, first);
    st->lines = l.no;
    interact_end(x, st);
    return rc;
}

int read_events(struct interactions *x, const char *path, const struct read_opts *o,
                struct read_stats *st, struct err *e)
{
    struct unpacked u;
    *st = (struct read_stats){ 0 };
    TRY(unpack_open(&u, path, e));
    int32_t n_src = x->n_src;
    int rc = read_events_mem(x, u.data, u.nb, path, o, st, e);
    st->packed = u.packed;
    memcpy(st->damage, u.damage, sizeof st->damage);
    if (x->n_src > n_src) interact_end(x, st);
    unpack_close(&u);
    return rc;
}

static void report_types(const struct read_stats *st, const char *name, FILE *f)
{
    if (st->n_types == 0) return;
    fprintf(f, "%s: event types:", name);
    for (int i = 0; i < st->n_types; i++)
        fprintf(f, "%s %s %lld", i ? "," : "", st->type[i].name, (long long)st->type[i].n);
    if (st->other_types) fprintf(f, ", others %lld", (long long)st->other_types);
    fputs(st->all_types ? " (all kept; --events chooses)\n" : "\n", f);
}

void read_report(const struct read_stats *st, const char *name, FILE *f)
{
    if (st->damage[0])
        fprintf(f, "%s: %s: %s: what came before is read\n", name, st->packed, st->damage);
    if (st->format == READ_AUTO && st->lines == 0 && st->events == 0)
        fprintf(f, "%s: empty\n", name);
    else
        fprintf(f, "%s: %s%s%s, %lld lines, %lld events, %lld kept\n", name,
                read_format_name[st->format], st->packed ? ", " : "",
                st->packed ? st->packed : "", (long long)st->lines, (long long)st->events,
                (long long)st->kept);
    if (st->columns[0]) fprintf(f, "%s: columns: %s\n", name, st->columns);
    if (st->file_order)
        fprintf(f,
                "%s: no time column: a user's events are taken in the order of the file; "
                "--time-col "
                "names one\n",
                name);
    report_types(st, name, f);
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
    if (st->rare_items)
        fprintf(f, "%s: %lld dropped with %lld events\n", read_drop_text[DROP_RARE_ITEM],
                (long long)st->rare_items, (long long)st->dropped[DROP_RARE_ITEM]);
}
