#include "core/serve/merge.h"
#include "core/num/num.h"
#include "core/serve/rowset.h"

int32_t merge_union(struct cand **out, int32_t *fetched, struct arena *a, const int32_t *ids,
                    int32_t n_lists, int32_t depth)
{
    struct rowset seen = rowset_new(a, n_lists * depth);
    struct cand *c = ARENA_NEW(a, struct cand, n_lists * depth + 1);
    int32_t n = 0;
    for (int32_t k = 0; k < n_lists; k++) {
        const int32_t *list = ids + (size_t)k * (size_t)depth;
        fetched[k] = 0;
        for (int32_t i = 0; i < depth && list[i] >= 0; i++) {
            fetched[k]++;
            if (rowset_add(&seen, list[i])) c[n++] = (struct cand){ .row = list[i] };
        }
    }
    *out = c;
    return n;
}

void merge_score(struct cand *c, int32_t n, const float *query, int32_t n_query, int32_t D,
                 const float *item)
{
    enum { AHEAD = 4 }; /* rows lie anywhere in a table larger than the caches */
    for (int32_t i = 0; i < n; i++) {
        if (i + AHEAD < n) __builtin_prefetch(item + (size_t)c[i + AHEAD].row * (size_t)D);
        const float *v = item + (size_t)c[i].row * (size_t)D;
        c[i].score = num->vec->dot(query, v, D);
        c[i].best = 0;
        for (int32_t k = 1; k < n_query; k++) {
            float s = num->vec->dot(query + (size_t)k * (size_t)D, v, D);
            if (s > c[i].score) {
                c[i].score = s;
                c[i].best = k;
            }
        }
    }
}

static bool before(const struct cand *x, const struct cand *y)
{
    return x->score > y->score || (x->score == y->score && x->row < y->row);
}

static void swap(struct cand *x, struct cand *y)
{
    struct cand t = *x;
    *x = *y;
    *y = t;
}

/* Restores the heap below i; its root is the candidate that comes last. */
static void sift(struct cand *c, int32_t n, int32_t i)
{
    for (;;) {
        int32_t last = i;
        for (int32_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
            if (before(&c[last], &c[child])) last = child;
        if (last == i) return;
        swap(&c[i], &c[last]);
        i = last;
    }
}

int32_t merge_top(struct cand *c, int32_t n, int32_t limit)
{
    int32_t m = n < limit ? n : limit;
    for (int32_t i = m / 2 - 1; i >= 0; i--) sift(c, m, i);
    for (int32_t i = m; m > 0 && i < n; i++) {
        if (!before(&c[i], &c[0])) continue;
        swap(&c[i], &c[0]);
        sift(c, m, 0);
    }
    for (int32_t left = m - 1; left > 0; left--) {
        swap(&c[0], &c[left]);
        sift(c, left, 0);
    }
    return m;
}
