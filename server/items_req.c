#include "server/items_req.h"
#include "core/base/limits.h"
#include "core/data/text.h"
#include "server/req_json.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const double TTL_MOST_S = 1e9; /* 30 years */

struct parse {
    struct items_req *out;
    struct req_json json;
};

/* Where in the body: pointers of RFC 6901, short enough for a fault. */
struct place {
    char p[112];
};

static struct place at_key(const struct place *up, const char *key)
{
    struct place at = { "" };
    req_pointer_step(at.p, sizeof at.p, up->p, key);
    return at;
}

static struct place at_index(const struct place *up, size_t i)
{
    struct place at = { "" };
    req_pointer_index(at.p, sizeof at.p, up->p, i);
    return at;
}

/* What the fault is about, for people: the pointer without its slash. */
static const char *about(const struct place *at) { return at->p[0] ? at->p + 1 : "the body"; }

static bool bad_type(struct parse *p, const struct place *at, const char *want, const json_t *v)
{
    fault_add(p->json.f, ERR_BAD_TYPE, at->p, "%s: expected %s, got %s", about(at), want,
              req_type_name(v));
    return false;
}

static bool invalid(struct parse *p, const struct place *at, const char *why)
{
    fault_add(p->json.f, ERR_INVALID, at->p, "%s: %s", about(at), why);
    return false;
}

static bool unknown(struct parse *p, const struct place *at, const char *known)
{
    if (!p->json.strict) return true;
    fault_add(p->json.f, ERR_UNKNOWN_FIELD, at->p, "%s is not known here; there may be %s",
              about(at), known);
    return false;
}

static struct str copy(struct parse *p, const char *s, size_t n)
{
    struct str out = { p->json.text, (int32_t)n };
    memcpy(p->json.text, s, n);
    p->json.text += n;
    return out;
}

static const char *bad_text(const char *s, size_t n, size_t most)
{
    if (n == 0) return "is empty";
    if (n > most) return "is too long";
    if (memchr(s, '\0', n)) return "contains a NUL character";
    return text_utf8_ok(s, n) ? NULL : "is not UTF-8";
}

/* As `intent prep` takes ids: a line break in one would break every list of them. */
const char *items_req_bad_name(const char *s, size_t n, size_t most)
{
    return text_has_control(s, n) ? "contains a control character" : bad_text(s, n, most);
}

/* The string v, of which bad says what is wrong, or NULL. */
static bool take_string(struct parse *p, const struct place *at, const json_t *v,
                        const char *bad, size_t most, struct str *out)
{
    char why[64];
    snprintf(why, sizeof why, "%s (at most %zu bytes)", bad ? bad : "", most);
    if (bad) return invalid(p, at, why);
    *out = copy(p, json_string_value(v), json_string_length(v));
    return true;
}

/* A string of least to most bytes. */
static bool read_text(struct parse *p, const struct place *at, const json_t *v, size_t least,
                      size_t most, struct str *out)
{
    if (!json_is_string(v)) return bad_type(p, at, "a string", v);
    const size_t n = json_string_length(v);
    const char *bad = n ? bad_text(json_string_value(v), n, most) : NULL;
    return take_string(p, at, v, n < least ? "is empty" : bad, most, out);
}

static bool read_id(struct parse *p, const struct place *at, const json_t *v, struct str *out)
{
    char number[24];
    if (!json_is_integer(v)) {
        if (!json_is_string(v)) return bad_type(p, at, "a string or an integer", v);
        const char *bad =
            items_req_bad_name(json_string_value(v), json_string_length(v), LIMIT_ID_BYTES);
        return take_string(p, at, v, bad, LIMIT_ID_BYTES, out);
    }
    int n = snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    *out = copy(p, number, (size_t)n);
    return true;
}

static bool check_size(struct parse *p, const struct place *at, size_t n, size_t most)
{
    char why[64];
    snprintf(why, sizeof why, "%zu elements, the limit is %zu", n, most);
    return n <= most || invalid(p, at, why);
}

