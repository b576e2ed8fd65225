/* s3rec.c — self-supervised pre-training from attributes, items and segments (Zhou et al., CIKM 2020; models/README.md,
 * s3rec).  H: states of the sequence with some items hidden, e: item vectors, a: attribute vectors, W: a linear layer each.
 *   AAP  attributes of the items that show, from H       MIP  hidden items        MAP  attributes of hidden items
 *   SP   a hidden span from the rest of its sequence: c, p, q the last states of the sequence without its span, of the
 *        span, of a foreign one
 * form = code, what the authors' code computes (y: 1 for the item's attributes):
 *   AAP, MAP  sum_a BCE(sigma(a . W H_t), y_a)     MIP  -log sigma( sigma(W H_t . e) - sigma(W H_t . e_neg) )
 *   SP        -log sigma( sigma(W c . p) - sigma(W c . q) )
 * form = paper, with f = sigma(score):
 *   AAP  sum_{a of the item} -log exp f(e,a) / (exp f(e,a) + sum_{others} exp f(e,a'))     e: the item, W e . a
 *   MIP  -log exp f(t,e) / sum_v exp f(t,v)     MAP  as AAP from H_t     SP  against the batch's other spans
 * Sums over the batch, divided by its sequences. */
#include "models/s3rec.h"
#include "core/base/mem.h"
#include "core/data/augment.h"
#include "models/attributes.h"
#include "models/obj.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum part { AAP, MIP, MAP, SP, PARTS };
enum form { FORM_CODE, FORM_PAPER };
static const char *const part_name[PARTS] = { "aap", "mip", "map", "sp" };

struct s3rec {
    float aap, mip, map, sp, mask;
    int32_t form;
};

static const struct opt opts[] = {
    OPT_FLOAT(struct s3rec, aap, "0.2", 0, 1e3, "weight of attributes of items that show"),
    OPT_FLOAT(struct s3rec, mip, "1", 0, 1e3, "weight of hidden items"),
    OPT_FLOAT(struct s3rec, map, "1", 0, 1e3, "weight of attributes of hidden items"),
    OPT_FLOAT(struct s3rec, sp, "0.5", 0, 1e3, "weight of hidden spans"),
    OPT_FLOAT(struct s3rec, mask, "0.2", 0, 1, "part of the items that is hidden"),
    OPT_CHOICE(struct s3rec, form, "code", "code|paper",
               "losses as the authors' code has them"),
    OPT_END
};

struct own {
    struct attributes attributes;
    struct param *attribute; /* [A,D]; NULL: neither aap nor map */
    struct {
        struct param *w, *b;
    } linear[PARTS];
    int32_t *events; /* [n_events] of everybody's training part, one after the other */
    int64_t n_events;
};

static bool uses_attributes(const struct s3rec *c) { return c->aap > 0 || c->map > 0; }

static int check(const void *cfg, const struct obj_context *x, struct err *e)
{
    const struct s3rec *c = cfg;
    if (c->aap + c->mip + c->map + c->sp == 0)
        return err_set(e, ERR_CONFIG, "s3rec: nothing to train: aap, mip, map and sp are 0");
    if (x->touched)
        return err_set(e, ERR_CONFIG,
                       "s3rec: hides items and draws others that a batch does not name; set "
                       "train.item_update = dense");
    if (x->data && uses_attributes(c) && attributes_count(x->data->items) == 0)
        return err_set(
            e, ERR_CONFIG,
            "s3rec: the data set %s has no attributes: prepare it with --items FILE, "
            "or set s3rec.aap = 0 and s3rec.map = 0",
            x->data->name);
    return 0;
}

/* ---- parameters and tables ---- */

static void list_events(struct own *o, const struct dataset *d)
{
    o->events = xcalloc((size_t)d->n_events + 1, sizeof *o->events);
    for (int32_t u = 0; u < d->n_users; u++) {
        int32_t n = dataset_train_len(d, u);
        memcpy(o->events + o->n_events, d->item + d->cu[u], (size_t)n * sizeof *o->events);
        o->n_events += n;
    }
}

