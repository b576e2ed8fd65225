#include "core/data/clicks.h"
#include "core/base/mem.h"
#include "core/data/columns.h"
#include "core/data/unpack.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Where in a line something stands; -1: nowhere. */
struct places {
    int label, user, item, feature[LIMIT_FEATURES];
    size_t n; /* fields of a line */
    char sep;
};

struct reader {
    struct clicks *c;
    struct schema *s;
    const struct clicks_opts *o;
    const char *name;
    struct places at;
    struct items_builder *users;
    char *text;    /* for doubled quotes: as long as the longest line */
    int32_t *step; /* [LIMIT_FEATURES, max_len] of one line */
    struct err *e;
};

/* ---- the header ---- */

static int place(int *at, const struct field *f, size_t n, const char *column,
                 struct span header, struct reader *r)
{
    char list[256];
    *at = -1;
    if (!column) return 0;
    for (size_t i = 0; i < n; i++) {
        if (!text_same(columns_name(f[i], NULL), column)) continue;
        if (*at >= 0)
            return err_set(r->e, ERR_FORMAT, "%s: two columns are called '%s'", r->name,
                           column);
        *at = (int)i;
    }
    if (*at >= 0) return 0;
    columns_list(list, sizeof list, header, r->at.sep);
    return err_set(r->e, ERR_FORMAT, "%s: no column '%s'; the header has %s", r->name, column,
                   list);
}

static int read_header(struct reader *r, struct text_lines *l)
{
    struct span line;
    struct field f[FIELDS_MAX];
    if (!text_line(l, &line)) return err_set(r->e, ERR_EMPTY, "%s: empty", r->name);
    r->at.sep = columns_separator(line);
    r->at.n = text_fields(f, FIELDS_MAX, line, r->at.sep, r->at.sep != '\t');
    if (r->at.n > FIELDS_MAX || r->at.n == 0)
        return err_set(r->e, ERR_FORMAT, "%s: a header of %zu columns", r->name, r->at.n);
    TRY(place(&r->at.label, f, r->at.n, r->o->label, line, r));
    TRY(place(&r->at.user, f, r->at.n, r->o->user, line, r));
    TRY(place(&r->at.item, f, r->at.n, r->o->item, line, r));
    for (int32_t i = 0; i < r->s->n; i++)
        if (schema_group_of(r->s, i) >= 0)
            TRY(place(&r->at.feature[i], f, r->at.n, r->s->f[i]->name, line, r));
    return 0;
}

static struct span content(const struct reader *r, struct field f)
{
    return text_trim(text_unquote(f, r->text));
}

/* ---- boundaries of numbers ---- */

static int fit_one(struct reader *r, struct text_lines l, int32_t feature)
{
    struct field f[FIELDS_MAX];
    struct span line;
    double *value = NULL;
    int64_t n = 0, cap = 0;
    while (text_line(&l, &line)) {
        if (line.n > LIMIT_LINE_BYTES) continue;
        double x;
        size_t k = text_fields(f, FIELDS_MAX, line, r->at.sep, r->at.sep != '\t');
        if (k != r->at.n || !text_number(content(r, f[r->at.feature[feature]]), &x)) continue;
        if (n == cap) {
            cap = 2 * cap + 1024;
            value = xrealloc(value, (size_t)cap, sizeof *value);
        }
        value[n++] = x;
    }
    if (n > 0) schema_fit(r->s, feature, value, n);
    free(value);
    if (n > 0) return 0;
    return err_set(r->e, ERR_FORMAT, "%s: column '%s' has no number, and buckets are wanted",
                   r->name, r->s->f[feature]->name);
}

static int fit(struct reader *r, struct text_lines l)
{
    for (int32_t i = 0; i < r->s->n; i++) {
        if (!schema_unfitted(r->s, i) || schema_group_of(r->s, i) < 0) continue;
        REQUIRE(r->o->fit, "feature %s has no boundaries", r->s->f[i]->name);
        TRY(fit_one(r, l, i));
    }
    return 0;
}

/* ---- lines ---- */

static void *grown(void *p, int64_t n, size_t nb) { return xrealloc(p, (size_t)n, nb); }

static void reserve(struct clicks *c, const struct schema *s)
{
    if (c->n < c->cap_) return;
    c->cap_ = 2 * c->cap_ + 1024;
    c->label = grown(c->label, c->cap_, sizeof *c->label);
    c->user = grown(c->user, c->cap_, sizeof *c->user);
    c->seq_cu = grown(c->seq_cu, c->cap_ + 1, sizeof *c->seq_cu);
    for (int32_t f = 0; f < s->n; f++) {
        struct clicks_column *x = &c->column[f];
        const int g = schema_group_of(s, f);
        if (g < 0 || g == SCHEMA_SEQUENCE) continue;
        if (s->f[f]->kind == FEATURE_TAGS)
            x->cu = grown(x->cu, c->cap_ + 1, sizeof *x->cu);
        else
            x->id = grown(x->id, c->cap_, sizeof *x->id);
    }
}

