#include "core/data/interact.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include <stdlib.h>

struct interactions *interactions_new(void)
{
    struct interactions *x = xcalloc(1, sizeof *x);
    x->users = items_builder_new();
    x->items = items_builder_new();
    return x;
}

struct items_builder *interactions_items(struct interactions *x) { return x->items; }

void interactions_free(struct interactions *x)
{
    if (!x) return;
    for (int32_t i = 0; i < x->n_src; i++) free(x->src[i].name);
    free(x->src);
    items_builder_free(x->users);
    items_builder_free(x->items);
    free(x->user);
    free(x->item);
    free(x->time);
    free(x->weight);
    free(x->first_line);
    free(x->first_src);
    free(x);
}

void interact_begin(struct interactions *x, const char *name)
{
    x->src = xrealloc(x->src, (size_t)x->n_src + 1, sizeof *x->src);
    x->src[x->n_src++] = (struct source){ .name = xstrdup(name) };
}

void interact_end(struct interactions *x, const struct read_stats *st)
{
    x->src[x->n_src - 1].st = *st;
}

static void events_grow(struct interactions *x)
{
    x->cap = 2 * x->cap + 1024;
    x->user = xrealloc(x->user, (size_t)x->cap, sizeof *x->user);
    x->item = xrealloc(x->item, (size_t)x->cap, sizeof *x->item);
    if (x->has_time) x->time = xrealloc(x->time, (size_t)x->cap, sizeof *x->time);
    if (x->weight) x->weight = xrealloc(x->weight, (size_t)x->cap, sizeof *x->weight);
}

/* The first weight that is not 1. */
static void weights_begin(struct interactions *x)
{
    x->weight = xmalloc((size_t)x->cap * sizeof *x->weight);
    for (int64_t i = 0; i < x->n; i++) x->weight[i] = 1;
}

static void users_grow(struct interactions *x)
{
    x->cap_users = 2 * x->cap_users + 256;
    x->first_line = xrealloc(x->first_line, x->cap_users, sizeof *x->first_line);
    x->first_src = xrealloc(x->first_src, x->cap_users, sizeof *x->first_src);
}

int interact_add(struct interactions *x, struct span user, struct span item, double time,
                 float weight, int64_t line, struct err *e)
{
    int32_t n_users = items_builder_count(x->users);
    if (n_users >= LIMIT_USERS) return err_set(e, ERR_LIMIT, "more than %d users", LIMIT_USERS);
    if (items_builder_count(x->items) >= LIMIT_ITEMS)
        return err_set(e, ERR_LIMIT, "more than %d items", LIMIT_ITEMS);
    if (x->n >= LIMIT_EVENTS)
        return err_set(e, ERR_LIMIT, "more than %lld events", (long long)LIMIT_EVENTS);
    if (x->n == x->cap) events_grow(x);
    int32_t u = items_add(x->users, user.p, user.n);
    if (u == n_users) {
        if ((size_t)u == x->cap_users) users_grow(x);
        x->first_line[u] = line;
        x->first_src[u] = x->n_src - 1;
    }
    x->user[x->n] = u;
    x->item[x->n] = items_add(x->items, item.p, item.n);
    if (x->has_time) x->time[x->n] = time;
    if (weight != 1 && !x->weight) weights_begin(x);
    if (x->weight) x->weight[x->n] = weight;
    x->n++;
    return 0;
}
