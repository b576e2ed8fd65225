#include "core/eval/baseline.h"
#include "core/base/mem.h"
#include "core/eval/links.h"
#include <stdlib.h>
#include <string.h>

enum { LIST_MAX = 100, CF_RECENT = 20, CF_BEST = 200, USERS_BLOCK = 256 };
static const double CF_DECAY = 0.8;

struct scored {
    double score;
    int32_t item, nth; /* nth: order in which scores were begun, for ties */
};

/* What one worker needs for one user after the other. */
struct scratch {
    int32_t
        *mark; /* [V] ROUND + what is known of the item for the user at hand; older: nothing */
    int32_t round;
    double *sum;      /* [V] zero where untouched */
    int32_t *touched; /* [V] */
    struct scored best[CF_BEST];
};
enum { MARK_HIDDEN = 1, MARK_LISTED = 2, MARK_STEP = 3 };

struct run {
    const struct dataset *d;
    enum baseline base;
    enum split split;
    enum seen seen;
    struct links links;
    struct scratch *scratch; /* [threads] */
    int64_t *rank;           /* [n_users] -1: not in the list; RANK_NO_CASE */
    int32_t *top;            /* [n_users, SHOWN_DEPTH] -1: none; NULL: not wanted */
};
enum { RANK_NO_CASE = -2 };

/* A list that is being written; what matters is the answer's place in it, and its beginning where that is wanted. */
struct list {
    struct scratch *s;
    int32_t answer, n;
    int64_t rank; /* -1: not yet there */
    int32_t *top; /* [SHOWN_DEPTH] or NULL */
};

static bool list_done(const struct list *l)
{
    return l->n == LIST_MAX || (l->rank >= 0 && (!l->top || l->n >= SHOWN_DEPTH));
}

static void list_put(struct list *l, int32_t item)
{
    int32_t *mark = &l->s->mark[item];
    if (*mark > l->s->round || list_done(l)) return;
    *mark = l->s->round + MARK_LISTED;
    if (item == l->answer) l->rank = l->n;
    if (l->top && l->n < SHOWN_DEPTH) l->top[l->n] = item;
    l->n++;
}

/* ---- itemcf ---- */

static bool better(struct scored a, struct scored b)
{
    return a.score != b.score ? a.score > b.score : a.nth < b.nth;
}

/* Heap of the best so far with the worst of them on top. */
static void heap_sink(struct scored *h, int32_t n, struct scored x)
{
    int32_t i = 0;
    for (int32_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && better(h[c], h[c + 1])) c++;
        if (!better(x, h[c])) break;
        h[i] = h[c];
    }
    h[i] = x;
}

