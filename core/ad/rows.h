/* rows.h — rows cut into blocks of a fixed size: what ops hand to par_for.
 *   par_for(pool, row_blocks(N, 64), fn, ctx);   in fn: struct row_span s = row_span(N, 64, block);
 * The cut never depends on the number of threads.  Thread: any (pure). */
#pragma once
#include "core/ad/tape.h"
#include <string.h>

struct row_span {
    int64_t first; /* row */
    int32_t n;     /* rows, at least 1 */
};

static inline int row_blocks(int64_t rows, int32_t per)
{
    return (int)((rows + per - 1) / per);
}
static inline struct row_span row_span(int64_t rows, int32_t per, int block)
{
    int64_t first = (int64_t)block * per, left = rows - first;
    return (struct row_span){ first, left < per ? (int32_t)left : per };
}

/* t->g += s x, of t's shape, in blocks; a blank one is overwritten.  NULL g: nothing. */
void add_scaled(struct par *pool, struct ten *t, float s, const float *x);

/* y = x in bf16, n floats, in blocks. */
void round_all(struct par *pool, bf16 *y, const float *x, int64_t n);

/* Clears the gradient of these rows. */
static inline void rows_clear(const struct ten *t, struct row_span s)
{
    memset(t->g + s.first * t->cols, 0, (size_t)s.n * (size_t)t->cols * sizeof *t->g);
}
