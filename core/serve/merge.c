#include "core/serve/merge.h"
#include "core/num/num.h"
#include "core/serve/rowset.h"
#include <stdlib.h>

static bool before(const struct cand *x, const struct cand *y)
{
    return x->score > y->score || (x->score == y->score && x->row < y->row);
}

/* The different rows of all lists, in order of first appearance. */
static int32_t unite(struct cand **out, struct arena *a, const struct list *l, int32_t n_lists)
{
    int32_t most = 0, n = 0;
    for (int32_t k = 0; k < n_lists; k++) most += l[k].n;
    struct rowset seen = rowset_new(a, most);
    struct cand *c = ARENA_NEW(a, struct cand, most + 1);
    for (int32_t k = 0; k < n_lists; k++)
        for (int32_t i = 0; i < l[k].n; i++)
            if (rowset_add(&seen, l[k].row[i]))
                c[n++] = (struct cand){ .row = l[k].row[i], .best = k };
    *out = c;
    return n;
}

static void score_products(struct cand *c, int32_t n, bool sum, const float *query,
                           int32_t n_query, const struct corpus *corpus)
{
    enum { AHEAD = 4 }; /* rows lie anywhere in a table larger than the caches */
    const int32_t D = gen_info(corpus->gen)->D;
    for (int32_t i = 0; i < n; i++) {
        if (i + AHEAD < n) __builtin_prefetch(corpus_vector(corpus, c[i + AHEAD].row));
        const float *v = corpus_vector(corpus, c[i].row);
        float most = num->vec->dot(query, v, D), total = most;
        c[i].best = 0;
        for (int32_t k = 1; k < n_query; k++) {
            float s = num->vec->dot(query + (size_t)k * (size_t)D, v, D);
            total += s;
            if (s > most) {
                most = s;
                c[i].best = k;
            }
        }
        c[i].score = sum ? total : most;
    }
}

/* The lists' heads in order.  A row is first met in the list where it scores most, of equal ones the first. */
static int32_t take_best(struct cand **out, struct arena *a, const struct list *l,
                         int32_t n_lists, int32_t most)
{
    int32_t n = 0, *at = ARENA_NEW0(a, int32_t, n_lists);
    struct rowset taken = rowset_new(a, most);
    struct cand *c = ARENA_NEW(a, struct cand, most + 1);
    while (n < most) {
        bool any = false;
        for (int32_t k = 0; k < n_lists; k++) {
            if (at[k] == l[k].n) continue;
            const struct cand head = { l[k].score[at[k]], l[k].row[at[k]], k };
            if (!any || before(&head, &c[n])) c[n] = head;
            any = true;
        }
        if (!any) break;
        at[c[n].best]++;
        n += rowset_add(&taken, c[n].row);
    }
    *out = c;
    return n;
}

/* ---- reciprocal ranks ---- */

static int by_row(const void *a, const void *b)
{
    const struct cand *x = a, *y = b;
    return x->row != y->row ? (x->row > y->row) - (x->row < y->row) : x->best - y->best;
}

/* Every place of every list is an entry; those of one row are added up in the lists' order. */
static int32_t add_ranks(struct cand **out, struct arena *a, const struct list *l,
                         int32_t n_lists, const struct merge_cfg *cfg)
{
    int32_t most = 0, n = 0, all = 0;
    for (int32_t k = 0; k < n_lists; k++) most += l[k].n;
    struct cand *c = ARENA_NEW(a, struct cand, most + 1);
    for (int32_t k = 0; k < n_lists; k++)
        for (int32_t i = 0; i < l[k].n; i++)
            c[all++] = (struct cand){ (cfg->weight ? cfg->weight[k] : 1) /
                                          (cfg->rrf_k + (float)(i + 1)),
                                      l[k].row[i], k };
    qsort(c, (size_t)all, sizeof *c, by_row);
    for (int32_t i = 0; i < all;) {
        struct cand sum = c[i];
        float most_term = c[i].score;
        for (i++; i < all && c[i].row == sum.row; i++) {
            sum.score += c[i].score;
            if (c[i].score > most_term) {
                most_term = c[i].score;
                sum.best = c[i].best;
            }
        }
        c[n++] = sum;
    }
    *out = c;
    return n;
}

/* ---- turns ---- */

static int32_t take_turns(struct cand **out, struct arena *a, const struct list *l,
                          int32_t n_lists, const int32_t *order)
{
    int32_t most = 0, n = 0, *at = ARENA_NEW0(a, int32_t, n_lists);
    for (int32_t k = 0; k < n_lists; k++) most += l[k].n;
    struct rowset taken = rowset_new(a, most);
    struct cand *c = ARENA_NEW(a, struct cand, most + 1);
    for (bool any = true; any;) {
        any = false;
        for (int32_t t = 0; t < n_lists; t++) {
            const int32_t k = order[t];
            while (at[k] < l[k].n && !rowset_add(&taken, l[k].row[at[k]])) at[k]++;
            if (at[k] == l[k].n) continue;
            c[n++] = (struct cand){ l[k].score[at[k]], l[k].row[at[k]], k };
            at[k]++;
            any = true;
        }
    }
    *out = c;
    return n;
}

int32_t merge_lists(struct cand **out, struct arena *a, const struct list *l, int32_t n_lists,
                    const struct merge_cfg *cfg, const float *query, const struct corpus *c)
{
    if (cfg->how == MERGE_RRF) return add_ranks(out, a, l, n_lists, cfg);
    if (cfg->how == MERGE_ROUND_ROBIN) return take_turns(out, a, l, n_lists, cfg->order);
    if (cfg->best > 0) return take_best(out, a, l, n_lists, cfg->best);
    int32_t n = unite(out, a, l, n_lists);
    score_products(*out, n, cfg->how == MERGE_SUM, query, n_lists, c);
    return n;
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
