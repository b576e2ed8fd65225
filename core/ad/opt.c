#include "core/ad/opt.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RUN = 1 << 14 }; /* floats of one block: its four arrays fit the second-level cache */

struct moments {
    float *m, *v; /* each as long as the parameter */
    int64_t n;
    int64_t steps; /* of this parameter: groups may take turns */
};

struct opt_adam {
    struct opt_cfg cfg;
    struct moments *mo; /* in the order of the parameters */
    int32_t n;
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
    o->cfg = cfg;
    o->n = params_count(ps);
    o->mo = xcalloc((size_t)o->n, sizeof *o->mo);
    for (int32_t i = 0; i < o->n; i++) {
        int64_t n = size_of(params_at(ps, i));
        o->mo[i] = (struct moments){ zeroed(n), zeroed(n), n, 0 };
    }
    return o;
}

void opt_free(struct opt_adam *o)
{
    if (!o) return;
    for (int32_t i = 0; i < o->n; i++) {
        free(o->mo[i].m);
        free(o->mo[i].v);
    }
    free(o->mo);
    free(o);
}

struct update {
    struct param *p;
    struct moments *mo;
    struct k_adam_step step;
};

static void update_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct update *u = ctx;
    int64_t at = (int64_t)block * RUN, n = u->mo->n - at < RUN ? u->mo->n - at : RUN;
    num->adam->step(u->p->t.x + at, u->p->t.g + at, u->mo->m + at, u->mo->v + at, n, &u->step);
}

/* Bias corrections in double: 1 - beta2^t loses its digits in float for the first steps. */
static struct k_adam_step step_of(const struct opt_cfg *cfg, int64_t steps, bool decay)
{
    double t = (double)steps, b1 = (double)cfg->beta1, b2 = (double)cfg->beta2;
    return (struct k_adam_step){ .beta1 = cfg->beta1,
                                 .beta2 = cfg->beta2,
                                 .decay = decay ? cfg->weight_decay : 0,
                                 .size = (float)((double)cfg->lr / (1 - pow(b1, t))),
                                 .root = (float)(1 / sqrt(1 - pow(b2, t))),
                                 .eps = cfg->eps };
}

void opt_step(struct opt_adam *o, struct params *ps, uint32_t groups, struct par *pool)
{
    REQUIRE(o->n == params_count(ps), "optimiser of %d parameters, %d given", o->n,
            params_count(ps));
    for (int32_t i = 0; i < o->n; i++) {
        struct update u = { .p = params_at(ps, i), .mo = &o->mo[i] };
        REQUIRE(size_of(u.p) == u.mo->n, "%s has another size than at opt_new", u.p->name);
        if (!(u.p->group & groups) || !u.p->t.g) continue;
        u.step = step_of(&o->cfg, ++u.mo->steps, u.p->decay);
        par_for(pool, (int)((u.mo->n + RUN - 1) / RUN), update_block, &u);
    }
}