static void heap_rise(struct scored *h, int32_t i, struct scored x)
{
    for (; i > 0 && better(h[(i - 1) / 2], x); i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = x;
}

/* The CF_BEST best sums, best first; clears the sums. */
static int32_t take_best(struct scratch *s, int32_t n_touched)
{
    int32_t n = 0;
    for (int32_t i = 0; i < n_touched; i++) {
        struct scored x = { s->sum[s->touched[i]], s->touched[i], i };
        s->sum[x.item] = 0;
        if (n < CF_BEST)
            heap_rise(s->best, n++, x);
        else if (better(x, s->best[0]))
            heap_sink(s->best, n, x);
    }
    for (int32_t left = n - 1; left > 0; left--) {
        struct scored worst = s->best[0];
        heap_sink(s->best, left, s->best[left]);
        s->best[left] = worst;
    }
    return n;
}

static void list_itemcf(struct list *l, const struct links *c, const int32_t *hist, int32_t len)
{
    struct scratch *s = l->s;
    int32_t n = 0;
    double decay = 1;
    for (int32_t d = 0; d < CF_RECENT && d < len; d++, decay *= CF_DECAY) {
        int32_t a = hist[len - 1 - d];
        for (int64_t i = c->cu[a]; i < c->cu[a + 1]; i++) {
            int32_t b = c->item[i];
            if (s->sum[b] == 0) s->touched[n++] = b;
            s->sum[b] += decay * c->weight[i];
        }
    }
    n = take_best(s, n);
    for (int32_t i = 0; i < n; i++) list_put(l, s->best[i].item);
}

/* ---- the other lists ---- */

static void list_markov(struct list *l, const struct links *c, int32_t last)
{
    for (int64_t i = c->cu[last]; i < c->cu[last + 1] && !list_done(l); i++)
        list_put(l, c->item[i]);
}

static void list_history(struct list *l, const int32_t *hist, int32_t len)
{
    for (int32_t i = len - 1; i >= 0; i--) list_put(l, hist[i]);
}

static void list_popular(struct list *l, const struct dataset *d)
{
    const int32_t *order = items_by_popularity(d->items);
    for (int32_t i = 0; i < d->n_items && !list_done(l); i++) list_put(l, order[i]);
}

/* Zeroed items, by row, where the catalogue is so small that the list is not full yet. */
static void list_hidden(struct list *l, const struct dataset *d)
{
    for (int32_t i = 0; i < d->n_items && !list_done(l); i++) {
        if (l->s->mark[i] != l->s->round + MARK_HIDDEN) continue;
        l->s->mark[i] = 0;
        list_put(l, i);
    }
}

static int64_t rank_of(const struct run *r, struct scratch *s, int32_t u)
{
    const int32_t *hist;
    int32_t len, answer;
    if (!dataset_case(r->d, u, r->split, &hist, &len, &answer)) return RANK_NO_CASE;
    struct list l = { .s = s, .answer = answer, .rank = -1 };
    if (r->top) l.top = r->top + (size_t)u * SHOWN_DEPTH;
    s->round += MARK_STEP;
    for (int32_t i = 0; i < len && r->seen != SEEN_KEEP; i++)
        s->mark[hist[i]] = s->round + MARK_HIDDEN;
    if (r->base == BASE_MARKOV) list_markov(&l, &r->links, hist[len - 1]);
    if (r->base == BASE_ITEMCF) list_itemcf(&l, &r->links, hist, len);
    if (r->base == BASE_HISTORY) {
        list_history(&l, hist, len);
        return l.rank;
    }
    list_popular(&l, r->d);
    if (r->seen == SEEN_ZERO) list_hidden(&l, r->d);
    return l.rank;
}

static void rank_block(void *ctx, int block, int worker)
{
    struct run *r = ctx;
    for (int32_t u = block * USERS_BLOCK; u < (block + 1) * USERS_BLOCK && u < r->d->n_users;
         u++)
        r->rank[u] = rank_of(r, &r->scratch[worker], u);
}

static void rank_all(struct run *r, struct par *pool)
{
    size_t V = (size_t)r->d->n_items, n_threads = (size_t)par_threads(pool);
    r->scratch = xcalloc(n_threads, sizeof *r->scratch);
    for (size_t t = 0; t < n_threads; t++) {
        r->scratch[t].mark = xcalloc(V, sizeof(int32_t));
        r->scratch[t].sum = xcalloc(V, sizeof(double));
        r->scratch[t].touched = xcalloc(V, sizeof(int32_t));
    }
    par_for(pool, (r->d->n_users + USERS_BLOCK - 1) / USERS_BLOCK, rank_block, r);
    for (size_t t = 0; t < n_threads; t++) {
        free(r->scratch[t].mark);
        free(r->scratch[t].sum);
        free(r->scratch[t].touched);
    }
    free(r->scratch);
}

static void count_shown(int64_t *shown, const int32_t *top, int32_t n_users)
{
    for (size_t i = 0; i < (size_t)n_users * SHOWN_DEPTH; i++)
        if (top[i] >= 0) shown[top[i]]++;
}

int baseline_eval(struct metrics *m, int64_t *rank_out, int64_t *shown, const struct dataset *d,
                  enum baseline b, enum split s, enum seen seen, struct par *pool,
                  struct err *e)
{
    /* Marks of a worker grow by MARK_STEP a user and must not wrap. */
    if (d->n_users >= INT32_MAX / MARK_STEP - 1)
        return err_set(e, ERR_LIMIT, "baselines are counted for at most %d users",
                       INT32_MAX / MARK_STEP);
    struct run r = { .d = d, .base = b, .split = s, .seen = seen };
    r.rank = xcalloc((size_t)d->n_users, sizeof *r.rank);
    if (shown) {
        r.top = xmalloc((size_t)d->n_users * SHOWN_DEPTH * sizeof *r.top);
        memset(r.top, 0xff, (size_t)d->n_users * SHOWN_DEPTH * sizeof *r.top);
    }
    if (b == BASE_MARKOV) r.links = links_markov(d, pool);
    if (b == BASE_ITEMCF) r.links = links_itemcf(d, pool);
    rank_all(&r, pool);
    *m = (struct metrics){ 0 };
    for (int32_t u = 0; u < d->n_users; u++) {
        if (r.rank[u] != RANK_NO_CASE) metrics_add(m, r.rank[u]);
        if (rank_out)
            rank_out[u] = r.rank[u] == RANK_NO_CASE ? -1
                          : r.rank[u] < 0           ? d->n_items
                                                    : r.rank[u];
    }
    metrics_mean(m);
    if (shown) count_shown(shown, r.top, d->n_users);
    links_free(&r.links);
    free(r.rank);
    free(r.top);
    return m->n ? 0 : err_set(e, ERR_EMPTY, "no user has an answer to rank in this split");
}
