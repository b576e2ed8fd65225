#include "server/req.h"
#include "core/base/conf.h"
#include "core/base/limits.h"
#include "server/when.h"
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Epoch milliseconds below this are more likely seconds: as milliseconds it is March 1973. */
static const int64_t TS_LEAST_MS = 100000000000;

struct parse {
    struct req_recommend *out;
    struct arena *a;
    struct faults *f;
    bool strict;
    /* Where the next id goes.  Room for as many bytes as the body has, which is enough: neither an
     * unescaped string nor a number printed again is longer than its source. */
    char *text;
};
typedef void field_fn(struct parse *p, const char *ptr, const json_t *v);

static const char *type_name(const json_t *v)
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

static void bad_type(struct parse *p, const char *ptr, const char *want, const json_t *v)
{
    fault_add(p->f, ERR_BAD_TYPE, ptr, "%s: expected %s, got %s", ptr + 1, want, type_name(v));
}

static void *take(struct parse *p, size_t nb)
{
    void *m = arena_try(p->a, nb ? nb : 1);
    if (!m) fault_add(p->f, ERR_LIMIT, "", "the request needs more memory than one may have");
    return m;
}

static bool read_int(struct parse *p, const char *ptr, const json_t *v, int32_t lo, int32_t hi,
                     int32_t *out)
{
    if (!json_is_integer(v)) return bad_type(p, ptr, "an integer", v), false;
    json_int_t x = json_integer_value(v);
    if (x < lo || x > hi) {
        fault_add(p->f, ERR_INVALID, ptr,
                  "%s: must be from %d to %d, not %" JSON_INTEGER_FORMAT, ptr + 1, lo, hi, x);
        return false;
    }
    *out = (int32_t)x;
    return true;
}

static void read_bool(struct parse *p, const char *ptr, const json_t *v, bool *out)
{
    if (json_is_boolean(v))
        *out = json_is_true(v);
    else
        bad_type(p, ptr, "true or false", v);
}

/* Index of the word among words "a|b", or -1 and a fault. */
static int read_word(struct parse *p, const char *ptr, const json_t *v, const char *words)
{
    if (!json_is_string(v)) return bad_type(p, ptr, "a string", v), -1;
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

/* An id or name: a string of 1 to LIMIT_ID_BYTES without NUL, or an integer written in decimal. */
static bool read_id(struct parse *p, const char *ptr, const json_t *v, struct str *out)
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
        return bad_type(p, ptr, "a string or an integer", v), false;
    }
    const char *why = NULL;
    if (n == 0) why = "is empty";
    if (n > LIMIT_ID_BYTES) why = "is longer than 1024 bytes";
    if (n && memchr(s, '\0', n)) why = "contains a NUL character";
    if (why) {
        fault_add(p->f, ERR_INVALID, ptr, "%s: the id %s", ptr + 1, why);
        return false;
    }
    memcpy(p->text, s, n);
    *out = (struct str){ p->text, (int32_t)n };
    p->text += n;
    return true;
}

/* Every id of an array; false after a fault. */
static bool read_ids(struct parse *p, const char *ptr, const json_t *v, size_t most,
                     const struct str **out, int32_t *n_out)
{
    if (!json_is_array(v)) return bad_type(p, ptr, "an array", v), false;
    size_t n = json_array_size(v);
    if (n > most) {
        fault_add(p->f, ERR_INVALID, ptr, "%s: %zu elements, the limit is %zu", ptr + 1, n,
                  most);
        return false;
    }
    struct str *ids = take(p, n * sizeof *ids);
    if (!ids) return false;
    for (size_t i = 0; i < n; i++) {
        char at[64];
        snprintf(at, sizeof at, "%s/%zu", ptr, i);
        if (!read_id(p, at, json_array_get(v, i), &ids[i])) return false;
    }
    *out = ids;
    *n_out = (int32_t)n;
    return true;
}

/* ---- history ------------------------------------------------------------------------------- */

struct event {
    struct str id;
    int64_t ts;
    int32_t at; /* place in the request: keeps the sort stable */
    bool has_ts;
};

static bool read_ts(struct parse *p, const char *ptr, const json_t *v, int64_t *ms)
{
    if (json_is_integer(v)) {
        *ms = json_integer_value(v);
        if (*ms >= TS_LEAST_MS) return true;
        fault_add(p->f, ERR_INVALID, ptr,
                  "%s: %" PRId64 " looks like seconds; give milliseconds", ptr + 1, *ms);
        return false;
    }
    if (!json_is_string(v))
        return bad_type(p, ptr, "an RFC 3339 string or integer milliseconds", v), false;
    if (when_rfc3339(ms, json_string_value(v), json_string_length(v))) return true;
    fault_add(p->f, ERR_INVALID, ptr, "%s: expected RFC 3339, e.g. 2026-11-22T18:04:11Z",
              ptr + 1);
    return false;
}

