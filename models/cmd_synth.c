/* cmd_synth.c — `intent synth`: interactions with planted interests, to see whether a model finds them.
 *
 * Items are divided into clusters. Within its cluster every item has up to `successors` items that may follow it, drawn by
 * permutations p -> (a p + b) mod n of the cluster's n places (now and then two of them agree, or an item follows
 * itself). A user has some of the clusters as interests and in each
 * of them a place. Every event picks one of the user's interests at random, moves there to one of the place's successors
 * at random, and is the item there; with probability `noise` it is any item instead, and nothing moves. What comes next
 * is therefore known up to the interest and the successor: interests x successors items hold all of it but the noise. */
#include "core/base/buf.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "models/cmd.h"
#include <stdio.h>
#include <stdlib.h>

struct args {
    char *out;
    int32_t users, items, clusters, interests, events, successors;
    float noise;
    int64_t seed;
};

static const struct opt opts[] = {
    OPT_STR(struct args, out, NULL, "directory for events.csv and items.csv"),
    OPT_INT(struct args, users, "5000", 1, 100000000, "users"),
    OPT_INT(struct args, items, "2000", 2, 100000000, "items"),
    OPT_INT(struct args, clusters, "4", 1, 10000, "clusters that the items are divided into"),
    OPT_INT(struct args, interests, "4", 1, 10000, "clusters that a user is interested in"),
    OPT_INT(struct args, events, "40", 3, 100000, "mean number of events of a user"),
    OPT_INT(struct args, successors, "3", 1, 100,
            "items that may follow an item in its cluster"),
    OPT_FLOAT(struct args, noise, "0.05", 0, 1, "part of the events that is any item"),
    OPT_I64(struct args, seed, "1", 0, 1e15, "of all that is random"),
    OPT_END
};

/* Item i is place i / clusters of cluster i % clusters. */
static int32_t places_of(const struct args *a, int32_t cluster)
{
    return (a->items - cluster + a->clusters - 1) / a->clusters;
}

static int write_items(const struct args *a, struct err *e)
{
    struct buf b = { .cap_max = (size_t)16 << 30 };
    buf_puts(&b, "item,title,cluster\n");
    for (int32_t i = 0; i < a->items; i++)
        buf_printf(&b, "i%d,place %d of cluster %d,c%d\n", i, i / a->clusters, i % a->clusters,
                   i % a->clusters);
    char *path = xasprintf("%s/items.csv", a->out);
    int rc = io_write_atomic(path, b.data, b.len, e);
    free(path);
    buf_free(&b);
    return rc;
}

static int32_t common_divisor(int32_t a, int32_t b)
{
    while (b) {
        int32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Successor s of a place: a permutation of the cluster's places, the same for everybody. */
static int32_t successor(const struct args *a, int32_t cluster, int32_t place, uint32_t s)
{
    int32_t n = places_of(a, cluster), factor;
    struct rng r =
        rng_make(rng_hash(rng_hash((uint64_t)a->seed, (uint64_t)cluster), s), RNG_SYNTH);
    do {
        factor = 1 + (int32_t)rng_below(&r, (uint32_t)n);
    } while (common_divisor(factor, n) != 1);
    int64_t shift = rng_below(&r, (uint32_t)n);
    return (int32_t)(((int64_t)factor * place + shift) % n);
}

struct user {
    int32_t *cluster, *place; /* [interests] */
};

static void user_new(struct user *u, const struct args *a, int32_t *order, struct rng *r)
{
    for (int32_t c = 0; c < a->clusters; c++) order[c] = c;
    for (int32_t k = 0; k < a->interests; k++) {
        int32_t j = k + (int32_t)rng_below(r, (uint32_t)(a->clusters - k)), c = order[j];
        order[j] = order[k];
        order[k] = c;
        u->cluster[k] = c;
        u->place[k] = (int32_t)rng_below(r, (uint32_t)places_of(a, c));
    }
}

static int32_t user_next(struct user *u, const struct args *a, struct rng *r)
{
    if (rng_f64(r) < (double)a->noise) return (int32_t)rng_below(r, (uint32_t)a->items);
    int32_t k = (int32_t)rng_below(r, (uint32_t)a->interests), c = u->cluster[k];
    u->place[k] = successor(a, c, u->place[k], rng_below(r, (uint32_t)a->successors));
    return u->place[k] * a->clusters + c;
}

static int write_events(const struct args *a, struct err *e)
{
    struct buf b = { .cap_max = (size_t)64 << 30 };
    int32_t *order = xcalloc((size_t)a->clusters + 2 * (size_t)a->interests, sizeof *order);
    struct user u = { order + a->clusters, order + a->clusters + a->interests };
    buf_puts(&b, "user,item,timestamp\n");
    for (int32_t i = 0; i < a->users && !b.failed; i++) {
        struct rng r = rng_make(rng_hash((uint64_t)a->seed, (uint64_t)i), RNG_SYNTH);
        int32_t least = a->events / 2 > 3 ? a->events / 2 : 3;
        int32_t n = least + (int32_t)rng_below(&r, (uint32_t)(2 * (a->events - least) + 1));
        user_new(&u, a, order, &r);
        for (int32_t j = 0; j < n;
             j++) /* users side by side, a minute between two events of one */
            buf_printf(&b, "u%d,i%d,%lld\n", i, user_next(&u, a, &r), 1600000000LL + 60 * j);
    }
    free(order);
    char *path = xasprintf("%s/events.csv", a->out);
    int rc = b.failed ? err_set(e, ERR_LIMIT, "more than 64 GiB of events")
                      : io_write_atomic(path, b.data, b.len, e);
    free(path);
    buf_free(&b);
    return rc;
}

static int run(const struct args *a, struct err *e)
{
    if (!a->out) return err_set(e, ERR_USAGE, "--out is needed");
    if (a->interests > a->clusters)
        return err_set(e, ERR_USAGE, "--interests %d of only %d clusters", a->interests,
                       a->clusters);
    if (a->clusters > a->items)
        return err_set(e, ERR_USAGE, "--clusters %d of only %d items", a->clusters, a->items);
    TRY(io_mkdirs(a->out, e));
    TRY(write_items(a, e));
    TRY(write_events(a, e));
    printf("%s: %d users, %d items in %d clusters, %d interests a user\n", a->out, a->users,
           a->items, a->clusters, a->interests);
    printf("intent prep %s/events.csv --items %s/items.csv --out DATASET\n", a->out, a->out);
    printf(
        "intent eval --cluster cluster ... compares a model's interests with the clusters\n");
    return 0;
}

int cmd_synth(int argc, char **argv)
{
    struct args a = { 0 };
    struct err e = { 0 };
    int rc = cmd_options(opts, &a, argc, argv, &e);
    if (rc == 1) {
        puts("usage: intent synth --out DIR [OPTION]...\n\n"
             "Writes interactions of users with planted interests: items lie in clusters, and "
             "every event\n"
             "follows the last one of one of the user's clusters, picked at random.\n");
        conf_help(opts, stdout);
    } else if (rc == 0) {
        rc = run(&a, &e);
    }
    conf_free(opts, &a);
    return rc < 0 ? cmd_fail("synth", &e) : 0;
}
