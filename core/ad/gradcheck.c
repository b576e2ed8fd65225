#include "core/ad/gradcheck.h"
#include <math.h>

struct check {
    struct params *ps;
    ad_build_fn *build;
    void *ctx;
    struct tape *tp;
    uint64_t key;
    float eps;
};

static struct ten *run(const struct check *c, uint32_t groups)
{
    tape_begin(c->tp, groups, c->key, true);
    return c->build(c->tp, c->ps, c->ctx);
}

/* d(h) with the step that float32 really makes. */
static double slope(const struct check *c, float *x, float h)
{
    float x0 = *x;
    volatile float up = x0 + h, down = x0 - h;
    *x = up;
    double lu = (double)run(c, 0)->x[0];
    *x = down;
    double ld = (double)run(c, 0)->x[0];
    *x = x0;
    return (lu - ld) / ((double)up - (double)down);
}

static int64_t largest(const float *g, int64_t n)
{
    int64_t at = 0;
    for (int64_t i = 1; i < n; i++)
        if (fabsf(g[i]) > fabsf(g[at])) at = i;
    return at;
}

static double check_param(const struct check *c, struct param *p, const float *g, int n_probe,
                          struct rng *r)
{
    int64_t n = (int64_t)p->t.rows * p->t.cols, top = largest(g, n);
    double scale = fmax((double)fabsf(g[top]), 1e-3), worst = 0;
    for (int64_t k = 0; k < n && k < n_probe; k++) {
        int64_t i = n <= n_probe ? k : k == 0 ? top : (int64_t)rng_below(r, (uint32_t)n);
        double want = (4 * slope(c, p->t.x + i, c->eps) - slope(c, p->t.x + i, 2 * c->eps)) / 3;
        double off = fabs(want - (double)g[i]) / scale;
        if (isnan(off) || off > worst) worst = off; /* NaN stays */
    }
    return worst;
}

double ad_gradcheck(struct params *ps, ad_build_fn *build, void *ctx, float eps, int n_probe,
                    uint64_t seed)
{
    struct arena *mem = arena_new("gradcheck", 1 << 20, 0);
    struct check c = { ps, build, ctx, tape_new(mem, NULL), rng_hash(seed, 0), eps };
    struct rng r = rng_make(seed, RNG_TEST);
    params_zero_grad(ps);
    tape_backward(c.tp, run(&c, GROUPS_ALL));
    double worst = 0;
    for (int32_t i = 0; i < params_count(ps); i++) {
        struct param *p = params_at(ps, i);
        if (p->group == 0) continue; /* a constant */
        double off = check_param(&c, p, p->t.g, n_probe, &r);
        if (isnan(off) || off > worst) worst = off;
    }
    params_zero_grad(ps);
    tape_free(c.tp);
    arena_free(mem);
    return worst;
}