static bool unknown_member(struct parse *p, const char *ptr, const char *key, const char *known)
{
    char at[128];
    if (!p->strict) return true;
    snprintf(at, sizeof at, "%s/%.40s", ptr, key);
    fault_add(p->f, ERR_UNKNOWN_FIELD, at, "%s has no member \"%.40s\"; it may have %s",
              ptr + 1, key, known);
    return false;
}

static bool read_event_object(struct parse *p, const char *ptr, const json_t *v,
                              struct event *ev)
{
    const char *key;
    json_t *x;
    bool has_id = false;
    json_object_foreach ((json_t *)v, key, x) {
        char at[96];
        snprintf(at, sizeof at, "%s/%.12s", ptr, key);
        bool ok = true;
        if (strcmp(key, "item_id") == 0)
            ok = has_id = read_id(p, at, x, &ev->id);
        else if (strcmp(key, "ts") == 0)
            ok = ev->has_ts = read_ts(p, at, x, &ev->ts);
        else if (strcmp(key, "event") != 0)
            ok = unknown_member(p, ptr, key, "item_id, ts, event");
        else if (!json_is_string(x))
            ok = false, bad_type(p, at, "a string", x);
        if (!ok) return false;
    }
    if (!has_id) fault_add(p->f, ERR_INVALID, ptr, "%s: item_id is missing", ptr + 1);
    return has_id;
}

static int by_time(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->ts != y->ts) return x->ts < y->ts ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* An event without a time takes its predecessor's; the ones before the first time are oldest. */
static void sort_events(struct event *ev, size_t n)
{
    bool any = false, sorted = true;
    int64_t last = INT64_MIN;
    for (size_t i = 0; i < n; i++) {
        any |= ev[i].has_ts;
        if (!ev[i].has_ts) ev[i].ts = last;
        sorted &= ev[i].ts >= last;
        last = ev[i].ts;
    }
    if (any && !sorted) qsort(ev, n, sizeof *ev, by_time);
}

static void set_history(struct parse *p, const char *ptr, const json_t *v)
{
    if (!json_is_array(v)) {
        bad_type(p, ptr, "an array", v);
        return;
    }
    size_t n = json_array_size(v);
    if (n > LIMIT_HISTORY_PARSED) {
        fault_add(p->f, ERR_INVALID, ptr, "history: %zu elements, the limit is %d", n,
                  LIMIT_HISTORY_PARSED);
        return;
    }
    struct event *ev = take(p, n * sizeof *ev);
    struct str *ids = take(p, n * sizeof *ids);
    if (!ev || !ids) return;
    for (size_t i = 0; i < n; i++) {
        char at[48];
        snprintf(at, sizeof at, "%s/%zu", ptr, i);
        const json_t *x = json_array_get(v, i);
        ev[i] = (struct event){ .at = (int32_t)i };
        if (!(json_is_object(x) ? read_event_object(p, at, x, &ev[i])
                                : read_id(p, at, x, &ev[i].id)))
            return;
    }
    sort_events(ev, n);
    for (size_t i = 0; i < n; i++) ids[i] = ev[i].id;
    p->out->rec.history = ids;
    p->out->rec.n_history = (int32_t)n;
}

/* ---- the other fields ------------------------------------------------------------------------ */

static void set_user_id(struct parse *p, const char *ptr, const json_t *v)
{
    read_id(p, ptr, v, &p->out->user_id);
}

static void set_model(struct parse *p, const char *ptr, const json_t *v)
{
    if (json_is_string(v))
        read_id(p, ptr, v, &p->out->model);
    else
        bad_type(p, ptr, "a string", v);
}

static void set_limit(struct parse *p, const char *ptr, const json_t *v)
{
    read_int(p, ptr, v, 1, LIMIT_RESULTS, &p->out->rec.limit);
}

static void set_interests(struct parse *p, const char *ptr, const json_t *v)
{
    read_int(p, ptr, v, 1, LIMIT_INTERESTS, &p->out->rec.interests);
}

static void set_candidates_per_interest(struct parse *p, const char *ptr, const json_t *v)
{
    read_int(p, ptr, v, 1, LIMIT_CANDIDATES, &p->out->rec.candidates);
}

static void set_exclude_seen(struct parse *p, const char *ptr, const json_t *v)
{
    read_bool(p, ptr, v, &p->out->rec.exclude_seen);
}

static void set_explain(struct parse *p, const char *ptr, const json_t *v)
{
    read_bool(p, ptr, v, &p->out->rec.explain);
}

