#include "core/nn/model.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/nn/interest.h"
#include <stdlib.h>
#include <string.h>

const struct opt model_opts[] = {
    OPT_INT(struct model_cfg, width, "64", 1, LIMIT_WIDTH,
            "width of states and item vectors, D"),
    OPT_INT(struct model_cfg, layers, "2", 0, LIMIT_LAYERS, "Transformer blocks"),
    OPT_INT(struct model_cfg, heads, "2", 1, 64, "attention heads"),
    OPT_INT(struct model_cfg, max_len, "50", 1, LIMIT_SEQ_LEN, "newest events read, L"),
    OPT_INT(struct model_cfg, interests, "0", 0, LIMIT_INTERESTS,
            "interest vectors per user, K; 0: the last state"),
    OPT_CHOICE(struct model_cfg, causal, "causal", "bidirectional|causal", "attention"),
    OPT_CHOICE(struct model_cfg, positions, "first", "first|last",
               "which event has a fixed position"),
    OPT_CHOICE(struct model_cfg, activation, "gelu", "gelu|relu", "of the feed-forward"),
    OPT_INT(struct model_cfg, ffn_mult, "4", 1, 16, "inner width of the feed-forward / D"),
    OPT_FLOAT(struct model_cfg, dropout, "0.5", 0, 0.95, "dropout of embeddings and sublayers"),
    OPT_FLOAT(struct model_cfg, attn_dropout, "0.5", 0, 0.95, "dropout of attention weights"),
    OPT_FLOAT(struct model_cfg, init_std, "0.02", 0, 1,
              "standard deviation of initial weights"),
    OPT_FLOAT(struct model_cfg, active_share, "0.01", 0, 1,
              "an interest with a smaller share of the importance is not used"),
    OPT_BOOL(struct model_cfg, item_tower, "false",
             "items' vectors from ids and attribute fields"),
    OPT_INT(struct model_cfg, field_width, "16", 1, LIMIT_WIDTH,
            "item_tower: width of a field's embeddings"),
    OPT_INT(struct model_cfg, tower_width, "128", 1, LIMIT_WIDTH,
            "item_tower: width of its hidden layer"),
    OPT_FLOAT(struct model_cfg, id_dropout, "0.1", 0, 1,
              "item_tower: part of the ids that a step leaves out, so that fields learn"),
    OPT_END
};

struct model {
    struct model_cfg cfg;
    struct params *ps;
    struct encoder enc;
    struct interest_head head; /* when cfg.interests > 0 */
    struct tower *tower;       /* NULL: none */
    float *baked;              /* model_bake's other table; NULL: none yet */
    bool is_baked;
};

int model_check(const struct model_cfg *c, struct err *e)
{
    if (c->width % c->heads != 0)
        return err_set(e, ERR_CONFIG, "width = %d is not a multiple of heads = %d", c->width,
                       c->heads);
    if (c->n_items < 1 || c->n_items > LIMIT_ITEMS)
        return err_set(e, ERR_CONFIG, "%d items: a model has 1 to %d", c->n_items, LIMIT_ITEMS);
    if (c->interests > 0 && c->active_share * (float)c->interests > 1)
        return err_set(e, ERR_CONFIG,
                       "active_share = %g: with %d interests all could be inactive; at most %g",
                       (double)c->active_share, c->interests, 1.0 / c->interests);
    return 0;
}

struct model *model_new(const struct model_cfg *cfg, bool trainable)
{
    struct model *m = xcalloc(1, sizeof *m);
    m->cfg = *cfg;
    m->ps = params_new(trainable);
    encoder_declare(&m->enc, m->ps, cfg);
    if (cfg->interests > 0) interest_declare(&m->head, m->ps, cfg);
    return m;
}

void model_free(struct model *m)
{
    if (!m) return;
    encoder_free(&m->enc);
    params_free(m->ps);
    tower_free(m->tower);
    free(m->baked);
    free(m);
}

const struct model_cfg *model_config(const struct model *m) { return &m->cfg; }
void model_set(struct model *m, const struct model_cfg *cfg)
{
    REQUIRE(cfg->width == m->cfg.width && cfg->layers == m->cfg.layers &&
                cfg->max_len == m->cfg.max_len && cfg->interests == m->cfg.interests &&
                cfg->ffn_mult == m->cfg.ffn_mult && cfg->n_items == m->cfg.n_items &&
                cfg->item_tower == m->cfg.item_tower,
            "a model of other shapes: width %d, %d layers", cfg->width, cfg->layers);
    m->cfg = *cfg;
}

