#include "core/nn/ranker.h"
#include "core/base/mem.h"
#include "core/nn/encoder.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME = 96 };
static const float BN_EPS = 1e-3f; /* Keras' */

const struct opt ranker_opts[] = {
    OPT_INT(struct ranker_cfg, hidden, "128", 1, LIMIT_WIDTH, "width of the sequence's states"),
    OPT_INT(struct ranker_cfg, layers, "2", 0, LIMIT_LAYERS, "Transformer blocks"),
    OPT_INT(struct ranker_cfg, heads, "2", 1, 64, "attention heads"),
    OPT_INT(struct ranker_cfg, ffn_mult, "1", 1, 16,
            "inner width of the feed-forward / hidden"),
    OPT_INT(struct ranker_cfg, max_len, "50", 1, LIMIT_SEQ_LEN,
            "newest steps of a sequence that are read"),
    OPT_CHOICE(struct ranker_cfg, output, "head", "head|last|mean",
               "state that stands for the sequence: the first, the last, their mean"),
    OPT_INT(struct ranker_cfg, top_1, "256", 0, LIMIT_WIDTH,
            "width of the top's first layer; 0: none"),
    OPT_INT(struct ranker_cfg, top_2, "128", 0, LIMIT_WIDTH, "of its second; 0: none"),
    OPT_INT(struct ranker_cfg, top_3, "0", 0, LIMIT_WIDTH, "of its third; 0: none"),
    OPT_BOOL(struct ranker_cfg, sequence, "true", "false: the sequence is not looked at"),
    OPT_FLOAT(struct ranker_cfg, dropout, "0.1", 0, 0.95, "dropout of states and sublayers"),
    OPT_FLOAT(struct ranker_cfg, attn_dropout, "0", 0, 0.95, "dropout of attention weights"),
    OPT_FLOAT(struct ranker_cfg, init_std, "0.02", 0, 1,
              "standard deviation of the blocks' initial weights"),
    OPT_FLOAT(struct ranker_cfg, embedding_std, "0", 0, 1,
              "of the initial embeddings; 0: 1/sqrt(width)"),
    OPT_END
};

struct top_layer {
    struct param *w;
    struct norm_params norm;
    struct param *mean, *var; /* running averages */
};

struct ranker {
    struct ranker_cfg cfg;
    struct ranker_shape shape;
    struct model_cfg block_cfg; /* how encoder.h calls it */
    struct params *ps;
    struct param *table[LIMIT_FEATURES];
    struct param *mask, *empty, *pos;
    struct linear_params project; /* w NULL: the steps are as wide as the states */
    struct norm_params emb_norm;
    struct block_params *block;
    struct top_layer top[RANKER_TOP];
    int32_t n_top;
    struct linear_params logit;
};

static int32_t steps_width(const struct ranker_shape *s)
{
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_steps; i++) n += s->table[s->step[i]].width;
    return n;
}

static int32_t inputs_width(const struct ranker_shape *s)
{
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_inputs; i++) n += s->table[s->input[i]].width;
    return n;
}

int64_t ranker_size(const struct ranker_cfg *c, const struct ranker_shape *s)
{
    const int64_t H = c->sequence ? c->hidden : 0;
    const int32_t top[RANKER_TOP] = { c->top_1, c->top_2, c->top_3 };
    int64_t n = c->layers * (4 + 2 * (int64_t)c->ffn_mult) * H * H + c->max_len * H;
    int64_t in = inputs_width(s) + H;
    for (int32_t i = 0; i < s->n_tables; i++)
        n += (int64_t)s->table[i].rows * s->table[i].width;
    for (int32_t i = 0; i < RANKER_TOP; i++) {
        if (top[i] == 0) continue;
        n += in * top[i];
        in = top[i];
    }
    return n;
}

int ranker_check(const struct ranker_cfg *c, const struct ranker_shape *s, struct err *e)
{
    if (c->hidden % c->heads != 0)
        return err_set(e, ERR_CONFIG, "hidden = %d is not a multiple of heads = %d", c->hidden,
                       c->heads);
    if (c->sequence && s->n_steps == 0)
        return err_set(e, ERR_CONFIG,
                       "no feature is in the group of the sequence: add one, or set sequence = "
                       "false");
    if (s->n_inputs == 0)
        return err_set(e, ERR_CONFIG, "no feature is in the groups of users and items");
    return 0;
}

static struct model_cfg block_cfg(const struct ranker_cfg *c)
{
    return (struct model_cfg){ .width = c->hidden,
                               .layers = c->layers,
                               .heads = c->heads,
                               .max_len = c->max_len,
                               .ffn_mult = c->ffn_mult,
                               .dropout = c->dropout,
                               .attn_dropout = c->attn_dropout,
                               .init_std = c->init_std };
}