static void set_exclude_items(struct parse *p, const char *ptr, const json_t *v)
{
    read_ids(p, ptr, v, LIMIT_EXCLUDE, &p->out->rec.exclude, &p->out->rec.n_exclude);
}

static void set_unknown_items(struct parse *p, const char *ptr, const json_t *v)
{
    int i = read_word(p, ptr, v, "ignore|error");
    if (i >= 0) p->out->rec.unknown = i ? REC_UNKNOWN_ERROR : REC_UNKNOWN_IGNORE;
}

static void set_fallback(struct parse *p, const char *ptr, const json_t *v)
{
    int i = read_word(p, ptr, v, "popular|none");
    if (i >= 0) p->out->rec.fallback = i ? REC_FALLBACK_NONE : REC_FALLBACK_POPULAR;
}

static void set_format(struct parse *p, const char *ptr, const json_t *v)
{
    int i = read_word(p, ptr, v, "float|base64");
    if (i >= 0) p->out->format = i ? REQ_BASE64 : REQ_FLOAT;
}

static void set_merge(struct parse *p, const char *ptr, const json_t *v)
{
    const char *key;
    json_t *x;
    if (!json_is_object(v)) {
        bad_type(p, ptr, "an object", v);
        return;
    }
    json_object_foreach ((json_t *)v, key, x) {
        if (strcmp(key, "strategy") != 0) {
            unknown_member(p, ptr, key, "strategy");
            continue;
        }
        int i = read_word(p, "/merge/strategy", x, "max|sum|rrf|round_robin|quota");
        if (i > 0)
            fault_add(p->f, ERR_INVALID, "/merge/strategy",
                      "merge/strategy: only \"max\" is served yet");
    }
}

/* ---- what only /v1/rank has ------------------------------------------------------------------ */

static void set_candidates(struct parse *p, const char *ptr, const json_t *v)
{
    int32_t n = 0;
    if (!read_ids(p, ptr, v, LIMIT_RANK, &p->out->rank.candidate, &n)) return;
    p->out->rank.n_candidates = n;
    if (n == 0) fault_add(p->f, ERR_INVALID, ptr, "candidates: is empty");
}

/* A fractional number as the shortest text that reads back as it; may be longer than its source. */
static bool real_text(struct parse *p, double x, struct str *out)
{
    enum { ROOM = 32 };
    char *text = take(p, ROOM);
    if (!text) return false;
    int n = snprintf(text, ROOM, "%.15g", x);
    if (strtod(text, NULL) != x) n = snprintf(text, ROOM, "%.17g", x);
    *out = (struct str){ text, n };
    return true;
}

/* A feature's value: text, a number, or null. */
static bool read_value(struct parse *p, const char *ptr, const json_t *v,
                       struct score_value *out)
{
    if (json_is_real(v)) return real_text(p, json_real_value(v), &out->text);
    if (json_is_string(v) && json_string_length(v) > LIMIT_ID_BYTES) { /* a sequence, perhaps */
        size_t n = json_string_length(v);
        memcpy(p->text, json_string_value(v), n);
        out->text = (struct str){ p->text, (int32_t)n };
        p->text += n;
        return true;
    }
    if (json_is_string(v) && json_string_length(v) == 0) {
        out->text = (struct str){ "", 0 };
        return true;
    }
    if (!json_is_string(v) && !json_is_integer(v))
        return bad_type(p, ptr, "a string or a number", v), false;
    return read_id(p, ptr, v, &out->text);
}

static void set_user(struct parse *p, const char *ptr, const json_t *v)
{
    const char *key;
    json_t *x;
    if (!json_is_object(v)) {
        bad_type(p, ptr, "an object", v);
        return;
    }
    if (json_object_size(v) > LIMIT_FEATURES) {
        fault_add(p->f, ERR_INVALID, ptr, "user: %zu members, the limit is %d",
                  json_object_size(v), LIMIT_FEATURES);
        return;
    }
    struct score_value *value = take(p, json_object_size(v) * sizeof *value);
    int32_t n = 0;
    if (!value) return;
    json_object_foreach ((json_t *)v, key, x) {
        char at[96];
        size_t len = strlen(key);
        snprintf(at, sizeof at, "%s/%.60s", ptr, key);
        if (json_is_null(x)) continue;
        if (!read_value(p, at, x, &value[n])) return;
        memcpy(p->text, key, len);
        value[n++].name = (struct str){ p->text, (int32_t)len };
        p->text += len;
    }
    p->out->rank.value = value;
    p->out->rank.n_values = n;
}

