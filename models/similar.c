#include "models/similar.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/eval/links.h"
#include "core/num/num.h"
#include <float.h>
#include <stdlib.h>

enum { ROWS = 64 }; /* items whose products with all others are made at once */

struct similar {
    int32_t V;
    int32_t *counted;   /* [V] by counting */
    float *score;       /* [V] of counted, 0 .. 1 */
    int32_t *best;      /* [V] */
    struct param *kept; /* [1,V] best as numbers; NULL: counting alone */
};

/* The largest of each row; nobody's items keep a random one. */
static void count(struct similar *s, const struct dataset *d)
{
    struct links l = links_itemcf(d, NULL);
    double lo = DBL_MAX, hi = 0;
    for (int64_t i = 0; i < l.cu[s->V]; i++) {
        lo = l.weight[i] < lo ? l.weight[i] : lo;
        hi = l.weight[i] > hi ? l.weight[i] : hi;
    }
    for (int32_t v = 0; v < s->V; v++) {
        int64_t best = l.cu[v];
        for (int64_t i = best; i < l.cu[v + 1]; i++)
            if (l.weight[i] > l.weight[best]) best = i;
        struct rng r = rng_make((uint64_t)v, RNG_AUGMENT);
        bool any = l.cu[v + 1] > l.cu[v];
        s->counted[v] = any ? l.item[best] : (int32_t)rng_below(&r, (uint32_t)s->V);
        s->score[v] = any && hi > lo ? (float)((l.weight[best] - lo) / (hi - lo)) : 0;
    }
    links_free(&l);
}

struct similar *similar_new(struct model *m, const struct dataset *d, bool hybrid)
{
    struct similar *s = xcalloc(1, sizeof *s);
    s->V = d->n_items;
    s->counted = xcalloc((size_t)s->V, sizeof *s->counted);
    s->best = xcalloc((size_t)s->V, sizeof *s->best);
    s->score = xcalloc((size_t)s->V, sizeof *s->score);
    if (hybrid)
        s->kept = params_want(model_params(m), "cl4srec.similar", 1, s->V, 0, INIT_ZERO, 0);
    count(s, d);
    for (int32_t v = 0; v < s->V; v++) s->best[v] = s->counted[v];
    return s;
}

void similar_free(struct similar *s)
{
    if (!s) return;
    free(s->counted);
    free(s->best);
    free(s->score);
    free(s);
}

const int32_t *similar_items(const struct similar *s) { return s->best; }

/* ---- by vectors ---- */

struct search {
    const struct ten *item;
    int32_t *nearest; /* [V] */
    float *dot;       /* [V] */
    float *lo, *hi;   /* [blocks] over all pairs */
    float **scratch;  /* [threads] [ROWS,V] */
};

static void search_block(void *ctx, int block, int worker)
{
    const struct search *c = ctx;
    const int32_t V = c->item->rows, D = c->item->cols, first = block * ROWS;
    const int32_t n = V - first < ROWS ? V - first : ROWS;
    float *x = c->scratch[worker], lo = FLT_MAX, hi = -FLT_MAX;
    num->mm->nt(x, V, c->item->x + (int64_t)first * D, D, c->item->x, D, n, V, D, false);
    for (int32_t i = 0; i < n; i++) {
        const float *row = x + (int64_t)i * V;
        int32_t best = first + i == 0 ? 1 : 0;
        for (int32_t j = 0; j < V; j++) {
            if (j == first + i) continue;
            if (row[j] > row[best]) best = j;
            lo = row[j] < lo ? row[j] : lo;
        }
        c->nearest[first + i] = best;
        c->dot[first + i] = row[best];
        hi = row[best] > hi ? row[best] : hi;
    }
    c->lo[block] = lo;
    c->hi[block] = hi;
}

/* Of two items with a vector each, at least. */
static void choose(struct similar *s, const struct ten *item, struct par *pool)
{
    int blocks = (s->V + ROWS - 1) / ROWS, threads = par_threads(pool);
    struct search c = { .item = item,
                        .nearest = xcalloc((size_t)s->V, sizeof *c.nearest),
                        .dot = xcalloc((size_t)s->V, sizeof *c.dot),
                        .lo = xcalloc((size_t)blocks, sizeof *c.lo),
                        .hi = xcalloc((size_t)blocks, sizeof *c.hi),
                        .scratch = xcalloc((size_t)threads, sizeof *c.scratch) };
    for (int t = 0; t < threads; t++)
        c.scratch[t] = xaligned((size_t)ROWS * (size_t)s->V * sizeof(float));
    par_for(pool, blocks, search_block, &c);
    float lo = FLT_MAX, hi = -FLT_MAX;
    for (int b = 0; b < blocks; b++) {
        lo = c.lo[b] < lo ? c.lo[b] : lo;
        hi = c.hi[b] > hi ? c.hi[b] : hi;
    }
    for (int32_t v = 0; v < s->V; v++) {
        float by_vector = hi > lo ? (c.dot[v] - lo) / (hi - lo) : 0;
        s->kept->t.x[v] = (float)(by_vector > s->score[v] ? c.nearest[v] : s->counted[v]);
    }
    for (int t = 0; t < threads; t++) free(c.scratch[t]);
    free(c.scratch);
    free(c.nearest);
    free(c.dot);
    free(c.lo);
    free(c.hi);
}

void similar_epoch(struct similar *s, struct model *m, bool fresh, struct par *pool)
{
    if (!s->kept || s->V < 2) return;
    if (fresh) {
        model_bake(m, pool); /* the vectors that a tower makes */
        choose(s, &model_items(m)->t, pool);
        model_bake(m, pool);
    }
    for (int32_t v = 0; v < s->V; v++) {
        const float x = s->kept->t.x[v]; /* of a saved state, perhaps a damaged one */
        s->best[v] = x >= 0 && x < (float)s->V ? (int32_t)x : s->counted[v];
    }
}
