#include "server/req.h"
#include "core/base/conf.h"
#include "core/base/limits.h"
#include "server/req_filter.h"
#include "server/req_options.h"
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
        req_pointer_step(at, sizeof at, ptr, key);
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

static void req_set_history(struct req_json *p, const char *ptr, const json_t *v)
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
        req_pointer_index(at, sizeof at, ptr, i);
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

static void req_set_user_id(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_id(p, ptr, v, &p->out->user_id);
}

static void req_set_model(struct req_json *p, const char *ptr, const json_t *v)
{
    if (json_is_string(v))
        req_read_id(p, ptr, v, &p->out->model);
    else
        req_bad_type(p, ptr, "a string", v);
}

static void req_set_limit(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_int(p, ptr, v, 1, LIMIT_RESULTS, &p->out->rec.limit);
}

static void req_set_interests(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_int(p, ptr, v, 1, LIMIT_INTERESTS, &p->out->rec.interests);
}

static void req_set_candidates_per_interest(struct req_json *p, const char *ptr,
                                            const json_t *v)
{
    req_read_int(p, ptr, v, 1, LIMIT_CANDIDATES, &p->out->rec.candidates);
}

static void req_set_exclude_seen(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_bool(p, ptr, v, &p->out->rec.exclude_seen);
}

static void req_set_explain(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_bool(p, ptr, v, &p->out->rec.explain);
}

static void req_set_exclude_items(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_ids(p, ptr, v, LIMIT_EXCLUDE, &p->out->rec.exclude, &p->out->rec.n_exclude);
}

static void req_set_unknown_items(struct req_json *p, const char *ptr, const json_t *v)
{
    int i = req_read_word(p, ptr, v, "ignore|error");
    if (i >= 0) p->out->rec.unknown = i ? REC_UNKNOWN_ERROR : REC_UNKNOWN_IGNORE;
}

static void req_set_fallback(struct req_json *p, const char *ptr, const json_t *v)
{
    static const enum rec_fallback is[] = { REC_FALLBACK_POPULAR, REC_FALLBACK_WITHIN,
                                            REC_FALLBACK_NONE };
    int i = req_read_word(p, ptr, v, "popular|popular_within_filter|none");
    if (i >= 0) p->out->rec.fallback = is[i];
}

static void req_set_format(struct req_json *p, const char *ptr, const json_t *v)
{
    int i = req_read_word(p, ptr, v, "float|base64");
    if (i >= 0) p->out->format = i ? REQ_BASE64 : REQ_FLOAT;
}

static void req_set_filter(struct req_json *p, const char *ptr, const json_t *v)
{
    struct filter *filter = req_take(p, sizeof *filter);
    if (filter && req_filter_read(p, ptr, v, filter)) p->out->rec.filter = filter;
}

/* ---- what only /v1/rank has ------------------------------------------------------------------ */

static void req_set_candidates(struct req_json *p, const char *ptr, const json_t *v)
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
    /* 3.0 stays 3.0, as tables have it: a hash tells it from 3. */
    if (json_is_real(v)) return req_real_text(p, json_real_value(v), true, &out->text);
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

static void req_set_user(struct req_json *p, const char *ptr, const json_t *v)
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
        req_pointer_step(at, sizeof at, ptr, key);
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
/* What shapes an answer, whatever the queries are. */
#define ANSWER_FIELDS(X)                                                                       \
    X(limit)                                                                                   \
    X(candidates_per_interest)                                                                 \
    X(merge)                                                                                   \
    X(diversity)                                                                               \
    X(filter)                                                                                  \
    X(exclude_items) X(exclude_lists) X(search) X(allow_degraded) X(explain)
#define USER_FIELDS(X)                                                                         \
    X(user_id)                                                                                 \
    X(history)                                                                                 \
    X(interests) X(exclude_seen) X(unknown_items) X(fallback) X(seed) ANSWER_FIELDS(X)
