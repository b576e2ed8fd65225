/* live_draft.h — inside live.h: views while they are made, and what they share.
 *   struct view *d = draft_from(old, 1);
 *   draft_kill(d, id);  draft_append(d, &item, vector);  draft_lists(d, sets, n, first_new);
 * A draft is a view nobody has seen.  Rows are only ever appended: to the chunks and the map
 * that older views hold as well, which look at the rows they know.  So there is one chain of
 * drafts, each from the one before, and each is published. Thread: the one that writes;
 * finding and dropping: any. */
#pragma once
#include "core/serve/live.h"
#include <stdatomic.h>

enum { CHUNK = 256 }; /* rows whose vectors lie together */

struct shared {
    atomic_int refs;
    void (*free_fn)(void *);
};
void *shared_hold(void *object); /* NULL is fine */
void shared_drop(void *object);  /* NULL is fine */

/* What is known of a row.  id, title and attrs point into block. */
struct live_item {
    struct str id, title;
    struct attrs attrs;
    int32_t base;
    void *block;
};

struct id_set { /* a blocklist's ids */
    struct shared shared;
    struct items_builder *set;
    struct str *id;
    char *name;
    int64_t expires_ms;
    int32_t n;
};
struct id_set *id_set_new(const struct blocklist *l);

struct view {
    struct live_view pub;
    atomic_int refs;
    struct chunk **chunk; /* [n_chunks], each held */
    int32_t n_chunks;
    uint64_t *alive;   /* [n_chunks * CHUNK / 64], NULL without a chunk */
    struct bits *base; /* held; NULL: all alive */
    bool own_base;     /* made for this draft */
    struct id_map *map;
    struct attr_names names;
    struct list **list; /* [n_lists], each held */
    int32_t n_lists;
};

struct view *draft_new(struct gen *g); /* nothing changed; holds g */
/* As old is, with room for more rows; without its dead rows when they are the most. */
struct view *draft_from(const struct view *old, int32_t more);
/* Copies what item says; the vector [D], NULL: to be filled in through draft_vector.  The
 * row. */
int32_t draft_append(struct view *d, const struct live_item *item, const float *vector);
float *draft_vector(struct view *d, int32_t row);
/* Nothing answers for the id any more: neither the delta nor the base. */
void draft_kill(struct view *d, struct str id);
/* The blocklists; those that old views share are only looked through for rows from first_new
 * on. */
void draft_lists(struct view *d, struct id_set *const *set, int32_t n, int32_t first_new);
const struct live_list *draft_list(const struct view *v, int32_t i); /* of n_lists */
