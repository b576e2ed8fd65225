/* popular.h — what is served where nothing is known of the user: the items with the most events in the training data.
 *   n = popular_items(row, score, corpus, &cfg, arena);
 * Thread: any (pure but for the arena). */
#pragma once
#include "core/serve/corpus.h"
#include "core/serve/rowset.h"

struct popular_cfg {
    int32_t limit;
    const struct rowset *drop;   /* rows never to return */
    const uint64_t *allow;       /* bitmap of the base's rows that may be returned; NULL: all */
    const uint64_t *delta_allow; /* of the delta's that stand for one of the base; NULL: none */
    const uint64_t *seed;        /* NULL: strictly by popularity */
};

/* row, score [limit]; score is popularity over the most popular item's.  Most popular first, ties by row; a changed item has the
 * popularity of the row that it stands for.  With a seed the rows
 * are drawn instead, in that order, without replacement from the POPULAR_POOL * limit most popular ones that are left, with
 * chances in proportion to popularity + 1 (Gumbel-max; Vieira 2014), so that not everybody sees the same: the same seed,
 * the same rows.  Returns their number. */
enum { POPULAR_POOL = 10 }; /* times limit */
int32_t popular_items(int32_t *row, float *score, const struct corpus *c,
                      const struct popular_cfg *cfg, struct arena *a);