struct params *model_params(const struct model *m) { return m->ps; }
int32_t model_interests(const struct model *m)
{
    return m->cfg.interests ? m->cfg.interests : 1;
}
struct param *model_items(const struct model *m) { return m->enc.item; }
const struct encoder *model_encoder(const struct model *m) { return &m->enc; }
const struct interest_head *model_head(const struct model *m)
{
    return m->cfg.interests > 0 ? &m->head : NULL;
}

void model_add_mask(struct model *m, bool learned)
{
    const uint32_t group = learned ? GROUP_OBJECTIVE : 0;
    if (m->enc.mask)
        m->enc.mask->group |= group;
    else
        m->enc.mask = params_add(m->ps, "mask.weight", 1, m->cfg.width, group, INIT_NORMAL,
                                 m->cfg.init_std);
}

/* ---- item tower ---- */

void model_add_tower(struct model *m, const struct item_fields *fields)
{
    const struct tower_cfg c = { m->cfg.width, m->cfg.field_width, m->cfg.tower_width,
                                 m->cfg.init_std, GROUP_TOWER };
    REQUIRE(fields->n_items == m->cfg.n_items, "fields of %d items, %d in the model",
            fields->n_items, m->cfg.n_items);
    m->enc.item->group |= GROUP_TOWER;
    m->tower = tower_new(m->ps, m->enc.item, fields, &c);
}

const struct tower *model_tower(const struct model *m) { return m->tower; }

void model_begin(const struct model *m, struct tape *tp)
{
    if (!m->tower) return;
    const int32_t V = m->cfg.n_items;
    int32_t *ids = ARENA_NEW(tape_arena(tp), int32_t, V);
    const bool dropping = tape_training(tp) && m->cfg.id_dropout > 0;
    const uint64_t key = dropping ? tape_drop_key(tp) : 0;
    struct rng r = { key, 0 };
    for (int32_t v = 0; v < V; v++)
        ids[v] = dropping && rng_f64(&r) < (double)m->cfg.id_dropout ? EMBED_MASK : v;
    tape_replace(tp, m->enc.item,
                 tower_vectors(m->tower, tp, ids, V, tower_fields(m->tower)->field));
}

void model_bake(struct model *m, struct par *pool)
{
    if (!m->tower) return;
    const size_t nb = (size_t)m->cfg.n_items * (size_t)m->cfg.width * sizeof(float);
    if (!m->baked) m->baked = xaligned(nb);
    if (!m->is_baked) {
        struct arena *mem = arena_new("tower", 1 << 20, 0);
        struct tape *tp = tape_new(mem, pool);
        tape_begin(tp, 0, 0, false);
        model_begin(m, tp);
        memcpy(m->baked, ad_param(tp, m->enc.item)->x, nb);
        tape_free(tp);
        arena_free(mem);
    }
    float *x = m->enc.item->t.x;
    m->enc.item->t.x = m->baked;
    m->baked = x;
    m->is_baked = !m->is_baked;
}

struct encoded model_encode(const struct model *m, struct tape *tp, const struct seqpack *sp,
                            const int32_t *ids, enum beta beta)
{
    struct encoded e = { 0 };
    if (m->cfg.interests == 0) {
        e.phi = model_last(m, tp, sp, ids);
        return e;
    }
    e.states = model_states(m, tp, sp, ids);
    interest_forward(&m->head, &m->cfg, tp, sp, beta, &e);
    return e;
}

struct ten *model_states(const struct model *m, struct tape *tp, const struct seqpack *sp,
                         const int32_t *ids)
{
    return encoder_forward(&m->enc, &m->cfg, tp, sp, ids);
}

struct ten *model_last(const struct model *m, struct tape *tp, const struct seqpack *sp,
                       const int32_t *ids)
{
    return encoder_last(&m->enc, &m->cfg, tp, sp, ids);
}

void model_shares(float *share, const struct model *m, const struct encoded *e,
                  const struct seqpack *sp)
{
    int32_t K = model_interests(m);
    for (int32_t b = 0; b < sp->B; b++) {
        float *s = share + (size_t)b * (size_t)K;
        memset(s, 0, (size_t)K * sizeof *s);
        if (!e->assign) s[0] = 1;
        for (int32_t i = sp->cu[b]; e->assign && i < sp->cu[b + 1]; i++)
            for (int32_t k = 0; k < K; k++)
                s[k] += e->assign->x[(size_t)i * (size_t)K + (size_t)k] * e->weight->x[i];
    }
}
