/* corpus.h — the items that a request sees: a generation's catalogue and vectors, and what has changed since (live.h).
 *   struct corpus c = { .gen = g, .live = v };   both must outlive it; live NULL: nothing has changed
 * Rows are the generation's, 0 to V - 1, then the delta's.  Thread: any. */
#pragma once
#include "core/serve/gen.h"
#include "core/serve/live.h"

struct corpus {
    const struct gen *gen;
    const struct live_view *live;
};

static inline int32_t corpus_base(const struct corpus *c)
{
    return gen_info(c->gen)->n_items;
} /* V */

static inline const float *corpus_vector(const struct corpus *c, int32_t row) /* [D] */
{
    const struct ten *item = &model_items(gen_model(c->gen))->t;
    if (row >= item->rows) return live_vector(c->live, row - item->rows);
    return item->x + (size_t)row * (size_t)item->cols;
}

static inline struct str corpus_id(const struct corpus *c, int32_t row)
{
    const int32_t V = corpus_base(c);
    return row < V ? items_id(gen_items(c->gen), row) : live_id(c->live, row - V);
}

static inline struct str corpus_title(const struct corpus *c, int32_t row)
{
    const int32_t V = corpus_base(c);
    return row < V ? items_title(gen_items(c->gen), row) : live_title(c->live, row - V);
}

/* What an external id stands for: a row that the encoder knows, deleted or not, and a row of the delta; -1: none. */
struct corpus_rows {
    int32_t base, delta;
};
static inline struct corpus_rows corpus_find(const struct corpus *c, struct str id)
{
    const int32_t i = c->live && c->live->n > 0 ? live_find(c->live, id.p, (size_t)id.len) : -1;
    return (struct corpus_rows){ items_find(gen_items(c->gen), id.p, (size_t)id.len),
                                 i < 0 ? -1 : corpus_base(c) + i };
}