#define RECOMMEND_FIELDS(X) USER_FIELDS(X) X(model)
#define SEARCH_FIELDS(X)    X(vectors) ANSWER_FIELDS(X) X(model)
#define SIMILAR_FIELDS(X)   X(items) X(unknown_items) ANSWER_FIELDS(X) X(model)
#define ENCODE_FIELDS(X)    X(user_id) X(history) X(unknown_items) X(model) X(format)

struct field {
    const char *name;
    field_fn *set;
};
#define FIELD(name)      { #name, req_set_##name },
#define FIELD_NAME(name) { .key = #name },
static const struct field recommend_fields[] = { RECOMMEND_FIELDS(FIELD){ NULL, NULL } };
static const struct field user_fields[] = { USER_FIELDS(FIELD){ NULL, NULL } };
static const struct field search_fields[] = { SEARCH_FIELDS(FIELD){ NULL, NULL } };
static const struct field similar_fields[] = { SIMILAR_FIELDS(FIELD){ NULL, NULL } };
static const struct field encode_fields[] = { ENCODE_FIELDS(FIELD){ NULL, NULL } };
static const struct field rank_fields[] = { RANK_FIELDS(FIELD){ NULL, NULL } };
/* The same names in the shape that conf_nearest searches. */
static const struct opt recommend_names[] = { RECOMMEND_FIELDS(FIELD_NAME) OPT_END };
static const struct opt user_names[] = { USER_FIELDS(FIELD_NAME) OPT_END };
static const struct opt search_names[] = { SEARCH_FIELDS(FIELD_NAME) OPT_END };
static const struct opt similar_names[] = { SIMILAR_FIELDS(FIELD_NAME) OPT_END };
static const struct opt encode_names[] = { ENCODE_FIELDS(FIELD_NAME) OPT_END };
static const struct opt rank_names[] = { RANK_FIELDS(FIELD_NAME) OPT_END };

static void read_field(struct req_json *p, const struct field *fields, const struct opt *names,
                       const char *prefix, const char *key, const json_t *v)
{
    char ptr[112];
    req_pointer_step(ptr, sizeof ptr, prefix, key);
    while (fields->name && strcmp(fields->name, key) != 0) fields++;
    if (fields->name) fields->set(p, ptr, v);
    if (fields->name || !p->strict) return;
    const char *near = conf_nearest(names, key);
    fault_add(p->f, ERR_UNKNOWN_FIELD, ptr,
              near ? "unknown field \"%.60s\"; did you mean \"%s\"?"
                   : "unknown field \"%.60s\"",
              key, near);
}

/* Every member of an object of the body, whose place is prefix. */
static void read_object(struct req_json *p, const struct field *fields, const struct opt *names,
                        const char *prefix, const json_t *o)
{
    const char *key;
    json_t *v;
    if (!json_is_object(o)) {
        fault_add(p->f, ERR_BAD_TYPE, prefix, "%s must be an object, not %s",
                  *prefix ? prefix + 1 : "the body", req_type_name(o));
        return;
    }
    json_object_foreach ((json_t *)(uintptr_t)o, key, v) {
        read_field(p, fields, names, prefix, key, v);
    }
}

/* The body as JSON, and room for its texts; NULL after a fault. */
static json_t *open_body(struct req_json *p, const char *body, size_t n)
{
    p->text = req_take(p, n);
    return p->text ? req_open_body(p->f, body, n) : NULL;
}

static int parse_body(struct req_recommend *out, const char *body, size_t n, bool strict,
                      struct arena *a, struct faults *f, const struct field *fields,
                      const struct opt *names)
{
    struct req_json p = { out, a, f, strict, NULL };
    *out = (struct req_recommend){ .format = REQ_FLOAT };
    rec_request_defaults(&out->rec);
    json_t *root = open_body(&p, body, n);
    if (root) read_object(&p, fields, names, "", root);
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
    int rc = parse_body(out, body, n, strict, a, f, encode_fields, encode_names);
    out->rec.encode_only = true;
    out->rec.whole = true; /* a part of the vectors is none */
    return rc;
}

