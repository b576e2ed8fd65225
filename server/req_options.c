#include "server/req_options.h"
#include "core/base/limits.h"
#include "server/req.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef void member_fn(struct req_json *p, const char *ptr, const json_t *v);

struct member {
    const char *key;
    member_fn *set;
};

/* Each member of the object by its own function; known: their names, for who gets one wrong. */
static void read_members(struct req_json *p, const char *ptr, const json_t *v,
                         const struct member *m, const char *known)
{
    const char *key;
    json_t *x;
    if (!json_is_object(v)) {
        req_bad_type(p, ptr, "an object", v);
        return;
    }
    json_object_foreach ((json_t *)v, key, x) {
        char at[128];
        const struct member *own = m;
        while (own->key && strcmp(own->key, key) != 0) own++;
        req_pointer_step(at, sizeof at, ptr, key);
        if (own->key)
            own->set(p, at, x);
        else
            req_unknown_member(p, ptr, key, known);
    }
}

static bool read_number(struct req_json *p, const char *ptr, const json_t *v, double lo,
                        double hi, float *out)
{
    if (!json_is_number(v)) return req_bad_type(p, ptr, "a number", v), false;
    const double x = json_number_value(v);
    if (!(x >= lo && x <= hi)) {
        fault_add(p->f, ERR_INVALID, ptr, "%s: must be from %g to %g, not %g", ptr + 1, lo, hi,
                  x);
        return false;
    }
    *out = (float)x;
    return true;
}

static void merge_strategy(struct req_json *p, const char *ptr, const json_t *v)
{
    int i = req_read_word(p, ptr, v, "max|sum|rrf|round_robin|quota"); /* as enum merge_how */
    if (i >= 0) p->out->rec.merge = (enum merge_how)i;
}

static void merge_k(struct req_json *p, const char *ptr, const json_t *v)
{
    read_number(p, ptr, v, 1, 1e6, &p->out->rec.rrf_k);
}

static void merge_least(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_int(p, ptr, v, 0, LIMIT_RESULTS, &p->out->rec.min_per_interest);
}

static void merge_weights(struct req_json *p, const char *ptr, const json_t *v)
{
    if (!json_is_array(v)) {
        req_bad_type(p, ptr, "an array", v);
        return;
    }
    const size_t n = json_array_size(v);
    if (n < 1 || n > LIMIT_INTERESTS) {
        fault_add(p->f, ERR_INVALID, ptr, "%s: %zu numbers, one an interest is needed", ptr + 1,
                  n);
        return;
    }
    float *w = req_take(p, n * sizeof *w);
    for (size_t i = 0; w && i < n; i++) {
        char at[160];
        req_pointer_index(at, sizeof at, ptr, i);
        if (!read_number(p, at, json_array_get(v, i), 0, 1e6, &w[i])) return;
    }
    p->out->rec.weights = w;
    p->out->rec.n_weights = w ? (int32_t)n : 0;
}

void req_set_merge(struct req_json *p, const char *ptr, const json_t *v)
{
    static const struct member members[] = { { "strategy", merge_strategy },
                                             { "k", merge_k },
                                             { "weights", merge_weights },
                                             { "min_per_interest", merge_least },
                                             { NULL, NULL } };
    read_members(p, ptr, v, members, "strategy, k, weights, min_per_interest");
}

static void diversity_method(struct req_json *p, const char *ptr, const json_t *v)
{
    int i = req_read_word(p, ptr, v, "none|category|mmr"); /* as enum diversity */
    if (i >= 0) p->out->rec.diversity = (enum diversity)i;
}

static void diversity_strength(struct req_json *p, const char *ptr, const json_t *v)
{
    read_number(p, ptr, v, 0, 1, &p->out->rec.strength);
}

static void diversity_field(struct req_json *p, const char *ptr, const json_t *v)
{
    if (json_is_string(v))
        req_read_id(p, ptr, v, &p->out->rec.diversity_field);
    else
        req_bad_type(p, ptr, "a string", v);
}

void req_set_diversity(struct req_json *p, const char *ptr, const json_t *v)
{
    static const struct member members[] = { { "method", diversity_method },
                                             { "strength", diversity_strength },
                                             { "field", diversity_field },
                                             { NULL, NULL } };
    read_members(p, ptr, v, members, "method, strength, field");
}

static void search_exact(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_bool(p, ptr, v, &p->out->rec.exact);
}

static void search_ef(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_int(p, ptr, v, 1, LIMIT_EF, &p->out->rec.ef);
}

static void search_nprobe(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_int(p, ptr, v, 1, LIMIT_EF, &p->out->rec.nprobe);
}

void req_set_search(struct req_json *p, const char *ptr, const json_t *v)
{
    static const struct member members[] = { { "exact", search_exact },
                                             { "ef", search_ef },
                                             { "nprobe", search_nprobe },
                                             { NULL, NULL } };
    read_members(p, ptr, v, members, "exact, ef, nprobe");
}

