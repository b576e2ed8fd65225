#include "core/num/k_last.h"
#include "core/num/isa.h"
#include "core/num/simd.h"
#include <math.h>

static int32_t padded(int32_t n) { return (n + VW - 1) / VW * VW; }

static size_t scratch(int32_t n) { return 3 * (size_t)(n + 16); }

/* s[n] = the scaled scores, -inf for what is no key, up to a whole vector; returns the largest. */
static float scores(float *s, const struct k_last *a, const struct k_attn_cfg *cfg)
{
    float top = -INFINITY;
    for (int32_t j = 0; j < a->n; j++) {
        bool key = !a->key || a->key[j];
        s[j] = key ? cfg->scale * simd_dot(a->x + (ptrdiff_t)j * cfg->D, a->u, cfg->D) : -INFINITY;
        top = s[j] > top ? s[j] : top;
    }
    for (int32_t j = a->n; j < padded(a->n); j++) s[j] = -INFINITY;
    return top;
}

static void clear(float *y, int32_t n)
{
    for (int32_t c = 0; c < n; c += VW) vf_put(y + c, (vf){ 0 }, n - c);
}

/* w with dropout */
INLINE vf dropped(vf w, const struct drop *d, uint64_t key, int32_t j)
{
    return drop_active(d) ? vf_keep(w * d->scale, vu_drop_bits(key, j), d->keep) : w;
}

static float fwd(float *z, float *t, const struct k_last *a, const struct k_attn_cfg *cfg,
                 float *mem)
{
    float *w = mem, top = scores(w, a, cfg);
    const uint64_t key = drop_row(&cfg->drop, a->row);
    clear(z, cfg->D);
    *t = 0;
    if (top == -INFINITY) return top;
    vf sum = { 0 };
    for (int32_t j = 0; j < a->n; j += VW) {
        vf e = vf_exp(vf_load(w + j) - top);
        sum += e;
        vf_store(w + j, dropped(e, &cfg->drop, key, j));
    }
    const float total = vf_hsum(sum);
    for (int32_t j = 0; j < a->n; j++) {
        float wj = w[j] / total;
        if (wj == 0) continue;
        *t += wj;
        simd_add(z, a->x + (ptrdiff_t)j * cfg->D, wj, cfg->D);
    }
    return top + logf(total);
}

static void bwd(float *dx, float *du, const float *dz, float dt, float lse,
                const struct k_last *a, const struct k_attn_cfg *cfg, float *mem)
{
    const int32_t D = cfg->D, n = a->n;
    const uint64_t key = drop_row(&cfg->drop, a->row);
    float *w = mem, *g = mem + padded(n), *ds = g + padded(n);
    clear(du, D);
    if (lse == -INFINITY) return;
    (void)scores(w, a, cfg);
    for (int32_t j = 0; j < padded(n); j++)
        g[j] = j < n ? simd_dot(a->x + (ptrdiff_t)j * D, dz, D) + dt : 0;
    vf delta = { 0 };
    for (int32_t j = 0; j < n; j += VW) {
        vf p = vf_exp(vf_load(w + j) - lse);
        vf gj = dropped(vf_load(g + j), &cfg->drop, key, j);
        vf_store(w + j, dropped(p, &cfg->drop, key, j));
        vf_store(g + j, gj);
        vf_store(ds + j, p);
        delta += p * gj;
    }
    const float d = vf_hsum(delta);
    for (int32_t j = 0; j < n; j += VW)
        vf_store(ds + j, vf_load(ds + j) * (vf_load(g + j) - d) * cfg->scale);
    for (int32_t j = 0; j < n; j++) {
        const ptrdiff_t o = (ptrdiff_t)j * D;
        simd_add(du, a->x + o, ds[j], D);
        if (!dx) continue;
        simd_add(dx + o, dz, w[j], D);
        simd_add(dx + o, a->u, ds[j], D);
    }
}

const struct k_last_ops NUM_TABLE(k_last) = { .scratch = scratch, .fwd = fwd, .bwd = bwd };