static void append(struct clicks_column *x, const int32_t *id, int32_t n)
{
    if (x->n_id + n > x->cap_id) {
        x->cap_id = 2 * x->cap_id + n + 1024;
        x->id = grown(x->id, x->cap_id, sizeof *x->id);
    }
    if (n > 0) memcpy(x->id + x->n_id, id, (size_t)n * sizeof *id);
    x->n_id += n;
}

/* Of a line that is not UTF-8. */
static void count_foreign(struct reader *r, const struct field *f)
{
    for (int32_t i = 0; i < r->s->n; i++) {
        if (schema_group_of(r->s, i) < 0) continue;
        struct span v = content(r, f[r->at.feature[i]]);
        r->c->not_utf8 += !text_utf8_ok(v.p, v.n);
    }
}

/* Features that are not of the sequence. */
static void take_columns(struct reader *r, const struct field *f)
{
    struct clicks *c = r->c;
    int32_t tag[LIMIT_TAGS];
    for (int32_t i = 0; i < r->s->n; i++) {
        const int g = schema_group_of(r->s, i);
        if (g < 0 || g == SCHEMA_SEQUENCE) continue;
        struct span v = content(r, f[r->at.feature[i]]);
        struct clicks_column *x = &c->column[i];
        if (r->s->f[i]->kind != FEATURE_TAGS) {
            x->id[c->n] = schema_row(r->s, i, v.p, v.n);
            continue;
        }
        append(x, tag, schema_cell(r->s, i, v.p, v.n, tag, LIMIT_TAGS));
        x->cu[0] = 0;
        x->cu[c->n + 1] = (int32_t)x->n_id;
    }
}

/* The sequence's features into r->step: its length, or -1 where they differ in length. */
static int32_t read_steps(struct reader *r, const struct field *f)
{
    int32_t len = 0;
    for (int32_t k = 0; k < r->s->n_members[SCHEMA_SEQUENCE]; k++) {
        const int32_t i = r->s->member[SCHEMA_SEQUENCE][k];
        struct span v = content(r, f[r->at.feature[i]]);
        int32_t n =
            schema_cell(r->s, i, v.p, v.n, r->step + (int64_t)k * r->o->max_len, r->o->max_len);
        if (k > 0 && n != len) return -1;
        len = n;
    }
    return len;
}

static void take_steps(struct reader *r, int32_t len)
{
    struct clicks *c = r->c;
    for (int32_t k = 0; k < r->s->n_members[SCHEMA_SEQUENCE]; k++)
        append(&c->step[r->s->member[SCHEMA_SEQUENCE][k]], r->step + (int64_t)k * r->o->max_len,
               len);
    c->seq_cu[0] = 0;
    c->seq_cu[c->n + 1] = (c->n > 0 ? c->seq_cu[c->n] : 0) + len;
}

static bool good_id(struct span s)
{
    return s.n > 0 && s.n <= LIMIT_ID_BYTES && text_utf8_ok(s.p, s.n);
}

static void take_values(struct items_builder *b, int32_t field, int32_t row, char sep,
                        struct span text)
{
    struct span rest = sep ? schema_newest(text, sep, LIMIT_TAGS) : text, part;
    if (!sep && good_id(text)) items_add_value(b, field, row, text.p, text.n);
    while (sep && text_part(&rest, sep, &part))
        if (good_id(part)) items_add_value(b, field, row, part.p, part.n);
}

/* An item that was not seen before. */
static int take_item(struct reader *r, const struct field *f, int32_t row)
{
    for (int32_t k = 0; k < r->s->n_members[SCHEMA_ITEM]; k++) {
        const int32_t i = r->s->member[SCHEMA_ITEM][k];
        const struct feature *x = r->s->f[i];
        if (x->context || strcmp(x->name, r->o->item) == 0) continue;
        const bool number = r->s->f[x->table]->kind == FEATURE_NUMBER;
        int32_t field = items_field_add(r->o->items, x->name, strlen(x->name),
                                        number ? FIELD_NUMBER : FIELD_VALUES);
        if (field < 0)
            return err_set(r->e, ERR_LIMIT, "%s: items have more than %d features", r->name,
                           LIMIT_FIELDS);
        struct span v = content(r, f[r->at.feature[i]]);
        double number_value;
        if (!number)
            take_values(r->o->items, field, row,
                        x->kind == FEATURE_TAGS ? x->separator[0] : '\0', v);
        else if (text_number(v, &number_value))
            items_set_number(r->o->items, field, row, number_value);
    }
    return 0;
}

static int drop(struct reader *r, int64_t line, const char *why)
{
    if (r->o->strict)
        return err_set(r->e, ERR_FORMAT, "%s:%" PRId64 ": %s", r->name, line, why);
    if (r->c->bad++ == 0) {
        r->c->first_bad = line;
        snprintf(r->c->why, sizeof r->c->why, "%s", why);
    }
    return 0;
}

