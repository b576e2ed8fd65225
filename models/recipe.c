#include "models/recipe.h"
#include "core/base/mem.h"
#include <stdlib.h>
#include <string.h>

const struct opt train_opts[] = {
    OPT_INT(struct train_cfg, epochs, "200", 1, 100000, "most epochs"),
    OPT_INT(struct train_cfg, patience, "10", 1, 100000,
            "epochs without a better validation before it stops"),
    OPT_INT(struct train_cfg, batch_size, "256", 1, 65536, "rows of a batch, B"),
    OPT_INT(struct train_cfg, accumulate, "1", 1, 1024,
            "batches whose gradients make one step"),
    OPT_CHOICE(struct train_cfg, layout, "B", "A|B|C",
               "A: all positions; B: every prefix, last position; C: prefixes of the newest "
               "max_len events"),
    OPT_CHOICE(struct train_cfg, stop_on, "ndcg@10",
               "ndcg@10|ndcg@20|mrr@10|hr@20|recall@50|none",
               "validation metric that chooses the checkpoint; none: the last epoch's"),
    OPT_CHOICE(struct train_cfg, valid_seen, "mask", "mask|keep|zero",
               "history items as candidates in validation"),
    OPT_INT(struct train_cfg, valid_users, "0", 0, INT32_MAX,
            "users that validation looks at, evenly spread; 0: all"),
    OPT_CHOICE(struct train_cfg, optimizer, "adam", "adam|adamw",
               "weight decay in the gradient, or decoupled from it"),
    OPT_CHOICE(struct train_cfg, item_update, "dense", "dense|touched",
               "touched: a step moves only the items of its batch; for large catalogues"),
    OPT_CHOICE(struct train_cfg, precision, "fp32", "fp32|bf16",
               "operands of the large products; sums, weights and the optimiser stay fp32; "
               "fp32 where the CPU has no bf16"),
    OPT_FLOAT(struct train_cfg, lr, "0.001", 1e-9, 10, "learning rate"),
    OPT_FLOAT(struct train_cfg, beta1, "0.9", 0, 0.99999, "of Adam"),
    OPT_FLOAT(struct train_cfg, beta2, "0.999", 0, 0.99999, "of Adam"),
    OPT_FLOAT(struct train_cfg, weight_decay, "0", 0, 10,
              "of what starts random: not biases, norms, the head's positions"),
    OPT_INT(struct train_cfg, warmup, "0", 0, 10000000, "steps over which lr rises from 0"),
    OPT_CHOICE(struct train_cfg, schedule, "constant", "constant|cosine|step",
               "of lr after the warm-up"),
    OPT_FLOAT(struct train_cfg, lr_end, "0", 0, 1,
              "cosine: part of lr that is left at the end"),
    OPT_INT(struct train_cfg, step_epochs, "10", 1, 100000, "step: epochs between two steps"),
    OPT_FLOAT(struct train_cfg, step_factor, "0.5", 0.001, 1,
              "step: what lr is multiplied with"),
    OPT_FLOAT(struct train_cfg, clip_norm, "0", 0, 1e6,
              "largest norm of all gradients together; 0: not clipped"),
    OPT_FLOAT(
        struct train_cfg, ema, "0", 0, 0.99999,
        "decay of the weights' running average, which is validated and exported; 0: none"),
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

static void stage_free(struct stage *s)
{
    free(s->name);
    for (int k = 0; k < s->n_assign; k++) free(s->assign[k]);
}

void recipe_free(struct recipe *r)
{
    for (int i = 0; i < r->n_obj; i++) {
        struct obj_use *u = &r->obj[i];
        if (u->own && u->ops->close) u->ops->close(u->own);
        free(u->cfg);
    }
    for (int i = 0; i < r->n_stages; i++) stage_free(&r->stage[i]);
    r->n_obj = r->n_stages = 0;
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
    char known[256] = "model, train, stage NAME";
    for (int i = 0; i < obj_count; i++) {
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, ", %s", obj_list[i]->name);
    }
    return err_set(e, ERR_CONFIG, "unknown section [%s]; there are %s", section, known);
}

/* ---- stages ---- */

/* NAME of "stage NAME", or NULL: 1 to 32 letters, digits, '-' and '_'. */
static const char *stage_name(const char *section)
{
    if (strncmp(section, "stage ", 6) != 0) return NULL;
    const char *name = section + 6 + strspn(section + 6, " ");
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    return n > 0 && n <= 32 && name[n] == '\0' ? name : NULL;
}

static int find_stage(struct stage **out, struct recipe *r, const char *name, struct err *e)
{
    for (int i = 0; i < r->n_stages; i++)
        if (strcmp(r->stage[i].name, name) == 0) return *out = &r->stage[i], 0;
    if (r->n_stages == RECIPE_STAGES)
        return err_set(e, ERR_CONFIG, "[stage %s]: at most %d stages", name, RECIPE_STAGES);
    *out = &r->stage[r->n_stages++];
    **out = (struct stage){ .name = xstrdup(name) };
    return 0;
}

