#include "core/serve/rank_model.h"
#include "core/base/mem.h"
#include "core/fmt/ckpt.h"
#include "core/fmt/manifest.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct opt rank_column_opts[] = {
    OPT_STR(struct rank_columns, label, "clk", "column of the label: 1 for a click, else 0"),
    OPT_STR(struct rank_columns, user, "user_id", "column of the user, by whom AUC is grouped"),
    OPT_STR(struct rank_columns, item, "adgroup_id", "column of the item's id"), OPT_END
};

/* ---- schema ---- */

int32_t rank_inputs(const struct schema *s, int32_t *feature)
{
    int32_t n = 0;
    for (int g = SCHEMA_USER; g <= SCHEMA_ITEM; g++)
        for (int32_t i = 0; i < s->n_members[g]; i++) feature[n++] = s->member[g][i];
    return n;
}

/* The table of feature f in the shape, made when it isn't there. */
static int32_t table_of(struct ranker_shape *out, const struct schema *s, int32_t f)
{
    const struct feature *owner = s->f[s->f[f]->table];
    for (int32_t i = 0; i < out->n_tables; i++)
        if (out->table[i].name == owner->name) return i;
    out->table[out->n_tables] =
        (struct ranker_table){ owner->name, schema_rows(s, f), owner->width };
    return out->n_tables++;
}

void rank_shape(struct ranker_shape *out, const struct schema *s)
{
    int32_t feature[LIMIT_FEATURES];
    *out = (struct ranker_shape){ .n_inputs = rank_inputs(s, feature),
                                  .n_steps = s->n_members[SCHEMA_SEQUENCE] };
    for (int32_t i = 0; i < out->n_inputs; i++) out->input[i] = table_of(out, s, feature[i]);
    for (int32_t i = 0; i < out->n_steps; i++)
        out->step[i] = table_of(out, s, s->member[SCHEMA_SEQUENCE][i]);
}

json_t *rank_schema_json(const struct schema *s)
{
    json_t *features = json_object(), *groups = json_object();
    for (int32_t f = 0; f < s->n; f++)
        json_object_set_new(features, s->f[f]->name,
                            bundle_opts_to_json(feature_opts, s->f[f]));
    for (int g = 0; g < SCHEMA_GROUPS; g++)
        if (s->group[g])
            json_object_set_new(groups, schema_group_name[g], json_string(s->group[g]));
    return json_pack("{s:o, s:o}", "features", features, "groups", groups);
}

static int feature_from_json(struct schema *s, const char *name, const json_t *o, struct err *e)
{
    char section[LIMIT_FIELD_NAME + 16];
    snprintf(section, sizeof section, "feature %s", name);
    TRY(schema_set(s, section, NULL, NULL, e));
    int32_t f = schema_find(s, name, strlen(name));
    if (f < 0) return err_set(e, ERR_BAD_BUNDLE, "feature %.64s has no proper name", name);
    conf_free(feature_opts, s->f[f]);
    return bundle_opts_from_json(feature_opts, s->f[f], o, e) < 0 ? err_ctx(e, "%s", section)
                                                                  : 0;
}

static int read_schema(struct schema *s, const json_t *o, struct err *e)
{
    json_t *features = json_object_get(o, "features"), *groups = json_object_get(o, "groups");
    const char *name;
    json_t *v;
    if (!json_is_object(features) || !json_is_object(groups))
        return err_set(e, ERR_BAD_BUNDLE, "\"features\" and \"groups\" are not both objects");
    json_object_foreach (features, name, v) TRY(feature_from_json(s, name, v, e));
    json_object_foreach (groups, name, v) {
        char section[64];
        snprintf(section, sizeof section, "group %.40s", name);
        if (!json_is_string(v))
            return err_set(e, ERR_BAD_BUNDLE, "%s is not a string", section);
        TRY(schema_set(s, section, "features", json_string_value(v), e));
    }
    TRY(schema_check(s, e));
    for (int32_t f = 0; f < s->n; f++)
        if (schema_unfitted(s, f) && schema_group_of(s, f) >= 0)
            return err_set(e, ERR_BAD_BUNDLE, "feature %s has no boundaries", s->f[f]->name);
    return 0;
}