#define RANK_FIELDS(X) X(user) X(history) X(candidates) X(model)
#define RECOMMEND_FIELDS(X)                                                                    \
    X(user_id)                                                                                 \
    X(history)                                                                                 \
    X(limit)                                                                                   \
    X(interests)                                                                               \
    X(candidates_per_interest)                                                                 \
    X(merge) X(exclude_seen) X(exclude_items) X(unknown_items) X(fallback) X(model) X(explain)
#define ENCODE_FIELDS(X) X(user_id) X(history) X(unknown_items) X(model) X(format)

struct field {
    const char *name;
    field_fn *set;
};
#define FIELD(name)      { #name, set_##name },
#define FIELD_NAME(name) { .key = #name },
static const struct field recommend_fields[] = { RECOMMEND_FIELDS(FIELD){ NULL, NULL } };
static const struct field encode_fields[] = { ENCODE_FIELDS(FIELD){ NULL, NULL } };
static const struct field rank_fields[] = { RANK_FIELDS(FIELD){ NULL, NULL } };
/* The same names in the shape that conf_nearest searches. */
static const struct opt recommend_names[] = { RECOMMEND_FIELDS(FIELD_NAME) OPT_END };
static const struct opt encode_names[] = { ENCODE_FIELDS(FIELD_NAME) OPT_END };
static const struct opt rank_names[] = { RANK_FIELDS(FIELD_NAME) OPT_END };

/* A key as one step of an RFC 6901 pointer. */
static void pointer_step(char *out, size_t n, const char *key)
{
    size_t at = 0;
    if (n) out[at++] = '/';
    for (; *key && at + 3 < n && at < 60; key++) {
        bool special = *key == '~' || *key == '/';
        out[at++] = special ? '~' : *key;
        if (special) out[at++] = *key == '~' ? '0' : '1';
    }
    out[at] = '\0';
}

static void read_field(struct parse *p, const struct field *fields, const struct opt *names,
                       const char *key, const json_t *v)
{
    char ptr[80];
    pointer_step(ptr, sizeof ptr, key);
    while (fields->name && strcmp(fields->name, key) != 0) fields++;
    if (fields->name) fields->set(p, ptr, v);
    if (fields->name || !p->strict) return;
    const char *near = conf_nearest(names, key);
    fault_add(p->f, ERR_UNKNOWN_FIELD, ptr,
              near ? "unknown field \"%.60s\"; did you mean \"%s\"?"
                   : "unknown field \"%.60s\"",
              key, near);
}

static int parse_body(struct req_recommend *out, const char *body, size_t n, bool strict,
                      struct arena *a, struct faults *f, const struct field *fields,
                      const struct opt *names)
{
    struct parse p = { out, a, f, strict, NULL };
    *out = (struct req_recommend){ .format = REQ_FLOAT };
    rec_request_defaults(&out->rec);
    p.text = take(&p, n);
    if (!p.text) return f->at[0].code;
    /* No JSON has a NUL byte, but jansson skips one that follows a number. */
    const char *nul = n ? memchr(body, '\0', n) : NULL;
    if (nul) return fault_add(f, ERR_BAD_JSON, "", "a NUL byte at offset %td", nul - body);
    json_error_t je;
    json_t *root = n ? json_loadb(body, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je) : NULL;
    if (!root && n == 0) return fault_add(f, ERR_BAD_JSON, "", "the body is empty");
    if (!root)
        return fault_add(f, ERR_BAD_JSON, "", "line %d, column %d: %s", je.line, je.column,
                         je.text);
    if (!json_is_object(root)) {
        fault_add(f, ERR_BAD_TYPE, "", "the body must be an object, not %s", type_name(root));
    } else {
        const char *key;
        json_t *v;
        json_object_foreach (root, key, v) {
            read_field(&p, fields, names, key, v);
        }
    }
    json_decref(root);
    return f->n ? f->at[0].code : 0;
}

int req_parse_recommend(struct req_recommend *out, const char *body, size_t n, bool strict,
                        struct arena *a, struct faults *f)
{
    return parse_body(out, body, n, strict, a, f, recommend_fields, recommend_names);
}

int req_parse_encode(struct req_recommend *out, const char *body, size_t n, bool strict,
                     struct arena *a, struct faults *f)
{
    return parse_body(out, body, n, strict, a, f, encode_fields, encode_names);
}

int req_parse_rank(struct req_recommend *out, const char *body, size_t n, bool strict,
                   struct arena *a, struct faults *f)
{
    int rc = parse_body(out, body, n, strict, a, f, rank_fields, rank_names);
    if (rc == 0 && out->rank.n_candidates == 0)
        rc = fault_add(f, ERR_INVALID, "", "candidates is missing: the ids to be scored");
    return rc;
}
