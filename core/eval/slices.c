#include "core/eval/slices.h"
#include "core/base/mem.h"
#include "core/base/order.h"
#include "core/data/describe.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const slice_name[SLICES] = {
#define SLICE_NAME_(n, t) t,
    SLICE_MAP(SLICE_NAME_)
#undef SLICE_NAME_
};

/* Class of every item. */
static uint8_t *popularity_classes(struct slices *s, const struct dataset *d)
{
    const int32_t *order = items_by_popularity(d->items);
    uint8_t *class = xmalloc((size_t)d->n_items);
    int64_t total = 0, before = 0;
    for (int32_t i = 0; i < d->n_items; i++) total += items_popularity(d->items, i);
    for (int32_t i = 0; i < d->n_items; i++) {
        int64_t n = items_popularity(d->items, order[i]);
        enum slice c = n == 0 || 3 * before >= 2 * total ? SLICE_TAIL
                       : 3 * before >= total             ? SLICE_MIDDLE
                                                         : SLICE_HEAD;
        class[order[i]] = (uint8_t)c;
        s->items[c]++;
        before += n;
    }
    return class;
}

static enum slice by_length(int32_t n)
{
    return n < 5 ? SLICE_BELOW_5 : n == 5 ? SLICE_5 : n <= 8 ? SLICE_6_TO_8 : SLICE_ABOVE_8;
}

void slices_of(struct slices *s, const struct dataset *d, enum split split, const int64_t *rank)
{
    *s = (struct slices){ 0 };
    uint8_t *class = popularity_classes(s, d);
    for (int32_t u = 0; u < d->n_users; u++) {
        const int32_t *hist;
        int32_t len, answer;
        if (!dataset_case(d, u, split, &hist, &len, &answer)) continue;
        int64_t r = rank[u] < d->n_items ? rank[u] : -1; /* masked, or in no list: not found */
        metrics_add(&s->m[class[answer]], r);
        metrics_add(&s->m[by_length(len + 1)], r);
        metrics_add(&s->m[dataset_holds(hist, len, answer) ? SLICE_REPEAT : SLICE_NEW], r);
    }
    for (int i = 0; i < SLICES; i++) metrics_mean(&s->m[i]);
    free(class);
}

struct spread_out spread_of_lists(const int64_t *shown, int32_t n_items)
{
    int64_t *x = xmalloc((size_t)n_items * sizeof *x), some = 0;
    memcpy(x, shown, (size_t)n_items * sizeof *x);
    qsort(x, (size_t)n_items, sizeof *x, order_i64);
    for (int32_t i = 0; i < n_items; i++) some += x[i] > 0;
    struct spread_out s = { (double)some / n_items, describe_gini(x, n_items) };
    free(x);
    return s;
}

static double entropy(const int64_t *n, int64_t count, double total)
{
    double h = 0;
    for (int64_t i = 0; i < count; i++)
        if (n[i] > 0) h -= (double)n[i] / total * log((double)n[i] / total);
    return h;
}

double nmi_of(const int64_t *joint, int32_t R, int32_t C)
{
    int64_t *row = xcalloc((size_t)R + (size_t)C, sizeof *row), *col = row + R;
    double total = 0;
    for (int32_t r = 0; r < R; r++)
        for (int32_t c = 0; c < C; c++) {
            int64_t n = joint[(int64_t)r * C + c];
            row[r] += n;
            col[c] += n;
            total += (double)n;
        }
    double hr = entropy(row, R, total), hc = entropy(col, C, total);
    double both = entropy(joint, (int64_t)R * C, total);
    free(row);
    return hr > 0 && hc > 0 ? 2 * (hr + hc - both) / (hr + hc) : 0;
}
