#include "core/serve/popular.h"
#include "core/base/rng.h"
#include "core/serve/merge.h"
#include <math.h>

static bool may_return(const struct popular_cfg *cfg, int32_t row)
{
    if (rowset_has(cfg->drop, row)) return false;
    return !cfg->allow || (cfg->allow[row >> 6] >> (row & 63) & 1);
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
        if (may_return(cfg, order[i])) pool[n++] = (struct cand){ .row = order[i] };
    if (cfg->seed) {
        for (int32_t i = 0; i < n; i++)
            pool[i].score = perturbed(*cfg->seed, pool[i].row,
                                      (double)items_popularity(items, pool[i].row));
        n = merge_top(pool, n, cfg->limit);
    }
    for (int32_t i = 0; i < n; i++) {
        row[i] = pool[i].row;
        score[i] = top > 0 ? (float)((double)items_popularity(items, row[i]) / top) : 0;
    }
    return n;
}
