#include "models/recipe.h"
#include "core/base/mem.h"
#include <stdlib.h>
#include <string.h>

const struct opt train_opts[] = {
    OPT_INT(struct train_cfg, epochs, "200", 1, 100000, "most epochs"),
    OPT_INT(struct train_cfg, patience, "10", 1, 100000,
            "epochs without a better validation before it stops"),
    OPT_INT(struct train_cfg, batch_size, "256", 1, 65536, "rows of a step, B"),
    OPT_CHOICE(struct train_cfg, layout, "B", "A|B",
               "A: all positions; B: every prefix, last position"),
    OPT_CHOICE(struct train_cfg, stop_on, "ndcg@10", "ndcg@10|ndcg@20|mrr@10|hr@20|recall@50",
               "validation metric that chooses the checkpoint"),
    OPT_CHOICE(struct train_cfg, valid_seen, "mask", "mask|keep|zero",
               "history items as candidates in validation"),
    OPT_FLOAT(struct train_cfg, lr, "0.001", 1e-9, 10, "learning rate of Adam"),
    OPT_FLOAT(struct train_cfg, beta1, "0.9", 0, 0.99999, "of Adam"),
    OPT_FLOAT(struct train_cfg, beta2, "0.999", 0, 0.99999, "of Adam"),
    OPT_FLOAT(struct train_cfg, weight_decay, "0", 0, 10,
              "L2 on what starts random: not biases, norms, the head's positions"),
    OPT_I64(struct train_cfg, seed, "1", 0, 1e15, "initial weights, order and dropout"),
    OPT_END
};

static const struct opt use_opts[] = {
    OPT_FLOAT(struct obj_use, weight, "1", 0, 1e6, "weight in the sum of objectives"), OPT_END
};

void recipe_defaults(struct recipe *r)
{
    *r = (struct recipe){ 0 };
    conf_defaults(model_opts, &r->model);
    conf_defaults(train_opts, &r->train);
}

void recipe_free(struct recipe *r)
{
    for (int i = 0; i < r->n_obj; i++) free(r->obj[i].cfg);
    r->n_obj = 0;
}

static const struct obj_ops *find_objective(const char *name)
{
    for (int i = 0; i < obj_count; i++)
        if (strcmp(obj_list[i]->name, name) == 0) return obj_list[i];
    return NULL;
}

/* The recipe's entry of an objective, made when it isn't there. */
static struct obj_use *use(struct recipe *r, const struct obj_ops *ops)
{
    for (int i = 0; i < r->n_obj; i++)
        if (r->obj[i].ops == ops) return &r->obj[i];
    REQUIRE(r->n_obj < RECIPE_OBJECTIVES, "%d objectives", r->n_obj);
    struct obj_use *u = &r->obj[r->n_obj++];
    *u = (struct obj_use){ .ops = ops, .weight = 1 };
    if (ops->cfg_size) {
        u->cfg = xcalloc(1, ops->cfg_size);
        conf_defaults(ops->opts, u->cfg);
    }
    return u;
}

static int set_objective(struct recipe *r, const struct obj_ops *ops, const char *key,
                         const char *value, struct err *e)
{
    struct obj_use *u = use(r, ops);
    bool common = !conf_find(ops->opts, key) &&
                  (conf_find(use_opts, key) ||
                   (!conf_nearest(ops->opts, key) && conf_nearest(use_opts, key)));
    return common ? conf_set(use_opts, u, key, value, e)
                  : conf_set(ops->opts, u->cfg, key, value, e);
}

static int unknown_section(const char *section, struct err *e)
{
    char known[256] = "model, train";
    for (int i = 0; i < obj_count; i++) {
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, ", %s", obj_list[i]->name);
    }
    return err_set(e, ERR_CONFIG, "unknown section [%s]; there are %s", section, known);
}

static int set(struct recipe *r, const char *section, const char *key, const char *value,
               struct err *e)
{
    const struct obj_ops *ops = find_objective(section);
    int rc = strcmp(section, "model") == 0   ? conf_set(model_opts, &r->model, key, value, e)
             : strcmp(section, "train") == 0 ? conf_set(train_opts, &r->train, key, value, e)
             : ops                           ? set_objective(r, ops, key, value, e)
                                             : unknown_section(section, e);
    return rc < 0 ? err_ctx(e, "[%s]", section) : 0;
}

