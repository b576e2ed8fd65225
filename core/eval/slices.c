#include "core/eval/slices.h"
#include "core/base/mem.h"
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

static bool contains(const int32_t *x, int32_t n, int32_t v)
{
    for (int32_t i = 0; i < n; i++)
        if (x[i] == v) return true;
    return false;
}

void slices_of(struct slices *s, const struct dataset *d, enum split split, const int64_t *rank)
{
    *s = (struct slices){ 0 };
    uint8_t *class = popularity_classes(s, d);
    for (int32_t u = 0; u < d->n_users; u++) {
        const int32_t *hist;
        int32_t len, answer;
        if (!dataset_case(d, u, split, &hist, &len, &answer)) continue;
        metrics_add(&s->m[class[answer]], rank[u]);
        metrics_add(&s->m[by_length(len + 1)], rank[u]);
        metrics_add(&s->m[contains(hist, len, answer) ? SLICE_REPEAT : SLICE_NEW], rank[u]);
    }
    for (int i = 0; i < SLICES; i++) metrics_mean(&s->m[i]);
    free(class);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

struct spread_out spread_of_lists(const int64_t *shown, int32_t n_items)
{
    int64_t *x = xmalloc((size_t)n_items * sizeof *x), total = 0, some = 0;
    double sum = 0, n = n_items;
    memcpy(x, shown, (size_t)n_items * sizeof *x);
    qsort(x, (size_t)n_items, sizeof *x, by_value);
    for (int32_t i = 0; i < n_items; i++) {
        sum += (2.0 * (i + 1) - n - 1) * (double)x[i];
        total += x[i];
        some += x[i] > 0;
    }
    free(x);
    return (struct spread_out){ (double)some / n, total > 0 ? sum / (n * (double)total) : 0 };
}

static double entropy(const int64_t *n, int32_t count, double total)
{
    double h = 0;
    for (int32_t i = 0; i < count; i++)
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
    double both = entropy(joint, R * C, total);
    free(row);
    return hr > 0 && hc > 0 ? 2 * (hr + hc - both) / (hr + hc) : 0;
}