void req_set_exclude_lists(struct req_json *p, const char *ptr, const json_t *v)
{
    req_read_ids(p, ptr, v, LIMIT_EXCLUDE_LISTS, &p->out->rec.lists, &p->out->rec.n_lists);
}

void req_set_seed(struct req_json *p, const char *ptr, const json_t *v)
{
    if (!json_is_integer(v)) {
        req_bad_type(p, ptr, "an integer", v);
        return;
    }
    p->out->rec.has_seed = true;
    p->out->rec.seed = (uint64_t)json_integer_value(v);
}

void req_set_allow_degraded(struct req_json *p, const char *ptr, const json_t *v)
{
    bool allowed = true;
    req_read_bool(p, ptr, v, &allowed);
    p->out->rec.whole = !allowed;
}

/* ---- queries that are no history ------------------------------------------------------------- */

void req_set_items(struct req_json *p, const char *ptr, const json_t *v)
{
    if (!req_read_ids(p, ptr, v, LIMIT_INTERESTS, &p->out->rec.history, &p->out->rec.n_history))
        return;
    if (p->out->rec.n_history == 0) fault_add(p->f, ERR_INVALID, ptr, "items: is empty");
}

static size_t without_padding(const char *s, size_t n)
{
    while (n > 0 && s[n - 1] == '=') n--;
    return n;
}

/* Numbers that a vector has, by the length of its text or array alone. */
static size_t width_of(const json_t *v)
{
    if (json_is_array(v)) return json_array_size(v);
    return without_padding(json_string_value(v), json_string_length(v)) * 3 / 4 / sizeof(float);
}

/* Base64 of exactly width float32, little-endian as every supported machine stores them. */
static bool read_base64(float *out, const json_t *v, size_t width)
{
    const char *s = json_string_value(v);
    const size_t n = without_padding(s, json_string_length(v));
    if (n * 3 / 4 != width * sizeof *out || req_base64((unsigned char *)out, s, n) < 0)
        return false;
    for (size_t i = 0; i < width; i++)
        if (!(fabsf(out[i]) <= LIMIT_VECTOR_NUMBER)) return false;
    return true;
}

/* One of width numbers: base64, or an array. */
static bool read_vector(struct req_json *p, const char *ptr, const json_t *v, float *out,
                        size_t width)
{
    if (json_is_string(v)) {
        if (read_base64(out, v, width)) return true;
        fault_add(p->f, ERR_INVALID, ptr, "%s: not base64 of float32 numbers up to %g", ptr + 1,
                  (double)LIMIT_VECTOR_NUMBER);
        return false;
    }
    for (size_t i = 0; i < width; i++) {
        char at[96];
        req_pointer_index(at, sizeof at, ptr, i);
        if (!read_number(p, at, json_array_get(v, i), -(double)LIMIT_VECTOR_NUMBER,
                         (double)LIMIT_VECTOR_NUMBER, &out[i]))
            return false;
    }
    return true;
}

/* The same width for all, of which there is one at least. */
static bool check_width(struct req_json *p, const char *ptr, const json_t *v,
                        const json_t *first)
{
    if (!json_is_string(v) && !json_is_array(v))
        return req_bad_type(p, ptr, "an array of numbers or base64", v), false;
    const size_t n = width_of(v), want = width_of(first);
    if (n != want)
        fault_add(p->f, ERR_INVALID, ptr, "%s: %zu numbers, the first vector has %zu", ptr + 1,
                  n, want);
    else if (n < 1 || n > LIMIT_WIDTH)
        fault_add(p->f, ERR_INVALID, ptr, "%s: %zu numbers, must be from 1 to %d", ptr + 1, n,
                  LIMIT_WIDTH);
    else
        return true;
    return false;
}

void req_set_vectors(struct req_json *p, const char *ptr, const json_t *v)
{
    if (!json_is_array(v)) {
        req_bad_type(p, ptr, "an array of vectors", v);
        return;
    }
    const size_t n = json_array_size(v);
    if (n < 1 || n > LIMIT_INTERESTS) {
        fault_add(p->f, ERR_INVALID, ptr, "vectors: %zu, must be from 1 to %d", n,
                  LIMIT_INTERESTS);
        return;
    }
    const json_t *first = json_array_get(v, 0);
    float *all = NULL;
    size_t width = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(v, i);
        char at[48];
        req_pointer_index(at, sizeof at, ptr, i);
        if (!check_width(p, at, one, first)) return;
        width = width_of(first);
        if (!all) all = req_take(p, n * width * sizeof *all);
        if (!all || !read_vector(p, at, one, all + i * width, width)) return;
    }
    p->out->rec.vectors = all;
    p->out->rec.n_vectors = (int32_t)n;
    p->out->n_floats = (int32_t)(n * width);
}
