#include "core/serve/popular.h"
#include "core/base/rng.h"
#include "core/serve/merge.h"
#include <math.h>

static bool has(const uint64_t *bits, int32_t i) { return bits[i >> 6] >> (i & 63) & 1; }

/* What is returned for a row of the base: itself, the delta's row that stands for it, or -1, nothing. */
static int32_t returned(const struct corpus *c, const struct popular_cfg *cfg, int32_t base)
{
    if (rowset_has(cfg->drop, base)) return -1;
    if (!cfg->allow || has(cfg->allow, base)) return base;
    if (!cfg->delta_allow || !live_dead(c->live, base)) return -1;
    const struct str id = items_id(gen_items(c->gen), base);
    const int32_t i = live_find(c->live, id.p, (size_t)id.len);
    if (i < 0 || !has(cfg->delta_allow, i)) return -1;
    const int32_t row = corpus_base(c) + i;
    return rowset_has(cfg->drop, row) ? -1 : row;
}

/* log(popularity + 1) + a Gumbel variate of the item's own: the largest of them is a draw in proportion to popularity. */
static float perturbed(uint64_t seed, int32_t row, double popularity)
{
    const double u = ((double)(rng_hash(seed, (uint64_t)row) >> 11) + 0.5) * 0x1p-53;
    return (float)(log1p(popularity) - log(-log(u)));
}

int32_t popular_items(int32_t *row, float *score, const struct corpus *c,
                      const struct popular_cfg *cfg, struct arena *a)
{
    const struct items *items = gen_items(c->gen);
    const int32_t *order = items_by_popularity(items), V = items_count(items);
    const int32_t most = cfg->seed ? POPULAR_POOL * cfg->limit : cfg->limit;
    const double top = (double)items_popularity(items, order[0]);
    struct cand *pool = ARENA_NEW(a, struct cand, most);
    int32_t n = 0;
    for (int32_t i = 0; i < V && n < most; i++)
        if (returned(c, cfg, order[i]) >= 0) pool[n++] = (struct cand){ .row = order[i] };
    if (cfg->seed) {
        for (int32_t i = 0; i < n; i++)
            pool[i].score = perturbed(*cfg->seed, pool[i].row,
                                      (double)items_popularity(items, pool[i].row));
        n = merge_top(pool, n, cfg->limit);
    }
    for (int32_t i = 0; i < n; i++) {
        row[i] = returned(c, cfg, pool[i].row);
        score[i] = top > 0 ? (float)((double)items_popularity(items, pool[i].row) / top) : 0;
    }
    return n;
}