/* ---- an item ---- */

/* With its padding. */
static int64_t base64(unsigned char *out, const char *s, size_t n)
{
    if (n % 4) return -1;
    for (int pad = 0; pad < 2 && n > 0 && s[n - 1] == '='; pad++) n--;
    return req_base64(out, s, n);
}

static float *read_base64(struct parse *p, const struct place *at, const json_t *v,
                          int32_t *dim)
{
    const size_t n = json_string_length(v);
    if (n > (size_t)LIMIT_WIDTH * sizeof(float) / 3 * 4 + 8)
        return invalid(p, at, "more numbers than a vector may have"), NULL;
    float *x = req_take(&p->json, n);
    int64_t nb = x ? base64((unsigned char *)x, json_string_value(v), n) : 0;
    if (!x) return NULL;
    if (nb < 0 || nb % (int64_t)sizeof *x != 0)
        return invalid(p, at, "is not base64 of little-endian float32"), NULL;
    *dim = (int32_t)(nb / (int64_t)sizeof *x);
    return x;
}

static float *read_floats(struct parse *p, const struct place *at, const json_t *v,
                          int32_t *dim)
{
    const size_t n = json_array_size(v);
    if (!check_size(p, at, n, LIMIT_WIDTH)) return NULL;
    float *x = req_take(&p->json, n * sizeof *x);
    for (size_t i = 0; x && i < n; i++) {
        const json_t *y = json_array_get(v, i);
        const struct place here = at_index(at, i);
        if (!json_is_number(y)) return bad_type(p, &here, "a number", y), NULL;
        x[i] = (float)json_number_value(y);
    }
    *dim = (int32_t)n;
    return x;
}

static bool read_vector(struct parse *p, const struct place *at, const json_t *v,
                        struct item_change *c)
{
    float *x = NULL;
    if (json_is_string(v))
        x = read_base64(p, at, v, &c->dim);
    else if (json_is_array(v))
        x = read_floats(p, at, v, &c->dim);
    else
        bad_type(p, at, "an array of numbers or a base64 string", v);
    if (!x) return false;
    if (c->dim == 0) return invalid(p, at, "is empty");
    if (c->dim > LIMIT_WIDTH) return invalid(p, at, "more numbers than a vector may have");
    for (int32_t i = 0; i < c->dim; i++)
        if (!(fabsf(x[i]) <= LIMIT_VECTOR_NUMBER))
            return invalid(p, at, "has a number that is not finite, or beyond 1e15");
    c->vector = x;
    return true;
}

static bool read_values(struct parse *p, const struct place *at, const json_t *v,
                        struct attr *out)
{
    const size_t n = json_array_size(v);
    if (!check_size(p, at, n, LIMIT_TAGS)) return false;
    struct str *value = req_take(&p->json, n * sizeof *value);
    if (!value) return false;
    for (size_t i = 0; i < n; i++) {
        const struct place here = at_index(at, i);
        if (!read_text(p, &here, json_array_get(v, i), 1, LIMIT_ID_BYTES, &value[i]))
            return false;
    }
    out->value = value;
    out->n_values = (int32_t)n;
    return true;
}

static bool read_attr(struct parse *p, const struct place *at, const json_t *v,
                      struct attr *out)
{
    if (json_is_number(v)) {
        out->number = json_number_value(v);
        return isfinite(out->number) || invalid(p, at, "is not finite");
    }
    if (json_is_array(v)) return read_values(p, at, v, out);
    struct str *value = req_take(&p->json, sizeof *value);
    if (!value) return false;
    out->value = value;
    out->n_values = 1;
    if (json_is_boolean(v)) {
        *value = json_is_true(v) ? (struct str){ "true", 4 } : (struct str){ "false", 5 };
        return true;
    }
    if (!json_is_string(v))
        return bad_type(p, at, "a number, a string, or an array of strings", v);
    return read_text(p, at, v, 1, LIMIT_ID_BYTES, value);
}