/* The user's and the item's ids; -1, or the reason in *why. */
static int32_t intern(struct items_builder *b, struct span id, const char *what,
                      const char **why)
{
    if (good_id(id)) return items_add(b, id.p, id.n);
    *why = what;
    return -1;
}

static int take_line(struct reader *r, struct span line, const struct field *f, int64_t no)
{
    struct clicks *c = r->c;
    double label = 0;
    const char *why = NULL;
    int32_t len = read_steps(r, f), user = 0;
    if (r->at.label >= 0 &&
        (!text_number(content(r, f[r->at.label]), &label) || label < 0 || label > 1))
        why = "the label is not a number from 0 to 1";
    if (len < 0) why = "the sequence's features differ in length";
    if (!why && r->at.user >= 0)
        user = intern(r->users, content(r, f[r->at.user]), "no proper user id", &why);
    if (!why && r->o->items) {
        const int32_t known = items_builder_count(r->o->items);
        const int32_t row =
            intern(r->o->items, content(r, f[r->at.item]), "no proper item id", &why);
        if (row == known) TRY(take_item(r, f, row));
    }
    if (why) return drop(r, no, why);
    reserve(c, r->s);
    if (!text_utf8_ok(line.p, line.n)) count_foreign(r, f);
    take_columns(r, f);
    take_steps(r, len);
    c->label[c->n] = (float)label;
    c->user[c->n] = user;
    c->n++;
    return 0;
}

/* Offsets are 32 bits. */
static int check_room(const struct reader *r)
{
    int64_t most = r->c->n;
    for (int32_t i = 0; i < r->s->n; i++) {
        if (r->c->column[i].n_id > most) most = r->c->column[i].n_id;
        if (r->c->step[i].n_id > most) most = r->c->step[i].n_id;
    }
    if (most < INT32_MAX - LIMIT_SEQ_LEN) return 0;
    return err_set(r->e, ERR_LIMIT, "%s: more than 2^31 values in a column; split the file",
                   r->name);
}

static int read_lines(struct reader *r, struct text_lines *l)
{
    struct field f[FIELDS_MAX];
    struct span line;
    while (text_line(l, &line)) {
        size_t n = line.n <= LIMIT_LINE_BYTES
                       ? text_fields(f, FIELDS_MAX, line, r->at.sep, r->at.sep != '\t')
                       : 0;
        if (n == r->at.n)
            TRY(take_line(r, line, f, l->no));
        else
            TRY(drop(r, l->no, "another number of fields than the header"));
        TRY(check_room(r));
    }
    return r->c->n > 0 ? 0
                       : err_set(r->e, ERR_EMPTY, "%s: no line is usable%s%s", r->name,
                                 r->c->bad ? ": the first: " : "", r->c->why);
}

static size_t longest_line(struct text_lines l)
{
    struct span line;
    size_t n = 0;
    while (text_line(&l, &line))
        if (line.n > n && line.n <= LIMIT_LINE_BYTES) n = line.n;
    return n;
}

int clicks_read_mem(struct clicks *c, struct schema *s, const char *data, size_t nb,
                    const char *name, const struct clicks_opts *o, struct err *e)
{
    *c = (struct clicks){ 0 };
    struct text_lines l = text_begin(data, nb);
    struct reader r = { .c = c, .s = s, .o = o, .name = name, .e = e };
    REQUIRE(o->max_len > 0 && (!o->items || o->item), "max_len = %d", o->max_len);
    r.users = items_builder_new();
    r.text = xmalloc(longest_line(l) + 1);
    r.step = xcalloc((size_t)LIMIT_FEATURES * (size_t)o->max_len, sizeof *r.step);
    int rc = read_header(&r, &l);
    if (rc == 0) rc = fit(&r, l);
    if (rc == 0) rc = read_lines(&r, &l);
    items_builder_free(r.users);
    free(r.text);
    free(r.step);
    if (rc < 0) clicks_free(c);
    return rc;
}

int clicks_read(struct clicks *c, struct schema *s, const char *path,
                const struct clicks_opts *o, struct err *e)
{
    struct unpacked u;
    *c = (struct clicks){ 0 };
    TRY(unpack_open(&u, path, e));
    int rc = clicks_read_mem(c, s, u.data, u.nb, path, o, e);
    if (rc == 0) memcpy(c->damage, u.damage, sizeof c->damage);
    unpack_close(&u);
    return rc;
}

void clicks_free(struct clicks *c)
{
    free(c->label);
    free(c->user);
    free(c->seq_cu);
    for (int32_t f = 0; f < LIMIT_FEATURES; f++) {
        free(c->column[f].id);
        free(c->column[f].cu);
        free(c->step[f].id);
    }
    *c = (struct clicks){ 0 };
}