static int set(struct recipe *r, const char *section, const char *key, const char *value,
               struct err *e);

/* Tries "section.key = value" on a copy, and keeps it for when the stage begins. */
static int set_in_stage(struct recipe *r, const char *name, const char *key, const char *value,
                        struct err *e)
{
    struct stage *st;
    TRY(find_stage(&st, r, name, e));
    const char *dot = strchr(key, '.');
    char *section = dot ? xstrndup(key, (size_t)(dot - key)) : NULL;
    struct recipe scratch;
    recipe_defaults(&scratch);
    int rc = !dot                  ? err_set(e, ERR_CONFIG,
                                             "'%s': a stage's keys are section.key, as train.epochs", key)
             : stage_name(section) ? err_set(e, ERR_CONFIG, "'%s': a stage within a stage", key)
                                   : set(&scratch, section, dot + 1, value, e);
    recipe_free(&scratch);
    free(section);
    TRY(rc);
    if (st->n_assign == RECIPE_STAGE_KEYS)
        return err_set(e, ERR_CONFIG, "more than %d keys", RECIPE_STAGE_KEYS);
    st->assign[st->n_assign++] = xasprintf("%s=%s", key, value);
    return 0;
}

static int set(struct recipe *r, const char *section, const char *key, const char *value,
               struct err *e)
{
    const struct obj_ops *ops = find_objective(section);
    const char *stage = stage_name(section);
    int rc = strcmp(section, "model") == 0   ? conf_set(model_opts, &r->model, key, value, e)
             : strcmp(section, "train") == 0 ? conf_set(train_opts, &r->train, key, value, e)
             : ops                           ? set_objective(r, ops, key, value, e)
             : stage                         ? set_in_stage(r, stage, key, value, e)
                                             : unknown_section(section, e);
    return rc < 0 ? err_ctx(e, "[%s]", section) : 0;
}

static int on_line(void *ctx, const char *section, const char *key, const char *value, int line,
                   struct err *e)
{
    (void)line;
    if (key) return set(ctx, section, key, value, e);
    /* a section alone takes an objective with its defaults, or makes a stage like the rest */
    const struct obj_ops *ops = find_objective(section);
    const char *stage = stage_name(section);
    struct stage *st;
    if (ops) (void)use(ctx, ops);
    if (stage) return find_stage(&st, ctx, stage, e);
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

/* Splits "section.key=value" at the dot, "stage NAME.section.key=value" at the first one. */
static int assign(struct recipe *r, const char *assignment, struct err *e)
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
    free(left);
    return rc;
}

int recipe_set(struct recipe *r, const char *assignment, struct err *e)
{
    int had = r->n_stages, rc = assign(r, assignment, e);
    if (rc == 0 && r->n_stages > had) {
        stage_free(&r->stage[--r->n_stages]);
        rc = err_set(e, ERR_CONFIG, "the recipe has no such stage");
    }
    return rc < 0 ? err_ctx(e, "--set %s", assignment) : 0;
}

/* ---- checks ---- */

static int check_stage(const struct recipe *r, const struct dataset *d, struct err *e)
{
    const struct train_cfg *t = &r->train;
    struct obj_context c = { &r->model, (enum layout)t->layout, t->item_update == ITEMS_TOUCHED,
                             d, t->batch_size };
    TRY(model_check(&r->model, e));
    if (r->n_obj == 0)
        return err_set(e, ERR_CONFIG, "no objective: add a section such as [next_item]");
    if (c.touched && r->model.item_tower)
        return err_set(e, ERR_CONFIG,
                       "train.item_update = touched: the item tower makes the vectors of all "
                       "items in every step; set it to dense, or model.item_tower = false");
    if (c.touched && t->accumulate > 1)
        return err_set(e, ERR_CONFIG,
                       "train.accumulate = %d with train.item_update = touched: each batch "
                       "touches other items; raise train.batch_size instead",
                       t->accumulate);
    int learning = 0, in_turns = 0; /* an objective of weight 0 is left out */
    for (int i = 0; i < r->n_obj; i++) {
        if (r->obj[i].weight == 0) continue;
        learning++;
        if (r->obj[i].ops->check) TRY(r->obj[i].ops->check(r->obj[i].cfg, &c, e));
        in_turns += r->obj[i].ops->turns != NULL;
    }
    if (in_turns > 1)
        return err_set(e, ERR_CONFIG,
                       "two objectives train in turns: leave one of them out, or give it "
                       "weight = 0");
    if (in_turns && t->accumulate > 1)
        return err_set(e, ERR_CONFIG,
                       "train.accumulate = %d: an objective that trains in turns moves after "
                       "every batch; raise train.batch_size instead",
                       t->accumulate);
    return learning
               ? 0
               : err_set(e, ERR_CONFIG, "nothing to train: every objective has weight = 0");
}

