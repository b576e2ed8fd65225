#include "core/fmt/manifest.h"
#include "core/base/limits.h"
#include "core/fmt/bundle.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { NAME_BYTES = 255, SHA256_HEX = 64 };

/* A required member of the right type, or NULL with the error set. */
static const json_t *need(const json_t *obj, const char *where, const char *key, json_type type,
                          struct err *e)
{
    static const char *const names[] = { [JSON_OBJECT] = "an object",
                                         [JSON_ARRAY] = "an array",
                                         [JSON_STRING] = "a string",
                                         [JSON_INTEGER] = "an integer",
                                         [JSON_REAL] = "a number" };
    const json_t *v = json_object_get(obj, key);
    if (!v)
        err_set(e, ERR_BAD_BUNDLE, "\"%s%s\" is missing", where, key);
    else if (type == JSON_REAL ? json_is_number(v) : json_typeof(v) == type)
        return v;
    else
        err_set(e, ERR_BAD_BUNDLE, "\"%s%s\" is not %s", where, key, names[type]);
    return NULL;
}

static int need_int(const json_t *obj, const char *key, int64_t lo, int64_t hi, struct err *e)
{
    const json_t *v = need(obj, "", key, JSON_INTEGER, e);
    if (!v) return ERR_BAD_BUNDLE;
    json_int_t i = json_integer_value(v);
    if (i >= lo && i <= hi) return 0;
    return err_set(e, ERR_BAD_BUNDLE,
                   "\"%s\" is %" JSON_INTEGER_FORMAT ", not in %" PRId64 "..%" PRId64, key, i,
                   lo, hi);
}

static int need_format(const json_t *m, struct err *e)
{
    const json_t *v = need(m, "", "format", JSON_INTEGER, e);
    if (!v) return ERR_BAD_BUNDLE;
    if (json_integer_value(v) == BUNDLE_FORMAT) return 0;
    return err_set(e, ERR_BAD_BUNDLE,
                   "\"format\" is %" JSON_INTEGER_FORMAT ", this program reads %d",
                   json_integer_value(v), BUNDLE_FORMAT);
}

static int need_name(const json_t *m, struct err *e)
{
    const json_t *v = need(m, "", "name", JSON_STRING, e);
    if (!v) return ERR_BAD_BUNDLE;
    size_t len = json_string_length(v);
    if (len > 0 && len <= NAME_BYTES && !strchr(json_string_value(v), '/')) return 0;
    return err_set(e, ERR_BAD_BUNDLE, "\"name\" is not a directory's name of 1 to %d bytes",
                   NAME_BYTES);
}

static int need_created(const json_t *m, struct err *e)
{
    const json_t *v = need(m, "", "created", JSON_STRING, e);
    if (!v) return ERR_BAD_BUNDLE;
    static const char shape[] = "dddd-dd-ddTdd:dd:ddZ";
    const char *s = json_string_value(v);
    size_t i = 0;
    while (shape[i] && (shape[i] == 'd' ? s[i] >= '0' && s[i] <= '9' : s[i] == shape[i])) i++;
    if (!shape[i] && !s[i]) return 0;
    return err_set(e, ERR_BAD_BUNDLE, "\"created\" is not a time like 2026-11-22T18:04:11Z");
}

static int need_metric(const json_t *m, struct err *e)
{
    const json_t *v = need(m, "", "metric", JSON_STRING, e);
    if (!v) return ERR_BAD_BUNDLE;
    if (strcmp(json_string_value(v), "inner_product") == 0) return 0;
    return err_set(e, ERR_BAD_BUNDLE,
                   "\"metric\" is \"%.32s\", only \"inner_product\" is known",
                   json_string_value(v));
}

static int need_recipe(const json_t *m, struct err *e)
{
    json_t *recipe = (json_t *)(uintptr_t)need(m, "", "recipe", JSON_OBJECT, e), *v;
    const char *key;
    if (!recipe) return ERR_BAD_BUNDLE;
    json_object_foreach (recipe, key, v)
        if (!json_is_string(v))
            return err_set(e, ERR_BAD_BUNDLE, "\"recipe.%.64s\" is not a string", key);
    return 0;
}

static int check_metrics(const json_t *metrics, const char *split, struct err *e)
{
    json_t *obj = json_object_get(metrics, split), *v;
    const char *key;
    if (!obj) return 0;
    if (!json_is_object(obj))
        return err_set(e, ERR_BAD_BUNDLE, "\"metrics.%s\" is not an object", split);
    json_object_foreach (obj, key, v)
        if (!json_is_number(v))
            return err_set(e, ERR_BAD_BUNDLE, "\"metrics.%s.%.64s\" is not a number", split,
                           key);
    return 0;
}

static int need_metrics(const json_t *m, struct err *e)
{
    const json_t *metrics = need(m, "", "metrics", JSON_OBJECT, e);
    if (!metrics) return ERR_BAD_BUNDLE;
    TRY(check_metrics(metrics, "valid", e));
    return check_metrics(metrics, "test", e);
}