int req_parse_search(struct req_recommend *out, const char *body, size_t n, bool strict,
                     struct arena *a, struct faults *f)
{
    int rc = parse_body(out, body, n, strict, a, f, search_fields, search_names);
    out->rec.source = REC_VECTORS;
    out->rec.fallback = REC_FALLBACK_NONE;
    if (rc == 0 && !out->rec.vectors)
        rc = fault_add(f, ERR_INVALID, "", "vectors is missing: what to search for");
    return rc;
}

int req_parse_similar(struct req_recommend *out, const char *body, size_t n, bool strict,
                      struct arena *a, struct faults *f)
{
    int rc = parse_body(out, body, n, strict, a, f, similar_fields, similar_names);
    out->rec.source = REC_ITEMS;
    out->rec.fallback = REC_FALLBACK_NONE;
    if (rc == 0 && !out->rec.history)
        rc = fault_add(f, ERR_INVALID, "", "items is missing: ids to find neighbours of");
    return rc;
}

/* ---- batches --------------------------------------------------------------------------------- */

static void read_requests(struct req_json *p, struct req_recommend **out, int32_t *n_out,
                          const json_t *list)
{
    const struct req_recommend defaults = *p->out;
    if (!json_is_array(list)) {
        req_bad_type(p, "/requests", "an array", list);
        return;
    }
    const size_t n = json_array_size(list);
    if (n == 0) fault_add(p->f, ERR_INVALID, "/requests", "requests: is empty");
    if (n > LIMIT_BATCH_ROWS)
        fault_add(p->f, ERR_BATCH_TOO_LARGE, "/requests", "requests: %zu, the limit is %d", n,
                  LIMIT_BATCH_ROWS);
    if (n == 0 || n > LIMIT_BATCH_ROWS) return;
    *out = req_take(p, n * sizeof **out);
    *n_out = (int32_t)n;
    for (size_t i = 0; *out && i < n; i++) {
        char at[32];
        req_pointer_index(at, sizeof at, "/requests", i);
        (*out)[i] = defaults;
        p->out = &(*out)[i];
        read_object(p, user_fields, user_names, at, json_array_get(list, i));
    }
}

static void read_batch(struct req_json *p, struct req_recommend **out, int32_t *n_out,
                       const json_t *root)
{
    const char *key;
    json_t *v, *list = json_object_get(root, "requests"),
               *defaults = json_object_get(root, "defaults");
    json_object_foreach ((json_t *)(uintptr_t)root, key, v) {
        char ptr[80];
        req_pointer_step(ptr, sizeof ptr, "", key);
        if (strcmp(key, "model") == 0)
            req_set_model(p, ptr, v);
        else if (p->strict && v != list && v != defaults)
            fault_add(p->f, ERR_UNKNOWN_FIELD, ptr,
                      "unknown field \"%.60s\"; a batch has model, defaults, requests", key);
    }
    if (defaults) read_object(p, user_fields, user_names, "/defaults", defaults);
    if (list)
        read_requests(p, out, n_out, list);
    else
        fault_add(p->f, ERR_INVALID, "", "requests is missing: what to answer");
}

int req_parse_batch(struct req_recommend **out, int32_t *n_out, struct str *model,
                    const char *body, size_t n, bool strict, struct arena *a, struct faults *f)
{
    struct req_recommend defaults = { .format = REQ_FLOAT };
    struct req_json p = { &defaults, a, f, strict, NULL };
    rec_request_defaults(&defaults.rec);
    *out = NULL;
    *n_out = 0;
    json_t *root = open_body(&p, body, n);
    if (root && !json_is_object(root))
        fault_add(f, ERR_BAD_TYPE, "", "the body must be an object, not %s",
                  req_type_name(root));
    else if (root)
        read_batch(&p, out, n_out, root);
    *model = defaults.model;
    json_decref(root);
    return f->n ? f->at[0].code : 0;
}

int req_parse_rank(struct req_recommend *out, const char *body, size_t n, bool strict,
                   struct arena *a, struct faults *f)
{
    int rc = parse_body(out, body, n, strict, a, f, rank_fields, rank_names);
    if (rc == 0 && out->rank.n_candidates == 0)
        rc = fault_add(f, ERR_INVALID, "", "candidates is missing: the ids to be scored");
    return rc;
}
