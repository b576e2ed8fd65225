#include "core/serve/record.h"
#include "core/base/limits.h"
#include "core/data/text.h"
#include <math.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { VERSION = 1, KIND_ITEM = 'i', KIND_BLOCKLIST = 'b' };
enum { DELETED = 1, TITLE = 2, ATTRS = 4, VECTOR = 8, FLAGS = 15 };
enum { ATTR_VALUES, ATTR_NUMBER };

/* ---- writing ---- */

static void put_u8(struct buf *b, unsigned x) { buf_putc(b, (char)x); }

static void put_le(struct buf *b, uint64_t x, int nb)
{
    for (int i = 0; i < nb; i++) put_u8(b, x >> (8 * i) & 255);
}

static void put_str(struct buf *b, struct str s)
{
    put_le(b, (uint64_t)s.len, 2);
    buf_put(b, s.p, (size_t)s.len);
}

static void put_f64(struct buf *b, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    put_le(b, bits, 8);
}

static void put_attrs(struct buf *b, const struct attrs *all)
{
    put_u8(b, (unsigned)all->n);
    for (int32_t j = 0; j < all->n; j++) {
        const struct attr *a = &all->at[j];
        put_str(b, a->name);
        put_u8(b, a->value ? ATTR_VALUES : ATTR_NUMBER);
        if (!a->value) {
            put_f64(b, a->number);
            continue;
        }
        put_u8(b, (unsigned)a->n_values);
        for (int32_t i = 0; i < a->n_values; i++) put_str(b, a->value[i]);
    }
}

static void seal(struct buf *b, size_t from)
{
    put_le(b, XXH3_64bits(b->data + from, b->len - from), 8);
}

void record_put_item(struct buf *b, const struct item_change *c)
{
    const size_t from = b->len;
    put_u8(b, VERSION);
    put_u8(b, KIND_ITEM);
    put_u8(b, (c->deleted ? DELETED : 0) | (c->has_title ? TITLE : 0) |
                  (c->has_attrs ? ATTRS : 0) | (c->vector ? VECTOR : 0));
    put_le(b, c->seq, 8);
    put_str(b, c->model);
    put_str(b, c->id);
    if (c->has_title) put_str(b, c->title);
    if (c->has_attrs) put_attrs(b, &c->attrs);
    if (c->vector) {
        put_str(b, c->space);
        put_le(b, (uint64_t)c->dim, 2);
        buf_put(b, c->vector, (size_t)c->dim * sizeof *c->vector);
    }
    seal(b, from);
}

void record_put_blocklist(struct buf *b, const struct blocklist *l)
{
    const size_t from = b->len;
    put_u8(b, VERSION);
    put_u8(b, KIND_BLOCKLIST);
    put_str(b, l->name);
    put_le(b, (uint64_t)l->expires_ms, 8);
    put_le(b, (uint64_t)l->n, 4);
    for (int32_t i = 0; i < l->n; i++) put_str(b, l->id[i]);
    seal(b, from);
}

/* ---- reading ---- */

struct in {
    const uint8_t *p;
    size_t left;
    struct arena *a;
    const char *bad; /* what is wrong; everything read afterwards is empty */
};

static void fail(struct in *in, const char *what)
{
    if (!in->bad) in->bad = what;
    in->left = 0;
}

static const uint8_t *get(struct in *in, size_t nb)
{
    if (nb > in->left) {
        fail(in, "it ends too early");
        return NULL;
    }
    const uint8_t *p = in->p;
    in->p += nb;
    in->left -= nb;
    return p;
}

static uint64_t get_le(struct in *in, int nb)
{
    const uint8_t *p = get(in, (size_t)nb);
    uint64_t x = 0;
    for (int i = 0; p && i < nb; i++) x |= (uint64_t)p[i] << (8 * i);
    return x;
}

static struct str get_str(struct in *in, size_t least, size_t most, const char *what)
{
    size_t n = get_le(in, 2);
    const char *p = (const char *)get(in, n);
    if (!p) return (struct str){ "", 0 };
    if (n < least || n > most || memchr(p, '\0', n) || !text_utf8_ok(p, n)) {
        fail(in, what);
        return (struct str){ "", 0 };
    }
    return (struct str){ p, (int32_t)n };
}

static double get_f64(struct in *in)
{
    uint64_t bits = get_le(in, 8);
    double x;
    memcpy(&x, &bits, sizeof x);
    if (!isfinite(x)) fail(in, "a number that is not finite");
    return x;
}

static void *take(struct in *in, size_t nb)
{
    void *p = arena_try(in->a, nb ? nb : 1);
    if (!p) fail(in, "it is too large");
    return p;
}

/* n strings, each at least a byte and its length: n is checked before memory is taken. */
static const struct str *get_strs(struct in *in, size_t n, const char *what)
{
    if (n > in->left / 3) {
        fail(in, what);
        return NULL;
    }
    struct str *s = take(in, n * sizeof *s);
    for (size_t i = 0; s && i < n; i++) s[i] = get_str(in, 1, LIMIT_ID_BYTES, what);
    return s;
}

