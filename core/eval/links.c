#include "core/eval/links.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ITEMCF_WINDOW = 50, ROWS_BLOCK = 64 };

/* Where each item occurs in the training part, in the order of users and events. */
struct places {
    int64_t *cu; /* [V+1] */
    int32_t *user, *at;
};

/* Rows of one block of items, appended one after the other. */
struct part {
    int32_t *item;
    double *weight;
    int64_t n, cap;
};

struct sums {         /* of one worker: a sparse row while it grows */
    double *sum;      /* [V] zero where untouched */
    int32_t *touched; /* [V] in the order of their first place in the file */
    int32_t *nth;     /* [V] place in touched */
    int32_t n;
};

struct builder {
    const struct dataset *d;
    struct places places;
    void (*row)(struct builder *b, struct sums *s, int32_t item);
    struct part *part; /* [blocks] */
    struct sums *sums; /* [threads] */
    int64_t *cu;       /* [V+1]; cu[a+1] holds the length of row a until the end */
};

static void places_init(struct places *p, const struct dataset *d)
{
    p->cu = xcalloc((size_t)d->n_items + 2, sizeof *p->cu);
    int64_t n = 0;
    for (int32_t u = 0; u < d->n_users; u++)
        for (int32_t i = 0, len = dataset_train_len(d, u); i < len; i++, n++)
            p->cu[d->item[d->cu[u] + i] + 2]++;
    for (int32_t v = 0; v < d->n_items; v++) p->cu[v + 2] += p->cu[v + 1];
    p->user = xcalloc((size_t)n + 1, sizeof *p->user);
    p->at = xcalloc((size_t)n + 1, sizeof *p->at);
    /* cu[v+1] is where the next place of v goes, and in the end where they end. */
    for (int32_t u = 0; u < d->n_users; u++)
        for (int32_t i = 0, len = dataset_train_len(d, u); i < len; i++) {
            int64_t to = p->cu[d->item[d->cu[u] + i] + 1]++;
            p->user[to] = u;
            p->at[to] = i;
        }
}

static void sums_add(struct sums *s, int32_t item, double w)
{
    if (s->sum[item] == 0) {
        s->nth[item] = s->n;
        s->touched[s->n++] = item;
    }
    s->sum[item] += w;
}

static int by_sum(const void *x, const void *y, void *ctx)
{
    const struct sums *s = ctx;
    int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;
    if (s->sum[a] != s->sum[b]) return s->sum[a] > s->sum[b] ? -1 : 1;
    return s->nth[a] - s->nth[b];
}

static void markov_row(struct builder *b, struct sums *s, int32_t item)
{
    const struct places *p = &b->places;
    for (int64_t i = p->cu[item]; i < p->cu[item + 1]; i++) {
        int32_t u = p->user[i], next = p->at[i] + 1;
        if (next < dataset_train_len(b->d, u)) sums_add(s, b->d->item[b->d->cu[u] + next], 1);
    }
    qsort_r(s->touched, (size_t)s->n, sizeof *s->touched, by_sum, s);
}

static void itemcf_row(struct builder *b, struct sums *s, int32_t item)
{
    const struct places *p = &b->places;
    const struct dataset *d = b->d;
    for (int64_t i = p->cu[item]; i < p->cu[item + 1]; i++) {
        int32_t u = p->user[i], len = dataset_train_len(d, u);
        int32_t from = len > ITEMCF_WINDOW ? len - ITEMCF_WINDOW : 0;
        if (p->at[i] < from) continue;
        double w = len - from == 1 ? 1 : 1 / log2(1.0 + len - from);
        for (int32_t k = from; k < len; k++)
            if (d->item[d->cu[u] + k] != item) sums_add(s, d->item[d->cu[u] + k], w);
    }
    double count = (double)(p->cu[item + 1] - p->cu[item]);
    for (int32_t i = 0; i < s->n; i++) {
        int32_t other = s->touched[i];
        s->sum[other] /= sqrt(count * (double)(p->cu[other + 1] - p->cu[other]));
    }
}

/* Appends the row to its part and empties it. */
static void part_take(struct part *p, struct sums *s)
{
    if (p->n + s->n > p->cap) {
        p->cap = 2 * p->cap + s->n + 1024;
        p->item = xrealloc(p->item, (size_t)p->cap, sizeof *p->item);
        p->weight = xrealloc(p->weight, (size_t)p->cap, sizeof *p->weight);
    }
    for (int32_t i = 0; i < s->n; i++, p->n++) {
        p->item[p->n] = s->touched[i];
        p->weight[p->n] = s->sum[s->touched[i]];
        s->sum[s->touched[i]] = 0;
    }
    s->n = 0;
}

static void build_block(void *ctx, int block, int worker)
{
    struct builder *b = ctx;
    struct sums *s = &b->sums[worker];
    for (int32_t v = block * ROWS_BLOCK; v < (block + 1) * ROWS_BLOCK && v < b->d->n_items;
         v++) {
        b->row(b, s, v);
        b->cu[v + 1] = s->n;
        part_take(&b->part[block], s);
    }
}

static struct links links_build(const struct dataset *d, struct par *pool,
                                void (*row)(struct builder *, struct sums *, int32_t))
{
    size_t V = (size_t)d->n_items;
    int n_threads = par_threads(pool), n_blocks = (d->n_items + ROWS_BLOCK - 1) / ROWS_BLOCK;
    struct builder b = { .d = d, .row = row };
    places_init(&b.places, d);
    b.part = xcalloc((size_t)n_blocks, sizeof *b.part);
    b.sums = xcalloc((size_t)n_threads, sizeof *b.sums);
    b.cu = xcalloc(V + 1, sizeof *b.cu);
    for (int t = 0; t < n_threads; t++) {
        b.sums[t].sum = xcalloc(V, sizeof(double));
        b.sums[t].touched = xcalloc(V, sizeof(int32_t));
        b.sums[t].nth = xcalloc(V, sizeof(int32_t));
    }
    par_for(pool, n_blocks, build_block, &b);
    for (size_t v = 0; v < V; v++) b.cu[v + 1] += b.cu[v];
    size_t n = (size_t)b.cu[V];
    struct links l = { b.cu, xmalloc((n + 1) * sizeof(int32_t)),
                       xmalloc((n + 1) * sizeof(double)) };
    for (int i = 0; i < n_blocks; i++) {
        struct part *p = &b.part[i];
        int64_t to = b.cu[i * ROWS_BLOCK];
        if (p->n) memcpy(l.item + to, p->item, (size_t)p->n * sizeof *l.item);
        if (p->n) memcpy(l.weight + to, p->weight, (size_t)p->n * sizeof *l.weight);
        free(p->item);
        free(p->weight);
    }
    for (int t = 0; t < n_threads; t++) {
        free(b.sums[t].sum);
        free(b.sums[t].touched);
        free(b.sums[t].nth);
    }
    free(b.sums);
    free(b.part);
    free(b.places.cu);
    free(b.places.user);
    free(b.places.at);
    return l;
}

struct links links_markov(const struct dataset *d, struct par *pool)
{
    return links_build(d, pool, markov_row);
}

struct links links_itemcf(const struct dataset *d, struct par *pool)
{
    return links_build(d, pool, itemcf_row);
}

void links_free(struct links *l)
{
    free(l->cu);
    free(l->item);
    free(l->weight);
    *l = (struct links){ 0 };
}
