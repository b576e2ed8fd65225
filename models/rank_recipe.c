#include "models/rank_recipe.h"
#include "core/base/mem.h"
#include "core/data/text.h"
#include <stdlib.h>
#include <string.h>

const struct opt rank_train_opts[] = {
    OPT_INT(struct rank_train_cfg, epochs, "1", 1, 100000, "passes over the training data"),
    OPT_INT(struct rank_train_cfg, batch_size, "1024", 2, 65536, "impressions of a batch"),
    OPT_FLOAT(struct rank_train_cfg, lr, "0.001", 1e-9, 10, "learning rate of Adam"),
    OPT_INT(struct rank_train_cfg, lr_steps, "1000", 1, 1000000000,
            "steps after which lr is multiplied by lr_factor, again and again"),
    OPT_FLOAT(struct rank_train_cfg, lr_factor, "0.5", 0.001, 1, "see lr_steps"),
    OPT_FLOAT(struct rank_train_cfg, lr_min, "1e-5", 0, 10, "least learning rate"),
    OPT_FLOAT(struct rank_train_cfg, clip_norm, "0", 0, 1e6,
              "largest norm of all gradients together; 0: not clipped"),
    OPT_FLOAT(struct rank_train_cfg, norm_momentum, "0.99", 0, 0.99999,
              "of the batch norms' running averages"),
    OPT_FLOAT(struct rank_train_cfg, valid_share, "0.1", 0, 0.9,
              "last part of the data that is for validation, unless a file is"),
    OPT_I64(struct rank_train_cfg, seed, "1", 0, 1e15,
            "initial weights, order, views and dropout"),
    OPT_END
};

/* The tables that [rank] is made of, and what they fill. */
struct part {
    const struct opt *opts;
    void *cfg;
};
enum { PARTS = 4 };

static void parts_of(struct part out[PARTS], struct rank_recipe *r)
{
    out[0] = (struct part){ ranker_opts, &r->model };
    out[1] = (struct part){ rank_loss_opts, &r->loss };
    out[2] = (struct part){ rank_train_opts, &r->train };
    out[3] = (struct part){ rank_column_opts, &r->columns };
}

void rank_recipe_defaults(struct rank_recipe *r)
{
    struct part p[PARTS];
    *r = (struct rank_recipe){ 0 };
    parts_of(p, r);
    for (int i = 0; i < PARTS; i++) conf_defaults(p[i].opts, p[i].cfg);
}

void rank_recipe_free(struct rank_recipe *r)
{
    schema_free(&r->schema);
    conf_free(rank_column_opts, &r->columns);
}

static int set_rank(struct rank_recipe *r, const char *key, const char *value, struct err *e)
{
    struct part p[PARTS];
    const char *near = NULL;
    parts_of(p, r);
    for (int i = 0; i < PARTS; i++) {
        if (conf_find(p[i].opts, key)) return conf_set(p[i].opts, p[i].cfg, key, value, e);
        if (!near) near = conf_nearest(p[i].opts, key);
    }
    if (near) return err_set(e, ERR_CONFIG, "unknown key '%s'; did you mean '%s'?", key, near);
    return err_set(e, ERR_CONFIG, "unknown key '%s'", key);
}

static int set(struct rank_recipe *r, const char *section, const char *key, const char *value,
               struct err *e)
{
    if (schema_section(section)) return schema_set(&r->schema, section, key, value, e);
    if (value && !text_utf8_ok(value, strlen(value)))
        return err_set(e, ERR_CONFIG, "[%.80s]: %s: the value is not UTF-8", section, key);
    if (strcmp(section, "rank") != 0)
        return err_set(e, ERR_CONFIG,
                       "unknown section [%s]; there are rank, feature NAME, group NAME",
                       section);
    return !key || set_rank(r, key, value, e) == 0 ? 0 : err_ctx(e, "[rank]");
}

static int on_line(void *ctx, const char *section, const char *key, const char *value, int line,
                   struct err *e)
{
    (void)line;
    return set(ctx, section, key, value, e);
}

int rank_recipe_load(struct rank_recipe *r, const char *path, struct err *e)
{
    return conf_ini(path, on_line, r, e);
}

int rank_recipe_set(struct rank_recipe *r, const char *assignment, struct err *e)
{
    const char *eq = strchr(assignment, '=');
    if (!eq) return err_set(e, ERR_USAGE, "--set %s: expected key=value", assignment);
    char *left = xstrndup(assignment, (size_t)(eq - assignment)), *dot = strrchr(left, '.');
    if (dot) *dot = '\0';
    int rc = set(r, dot ? left : "rank", dot ? dot + 1 : left, eq + 1, e);
    free(left);
    return rc < 0 ? err_ctx(e, "--set %s", assignment) : 0;
}

int rank_recipe_check(struct rank_recipe *r, struct err *e)
{
    struct ranker_shape shape;
    TRY(schema_check(&r->schema, e));
    rank_shape(&shape, &r->schema);
    if ((r->model.sequence && rank_loss_check(&r->loss, r->train.batch_size, e) < 0) ||
        ranker_check(&r->model, &shape, e) < 0)
        return err_ctx(e, "[rank]");
    return 0;
}

json_t *rank_recipe_json(const struct rank_recipe *r)
{
    struct part p[PARTS];
    json_t *o = json_object();
    parts_of(p, (struct rank_recipe *)(uintptr_t)r);
    for (int i = 0; i < PARTS; i++)
        for (const struct opt *x = p[i].opts; x->key; x++) {
            char key[64], value[256];
            snprintf(key, sizeof key, "rank.%s", x->key);
            conf_get(x, p[i].cfg, value, sizeof value);
            json_object_set_new(o, key, json_string(value));
        }
    return o;
}

void rank_recipe_help(FILE *f)
{
    fputs("\nKeys of [rank]:\n", f);
    conf_help(rank_column_opts, f);
    conf_help(ranker_opts, f);
    conf_help(rank_loss_opts, f);
    conf_help(rank_train_opts, f);
    fputs("\nKeys of [feature NAME]; [group user], [group item] and [group sequence] have "
          "features = NAME, NAME:\n",
          f);
    conf_help(feature_opts, f);
}
