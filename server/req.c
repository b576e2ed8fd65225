#include "server/req.h"
#include "core/base/conf.h"
#include "core/base/limits.h"
#include "server/req_filter.h"
#include "server/req_json.h"
#include "server/when.h"
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Epoch milliseconds below this are more likely seconds: as milliseconds it is March 1973. */
static const int64_t TS_LEAST_MS = 100000000000;

typedef void field_fn(struct req_json *p, const char *ptr, const json_t *v);

/* ---- history ------------------------------------------------------------------------------- */

struct event {
    struct str id;
    int64_t ts;
    int32_t at; /* place in the request: keeps the sort stable */
    bool has_ts;
};

static bool read_ts(struct req_json *p, const char *ptr, const json_t *v, int64_t *ms)
{
    if (json_is_integer(v)) {
        *ms = json_integer_value(v);
        if (*ms >= TS_LEAST_MS) return true;
        fault_add(p->f, ERR_INVALID, ptr,
                  "%s: %" PRId64 " looks like seconds; give milliseconds", ptr + 1, *ms);
        return false;
    }
    if (!json_is_string(v))
        return req_bad_type(p, ptr, "an RFC 3339 string or integer milliseconds", v), false;
    if (when_rfc3339(ms, json_string_value(v), json_string_length(v))) return true;
    fault_add(p->f, ERR_INVALID, ptr, "%s: expected RFC 3339, e.g. 2026-11-22T18:04:11Z",
              ptr + 1);
    return false;
}

