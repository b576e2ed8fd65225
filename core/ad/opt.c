#include "core/ad/opt.h"
#include "core/ad/rows.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    RUN = 1 << 14, /* floats of one block: its four arrays fit the second-level cache */
    ROWS = 256     /* rows of one block of a parameter that moves by rows */
};

struct moments;
struct update {
    struct param *p;
    struct moments *mo;
    struct k_adam_step step;
    float average;   /* how far the average goes towards the weights */
    int first_block; /* of the step's */
    double *sums;
};

struct moments {
    float *m, *v; /* each as long as the parameter */
    float *average;
    int64_t n;
    int64_t steps; /* of this parameter: groups may take turns */
};

struct opt_adam {
    struct opt_cfg cfg;
    struct moments *mo; /* in the order of the parameters */
    int32_t n;
    struct update *now; /* [n] of the step at hand */
    double *sums;       /* [most blocks of a parameter] */
};

static int64_t size_of(const struct param *p) { return (int64_t)p->t.rows * p->t.cols; }

static float *zeroed(int64_t n)
{
    float *x = xaligned((size_t)n * sizeof *x);
    memset(x, 0, (size_t)n * sizeof *x);
    return x;
}

struct opt_adam *opt_new(const struct params *ps, struct opt_cfg cfg)
{
    struct opt_adam *o = xcalloc(1, sizeof *o);
    int most = 1;
    o->cfg = cfg;
    o->n = params_count(ps);
    o->mo = xcalloc((size_t)o->n, sizeof *o->mo);
    for (int32_t i = 0; i < o->n; i++) {
        const struct param *p = params_at(ps, i);
        int64_t n = size_of(p);
        o->mo[i] = (struct moments){ zeroed(n), zeroed(n), NULL, n, 0 };
        if (cfg.ema > 0) {
            o->mo[i].average = xaligned((size_t)n * sizeof(float));
            memcpy(o->mo[i].average, p->t.x, (size_t)n * sizeof(float));
        }
        most = row_blocks(n, RUN) > most ? row_blocks(n, RUN) : most;
    }
    o->now = xcalloc((size_t)o->n, sizeof *o->now);
    o->sums = xcalloc((size_t)most, sizeof *o->sums);
    return o;
}

void opt_free(struct opt_adam *o)
{
    if (!o) return;
    for (int32_t i = 0; i < o->n; i++) {
        free(o->mo[i].m);
        free(o->mo[i].v);
        free(o->mo[i].average);
    }
    free(o->mo);
    free(o->now);
    free(o->sums);
    free(o);
}

void opt_set_lr(struct opt_adam *o, float lr) { o->cfg.lr = lr; }

struct opt_state opt_state(struct opt_adam *o, int32_t i)
{
    struct moments *m = &o->mo[i];
    return (struct opt_state){ m->m, m->v, m->average, m->n, &m->steps };
}

/* ---- one step ---- */

static void update_run(const struct update *u, int64_t at, float *g, int64_t n)
{
    num->adam->step(u->p->t.x + at, g, u->mo->m + at, u->mo->v + at, n, &u->step);
    if (u->mo->average) num->adam->average(u->mo->average + at, u->p->t.x + at, u->average, n);
}

static void update_block(const struct update *u, int block)
{
    const struct row_span s = row_span(u->mo->n, RUN, block);
    update_run(u, s.first, u->p->t.g + s.first, s.n);
}

static void update_rows(const struct update *u, int block)
{
    const struct param_part *part = &u->p->part;
    const struct row_span s = row_span(part->n, ROWS, block);
    int64_t D = u->p->t.cols;
    for (int64_t i = s.first; i < s.first + s.n; i++)
        update_run(u, part->row[i] * D, part->g + i * D, D);
}

struct all_updates {
    const struct update *u; /* by first_block */
    int n;
};

/* All parameters in one loop: most are too small for one of their own. */
static void any_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct all_updates *c = ctx;
    int i = c->n - 1;
    while (c->u[i].first_block > block) i--;
    const struct update *u = &c->u[i];
    if (u->p->part.g)
        update_rows(u, block - u->first_block);
    else
        update_block(u, block - u->first_block);
}