int rank_schema_from_json(struct schema *s, const json_t *o, struct err *e)
{
    *s = (struct schema){ 0 };
    int rc = read_schema(s, o, e);
    if (rc < 0) schema_free(s);
    return rc;
}

/* ---- the catalogue's features ---- */

/* Rows of a field of values of item i, each once; LIMIT_TAGS at most. */
static int32_t value_rows(const struct rank_model *m, int32_t f, int32_t field, int32_t i,
                          int32_t *row)
{
    int32_t n, k = 0;
    const int32_t *value = items_values(m->items, field, i, &n);
    for (int32_t j = 0; j < n && k < LIMIT_TAGS; j++) {
        struct str v = items_field_value(m->items, field, value[j]);
        row[k] = schema_row(&m->schema, f, v.p, (size_t)v.len);
        k += !schema_has(row, k, row[k]);
    }
    return k;
}

static void read_tags(struct rank_model *m, int32_t f, int32_t field)
{
    int32_t n = items_count(m->items), row[LIMIT_TAGS],
            *cu = xcalloc((size_t)n + 1, sizeof *cu);
    for (int32_t i = 0; i < n; i++) cu[i + 1] = cu[i] + value_rows(m, f, field, i, row);
    m->cu[f] = cu;
    m->row[f] = xcalloc((size_t)cu[n] + 1, sizeof *m->row[f]);
    for (int32_t i = 0; i < n; i++) {
        int32_t k = value_rows(m, f, field, i, row);
        memcpy(m->row[f] + cu[i], row, (size_t)k * sizeof *row);
    }
}

static int32_t single_row(const struct rank_model *m, int32_t f, int32_t field, int32_t i)
{
    int32_t row[LIMIT_TAGS] = { 0 };
    if (items_field_kind(m->items, field) == FIELD_VALUES)
        return value_rows(m, f, field, i, row) > 0 ? row[0] : 0;
    char number[32];
    snprintf(number, sizeof number, "%.17g", items_number(m->items, field, i));
    return schema_row(&m->schema, f, number, strlen(number));
}

static int read_feature(struct rank_model *m, int32_t f, struct err *e)
{
    const struct feature *x = m->schema.f[f];
    const int32_t n = items_count(m->items);
    int32_t field = items_field_find(m->items, x->name, strlen(x->name));
    bool number = m->schema.f[x->table]->kind == FEATURE_NUMBER;
    if (f != m->id_feature && field < 0)
        return err_set(e, ERR_BAD_BUNDLE, BUNDLE_ITEMS ": no field \"%s\"", x->name);
    if (f != m->id_feature && number != (items_field_kind(m->items, field) == FIELD_NUMBER))
        return err_set(e, ERR_BAD_BUNDLE, BUNDLE_ITEMS ": field \"%s\" is of the other kind",
                       x->name);
    if (x->kind == FEATURE_TAGS && f != m->id_feature) {
        read_tags(m, f, field);
        return 0;
    }
    m->row[f] = xcalloc((size_t)n, sizeof *m->row[f]);
    for (int32_t i = 0; i < n; i++) {
        struct str id = items_id(m->items, i);
        m->row[f][i] = f == m->id_feature ? schema_row(&m->schema, f, id.p, (size_t)id.len)
                                          : single_row(m, f, field, i);
    }
    return 0;
}

/* The steps of a history are rows of the items' features that the sequence is of. */
static int32_t missing_for_history(const struct rank_model *m)
{
    const struct schema *s = &m->schema;
    for (int32_t i = 0; i < s->n_members[SCHEMA_SEQUENCE]; i++) {
        const int32_t f = s->member[SCHEMA_SEQUENCE][i], of = s->f[f]->table;
        if (of == f || !m->row[of] || m->cu[of]) return f;
    }
    return -1;
}

