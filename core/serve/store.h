/* store.h — the durable part of items that change: an LMDB environment in a directory,
 * holding the last change of every item of every model, and the blocklists.
 *   struct store *s;  store_open(&s, "var/store", STORE_WRITE, &e);
 *   struct store_was was[2];  store_put_items(s, change, was, 2, &e);  0: on disk
 *   store_each_item(s, "films", on_item, ctx, &e);  ...  store_close(s);
 * A write is one transaction, synced: all of it or nothing survives a crash.  One process
 * may hold a store for writing; others may read it meanwhile.  A damaged record is logged
 * with its key and left out; the rest stays. Thread: owner. */
#pragma once
#include "core/base/limits.h"
#include "core/serve/record.h"

struct store;
enum store_mode { STORE_READ, STORE_WRITE };
/* STORE_WRITE makes the directory.  ERR_CONFIG: another process writes to it. */
NODISCARD int store_open(struct store **out, const char *dir, enum store_mode mode,
                         struct err *e);
void store_close(struct store *s);           /* NULL is fine */
const char *store_id(const struct store *s); /* 32 hexadecimal digits, its own for ever */

struct store_was { /* of an item before a change */
    bool any, deleted, has_attrs;
    int32_t dim; /* of its vector; 0: none was given */
    char space[LIMIT_SPACE + 1];
};
/* In order, the last change of an id stays; fills in seq; was [n] may be NULL. */
NODISCARD int store_put_items(struct store *s, struct item_change *c, struct store_was *was,
                              int32_t n, struct err *e);

/* What c points to is valid during the call.  STORE_DROP removes the record, when all are
 * seen (STORE_WRITE). */
enum store_keep { STORE_KEEP, STORE_DROP };
typedef enum store_keep store_item_fn(void *ctx, const struct item_change *c);
typedef enum store_keep store_list_fn(void *ctx, const struct blocklist *l);
/* The changes of a model, in no order; *seq (or NULL): of the last change of any item. */
NODISCARD int store_each_item(struct store *s, const char *model, store_item_fn *fn, void *ctx,
                              uint64_t *seq, struct err *e);

NODISCARD int store_put_list(struct store *s, const struct blocklist *l, struct err *e);
NODISCARD int store_drop_list(struct store *s, struct str name, struct err *e); /* or none */
NODISCARD int store_each_list(struct store *s, store_list_fn *fn, void *ctx, struct err *e);