static bool read_attrs(struct parse *p, const struct place *at, const json_t *v,
                       struct item_change *c)
{
    const char *key;
    json_t *x;
    if (!json_is_object(v)) return bad_type(p, at, "an object", v);
    const size_t n = json_object_size(v);
    if (!check_size(p, at, n, LIMIT_FIELDS)) return false;
    struct attr *a = req_take(&p->json, n * sizeof *a);
    if (!a) return false;
    c->attrs.at = a;
    c->has_attrs = true;
    json_object_foreach ((json_t *)v, key, x) {
        const struct place here = at_key(at, key);
        const char *bad = items_req_bad_name(key, strlen(key), LIMIT_FIELD_NAME);
        if (bad) {
            fault_add(p->json.f, ERR_INVALID, here.p, "%s: the name %s", about(&here), bad);
            return false;
        }
        if (json_is_null(x)) continue;
        struct attr *one = &a[c->attrs.n++];
        *one = (struct attr){ .name = copy(p, key, strlen(key)) };
        if (!read_attr(p, &here, x, one)) return false;
    }
    return true;
}

/* A member of an item; false after a fault. */
static bool read_member(struct parse *p, const struct place *at, const char *key,
                        const json_t *v, struct item_change *c, bool has_id)
{
    if (strcmp(key, "vector") == 0) return read_vector(p, at, v, c);
    if (strcmp(key, "attributes") == 0) return read_attrs(p, at, v, c);
    if (strcmp(key, "title") == 0)
        return c->has_title = read_text(p, at, v, 0, LIMIT_TITLE_BYTES, &c->title);
    if (has_id && strcmp(key, "item_id") == 0) return read_id(p, at, v, &c->id);
    return unknown(p, at,
                   has_id ? "item_id, vector, attributes, title"
                          : "vector, attributes, title, model");
}

/* ---- bodies ---- */

static bool read_ids(struct parse *p, const struct place *at, const json_t *v, size_t most)
{
    if (!json_is_array(v)) return bad_type(p, at, "an array", v);
    const size_t n = json_array_size(v);
    if (!check_size(p, at, n, most)) return false;
    struct str *id = req_take(&p->json, n * sizeof *id);
    for (size_t i = 0; id && i < n; i++) {
        const struct place here = at_index(at, i);
        if (!read_id(p, &here, json_array_get(v, i), &id[i])) return false;
    }
    p->out->id = id;
    p->out->n_ids = (int32_t)n;
    return id != NULL;
}

static bool read_put(struct parse *p, const struct place *at, const json_t *v,
                     struct item_change *c)
{
    const char *key;
    json_t *x;
    if (!json_is_object(v)) return bad_type(p, at, "an object", v);
    json_object_foreach ((json_t *)v, key, x) {
        const struct place here = at_key(at, key);
        if (!read_member(p, &here, key, x, c, true)) return false;
    }
    return c->id.len > 0 || invalid(p, at, "item_id is missing");
}

static bool read_batch(struct parse *p, const json_t *root)
{
    static const struct place put_at = { "/put" }, delete_at = { "/delete" };
    const json_t *put = json_object_get(root, "put"), *gone = json_object_get(root, "delete");
    if (put && !json_is_array(put)) return bad_type(p, &put_at, "an array", put);
    if (gone && !json_is_array(gone)) return bad_type(p, &delete_at, "an array", gone);
    const size_t n_put = json_array_size(put), n_gone = json_array_size(gone);
    if (!check_size(p, n_put > n_gone ? &put_at : &delete_at, n_put + n_gone, LIMIT_BATCH))
        return false;
    struct item_change *c = req_take(&p->json, (n_put + n_gone) * sizeof *c);
    for (size_t i = 0; c && i < n_put + n_gone; i++) {
        const size_t j = i < n_put ? i : i - n_put;
        const struct place here = at_index(i < n_put ? &put_at : &delete_at, j);
        c[i] = (struct item_change){ .deleted = i >= n_put };
        if (!(i < n_put ? read_put(p, &here, json_array_get(put, j), &c[i])
                        : read_id(p, &here, json_array_get(gone, j), &c[i].id)))
            return false;
    }
    p->out->change = c;
    p->out->n_changes = (int32_t)(n_put + n_gone);
    return c != NULL;
}