static int read_catalogue(struct rank_model *m, struct err *e)
{
    const struct schema *s = &m->schema;
    m->id_feature = schema_find(s, m->columns.item, strlen(m->columns.item));
    for (int32_t i = 0; i < s->n_members[SCHEMA_ITEM]; i++)
        if (!s->f[s->member[SCHEMA_ITEM][i]]->context)
            TRY(read_feature(m, s->member[SCHEMA_ITEM][i], e));
    m->no_history = missing_for_history(m);
    return 0;
}

/* ---- loading ---- */

/* Before memory is taken for what the manifest claims, the weights file must be large enough for it. */
static int check_size(const struct bundle *b, const struct ranker_cfg *c,
                      const struct ranker_shape *s, struct err *e)
{
    int64_t nb = bundle_bytes(b, BUNDLE_WEIGHTS);
    int64_t need = ranker_size(c, s) * (int64_t)sizeof(float);
    if (nb >= need) return 0;
    return err_set(e, ERR_BAD_BUNDLE,
                   BUNDLE_WEIGHTS ": %" PRId64 " bytes, the schema needs %" PRId64, nb, need);
}

static int load_ranker(struct rank_model *m, const struct bundle *b, struct err *e)
{
    struct ranker_cfg cfg;
    struct ranker_shape shape;
    if (bundle_opts_from_json(ranker_opts, &cfg, json_object_get(b->manifest, "ranker"), e) < 0)
        return err_ctx(e, BUNDLE_MANIFEST ": ranker");
    rank_shape(&shape, &m->schema);
    TRY(ranker_check(&cfg, &shape, e));
    TRY(check_size(b, &cfg, &shape, e));
    m->ranker = ranker_new(&cfg, &shape, false);
    char *path = bundle_path(b, BUNDLE_WEIGHTS);
    int rc = ckpt_load(ranker_params(m->ranker), GROUPS_ALL, path, e);
    free(path);
    return rc;
}

static int load_items(struct rank_model *m, const struct bundle *b, struct err *e)
{
    char *path = bundle_path(b, BUNDLE_ITEMS);
    int rc = items_open(&m->items, path, e);
    free(path);
    TRY(rc);
    int64_t said = json_integer_value(json_object_get(b->manifest, "items"));
    if (said != items_count(m->items))
        return err_set(e, ERR_BAD_BUNDLE, "\"items\" is %" PRId64 ", " BUNDLE_ITEMS " has %d",
                       said, items_count(m->items));
    return 0;
}

static int load(struct rank_model *m, const struct bundle *b, struct err *e)
{
    if (!manifest_is_rank(b->manifest))
        return err_set(e, ERR_BAD_BUNDLE,
                       "%s@%" PRId64
                       " retrieves candidates and does not rank them: see `intent "
                       "eval`, `intent recommend`",
                       b->name, b->version);
    if (rank_schema_from_json(&m->schema, json_object_get(b->manifest, "schema"), e) < 0)
        return err_ctx(e, BUNDLE_MANIFEST ": schema");
    if (bundle_opts_from_json(rank_column_opts, &m->columns,
                              json_object_get(b->manifest, "columns"), e) < 0)
        return err_ctx(e, BUNDLE_MANIFEST ": columns");
    TRY(load_items(m, b, e));
    TRY(load_ranker(m, b, e));
    return read_catalogue(m, e);
}

int rank_model_load(struct rank_model **out, const struct bundle *b, struct err *e)
{
    struct rank_model *m = xcalloc(1, sizeof *m);
    if (load(m, b, e) == 0) {
        *out = m;
        return 0;
    }
    rank_model_free(m);
    if (e)
        e->code =
            ERR_BAD_BUNDLE; /* whatever part is at fault, it is the bundle that is refused */
    return ERR_BAD_BUNDLE;
}

void rank_model_free(struct rank_model *m)
{
    if (!m) return;
    for (int32_t f = 0; f < LIMIT_FEATURES; f++) {
        free(m->row[f]);
        free(m->cu[f]);
    }
    conf_free(rank_column_opts, &m->columns);
    schema_free(&m->schema);
    ranker_free(m->ranker);
    if (m->items) items_close(m->items);
    free(m);
}
