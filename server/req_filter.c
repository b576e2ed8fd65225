#include "server/req_filter.h"
#include "core/base/limits.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { POINTER = 128 };

static bool invalid(struct req_json *p, const char *ptr, const char *why)
{
    fault_add(p->f, ERR_INVALID, ptr, "%s: %s", ptr + 1, why);
    return false;
}

static bool short_array(struct req_json *p, const char *ptr, const json_t *v, size_t most)
{
    if (!json_is_array(v)) return req_bad_type(p, ptr, "an array", v), false;
    size_t n = json_array_size(v);
    if (n <= most) return true;
    fault_add(p->f, ERR_INVALID, ptr, "%s: %zu elements, the limit is %zu", ptr + 1, n, most);
    return false;
}

static bool read_value(struct req_json *p, const char *ptr, const json_t *v,
                       struct filter_value *out)
{
    static const struct str truth[] = { { "false", 5 }, { "true", 4 } };
    out->number = json_is_number(v) ? json_number_value(v) + 0.0 : (double)NAN; /* no -0 */
    if (json_is_boolean(v)) return out->text = truth[json_is_true(v)], true;
    if (json_is_real(v)) return req_real_text(p, out->number, false, &out->text);
    if (json_is_string(v) || json_is_integer(v))
        return req_read_text(p, ptr, "value", v, &out->text);
    return req_bad_type(p, ptr, "a string, a number or a boolean", v), false;
}

static bool read_any(struct req_json *p, const char *ptr, const json_t *v,
                     struct filter_clause *c)
{
    if (!short_array(p, ptr, v, LIMIT_FILTER_VALUES)) return false;
    size_t n = json_array_size(v);
    struct filter_value *value = req_take(p, n * sizeof *value);
    if (!value) return false;
    for (size_t i = 0; i < n; i++) {
        char at[POINTER];
        req_pointer_index(at, sizeof at, ptr, i);
        if (!read_value(p, at, json_array_get(v, i), &value[i])) return false;
    }
    c->op = FILTER_ANY;
    c->value = value;
    c->n_values = (int32_t)n;
    return true;
}

static bool read_one(struct req_json *p, const char *ptr, const json_t *v,
                     struct filter_clause *c)
{
    struct filter_value *value = req_take(p, sizeof *value);
    if (!value || !read_value(p, ptr, v, value)) return false;
    c->op = FILTER_ANY;
    c->value = value;
    c->n_values = 1;
    return true;
}

static bool read_range(struct req_json *p, const char *ptr, const json_t *v,
                       struct filter_clause *c)
{
    struct attrs_bounds *b = &c->range;
    const struct {
        const char *name;
        double *to;
    } bound[] = { { "gte", &b->gte }, { "gt", &b->gt }, { "lte", &b->lte }, { "lt", &b->lt } };
    const char *key;
    json_t *x;
    int found = 0;
    if (!json_is_object(v)) return req_bad_type(p, ptr, "an object", v), false;
    json_object_foreach ((json_t *)v, key, x) {
        char at[POINTER];
        int i = 0;
        while (i < 4 && strcmp(key, bound[i].name) != 0) i++;
        if (i == 4 && !req_unknown_member(p, ptr, key, "gte, gt, lte, lt")) return false;
        if (i == 4) continue;
        req_pointer_step(at, sizeof at, ptr, key);
        if (!json_is_number(x)) return req_bad_type(p, at, "a number", x), false;
        *bound[i].to = json_number_value(x);
        found++;
    }
    c->op = FILTER_RANGE;
    return found || invalid(p, ptr, "at least one of gte, gt, lte, lt is needed");
}

static bool read_exists(struct req_json *p, const char *ptr, const json_t *v,
                        struct filter_clause *c)
{
    c->op = FILTER_EXISTS;
    return req_read_bool(p, ptr, v, &c->exists);
}

static const struct op {
    const char *name;
    bool (*read)(struct req_json *p, const char *ptr, const json_t *v, struct filter_clause *c);
} ops[] = {
    { "any", read_any },
    { "value", read_one },
    { "range", read_range },
    { "exists", read_exists },
};
enum { OPS = sizeof ops / sizeof ops[0] };

static bool read_clause(struct req_json *p, const char *ptr, const json_t *v,
                        struct filter_clause *c)
{
    const char *key, *op = NULL;
    json_t *x;
    const double none = (double)NAN;
    *c = (struct filter_clause){ .range = { none, none, none, none } };
    if (!json_is_object(v)) return req_bad_type(p, ptr, "an object", v), false;
    json_object_foreach ((json_t *)v, key, x) {
        char at[POINTER];
        bool ok = true;
        int i = 0;
        req_pointer_step(at, sizeof at, ptr, key);
        while (i < OPS && strcmp(key, ops[i].name) != 0) i++;
        if (strcmp(key, "key") == 0)
            ok = req_read_text(p, at, "key", x, &c->key);
        else if (i == OPS)
            ok = req_unknown_member(p, ptr, key, "key, any, value, range, exists");
        else if (op)
            ok = invalid(p, ptr, "more than one of any, value, range, exists");
        else
            ok = ops[i].read(p, at, x, c), op = key;
        if (!ok) return false;
    }
    if (!c->key.p) return invalid(p, ptr, "key is missing: the attribute's name");
    return op || invalid(p, ptr, "one of any, value, range, exists is missing");
}

static bool read_clauses(struct req_json *p, const char *ptr, const json_t *v,
                         const struct filter_clause **out, int32_t *n_out)
{
    if (!short_array(p, ptr, v, LIMIT_FILTER_CLAUSES)) return false;
    size_t n = json_array_size(v);
    struct filter_clause *c = req_take(p, n * sizeof *c);
    if (!c) return false;
    for (size_t i = 0; i < n; i++) {
        char at[POINTER];
        req_pointer_index(at, sizeof at, ptr, i);
        if (!read_clause(p, at, json_array_get(v, i), &c[i])) return false;
    }
    *out = c;
    *n_out = (int32_t)n;
    return true;
}

bool req_filter_read(struct req_json *p, const char *ptr, const json_t *v, struct filter *out)
{
    const char *key;
    json_t *x;
    *out = (struct filter){ 0 };
    if (!json_is_object(v)) return req_bad_type(p, ptr, "an object", v), false;
    json_object_foreach ((json_t *)v, key, x) {
        char at[POINTER];
        bool ok;
        req_pointer_step(at, sizeof at, ptr, key);
        if (strcmp(key, "must") == 0)
            ok = read_clauses(p, at, x, &out->must, &out->n_must);
        else if (strcmp(key, "must_not") == 0)
            ok = read_clauses(p, at, x, &out->must_not, &out->n_must_not);
        else
            ok = req_unknown_member(p, ptr, key, "must, must_not");
        if (!ok) return false;
    }
    return true;
}
