#include "core/data/items_read.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/interact.h"
#include "core/data/unpack.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- cells ---- */

/* Old MovieLens files are Latin-1, whose every byte is a code point.  buf [2 s.n]. */
static struct span latin1_to_utf8(struct span s, char *buf)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x80) {
            buf[n++] = (char)(0xc0 | c >> 6);
            c = 0x80 | (c & 0x3f);
        }
        buf[n++] = (char)c;
    }
    return (struct span){ buf, n };
}

/* A cell's content, cut at so many bytes; two buffers of its own for what has to be rewritten. */
enum { CELL_BYTES = 1 << 15 };
struct cell {
    char plain[CELL_BYTES], wide[2 * CELL_BYTES];
};

static struct span cell_text(struct cell *c, struct field f)
{
    f.n = text_utf8_cut(f.p, f.n, sizeof c->plain);
    struct span t = text_trim(text_unquote(f, c->plain));
    return text_utf8_ok(t.p, t.n) ? t : latin1_to_utf8(t, c->wide);
}

static bool value_ok(struct span v)
{
    return v.n > 0 && v.n <= LIMIT_ID_BYTES && !text_has_control(v.p, v.n) &&
           text_utf8_ok(v.p, v.n);
}

/* What people write where nothing is known. */
static bool says_nothing(struct span text)
{
    static const char *const words[] = { "NA", "N/A", "nan", "null", "none", "\\N" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (text_same(text, words[i])) return true;
    return text.n == 0;
}

/* ---- the table's columns ---- */

enum use { USE_NOT, USE_VALUES, USE_NUMBER };

struct table_column {
    char name[48];
    enum use use, asked; /* asked: by --fields; USE_NOT: to be guessed */
    bool named;          /* in --fields */
    char sep;            /* between the values of a cell; 0: it is one value */
    int32_t field;
    int64_t filled, numeric,
        whole; /* cells of known items: with something in them, numbers, whole ones */
    struct items_builder *seen;
};

struct table {
    struct items_builder *items;
    int32_t first; /* rows from here on may change */
    const struct items_opts *o;
    struct items_stats *st;
    const char *name;
    struct columns c;
    struct table_column *col; /* [c.n] */
    struct err *e;
};

/* The row of an entry that is to be taken; -1: it is not. */
static int32_t row_of_id(struct table *t, const char *id, size_t len)
{
    struct span text = { id, len };
    if (len < 1 || len > LIMIT_ID_BYTES) return -1;
    int32_t row = items_lookup(t->items, id, len);
    if (row < 0 && t->o->add && value_ok(text) && items_builder_count(t->items) < LIMIT_ITEMS)
        row = items_add(t->items, id, len);
    return row >= t->first ? row : -1;
}

static int32_t row_of_cell(struct table *t, struct field f)
{
    char buf[2 * LIMIT_ID_BYTES];
    struct span id = columns_id(f, buf);
    return row_of_id(t, id.p, id.n);
}

static void table_free(struct table *t)
{
    for (size_t i = 0; t->col && i < t->c.n; i++) items_builder_free(t->col[i].seen);
    free(t->col);
}

static void leave_out(struct items_stats *st, const char *name, const char *why)
{
    size_t at = strlen(st->left_out);
    snprintf(st->left_out + at, sizeof st->left_out - at, "%s%s (%s)", at ? ", " : "", name,
             why);
}

static enum use use_of_type(struct span type, char *sep)
{
    *sep = '|';
    if (text_same(type, "token_seq")) *sep = ' ';
    if (text_same(type, "token")) *sep = 0;
    if (text_same(type, "token_seq") || text_same(type, "token")) return USE_VALUES;
    return text_same(type, "float") ? USE_NUMBER : USE_NOT;
}

/* Marks the columns that --fields names. */
static int take_spec(struct table *t, int64_t line, struct span header)
{
    struct span rest = { t->o->fields, t->o->fields ? strlen(t->o->fields) : 0 }, part;
    while (t->o->fields && text_part(&rest, ',', &part)) {
        struct span name, kind = part;
        if (part.n == 0) continue; /* "" asks for no field at all */
        (void)text_part(&kind, ':', &name);
        enum use asked = !kind.p                     ? USE_NOT
                         : text_same(kind, "values") ? USE_VALUES
                         : text_same(kind, "number") ? USE_NUMBER
                                                     : (enum use) - 1;
        if ((int)asked < 0)
            return err_set(t->e, ERR_USAGE,
                           "--fields: '%.*s': after the colon comes values or number",
                           (int)part.n, part.p);
        int found = 0;
        for (size_t i = 0; i < t->c.n; i++) {
            if (strlen(t->col[i].name) != name.n || !text_same(name, t->col[i].name)) continue;
            found++;
            t->col[i].named = true;
            if (kind.p) t->col[i].asked = asked;
        }
        char list[256];
        columns_list(list, sizeof list, header, t->c.sep);
        if (name.n > LIMIT_FIELD_NAME)
            return err_set(t->e, ERR_USAGE, "--fields: '%.*s' is longer than %d bytes",
                           (int)name.n, name.p, LIMIT_FIELD_NAME);
        if (found != 1)
            return err_set(t->e, ERR_FORMAT, "%s:%lld: %s '%.*s' (--fields); it has %s",
                           t->name, (long long)line,
                           found ? "several columns are called" : "no column", (int)name.n,
                           name.p, list);
    }
    return 0;
}

/* A field's values come from one column. */
static int check_names(const struct table *t, int64_t line)
{
    for (size_t i = 0; i < t->c.n; i++)
        for (size_t j = 0; j < i; j++)
            if (t->col[i].seen && t->col[j].seen && strcmp(t->col[i].name, t->col[j].name) == 0)
                return err_set(t->e, ERR_FORMAT,
                               "%s:%lld: columns %zu and %zu are both called '%s'; rename one",
                               t->name, (long long)line, j + 1, i + 1, t->col[i].name);
    return 0;
}

/* Names and declared types of the columns; those that may become fields get a vocabulary to count in. */
static int table_columns(struct table *t, struct span header, int64_t line, bool typed)
{
    struct field f[FIELDS_MAX];
    char header_sep = t->o->header ? ',' : t->c.sep;
    (void)text_fields(f, FIELDS_MAX, header, header_sep, header_sep != '\t');
    t->col = xcalloc(t->c.n, sizeof *t->col);
    for (size_t i = 0; i < t->c.n; i++) {
        struct span type, name = columns_name(f[i], &type);
        struct table_column *col = &t->col[i];
        col->sep = '|';
        if (typed) col->asked = use_of_type(type, &col->sep);
        if (!value_ok(name) || name.n > LIMIT_FIELD_NAME) continue;
        memcpy(col->name, name.p, name.n);
    }
    TRY(take_spec(t, line, header));
    for (size_t i = 0; i < t->c.n; i++) {
        struct table_column *col = &t->col[i];
        bool other_use =
            (int)i == t->c.at[COL_ITEM] ||
            ((int)i == t->c.at[COL_TITLE] && strcasecmp(col->name, "attributes") != 0);
        bool wanted = t->o->fields ? col->named : !other_use;
        if (wanted && typed && !col->named && col->asked == USE_NOT) {
            leave_out(t->st, col->name, "float_seq"); /* vectors are no attributes */
            continue;
        }
        if (wanted && !col->name[0])
            leave_out(t->st, "a column", "its name is empty or too long");
        if (wanted && col->name[0]) col->seen = items_builder_new();
    }
    return check_names(t, line);
}

/* An entry of an item that is taken, or of another one (row -1). */
static void count_entry(struct items_stats *st, int32_t row, const char *id, size_t len)
{
    if (row >= 0) {
        st->matched++;
        return;
    }
    if (st->unknown++ == 0)
        snprintf(st->first_unknown, sizeof st->first_unknown, "%.*s",
                 (int)text_utf8_cut(id, len, sizeof st->first_unknown - 1), id);
}

/* fn gets every line of a known item. */
typedef void on_line_fn(struct table *t, int32_t row, const struct field *f);

static void each_line(struct table *t, struct text_lines l, on_line_fn *fn, bool count)
{
    struct span line;
    struct field f[FIELDS_MAX];
    while (text_line(&l, &line)) {
        bool whole = text_fields(f, FIELDS_MAX, line, t->c.sep, t->c.quotes) == t->c.n;
        int32_t row = whole ? row_of_cell(t, f[t->c.at[COL_ITEM]]) : -1;
        if (row >= 0) fn(t, row, f);
        if (!count) continue;
        if (!whole && t->st->bad++ == 0) t->st->first_bad = l.no;
        if (whole) {
            struct cell cell;
            struct span id = cell_text(&cell, f[t->c.at[COL_ITEM]]);
            count_entry(t->st, row, id.p, id.n);
        }
    }
}

static void survey_line(struct table *t, int32_t row, const struct field *f)
{
    (void)row;
    struct cell cell;
    for (size_t i = 0; i < t->c.n; i++) {
        struct table_column *col = &t->col[i];
        double x;
        if (!col->seen) continue;
        struct span text = cell_text(&cell, f[i]), value;
        if (says_nothing(text)) continue;
        bool number = text_number(text, &x);
        col->filled++;
        col->numeric += number;
        col->whole += number && x == floor(x);
        if (!col->sep) {
            if (value_ok(text)) items_add(col->seen, text.p, text.n);
            continue;
        }
        while (text_part(&text, col->sep, &value))
            if (value_ok(value)) items_add(col->seen, value.p, value.n);
    }
}

/* Values that tell one item from all others say nothing about it; below so few items nothing can be told. */
enum { FEW_ITEMS = 20 };

/* Numbers, unless they number something: whole ones in a column called ...id. */
static enum use guess_use(const struct table_column *col)
{
    size_t n = strlen(col->name);
    bool id = n >= 2 && strcasecmp(col->name + n - 2, "id") == 0;
    if (col->numeric < col->filled || (id && col->whole == col->filled)) return USE_VALUES;
    return USE_NUMBER;
}

static int decide(struct table *t)
{
    for (size_t i = 0; i < t->c.n; i++) {
        struct table_column *col = &t->col[i];
        if (!col->seen) continue;
        int64_t distinct = items_builder_count(col->seen);
        col->use = col->asked != USE_NOT ? col->asked : guess_use(col);
        if (col->filled == 0 && !col->named) {
            col->use = USE_NOT;
            leave_out(t->st, col->name, "empty");
        } else if (!col->named && col->use == USE_VALUES && col->filled >= FEW_ITEMS &&
                   distinct * 10 > col->filled * 9) {
            col->use = USE_NOT;
            leave_out(t->st, col->name, "nearly every item has its own");
        }
        if (col->use == USE_NOT) continue;
        enum field_kind kind = col->use == USE_NUMBER ? FIELD_NUMBER : FIELD_VALUES;
        col->field = items_field_add(t->items, col->name, strlen(col->name), kind);
        if (col->field < 0)
            return err_set(t->e, ERR_FORMAT,
                           "%s: field %s is %s elsewhere, or there are more than %d fields; "
                           "choose with --fields %s:%s",
                           t->name, col->name, kind == FIELD_NUMBER ? "of values" : "a number",
                           LIMIT_FIELDS, col->name, kind == FIELD_NUMBER ? "values" : "number");
        struct items_field_stats *s = &t->st->field[t->st->n_fields++];
        *s = (struct items_field_stats){ .kind = kind,
                                         .filled = col->filled,
                                         .values = distinct };
        memcpy(s->name, col->name, sizeof s->name);
    }
    return 0;
}

static void take_value(struct table *t, const struct table_column *col, int32_t row,
                       struct span value)
{
    if (value_ok(value))
        items_add_value(t->items, col->field, row, value.p, value.n);
    else
        t->st->bad_values++;
}

static void take_line(struct table *t, int32_t row, const struct field *f)
{
    struct cell cell;
    if (t->c.at[COL_TITLE] >= 0) {
        struct span title = cell_text(&cell, f[t->c.at[COL_TITLE]]);
        if (title.n > 0) items_set_title(t->items, row, title.p, title.n);
        t->st->titles += title.n > 0;
    }
    for (size_t i = 0; i < t->c.n; i++) {
        const struct table_column *col = &t->col[i];
        if (col->use == USE_NOT) continue;
        struct span text = cell_text(&cell, f[i]), value;
        double x;
        if (says_nothing(text)) continue;
        if (col->use == USE_NUMBER) {
            if (text_number(text, &x))
                items_set_number(t->items, col->field, row, x);
            else
                t->st->bad_values++;
        } else if (!col->sep) {
            take_value(t, col, row, text);
        } else {
            while (text_part(&text, col->sep, &value))
                if (value.n > 0) take_value(t, col, row, value);
        }
    }
}

static int table_header(struct table *t, struct text_lines *l)
{
    static const unsigned kinds = 1u << COL_ITEM | 1u << COL_TITLE;
    struct text_lines after = *l;
    struct span first, header;
    if (!text_line(&after, &first)) return err_set(t->e, ERR_FORMAT, "%s: empty", t->name);
    char sep = columns_separator(first);
    int64_t line = after.no;
    if (t->o->header) {
        header = (struct span){ t->o->header, strlen(t->o->header) };
        TRY(columns_find(&t->c, header, ',', kinds, &t->o->columns, "--items-header", 1, t->e));
        sep = columns_separator_of(first, t->c.n);
        t->c.sep = sep;
        t->c.quotes = sep != '\t';
    } else {
        header = first;
        *l = after;
        TRY(columns_find(&t->c, header, sep, kinds, &t->o->columns, t->name, line, t->e));
    }
    if (t->c.at[COL_ITEM] < 0) {
        char list[256];
        columns_list(list, sizeof list, header, t->o->header ? ',' : sep);
        return err_set(
            t->e, ERR_FORMAT,
            "%s:%lld: the header names no item column: name it with --item-col; it has %s",
            t->name, (long long)line, list);
    }
    return table_columns(t, header, line,
                         sep == '\t' && !t->o->header && columns_typed(header));
}

/* A file of other items is another file, or its ids are in another column. */
static int check_matched(const struct table *t)
{
    if (t->o->add || t->st->matched > 0 || t->st->unknown == 0) return 0;
    return err_set(t->e, ERR_FORMAT,
                   "%s: none of its %lld entries is of an item among the events: is this the "
                   "catalogue of these events, and --items-item-col the column of their ids?",
                   t->name, (long long)t->st->unknown);
}

static int read_table(struct table *t, struct text_lines l)
{
    TRY(table_header(t, &l));
    each_line(t, l, survey_line, true);
    TRY(check_matched(t));
    TRY(decide(t));
    if (t->c.at[COL_TITLE] < 0 && t->st->n_fields == 0)
        return err_set(t->e, ERR_FORMAT, "%s: no title column and no field%s%s", t->name,
                       t->st->left_out[0] ? ": left out " : "", t->st->left_out);
    each_line(t, l, take_line, false);
    return 0;
}

/* ---- a JSON object: id -> bag ---- */

/* A string or a whole number, as text in buf [32]. */
static struct span json_word(const json_t *v, char *buf)
{
    if (json_is_string(v)) return (struct span){ json_string_value(v), json_string_length(v) };
    if (!json_is_integer(v)) return (struct span){ NULL, 0 };
    int n = snprintf(buf, 32, "%lld", (long long)json_integer_value(v));
    return (struct span){ buf, (size_t)n };
}

static void take_bag(struct table *t, int32_t f, int32_t row, const json_t *bag)
{
    char buf[32];
    for (size_t i = 0; i < json_array_size(bag); i++) {
        struct span v = text_trim(json_word(json_array_get(bag, i), buf));
        if (v.p && value_ok(v))
            items_add_value(t->items, f, row, v.p, v.n);
        else
            t->st->bad_values++;
    }
}

static int read_json(struct table *t, const char *data, size_t nb)
{
    json_error_t why;
    if (nb > LIMIT_JSON_FILE_BYTES)
        return err_set(t->e, ERR_LIMIT, "%s: %zu bytes of JSON, at most %d are read", t->name,
                       nb, LIMIT_JSON_FILE_BYTES);
    json_t *root = json_loadb(data, nb, 0, &why), *v;
    if (!root) return err_set(t->e, ERR_FORMAT, "%s:%d: %s", t->name, why.line, why.text);
    static const char name[] = "attributes";
    int32_t f = items_field_add(t->items, name, sizeof name - 1, FIELD_VALUES);
    struct items_field_stats *s = &t->st->field[0];
    *s = (struct items_field_stats){ .name = "attributes", .kind = FIELD_VALUES };
    t->st->n_fields = 1;
    const char *key;
    json_object_foreach (root, key, v) {
        size_t len = strlen(key);
        int32_t row = row_of_id(t, key, len);
        count_entry(t->st, row, key, len);
        t->st->bad += !json_is_array(v);
        if (f < 0 || row < 0 || !json_is_array(v)) continue;
        take_bag(t, f, row, v);
        s->filled += json_array_size(v) > 0;
    }
    json_decref(root);
    TRY(check_matched(t));
    return f >= 0 ? 0
                  : err_set(t->e, ERR_FORMAT,
                            "%s: field attributes is of numbers, or one too many", t->name);
}

/* ---- */

int read_items_mem(struct items_builder *items, const char *data, size_t nb, const char *name,
                   const struct items_opts *o, struct items_stats *st, struct err *e)
{
    static const struct items_opts guess = { 0 };
    *st = (struct items_stats){ 0 };
    struct table t = { .items = items, .o = o ? o : &guess, .st = st, .name = name, .e = e };
    if (t.o->add) t.first = items_builder_count(items);
    struct text_lines l = text_begin(data, nb);
    const char *p = l.p;
    while (p < l.end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    int rc = p < l.end && *p == '{' ? read_json(&t, p, (size_t)(l.end - p)) : read_table(&t, l);
    table_free(&t);
    return rc;
}

int read_items(struct items_builder *items, const char *path, const struct items_opts *o,
               struct items_stats *st, struct err *e)
{
    struct unpacked u;
    TRY(unpack_open(&u, path, e));
    int rc = read_items_mem(items, u.data, u.nb, path, o, st, e);
    memcpy(st->damage, u.damage, sizeof st->damage);
    unpack_close(&u);
    return rc;
}

void items_report(const struct items_stats *st, const char *name, FILE *f)
{
    if (st->damage[0]) fprintf(f, "%s: %s: what came before is read\n", name, st->damage);
    fprintf(f, "%s: %lld entries of items with events, %lld with titles; %lld of other items",
            name, (long long)st->matched, (long long)st->titles, (long long)st->unknown);
    fprintf(f, st->unknown ? ", the first is \"%s\"\n" : "\n", st->first_unknown);
    for (int i = 0; i < st->n_fields; i++) {
        const struct items_field_stats *s = &st->field[i];
        fprintf(f, "%s: field %s: ", name, s->name);
        if (s->kind == FIELD_NUMBER)
            fprintf(f, "a number in %lld entries\n", (long long)s->filled);
        else if (s->values)
            fprintf(f, "%lld values in %lld entries\n", (long long)s->values,
                    (long long)s->filled);
        else
            fprintf(f, "values in %lld entries\n", (long long)s->filled);
    }
    if (st->left_out[0]) fprintf(f, "%s: no fields: %s\n", name, st->left_out);
    if (st->bad && st->first_bad)
        fprintf(f, "%s:%lld: wrong number of fields: %lld dropped, the first here\n", name,
                (long long)st->first_bad, (long long)st->bad);
    if (st->bad && !st->first_bad)
        fprintf(f, "%s: %lld entries dropped: their attributes are no list\n", name,
                (long long)st->bad);
    if (st->bad_values)
        fprintf(f,
                "%s: %lld values dropped (too long, with control characters, or no number)\n",
                name, (long long)st->bad_values);
}