static int blocks_of(const struct param *p, const struct moments *mo)
{
    return p->part.g ? row_blocks(p->part.n, ROWS) : row_blocks(mo->n, RUN);
}

static bool moves(const struct param *p, uint32_t groups)
{
    return (p->group & groups) && (p->t.g || p->part.g);
}

/* ---- clipping ---- */

static void sum_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct update *u = ctx;
    const float *g = u->p->part.g ? u->p->part.g : u->p->t.g;
    int64_t n = u->p->part.g ? (int64_t)u->p->part.n * u->p->t.cols : u->mo->n;
    const struct row_span s = row_span(n, RUN, block);
    u->sums[block] = (double)num->vec->dot(g + s.first, g + s.first, s.n);
}

/* What all gradients are multiplied with: 1 where their norm is within the limit. */
static float clip_factor(struct opt_adam *o, struct params *ps, uint32_t groups,
                         struct par *pool)
{
    double sum = 0;
    for (int32_t i = 0; o->cfg.clip_norm > 0 && i < o->n; i++) {
        struct update u = { .p = params_at(ps, i), .mo = &o->mo[i], .sums = o->sums };
        if (!moves(u.p, groups)) continue;
        int64_t n = u.p->part.g ? (int64_t)u.p->part.n * u.p->t.cols : u.mo->n;
        int blocks = row_blocks(n, RUN);
        par_for(pool, blocks, sum_block, &u);
        for (int b = 0; b < blocks; b++) sum += o->sums[b];
    }
    double norm = sqrt(sum), most = (double)o->cfg.clip_norm;
    return most > 0 && norm > most ? (float)(most / norm) : 1;
}

/* Bias corrections in double: 1 - beta2^t loses its digits in float for the first steps. */
static struct k_adam_step step_of(const struct opt_cfg *cfg, int64_t steps, bool decay,
                                  float clip)
{
    double t = (double)steps, b1 = (double)cfg->beta1, b2 = (double)cfg->beta2;
    float d = decay ? cfg->weight_decay : 0;
    return (struct k_adam_step){ .beta1 = cfg->beta1,
                                 .beta2 = cfg->beta2,
                                 .clip = clip,
                                 .decay = cfg->decoupled ? 0 : d,
                                 .shrink = cfg->decoupled ? 1 - cfg->lr * d : 1,
                                 .size = (float)((double)cfg->lr / (1 - pow(b1, t))),
                                 .root = (float)(1 / sqrt(1 - pow(b2, t))),
                                 .eps = cfg->eps };
}

void opt_step(struct opt_adam *o, struct params *ps, uint32_t groups, struct par *pool)
{
    REQUIRE(o->n == params_count(ps), "optimiser of %d parameters, %d given", o->n,
            params_count(ps));
    float clip = clip_factor(o, ps, groups, pool);
    struct all_updates all = { o->now, 0 };
    int blocks = 0;
    for (int32_t i = 0; i < o->n; i++) {
        struct update u = { .p = params_at(ps, i), .mo = &o->mo[i], .first_block = blocks };
        REQUIRE(size_of(u.p) == u.mo->n, "%s has another size than at opt_new", u.p->name);
        if (!moves(u.p, groups)) continue;
        int64_t t = ++u.mo->steps;
        double rise = (double)(1 + t) / (double)(10 + t), ema = (double)o->cfg.ema;
        u.step = step_of(&o->cfg, t, u.p->decay, clip);
        u.average = (float)(1 - (ema < rise ? ema : rise));
        blocks += blocks_of(u.p, u.mo);
        o->now[all.n++] = u;
    }
    par_for(pool, blocks, any_block, &all);
    for (int i = 0; i < all.n; i++) o->now[i].p->part = (struct param_part){ 0 };
}

void opt_swap_average(struct opt_adam *o, struct params *ps)
{
    for (int32_t i = 0; o->cfg.ema > 0 && i < o->n; i++) {
        struct param *p = params_at(ps, i);
        float *x = p->t.x;
        p->t.x = o->mo[i].average;
        o->mo[i].average = x;
    }
}