static void *open(const void *cfg, struct model *m, const struct dataset *d)
{
    const struct s3rec *c = cfg;
    const struct model_cfg *mc = model_config(m);
    struct params *ps = model_params(m);
    struct own *o = xcalloc(1, sizeof *o);
    model_add_mask(m, true);
    for (int k = 0; k < PARTS; k++) {
        char name[32];
        snprintf(name, sizeof name, "s3rec.%s.weight", part_name[k]);
        o->linear[k].w = params_want(ps, name, mc->width, mc->width, GROUP_OBJECTIVE,
                                     INIT_NORMAL, mc->init_std);
        snprintf(name, sizeof name, "s3rec.%s.bias", part_name[k]);
        o->linear[k].b = params_want(ps, name, 1, mc->width, GROUP_OBJECTIVE, INIT_ZERO, 0);
    }
    if (uses_attributes(c)) {
        o->attributes = attributes_new(d->items);
        o->attribute = params_want(ps, "s3rec.attribute.weight", o->attributes.n, mc->width,
                                   GROUP_OBJECTIVE, INIT_NORMAL, mc->init_std);
    }
    list_events(o, d);
    return o;
}

static void close(void *own)
{
    struct own *o = own;
    attributes_free(&o->attributes);
    free(o->events);
    free(o);
}

/* ---- what is drawn ---- */

/* The inputs of every row and the target after them: the newest max_len. */
static void whole_sequences(struct s3rec_drawn *d, struct arena *mem, const struct step *s)
{
    const struct seqpack *in = &s->batch->seq;
    const struct model_cfg *m = model_config(s->model);
    int32_t *cu = ARENA_NEW(mem, int32_t, in->B + 1), *ids;
    d->ids = ids = ARENA_NEW(mem, int32_t, in->N + in->B);
    cu[0] = 0;
    for (int32_t b = 0; b < in->B; b++) {
        int32_t n = in->cu[b + 1] - in->cu[b], drop = n == m->max_len;
        memcpy(ids + cu[b], s->batch->ids + in->cu[b] + drop, (size_t)(n - drop) * sizeof *ids);
        cu[b + 1] = cu[b] + n - drop + 1;
        ids[cu[b + 1] - 1] = s->batch->target[s->layout == LAYOUT_A ? in->cu[b + 1] - 1 : b];
    }
    int32_t *pos = ARENA_NEW(mem, int32_t, cu[in->B]);
    seqpack_positions(pos, cu, in->B, m->max_len, (enum pos_from)m->positions);
    d->seq = (struct seqpack){ .B = in->B, .N = cu[in->B], .cu = cu, .pos = pos };
}

/* Sequence b's lines of the four altered packs. */
struct lines {
    const int32_t *ids;
    int32_t *masked, *negative, *segment, *positive, *other;
    int32_t n;
};

static void hide_items(const struct lines *l, float part, int32_t V, struct rng *r)
{
    for (int32_t t = 0; t < l->n; t++) {
        bool hide = t == l->n - 1 || rng_f64(r) < (double)part;
        l->masked[t] = hide ? EMBED_MASK : l->ids[t];
        l->negative[t] = hide ? augment_foreign(l->ids, l->n, V, r) : l->ids[t];
    }
}

static void hide_span(const struct lines *l, const struct own *o, struct rng *r)
{
    const size_t nb = (size_t)l->n * sizeof *l->ids;
    memcpy(l->segment, l->ids, nb);
    memcpy(l->positive, l->ids, nb);
    memcpy(l->other, l->ids, nb);
    if (l->n < 2) return; /* no span: all are the sequence */
    int32_t len = 1 + (int32_t)rng_below(r, (uint32_t)(l->n / 2));
    int32_t first = (int32_t)rng_below(r, (uint32_t)(l->n - len + 1));
    int64_t from = (int64_t)(rng_f64(r) * (double)(o->n_events - len + 1));
    for (int32_t t = 0; t < l->n; t++) {
        bool in = t >= first && t < first + len;
        if (in) l->segment[t] = EMBED_MASK;
        if (!in) l->positive[t] = EMBED_MASK;
        l->other[t] = in ? o->events[from + t - first] : EMBED_MASK;
    }
}