static bool read_event_object(struct req_json *p, const char *ptr, const json_t *v,
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
            ok = has_id = req_read_id(p, at, x, &ev->id);
        else if (strcmp(key, "ts") == 0)
            ok = ev->has_ts = read_ts(p, at, x, &ev->ts);
        else if (strcmp(key, "event") != 0)
            ok = req_unknown_member(p, ptr, key, "item_id, ts, event");
        else if (!json_is_string(x))
            ok = false, req_bad_type(p, at, "a string", x);
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

static void set_history(struct req_json *p, const char *ptr, const json_t *v)
{
    if (!json_is_array(v)) {
        req_bad_type(p, ptr, "an array", v);
        return;
    }
    size_t n = json_array_size(v);
    if (n > LIMIT_HISTORY_PARSED) {
        fault_add(p->f, ERR_INVALID, ptr, "history: %zu elements, the limit is %d", n,
                  LIMIT_HISTORY_PARSED);
        return;
    }
    struct event *ev = req_take(p, n * sizeof *ev);
    struct str *ids = req_take(p, n * sizeof *ids);
    if (!ev || !ids) return;
    for (size_t i = 0; i < n; i++) {
        char at[48];
        snprintf(at, sizeof at, "%s/%zu", ptr, i);
        const json_t *x = json_array_get(v, i);
        ev[i] = (struct event){ .at = (int32_t)i };
        if (!(json_is_object(x) ? read_event_object(p, at, x, &ev[i])
                                : req_read_id(p, at, x, &ev[i].id)))
            return;
    }
    sort_events(ev, n);
    for (size_t i = 0; i < n; i++) ids[i] = ev[i].id;
    p->out->rec.history = ids;
    p->out->rec.n_history = (int32_t)n;
}

/* ---- the other fields ------------------------------------------------------------------------ */

static void set_user_id(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_id(p, ptr, v, &p->out->user_id);
}

static void set_model(struct req_json *p, const char *ptr, const json_t *v)
{
    if (json_is_string(v))
        req_read_id(p, ptr, v, &p->out->model);
    else
        req_bad_type(p, ptr, "a string", v);
}

static void set_limit(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_int(p, ptr, v, 1, LIMIT_RESULTS, &p->out->rec.limit);
}

static void set_interests(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_int(p, ptr, v, 1, LIMIT_INTERESTS, &p->out->rec.interests);
}

static void set_candidates_per_interest(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_int(p, ptr, v, 1, LIMIT_CANDIDATES, &p->out->rec.candidates);
}

static void set_exclude_seen(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_bool(p, ptr, v, &p->out->rec.exclude_seen);
}

static void set_explain(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_bool(p, ptr, v, &p->out->rec.explain);
}

static void set_exclude_items(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_ids(p, ptr, v, LIMIT_EXCLUDE, &p->out->rec.exclude, &p->out->rec.n_exclude);
}

static void set_unknown_items(struct req_json *p, const char *ptr, const json_t *v)
{
    int i = req_read_word(p, ptr, v, "ignore|error");
    if (i >= 0) p->out->rec.unknown = i ? REC_UNKNOWN_ERROR : REC_UNKNOWN_IGNORE;
}

static void set_fallback(struct req_json *p, const char *ptr, const json_t *v)
{
    int i = req_read_word(p, ptr, v, "popular|none");
    if (i >= 0) p->out->rec.fallback = i ? REC_FALLBACK_NONE : REC_FALLBACK_POPULAR;
}

static void set_format(struct req_json *p, const char *ptr, const json_t *v)
{
    int i = req_read_word(p, ptr, v, "float|base64");
    if (i >= 0) p->out->format = i ? REQ_BASE64 : REQ_FLOAT;
}

static void set_filter(struct req_json *p, const char *ptr, const json_t *v)
{
    struct filter *filter = req_take(p, sizeof *filter);
    if (filter && req_filter_read(p, ptr, v, filter)) p->out->rec.filter = filter;
}

static void set_merge(struct req_json *p, const char *ptr, const json_t *v)
{
    const char *key;
    json_t *x;
    if (!json_is_object(v)) {
        req_bad_type(p, ptr, "an object", v);
        return;
    }
    json_object_foreach ((json_t *)v, key, x) {
        if (strcmp(key, "strategy") != 0) {
            req_unknown_member(p, ptr, key, "strategy");
            continue;
        }
        int i = req_read_word(p, "/merge/strategy", x, "max|sum|rrf|round_robin|quota");
        if (i > 0)
            fault_add(p->f, ERR_INVALID, "/merge/strategy",
                      "merge/strategy: only \"max\" is served yet");
    }
}

/* ---- what only /v1/rank has ------------------------------------------------------------------ */

static void set_candidates(struct req_json *p, const char *ptr, const json_t *v)
{
    int32_t n = 0;
    if (!req_read_ids(p, ptr, v, LIMIT_RANK, &p->out->rank.candidate, &n)) return;
    p->out->rank.n_candidates = n;
    if (n == 0) fault_add(p->f, ERR_INVALID, ptr, "candidates: is empty");
}

/* A feature's value: text, a number, or null. */
static bool read_value(struct req_json *p, const char *ptr, const json_t *v,
                       struct score_value *out)
{
    if (json_is_real(v)) return req_real_text(p, json_real_value(v), &out->text);
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
        return req_bad_type(p, ptr, "a string or a number", v), false;
    return req_read_id(p, ptr, v, &out->text);
}

static void set_user(struct req_json *p, const char *ptr, const json_t *v)
{
    const char *key;
    json_t *x;
    if (!json_is_object(v)) {
        req_bad_type(p, ptr, "an object", v);
        return;
    }
    if (json_object_size(v) > LIMIT_FEATURES) {
        fault_add(p->f, ERR_INVALID, ptr, "user: %zu members, the limit is %d",
                  json_object_size(v), LIMIT_FEATURES);
        return;
    }
    struct score_value *value = req_take(p, json_object_size(v) * sizeof *value);
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
    X(merge)                                                                                   \
    X(filter) X(exclude_seen) X(exclude_items) X(unknown_items) X(fallback) X(model) X(explain)
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

static void read_field(struct req_json *p, const struct field *fields, const struct opt *names,
                       const char *key, const json_t *v)
{
    char ptr[80];
    req_pointer_step(ptr, sizeof ptr, key);
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
    struct req_json p = { out, a, f, strict, NULL };
    *out = (struct req_recommend){ .format = REQ_FLOAT };
    rec_request_defaults(&out->rec);
    p.text = req_take(&p, n);
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
        fault_add(f, ERR_BAD_TYPE, "", "the body must be an object, not %s",
                  req_type_name(root));
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