static void declare_tables(struct ranker *m)
{
    char s[NAME];
    for (int32_t i = 0; i < m->shape.n_tables; i++) {
        const struct ranker_table *t = &m->shape.table[i];
        float std =
            m->cfg.embedding_std > 0 ? m->cfg.embedding_std : 1 / sqrtf((float)t->width);
        snprintf(s, sizeof s, "embedding.%s.weight", t->name);
        m->table[i] = params_add(m->ps, s, t->rows, t->width, GROUP_ENCODER, INIT_NORMAL, std);
        m->shape.table[i].name = NULL;
    }
}

/* One position more than steps: EasyRec keeps it for a target, which this model does not append. */
static void declare_sequence(struct ranker *m)
{
    const struct ranker_cfg *c = &m->cfg;
    const int32_t E = steps_width(&m->shape);
    m->mask =
        params_add(m->ps, "seq_mask.weight", 1, E, GROUP_ENCODER, INIT_NORMAL, c->init_std);
    m->empty = params_add(m->ps, "seq_empty.weight", 1, c->hidden, GROUP_ENCODER, INIT_ZERO, 0);
    if (E != c->hidden)
        m->project = linear_declare(m->ps, "seq_project", E, c->hidden, GROUP_ENCODER,
                                    sqrtf(2.0f / (float)(E + c->hidden)));
    m->pos = params_add(m->ps, "pos.weight", c->max_len + 1, c->hidden, GROUP_ENCODER,
                        INIT_NORMAL, c->init_std);
    m->emb_norm = norm_declare(m->ps, "emb_norm", c->hidden, GROUP_ENCODER);
    m->block = xcalloc((size_t)c->layers + 1, sizeof *m->block);
    for (int32_t i = 0; i < c->layers; i++)
        block_declare(&m->block[i], m->ps, &m->block_cfg, i);
}

static void declare_top(struct ranker *m)
{
    const int32_t width[RANKER_TOP] = { m->cfg.top_1, m->cfg.top_2, m->cfg.top_3 };
    int32_t in = inputs_width(&m->shape) + (m->cfg.sequence ? m->cfg.hidden : 0);
    char s[NAME];
    for (int32_t i = 0; i < RANKER_TOP; i++) {
        if (width[i] == 0) continue;
        struct top_layer *t = &m->top[m->n_top];
        snprintf(s, sizeof s, "top.%d.weight", m->n_top);
        t->w = params_add(m->ps, s, in, width[i], GROUP_HEAD, INIT_NORMAL,
                          sqrtf(2.0f / (float)in)); /* He et al. 2015 */
        snprintf(s, sizeof s, "top.%d.norm", m->n_top);
        t->norm = norm_declare(m->ps, s, width[i], GROUP_HEAD);
        snprintf(s, sizeof s, "top.%d.norm.mean", m->n_top);
        t->mean = params_add(m->ps, s, 1, width[i], GROUP_STATE, INIT_ZERO, 0);
        snprintf(s, sizeof s, "top.%d.norm.var", m->n_top);
        t->var = params_add(m->ps, s, 1, width[i], GROUP_STATE, INIT_ONE, 0);
        in = width[i];
        m->n_top++;
    }
    m->logit = linear_declare(m->ps, "logit", in, 1, GROUP_HEAD, sqrtf(2.0f / (float)(in + 1)));
}

struct ranker *ranker_new(const struct ranker_cfg *cfg, const struct ranker_shape *shape,
                          bool trainable)
{
    struct ranker *m = xcalloc(1, sizeof *m);
    m->cfg = *cfg;
    m->shape = *shape;
    m->block_cfg = block_cfg(cfg);
    m->ps = params_new(trainable);
    declare_tables(m);
    if (cfg->sequence) declare_sequence(m);
    declare_top(m);
    return m;
}

void ranker_free(struct ranker *m)
{
    if (!m) return;
    free(m->block);
    params_free(m->ps);
    free(m);
}

const struct ranker_cfg *ranker_config(const struct ranker *m) { return &m->cfg; }
struct params *ranker_params(const struct ranker *m) { return m->ps; }

/* ---- the sequence ---- */

static struct ten *look_up(const struct ranker *m, struct tape *tp, int32_t table,
                           const struct ranker_column *c, int32_t n)
{
    struct ten *t = ad_param(tp, m->table[table]);
    return c->cu ? ad_bag(tp, t, c->id, c->cu, n) : ad_embed(tp, t, c->id, NULL, NULL, NULL, n);
}

static struct ten *steps_of(const struct ranker *m, struct tape *tp,
                            const struct ranker_batch *b)
{
    struct ten *x[LIMIT_FEATURES];
    for (int32_t i = 0; i < m->shape.n_steps; i++)
        x[i] = look_up(m, tp, m->shape.step[i], &(struct ranker_column){ b->step[i], NULL },
                       b->seq.N);
    return ad_concat_cols(tp, x, m->shape.n_steps);
}

