/* interact.h — what the readers of read.h gather.  Private to core/data.
 * Events keep file order; ids are rows of the builders.  Thread: owner. */
#pragma once
#include "core/data/read.h"
#include "core/data/text.h"
#include <stdbool.h>

struct source { /* one file that was read */
    char *name;
    struct read_stats st;
};

struct interactions {
    struct items_builder *users, *items;
    int32_t *user, *item; /* [n] */
    double *time;  /* [n] seconds, fractions kept for the order; NULL without timestamps */
    float *weight; /* [n] of the event's type; NULL while all are 1 */
    int64_t n, cap;
    bool has_time;       /* of all events; fixed by the first file that has any */
    int64_t *first_line; /* [users] where a user first appears */
    int32_t *first_src;  /* [users] its index in src */
    size_t cap_users;
    struct source *src;
    int32_t n_src;
};

/* A new source; its statistics are st, copied by interact_end. */
void interact_begin(struct interactions *x, const char *name);
void interact_end(struct interactions *x, const struct read_stats *st);
/* Appends an event of the current source; ids have been checked. */
NODISCARD int interact_add(struct interactions *x, struct span user, struct span item,
                           double time, float weight, int64_t line, struct err *e);