/* Keys of [model] that are not about the weights' shapes and meaning. */
static bool may_change(const char *key)
{
    static const char *const keys[] = { "causal", "dropout", "attn_dropout", "active_share",
                                        "id_dropout" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i], key) == 0) return true;
    return false;
}

/* What belongs to the weights is the same in all stages. */
static int check_same_model(const struct recipe *r, const struct recipe *stage, struct err *e)
{
    if (stage->train.item_update != r->train.item_update)
        return err_set(
            e, ERR_CONFIG,
            "train.item_update: all stages update the items in one way; set it in [train]");
    for (const struct opt *o = model_opts; o->key; o++) {
        char a[64], b[64];
        conf_get(o, &r->model, a, sizeof a);
        conf_get(o, &stage->model, b, sizeof b);
        if (!may_change(o->key) && strcmp(a, b) != 0)
            return err_set(e, ERR_CONFIG,
                           "model.%s = %s: the weights go from stage to stage; only causal, "
                           "dropout, attn_dropout, id_dropout and active_share may change",
                           o->key, b);
    }
    return 0;
}

int recipe_check(const struct recipe *r, const struct dataset *d, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < recipe_stages(r) && rc == 0; i++) {
        struct recipe one;
        recipe_stage(&one, r, i);
        rc = check_same_model(r, &one, e);
        if (rc == 0) rc = check_stage(&one, d, e);
        if (rc < 0 && r->n_stages > 0) err_ctx(e, "[stage %s]", r->stage[i].name);
        recipe_free(&one);
    }
    return rc;
}

int recipe_stages(const struct recipe *r) { return r->n_stages > 0 ? r->n_stages : 1; }

void recipe_stage(struct recipe *out, const struct recipe *r, int i)
{
    recipe_defaults(out);
    out->model = r->model;
    out->train = r->train;
    for (int k = 0; k < r->n_obj; k++) {
        struct obj_use *u = use(out, r->obj[k].ops);
        u->weight = r->obj[k].weight;
        if (u->cfg) memcpy(u->cfg, r->obj[k].cfg, u->ops->cfg_size);
    }
    for (int k = 0; r->n_stages > 0 && k < r->stage[i].n_assign; k++) {
        struct err e = { 0 };
        REQUIRE(assign(out, r->stage[i].assign[k], &e) == 0, "stage %s: %s", r->stage[i].name,
                e.msg);
    }
}

struct batch_cfg recipe_batches(const struct recipe *r)
{
    struct batch_cfg c = { .batch_size = r->train.batch_size,
                           .max_len = r->model.max_len,
                           .layout = r->train.layout,
                           .positions = r->model.positions,
                           .compact = r->train.item_update == ITEMS_TOUCHED,
                           .seed = (uint64_t)r->train.seed };
    for (int i = 0; i < r->n_obj; i++)
        if (r->obj[i].weight > 0 && r->obj[i].ops->needs)
            r->obj[i].ops->needs(r->obj[i].cfg, &c);
    return c;
}

void recipe_open(struct recipe *r, struct model *m, const struct dataset *d)
{
    for (int i = 0; i < r->n_obj; i++) {
        struct obj_use *u = &r->obj[i];
        if (u->weight > 0 && u->ops->open) u->own = u->ops->open(u->cfg, m, d);
    }
}

/* ---- as JSON ---- */

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
    for (int i = 0; i < r->n_stages; i++) {
        if (r->stage[i].n_assign == 0) { /* a stage like the rest still is one */
            char *key = xasprintf("stage %s.train.epochs", r->stage[i].name);
            json_object_set_new(o, key, json_sprintf("%d", r->train.epochs));
            free(key);
        }
        for (int k = 0; k < r->stage[i].n_assign; k++) {
            const char *a = r->stage[i].assign[k], *eq = strchr(a, '=');
            char *key = xasprintf("stage %s.%.*s", r->stage[i].name, (int)(eq - a), a);
            json_object_set_new(o, key, json_string(eq + 1));
            free(key);
        }
    }
    return o;
}

int recipe_from_json(struct recipe *r, const json_t *o, struct err *e)
{
    const char *key;
    json_t *value;
    recipe_defaults(r);
    json_object_foreach ((json_t *)(uintptr_t)o, key, value) {
        if (!json_is_string(value))
            return err_set(e, ERR_FORMAT, "recipe: the value of %s is no text", key);
        char *set = xasprintf("%s=%s", key, json_string_value(value));
        int rc = assign(r, set, e);
        free(set);
        if (rc < 0) {
            recipe_free(r);
            return rc;
        }
    }
    return 0;
}
