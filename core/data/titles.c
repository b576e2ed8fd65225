#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/data/interact.h"
#include <string.h>

/* Old MovieLens files are Latin-1, whose every byte is a code point. */
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

static void take_title(struct interactions *x, struct field id, struct field title,
                       struct title_stats *st)
{
    char buf[LIMIT_TITLE_BYTES], wide[2 * LIMIT_TITLE_BYTES];
    struct span key = { id.p, id.n };
    if (id.doubled && id.n <= 2 * LIMIT_ID_BYTES) key = text_unquote(id, buf);
    key = text_trim(key);
    int32_t row =
        key.n >= 1 && key.n <= LIMIT_ID_BYTES ? items_lookup(x->items, key.p, key.n) : -1;
    if (row < 0) {
        st->unknown++;
        return;
    }
    title.n = text_utf8_cut(title.p, title.n, sizeof buf);
    struct span t = text_trim(text_unquote(title, buf));
    if (!text_utf8_ok(t.p, t.n)) t = latin1_to_utf8(t, wide);
    items_set_title(x->items, row, t.p, t.n);
    st->matched++;
}

int read_titles_mem(struct interactions *x, const char *data, size_t nb, const char *name,
                    struct title_stats *st, struct err *e)
{
    *st = (struct title_stats){ 0 };
    struct text_lines l = text_begin(data, nb);
    struct span line;
    if (!text_line(&l, &line)) return err_set(e, ERR_FORMAT, "%s: empty", name);
    char sep = memchr(line.p, '\t', line.n) ? '\t' : ',';
    struct columns c = interact_columns(line, sep);
    if (c.at[COL_ITEM] < 0 || c.at[COL_TITLE] < 0)
        return err_set(e, ERR_FORMAT, "%s:%lld: the header names no %s column", name,
                       (long long)l.no, c.at[COL_ITEM] < 0 ? "item" : "title");
    struct field f[FIELDS_MAX];
    while (text_line(&l, &line)) {
        if (text_fields(f, FIELDS_MAX, line, sep, sep == ',') == c.n) {
            take_title(x, f[c.at[COL_ITEM]], f[c.at[COL_TITLE]], st);
        } else {
            if (st->bad == 0) st->first_bad = l.no;
            st->bad++;
        }
    }
    st->lines = l.no;
    return 0;
}

int read_titles(struct interactions *x, const char *path, struct title_stats *st, struct err *e)
{
    struct io_map m;
    TRY(io_map_open(&m, path, e));
    int rc = read_titles_mem(x, (const char *)m.data, m.nb, path, st, e);
    io_map_close(&m);
    return rc;
}