static int need_index(const json_t *m, struct err *e)
{
    bool file = json_object_get(json_object_get(m, "files"), BUNDLE_INDEX) != NULL;
    const json_t *index = json_object_get(m, "index");
    if (!file && (!index || json_is_null(index))) return 0;
    if (!file)
        return err_set(e, ERR_BAD_BUNDLE, "\"index\" is set, yet %s is not among \"files\"",
                       BUNDLE_INDEX);
    if (!(index = need(m, "", "index", JSON_OBJECT, e)) ||
        !need(index, "index.", "type", JSON_STRING, e) ||
        !need(index, "index.", "ef_search", JSON_INTEGER, e) ||
        !need(index, "index.", "recall", JSON_REAL, e))
        return ERR_BAD_BUNDLE;
    json_int_t ef = json_integer_value(json_object_get(index, "ef_search"));
    double recall = json_number_value(json_object_get(index, "recall"));
    if (ef < 0 || ef > INT32_MAX)
        return err_set(e, ERR_BAD_BUNDLE,
                       "\"index.ef_search\" is %" JSON_INTEGER_FORMAT ", not in 0..%d", ef,
                       INT32_MAX);
    if (!(recall >= 0 && recall <= 1))
        return err_set(e, ERR_BAD_BUNDLE, "\"index.recall\" is %g, not in 0..1", recall);
    return 0;
}

/* A plain name that can't leave the directory nor name the manifest itself. */
static bool is_file_name(const char *s)
{
    size_t len = strlen(s);
    return len > 0 && len <= NAME_BYTES && s[0] != '.' && !strchr(s, '/') &&
           strcmp(s, BUNDLE_MANIFEST) != 0;
}

static int check_file(const char *name, const json_t *obj, struct err *e)
{
    if (!is_file_name(name))
        return err_set(e, ERR_BAD_BUNDLE, "\"files\" names \"%.64s\", which no bundle holds",
                       name);
    if (!json_is_object(obj))
        return err_set(e, ERR_BAD_BUNDLE, "\"files.%s\" is not an object", name);
    const json_t *sha = json_object_get(obj, "sha256"), *nb = json_object_get(obj, "bytes");
    const char *hex = json_string_value(sha);
    if (!hex || strlen(hex) != SHA256_HEX || strspn(hex, "0123456789abcdef") != SHA256_HEX)
        return err_set(e, ERR_BAD_BUNDLE, "\"files.%s.sha256\" is not %d hex digits", name,
                       SHA256_HEX);
    if (!json_is_integer(nb) || json_integer_value(nb) < 0)
        return err_set(e, ERR_BAD_BUNDLE, "\"files.%s.bytes\" is not a size", name);
    return 0;
}

static int need_files(const json_t *m, struct err *e)
{
    json_t *files = (json_t *)(uintptr_t)need(m, "", "files", JSON_OBJECT, e), *v;
    const char *name;
    if (!files) return ERR_BAD_BUNDLE;
    json_object_foreach (files, name, v) TRY(check_file(name, v, e));
    if (!need(files, "files.", BUNDLE_WEIGHTS, JSON_OBJECT, e)) return ERR_BAD_BUNDLE;
    if (!need(files, "files.", BUNDLE_ITEMS, JSON_OBJECT, e)) return ERR_BAD_BUNDLE;
    return 0;
}

static int need_kind(const json_t *m, struct err *e)
{
    const json_t *v = json_object_get(m, "kind");
    const char *kind = json_string_value(v);
    if (!v || (kind && (strcmp(kind, "retrieval") == 0 || strcmp(kind, "rank") == 0))) return 0;
    return err_set(e, ERR_BAD_BUNDLE, "\"kind\" is neither \"retrieval\" nor \"rank\"");
}

bool manifest_is_rank(const json_t *m)
{
    const char *kind = json_string_value(json_object_get(m, "kind"));
    return kind && strcmp(kind, "rank") == 0;
}

static int need_retrieval(const json_t *m, struct err *e)
{
    if (!need(m, "", "encoder", JSON_OBJECT, e)) return ERR_BAD_BUNDLE;
    TRY(need_metric(m, e));
    TRY(need_int(m, "interests", 1, LIMIT_INTERESTS, e));
    TRY(need_int(m, "width", 1, LIMIT_WIDTH, e));
    return need_int(m, "max_len", 1, LIMIT_SEQ_LEN, e);
}

/* It has no vectors of items, and nothing to search in. */
static int need_rank(const json_t *m, struct err *e)
{
    if (!need(m, "", "ranker", JSON_OBJECT, e) || !need(m, "", "schema", JSON_OBJECT, e) ||
        !need(m, "", "columns", JSON_OBJECT, e))
        return ERR_BAD_BUNDLE;
    if (!json_object_get(json_object_get(m, "files"), BUNDLE_INDEX)) return 0;
    return err_set(e, ERR_BAD_BUNDLE, "\"files\" names %s, which a rank model has not",
                   BUNDLE_INDEX);
}

int manifest_check(const json_t *m, struct err *e)
{
    if (!json_is_object(m)) return err_set(e, ERR_BAD_BUNDLE, "not a JSON object");
    TRY(need_format(m, e));
    TRY(need_kind(m, e));
    TRY(need_name(m, e));
    TRY(need_int(m, "version", 1, INT64_MAX, e));
    TRY(need_created(m, e));
    TRY(manifest_is_rank(m) ? need_rank(m, e) : need_retrieval(m, e));
    TRY(need_int(m, "items", 1, LIMIT_ITEMS, e));
    TRY(need_recipe(m, e));
    TRY(need_metrics(m, e));
    TRY(need_files(m, e));
    return need_index(m, e);
}

int manifest_parse(json_t **out, const char *text, size_t nb, struct err *e)
{
    json_error_t je;
    json_t *m = json_loadb(text, nb, JSON_REJECT_DUPLICATES, &je);
    if (!m) return err_set(e, ERR_BAD_BUNDLE, "line %d: %s", je.line, je.text);
    int rc = manifest_check(m, e);
    if (rc < 0)
        json_decref(m);
    else
        *out = m;
    return rc;
}
