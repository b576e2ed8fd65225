/* dataset.h — interactions as sequences in CSR form: user u's events, oldest first, are
 * item[cu[u]] .. item[cu[u+1]-1].  A data set is a directory:
 *   dataset.json   counts, where it came from, what was dropped and why
 *   items.bin      catalogue (items.h)
 *   users.bin      the same format for users
 *   seqs.bin       cu [U+1] int64, item [E] int32, then time [E] int64 when there were timestamps, then weight
 *                  [E] float32 when event types have weights; the split (split.h) is in its header
 * Written by `intent prep` through dataset_write, mapped by dataset_open.
 * Immutable after open; any thread may read. */
#pragma once
#include "core/data/items.h"
#include "core/data/split.h"
#include <stdbool.h>

struct dataset {
    struct items *items, *users;
    int32_t n_users, n_items;
    int64_t n_events;
    const int64_t *cu;   /* [n_users+1] */
    const int32_t *item; /* [n_events] */
    const int64_t *time; /* [n_events] seconds, or NULL */
    const float *weight; /* [n_events] above 0, or NULL: all are 1 */
    struct split_rule split;
    char *name; /* directory's own name: "beauty" */
    void *map_; /* owned */
};

NODISCARD int dataset_open(struct dataset *d, const char *dir, struct err *e);
void dataset_close(struct dataset *d);

enum split { SPLIT_TRAIN, SPLIT_VALID, SPLIT_TEST };
/* Length of what training may see of user u: its first events, 0 for a user who came later (split by time). */
int32_t dataset_train_len(const struct dataset *d, int32_t u);
/* History and answer of u in a split: history is the first *len >= 1 events, the answer the next one.
 * false: u has no answer there (SPLIT_TRAIN never has one). */
bool dataset_case(const struct dataset *d, int32_t u, enum split s, const int32_t **hist,
                  int32_t *len, int32_t *answer);

/* What dataset_write stores; owns nothing.  Popularity of items and users is set in their builders. */
struct dataset_parts {
    struct items_builder *items, *users;
    const int64_t *cu;   /* [users+1] */
    const int32_t *item; /* [cu[users]] */
    const int64_t *time; /* [cu[users]] or NULL */
    const float *weight; /* [cu[users]] or NULL */
    struct split_rule split;
    const char *json; /* text of dataset.json; must hold "users", "items" and "events" */
};
/* Writes dir under a temporary name, syncs, renames.  A data set or an empty directory that is there
 * is replaced (a program that has it open keeps what it mapped); anything else is refused. */
NODISCARD int dataset_write(const char *dir, const struct dataset_parts *p, struct err *e);

/* Whether an item is among n of them. */
static inline bool dataset_holds(const int32_t *items, int32_t n, int32_t item)
{
    for (int32_t i = 0; i < n; i++)
        if (items[i] == item) return true;
    return false;
}

/* Tells this data set from others: a hash of all events, items' ids and the split. */
uint64_t dataset_fingerprint(const struct dataset *d);

/* Pure check of seqs.bin's bytes (aligned to 8) for d->n_users and d->n_items; points d's arrays into them. */
NODISCARD int dataset_view_seqs(struct dataset *d, const void *data, size_t nb, struct err *e);
