/* record.h — what the item store keeps, to bytes and back: a change of an item, a blocklist.
 *   struct buf b = { 0 };  record_put_item(&b, &change);
 *   struct item_change c;  record_get_item(&c, data, nb, arena, &e);
 * The bytes: a version, a kind, the content, and the XXH3 of all that.  Numbers are little
 * endian; strings have their length in front.  What is read is checked against limits.h
 * first; strings point into data, the rest is in the arena. Thread: any (pure). */
#pragma once
#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/serve/attr.h"
#include <stdbool.h>

/* A change says what it gives; what it does not give is the published item's, if there is
 * one. */
struct item_change {
    struct str model, id;
    uint64_t seq; /* the store counts its changes; a higher one is later */
    struct str title;
    struct attrs attrs;
    const float *vector; /* [dim], NULL: not given */
    struct str space;    /* what the vector can be compared with; len 0 without one */
    int32_t dim;
    bool has_title, has_attrs;
    bool deleted; /* nothing else is given */
};

struct blocklist {
    struct str name;
    int64_t expires_ms; /* since 1970; INT64_MAX: never */
    const struct str *id;
    int32_t n;
};

void record_put_item(struct buf *b, const struct item_change *c);
void record_put_blocklist(struct buf *b, const struct blocklist *l);
/* ERR_FORMAT: not such a record, damaged, or more of something than limits.h allows. */
NODISCARD int record_get_item(struct item_change *out, const void *data, size_t nb,
                              struct arena *a, struct err *e);
NODISCARD int record_get_blocklist(struct blocklist *out, const void *data, size_t nb,
                                   struct arena *a, struct err *e);