static const void *draw(const void *cfg, const void *own, const struct step *s)
{
    const struct s3rec *c = cfg;
    struct arena *mem = tape_arena(s->tp);
    struct s3rec_drawn *d = ARENA_NEW(mem, struct s3rec_drawn, 1);
    whole_sequences(d, mem, s);
    int32_t *x[5];
    for (int i = 0; i < 5; i++) x[i] = ARENA_NEW(mem, int32_t, d->seq.N);
    for (int32_t b = 0; b < d->seq.B; b++) {
        struct rng r = rng_make(rng_hash(s->key, (uint64_t)b), RNG_AUGMENT);
        const int32_t at = d->seq.cu[b];
        const struct lines l = {
            d->ids + at,          x[0] + at, x[1] + at, x[2] + at, x[3] + at, x[4] + at,
            d->seq.cu[b + 1] - at
        };
        hide_items(&l, c->mask, model_config(s->model)->n_items, &r);
        hide_span(&l, own, &r);
    }
    d->masked = x[0], d->negative = x[1], d->segment = x[2], d->positive = x[3],
    d->other = x[4];
    return d;
}

/* ---- losses ---- */

struct losses {
    const struct s3rec *c;
    const struct own *o;
    const struct s3rec_drawn *d;
    struct step *s;
    struct tape *tp;
    struct ten *table; /* item vectors */
    float scale;       /* 1 / B */
};

/* Tokens that are hidden, or that show. */
struct tokens {
    int32_t *at, n;
};

static struct tokens tokens(const struct losses *l, bool hidden)
{
    struct tokens t = { ARENA_NEW(tape_arena(l->tp), int32_t, l->d->seq.N), 0 };
    for (int32_t i = 0; i < l->d->seq.N; i++)
        if ((l->d->masked[i] == EMBED_MASK) == hidden) t.at[t.n++] = i;
    return t;
}

static struct ten *rows(struct tape *tp, struct ten *x, const int32_t *id, int32_t n)
{
    return ad_embed(tp, x, id, NULL, NULL, NULL, n);
}

static const int32_t *items_at(const struct losses *l, struct tokens t, const int32_t *ids)
{
    int32_t *x = ARENA_NEW(tape_arena(l->tp), int32_t, t.n + 1);
    for (int32_t i = 0; i < t.n; i++) x[i] = ids[t.at[i]];
    return x;
}

static struct ten *linear(const struct losses *l, enum part k, struct ten *x)
{
    return ad_linear(l->tp, x, ad_param(l->tp, l->o->linear[k].w),
                     ad_param(l->tp, l->o->linear[k].b), ACT_NONE);
}

/* The attributes of the items at the tokens, from x [n,D]. */
static struct ten *attributes_of(const struct losses *l, enum part k, struct tokens t,
                                 struct ten *x)
{
    const struct attributes *a = &l->o->attributes;
    struct arena *mem = tape_arena(l->tp);
    struct bag_list *bag = ARENA_NEW(mem, struct bag_list, 1);
    int32_t *cu = ARENA_NEW(mem, int32_t, t.n + 1), *id;
    cu[0] = 0;
    for (int32_t i = 0; i < t.n; i++) {
        int32_t v = l->d->ids[t.at[i]];
        cu[i + 1] = cu[i] + a->cu[v + 1] - a->cu[v];
    }
    id = ARENA_NEW(mem, int32_t, cu[t.n] + 1);
    for (int32_t i = 0; i < t.n; i++)
        memcpy(id + cu[i], a->id + a->cu[l->d->ids[t.at[i]]],
               (size_t)(cu[i + 1] - cu[i]) * sizeof *id);
    *bag = (struct bag_list){ cu, id };
    struct ten *f = ad_matmul_nt(l->tp, linear(l, k, x), ad_param(l->tp, l->o->attribute), 1);
    return l->c->form == FORM_PAPER ? ad_xent_bags(l->tp, ad_sigmoid(l->tp, f), bag, l->scale)
                                    : ad_bce_bags(l->tp, f, bag, l->scale);
}

/* a[r] . b[r] */
static struct ten *dots(struct tape *tp, struct ten *a, struct ten *b)
{
    struct seqpack *one = ARENA_NEW(tape_arena(tp), struct seqpack, 1);
    *one = (struct seqpack){ .B = a->rows, .N = a->rows, .cu = step_numbers(tp, a->rows + 1) };
    return ad_seg_dot(tp, a, b, one, 1);
}