static void get_attr(struct in *in, struct attr *a)
{
    a->name = get_str(in, 1, LIMIT_FIELD_NAME, "an attribute's name");
    switch (get_le(in, 1)) {
    case ATTR_NUMBER: a->number = get_f64(in); return;
    case ATTR_VALUES: break;
    default: fail(in, "an attribute of unknown kind"); return;
    }
    a->n_values = (int32_t)get_le(in, 1);
    if (a->n_values > LIMIT_TAGS) fail(in, "too many values of an attribute");
    a->value = get_strs(in, (size_t)a->n_values, "an attribute's value");
}

static struct attrs get_attrs(struct in *in)
{
    const size_t n = get_le(in, 1);
    if (n > LIMIT_FIELDS) fail(in, "too many attributes");
    struct attr *a = in->bad ? NULL : take(in, n * sizeof *a);
    for (size_t i = 0; a && i < n; i++) {
        a[i] = (struct attr){ .n_values = 0 };
        get_attr(in, &a[i]);
        for (size_t j = 0; j < i && !in->bad; j++)
            if (a[j].name.len == a[i].name.len &&
                memcmp(a[j].name.p, a[i].name.p, (size_t)a[i].name.len) == 0)
                fail(in, "an attribute twice");
    }
    return (struct attrs){ a, in->bad ? 0 : (int32_t)n };
}

static void get_vector(struct in *in, struct item_change *c)
{
    c->space = get_str(in, 1, LIMIT_SPACE, "the vector's space");
    const size_t dim = get_le(in, 2);
    if (dim < 1 || dim > LIMIT_WIDTH) fail(in, "the vector's length");
    const uint8_t *p = get(in, dim * sizeof(float));
    float *x = p ? take(in, dim * sizeof *x) : NULL;
    if (!x) return;
    memcpy(x, p, dim * sizeof *x);
    for (size_t i = 0; i < dim; i++)
        if (!(fabsf(x[i]) <= LIMIT_VECTOR_NUMBER))
            fail(in, "a vector that is not finite, or too large");
    c->vector = x;
    c->dim = (int32_t)dim;
}

/* Version, kind and checksum; the content is left to be read. */
static struct in begin(const void *data, size_t nb, struct arena *a, int kind)
{
    struct in in = { .p = data, .left = nb, .a = a };
    if (nb < 10) {
        fail(&in, "it ends too early");
        return in;
    }
    struct in sum = { .p = in.p + nb - 8, .left = 8 };
    in.left -= 8;
    const uint64_t have = XXH3_64bits(data, nb - 8), version = get_le(&in, 1);
    if (version != VERSION)
        fail(&in, "this program does not know its version");
    else if (get_le(&in, 1) != (uint64_t)kind)
        fail(&in, "it is of another kind");
    else if (get_le(&sum, 8) != have)
        fail(&in, "its checksum is not that of its content");
    return in;
}

static int end(struct in *in, struct err *e)
{
    if (!in->bad && in->left) in->bad = "it goes on after its end";
    return in->bad ? err_set(e, ERR_FORMAT, "damaged record: %s", in->bad) : 0;
}

int record_get_item(struct item_change *out, const void *data, size_t nb, struct arena *a,
                    struct err *e)
{
    struct in in = begin(data, nb, a, KIND_ITEM);
    *out = (struct item_change){ .seq = 0 };
    const uint64_t flags = get_le(&in, 1);
    if (flags & ~(uint64_t)FLAGS || (flags & DELETED && flags != DELETED))
        fail(&in, "unknown flags");
    out->seq = get_le(&in, 8);
    out->model = get_str(&in, 1, LIMIT_MODEL_NAME, "the model's name");
    out->id = get_str(&in, 1, LIMIT_ID_BYTES, "the id");
    out->deleted = flags & DELETED;
    out->has_title = flags & TITLE;
    out->has_attrs = flags & ATTRS;
    if (out->has_title) out->title = get_str(&in, 0, LIMIT_TITLE_BYTES, "the title");
    if (out->has_attrs) out->attrs = get_attrs(&in);
    if (flags & VECTOR) get_vector(&in, out);
    return end(&in, e);
}

int record_get_blocklist(struct blocklist *out, const void *data, size_t nb, struct arena *a,
                         struct err *e)
{
    struct in in = begin(data, nb, a, KIND_BLOCKLIST);
    *out = (struct blocklist){ .n = 0 };
    out->name = get_str(&in, 1, LIMIT_LIST_NAME, "the name");
    out->expires_ms = (int64_t)get_le(&in, 8);
    const size_t n = get_le(&in, 4);
    if (n > LIMIT_LIST_IDS) fail(&in, "too many ids");
    if (!in.bad) out->id = get_strs(&in, n, "an id");
    out->n = in.bad ? 0 : (int32_t)n;
    return end(&in, e);
}
