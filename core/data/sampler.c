#include "core/data/sampler.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdlib.h>

struct sampler {
    int32_t n;
    double *keep;    /* [n] part of slot i that is i itself; NULL: uniform */
    int32_t *other;  /* [n] the item of the rest */
    float *log_q;    /* [n] */
    float log_equal; /* when uniform */
};

/* Slots of equal size, each shared by two items: one that has less than its slot, one that has more. */
static void share_slots(struct sampler *s, double *size)
{
    int32_t *small = xmalloc((size_t)s->n * sizeof *small);
    int32_t *large = xmalloc((size_t)s->n * sizeof *large), n_small = 0, n_large = 0;
    for (int32_t i = s->n - 1; i >= 0; i--) {
        if (size[i] < 1)
            small[n_small++] = i;
        else
            large[n_large++] = i;
    }
    while (n_small > 0 && n_large > 0) {
        int32_t a = small[--n_small], b = large[n_large - 1];
        s->keep[a] = size[a];
        s->other[a] = b;
        size[b] -= 1 - size[a];
        if (size[b] >= 1) continue;
        n_large--;
        small[n_small++] = b;
    }
    /* what rounding left over fills its slot */
    while (n_small > 0) s->keep[small[--n_small]] = 1;
    while (n_large > 0) s->keep[large[--n_large]] = 1;
    free(small);
    free(large);
}

struct sampler *sampler_new(const struct items *it, enum sampling how, int64_t plus)
{
    struct sampler *s = xcalloc(1, sizeof *s);
    int64_t total = 0;
    s->n = items_count(it);
    s->log_equal = (float)-log((double)s->n);
    for (int32_t i = 0; i < s->n; i++) total += items_popularity(it, i) + plus;
    if (how == SAMPLE_UNIFORM || total == 0) return s;
    s->keep = xcalloc((size_t)s->n, sizeof *s->keep);
    s->other = xcalloc((size_t)s->n, sizeof *s->other);
    s->log_q = xmalloc((size_t)s->n * sizeof *s->log_q);
    double *size = xmalloc((size_t)s->n * sizeof *size);
    for (int32_t i = 0; i < s->n; i++) {
        double q = (double)(items_popularity(it, i) + plus) / (double)total;
        s->log_q[i] = (float)log(q);
        size[i] = q * s->n;
    }
    share_slots(s, size);
    free(size);
    return s;
}

void sampler_free(struct sampler *s)
{
    if (!s) return;
    free(s->keep);
    free(s->other);
    free(s->log_q);
    free(s);
}

int32_t sampler_draw(const struct sampler *s, struct rng *r)
{
    int32_t i = (int32_t)rng_below(r, (uint32_t)s->n);
    if (!s->keep) return i;
    return rng_f64(r) < s->keep[i] ? i : s->other[i];
}

float sampler_log_q(const struct sampler *s, int32_t item)
{
    return s->log_q ? s->log_q[item] : s->log_equal;
}