/* -log sigma( sigma(x . right) - sigma(x . wrong) ), summed */
static struct ten *pairwise(const struct losses *l, struct ten *x, struct ten *right,
                            struct ten *wrong)
{
    struct ten *r = ad_sigmoid(l->tp, dots(l->tp, x, right));
    struct ten *w = ad_sigmoid(l->tp, dots(l->tp, x, wrong));
    struct ten *back = ad_add(l->tp, w, ad_scale(l->tp, r, -1));
    return ad_bce_bags(l->tp, back, NULL, l->scale);
}

/* -log exp f(r, right) / sum_c exp f(r,c), f = sigma(x . table), summed */
static struct ten *against_all(const struct losses *l, struct ten *x, struct ten *table,
                               const int32_t *right)
{
    struct ten *f = ad_sigmoid(l->tp, ad_matmul_nt(l->tp, x, table, 1));
    struct bag_list *bag = ARENA_NEW(tape_arena(l->tp), struct bag_list, 1);
    *bag = (struct bag_list){ step_numbers(l->tp, x->rows + 1), right };
    return ad_xent_bags(l->tp, f, bag, l->scale);
}

static struct ten *hidden_items(const struct losses *l, struct tokens t, struct ten *x)
{
    const int32_t *right = items_at(l, t, l->d->ids);
    struct ten *h = linear(l, MIP, x);
    if (l->c->form == FORM_PAPER) return against_all(l, h, l->table, right);
    return pairwise(l, h, rows(l->tp, l->table, right, t.n),
                    rows(l->tp, l->table, items_at(l, t, l->d->negative), t.n));
}

static struct ten *last(const struct losses *l, const int32_t *ids)
{
    return model_last(l->s->model, l->tp, &l->d->seq, ids);
}

static struct ten *spans(const struct losses *l)
{
    struct ten *c = linear(l, SP, last(l, l->d->segment)), *p = last(l, l->d->positive);
    if (l->c->form == FORM_CODE) return pairwise(l, c, p, last(l, l->d->other));
    return against_all(l, c, p, step_numbers(l->tp, c->rows));
}

static void sum(struct step *s, struct ten **total, enum part k, struct ten *x, float weight)
{
    x = step_term(s, part_name[k], x);
    if (weight != 1) x = ad_scale(s->tp, x, weight);
    *total = *total ? ad_add(s->tp, *total, x) : x;
}

static struct ten *loss(const void *cfg, const void *own, const void *drawn, struct step *s)
{
    const struct s3rec *c = cfg;
    struct losses l = { c, own, drawn, s, s->tp, ad_param(s->tp, model_items(s->model)), 0 };
    struct ten *total = NULL, *h = NULL;
    const struct tokens shown = tokens(&l, false), hidden = tokens(&l, true);
    l.scale = 1.0f / (float)l.d->seq.B;
    if (c->aap + c->mip + c->map > 0) h = model_states(s->model, s->tp, &l.d->seq, l.d->masked);
    struct ten *at = h ? rows(s->tp, h, hidden.at, hidden.n) : NULL;
    if (c->aap > 0 && shown.n > 0) {
        struct ten *x = c->form == FORM_PAPER
                            ? rows(s->tp, l.table, items_at(&l, shown, l.d->ids), shown.n)
                            : rows(s->tp, h, shown.at, shown.n);
        sum(s, &total, AAP, attributes_of(&l, AAP, shown, x), c->aap);
    }
    if (c->mip > 0) sum(s, &total, MIP, hidden_items(&l, hidden, at), c->mip);
    if (c->map > 0) sum(s, &total, MAP, attributes_of(&l, MAP, hidden, at), c->map);
    if (c->sp > 0) sum(s, &total, SP, spans(&l), c->sp);
    return total ? total : ad_sum(s->tp, l.table, 0); /* aap alone, and nothing shows */
}

const struct obj_ops obj_s3rec = {
    .name = "s3rec",
    .help = "pre-training from attributes, items and segments (S3-Rec: Zhou et al., CIKM 2020)",
    .opts = opts,
    .cfg_size = sizeof(struct s3rec),
    .check = check,
    .open = open,
    .close = close,
    .draw = draw,
    .loss = loss,
};