static bool read_ttl(struct parse *p, const struct place *at, const json_t *v)
{
    if (!json_is_number(v)) return bad_type(p, at, "a number", v);
    p->out->ttl_s = json_number_value(v);
    return (p->out->ttl_s > 0 && p->out->ttl_s <= TTL_MOST_S) ||
           invalid(p, at, "must be above 0 and at most 1e9; leave it out for never");
}

static bool read_field(struct parse *p, enum items_req_kind kind, const char *key,
                       const json_t *v)
{
    static const struct place root = { "" };
    static const char *const known[] = { "", "put, delete, model", "items, model",
                                         "items, ttl_seconds" };
    const struct place at = at_key(&root, key);
    const bool lists = kind == ITEMS_REQ_LOOKUP || kind == ITEMS_REQ_BLOCKLIST;
    if (kind != ITEMS_REQ_BLOCKLIST && strcmp(key, "model") == 0)
        return read_text(p, &at, v, 1, LIMIT_MODEL_NAME, &p->out->model);
    if (kind == ITEMS_REQ_PUT) return read_member(p, &at, key, v, p->out->change, false);
    if (lists && strcmp(key, "items") == 0)
        return read_ids(p, &at, v, kind == ITEMS_REQ_LOOKUP ? LIMIT_BATCH : LIMIT_LIST_IDS);
    if (kind == ITEMS_REQ_BLOCKLIST && strcmp(key, "ttl_seconds") == 0)
        return read_ttl(p, &at, v);
    if (kind == ITEMS_REQ_BATCH && (strcmp(key, "put") == 0 || strcmp(key, "delete") == 0))
        return true; /* together, in read_batch */
    return unknown(p, &at, known[kind]);
}

static void read_root(struct parse *p, enum items_req_kind kind, const json_t *root)
{
    const char *key;
    json_t *v;
    json_object_foreach ((json_t *)root, key, v) {
        if (!read_field(p, kind, key, v)) return;
    }
    if (kind == ITEMS_REQ_BATCH && !read_batch(p, root)) return;
    const bool lists = kind == ITEMS_REQ_LOOKUP || kind == ITEMS_REQ_BLOCKLIST;
    if (lists && !p->out->id) fault_add(p->json.f, ERR_INVALID, "", "items is missing");
    if (kind == ITEMS_REQ_BATCH && p->out->n_changes == 0)
        fault_add(p->json.f, ERR_INVALID, "", "there is nothing in put and delete");
    const struct item_change *c = p->out->change;
    if (kind == ITEMS_REQ_PUT && !c->vector && !c->has_attrs && !c->has_title)
        fault_add(p->json.f, ERR_INVALID, "", "give a vector, attributes or a title");
}

int items_req_parse(struct items_req *out, enum items_req_kind kind, const char *body, size_t n,
                    bool strict, struct arena *a, struct faults *f)
{
    *out = (struct items_req){ .n_ids = 0 };
    struct parse p = { out, { .a = a, .f = f, .strict = strict } };
    p.json.text = req_take(&p.json, n);
    if (!p.json.text) return f->at[0].code;
    if (kind == ITEMS_REQ_PUT) {
        out->change = req_take(&p.json, sizeof *out->change);
        if (!out->change) return f->at[0].code;
        *out->change = (struct item_change){ .seq = 0 };
        out->n_changes = 1;
    }
    json_t *root = req_open_body(f, body, n);
    if (json_is_object(root))
        read_root(&p, kind, root);
    else if (root)
        fault_add(f, ERR_BAD_TYPE, "", "the body must be an object, not %s",
                  req_type_name(root));
    json_decref(root);
    return f->n ? f->at[0].code : 0;
}