static int on_line(void *ctx, const char *section, const char *key, const char *value, int line,
                   struct err *e)
{
    (void)line;
    if (key) return set(ctx, section, key, value, e);
    /* a section alone takes an objective with its defaults */
    const struct obj_ops *ops = find_objective(section);
    if (ops) (void)use(ctx, ops);
    if (ops || strcmp(section, "model") == 0 || strcmp(section, "train") == 0) return 0;
    return unknown_section(section, e);
}

int recipe_load(struct recipe *r, const char *path, struct err *e)
{
    return conf_ini(path, on_line, r, e);
}

/* How many sections have the key; *section is the last of them. */
static int sections_of(const struct recipe *r, const char *key, const char **section)
{
    int n = 0;
    if (conf_find(model_opts, key)) *section = "model", n++;
    if (conf_find(train_opts, key)) *section = "train", n++;
    for (int i = 0; i < r->n_obj; i++) {
        const struct obj_ops *ops = r->obj[i].ops;
        if (conf_find(use_opts, key) || conf_find(ops->opts, key)) *section = ops->name, n++;
    }
    return n;
}

/* key=value without a section: the one that alone has the key. */
static int set_bare(struct recipe *r, const char *key, const char *value, struct err *e)
{
    const char *section = NULL, *near = conf_nearest(model_opts, key);
    int n = sections_of(r, key, &section);
    if (n == 1) return set(r, section, key, value, e);
    if (!near) near = conf_nearest(train_opts, key);
    if (n == 0 && near)
        return err_set(e, ERR_CONFIG, "no section has '%s'; did you mean '%s'?", key, near);
    return err_set(e, ERR_CONFIG,
                   "'%s' is in no section, or in several; write section.key=value", key);
}

int recipe_set(struct recipe *r, const char *assignment, struct err *e)
{
    const char *eq = strchr(assignment, '=');
    if (!eq) return err_set(e, ERR_USAGE, "--set %s: expected key=value", assignment);
    char *left = xstrndup(assignment, (size_t)(eq - assignment)), *dot = strchr(left, '.');
    int rc;
    if (dot) {
        *dot = '\0';
        rc = set(r, left, dot + 1, eq + 1, e);
    } else {
        rc = set_bare(r, left, eq + 1, e);
    }
    if (rc < 0) err_ctx(e, "--set %s", assignment);
    free(left);
    return rc;
}

int recipe_check(const struct recipe *r, struct err *e)
{
    TRY(model_check(&r->model, e));
    if (r->n_obj == 0)
        return err_set(e, ERR_CONFIG, "no objective: add a section such as [next_item]");
    int learning = 0; /* an objective of weight 0 is left out */
    for (int i = 0; i < r->n_obj; i++) {
        if (r->obj[i].weight == 0) continue;
        learning++;
        if (r->obj[i].ops->check)
            TRY(r->obj[i].ops->check(&r->model, (enum layout)r->train.layout, e));
    }
    return learning
               ? 0
               : err_set(e, ERR_CONFIG, "nothing to train: every objective has weight = 0");
}

bool recipe_needs_future(const struct recipe *r)
{
    for (int i = 0; i < r->n_obj; i++)
        if (r->obj[i].weight > 0 && r->obj[i].ops->needs_future) return true;
    return false;
}

static void put(json_t *o, const char *section, const struct opt *opts, const void *cfg)
{
    for (; opts->key; opts++) {
        char key[128], value[256];
        snprintf(key, sizeof key, "%s.%s", section, opts->key);
        conf_get(opts, cfg, value, sizeof value);
        json_object_set_new(o, key, json_string(value));
    }
}

json_t *recipe_json(const struct recipe *r)
{
    json_t *o = json_object();
    put(o, "model", model_opts, &r->model);
    put(o, "train", train_opts, &r->train);
    for (int i = 0; i < r->n_obj; i++) {
        put(o, r->obj[i].ops->name, use_opts, &r->obj[i]);
        if (r->obj[i].cfg) put(o, r->obj[i].ops->name, r->obj[i].ops->opts, r->obj[i].cfg);
    }
    return o;
}