struct ten *ranker_view(const struct ranker *m, struct tape *tp, struct ten *steps,
                        const int32_t *row, int32_t n)
{
    return ad_pick_rows(tp, steps, ad_param(tp, m->mask), row, n);
}

static struct ten *states_of(const struct ranker *m, struct tape *tp, struct ten *x,
                             const struct seqpack *sp)
{
    if (m->project.w) x = linear_apply(tp, x, m->project, ACT_RELU);
    x = ad_add_rows(tp, x, ad_param(tp, m->pos), sp->pos);
    x = ad_dropout(tp, norm_apply(tp, x, m->emb_norm), m->cfg.dropout);
    for (int32_t i = 0; i < m->cfg.layers; i++)
        x = block_forward(&m->block[i], &m->block_cfg, tp, sp, x);
    return x;
}

/* Mean of each sequence's rows; zeros where it has none. */
static struct ten *means(struct tape *tp, struct ten *x, const struct seqpack *sp)
{
    float *one = ARENA_NEW(tape_arena(tp), float, sp->N),
          *part = ARENA_NEW(tape_arena(tp), float, sp->N);
    for (int32_t b = 0; b < sp->B; b++)
        for (int32_t i = sp->cu[b]; i < sp->cu[b + 1]; i++) {
            one[i] = 1;
            part[i] = 1 / (float)(sp->cu[b + 1] - sp->cu[b]);
        }
    return ad_seg_mix(tp, tape_const(tp, one, sp->N, 1), tape_const(tp, part, sp->N, 1), x, sp);
}

struct ten *ranker_package(const struct ranker *m, struct tape *tp, struct ten *steps,
                           const struct seqpack *sp)
{
    struct ten *empty = ad_param(tp, m->empty), *x = empty;
    int32_t *row = ARENA_NEW(tape_arena(tp), int32_t, sp->B);
    if (sp->N > 0) x = states_of(m, tp, steps, sp);
    if (sp->N > 0 && m->cfg.output == OUTPUT_MEAN) x = means(tp, x, sp);
    for (int32_t b = 0; b < sp->B; b++) {
        const int32_t at = m->cfg.output == OUTPUT_HEAD   ? sp->cu[b]
                           : m->cfg.output == OUTPUT_LAST ? sp->cu[b + 1] - 1
                                                          : b;
        row[b] = sp->cu[b + 1] > sp->cu[b] ? at : -1;
    }
    return ad_pick_rows(tp, x, empty, row, sp->B);
}

/* ---- the whole ---- */

static struct ten *top_of(const struct ranker *m, struct tape *tp, struct ten *x,
                          float momentum)
{
    for (int32_t i = 0; i < m->n_top; i++) {
        const struct top_layer *t = &m->top[i];
        const struct batch_stats st = { t->mean->t.x, t->var->t.x, momentum, BN_EPS };
        x = ad_linear(tp, x, ad_param(tp, t->w), NULL, ACT_NONE);
        x = ad_batch_norm(tp, x, ad_param(tp, t->norm.gain), ad_param(tp, t->norm.bias), &st,
                          ACT_RELU);
    }
    return linear_apply(tp, x, m->logit, ACT_NONE);
}

struct ranked ranker_forward(const struct ranker *m, struct tape *tp,
                             const struct ranker_batch *b)
{
    struct ten *x[LIMIT_FEATURES];
    struct ranked r = { 0 };
    for (int32_t i = 0; i < m->shape.n_inputs; i++)
        x[i] = look_up(m, tp, m->shape.input[i], &b->input[i], b->B);
    r.input = ad_concat_cols(tp, x, m->shape.n_inputs);
    struct ten *all = r.input;
    if (m->cfg.sequence) {
        r.steps = steps_of(m, tp, b);
        struct ten *seq = ranker_package(m, tp, r.steps, &b->seq);
        if (b->seq_of) seq = ad_pick_rows(tp, seq, seq, b->seq_of, b->B);
        all = ad_concat_cols(tp, (struct ten *[]){ seq, r.input }, 2);
    }
    r.logit = top_of(m, tp, all, b->momentum);
    return r;
}

struct ten *ranker_squares(const struct ranker *m, struct tape *tp, float scale)
{
    struct ten *y = ad_squares(tp, ad_param(tp, m->logit.w), scale);
    for (int32_t i = 0; i < m->n_top; i++)
        y = ad_add(tp, y, ad_squares(tp, ad_param(tp, m->top[i].w), scale));
    if (m->project.w) y = ad_add(tp, y, ad_squares(tp, ad_param(tp, m->project.w), scale));
    return y;
}
