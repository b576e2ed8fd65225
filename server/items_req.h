/* items_req.h — the bodies of the routes about items and blocklists, from bytes to checked
 * changes.
 *   struct items_req r;  struct faults f = { 0 };
 *   if (items_req_parse(&r, ITEMS_REQ_PUT, body, n, true, arena, &f) < 0) ... see f
 * The result lives in the arena; nothing points into the body.  Thread: any (pure).
 *  A vector is an array of numbers or a base64 string of little-endian float32; an attribute
 * is a number, a text, true or false (the texts), or an array of texts; null means that it
 * has no value. */
#pragma once
#include "core/base/arena.h"
#include "core/serve/record.h"
#include "server/fault.h"

enum items_req_kind {
    ITEMS_REQ_PUT,      /* vector, attributes, title, model: one change without an id */
    ITEMS_REQ_BATCH,    /* put, delete, model: puts, then deletes */
    ITEMS_REQ_LOOKUP,   /* items, model */
    ITEMS_REQ_BLOCKLIST /* items, ttl_seconds */
};

struct items_req {
    struct str model; /* p NULL: not given */
    struct item_change *change;
    const struct str *id;
    int32_t n_changes, n_ids;
    double ttl_s; /* 0: not given */
};

/* 0, or the first fault's code: ERR_BAD_JSON, ERR_BAD_TYPE, ERR_UNKNOWN_FIELD (not when
 * strict is false), ERR_INVALID; ERR_LIMIT when the arena is full. */
NODISCARD int items_req_parse(struct items_req *out, enum items_req_kind kind, const char *body,
                              size_t n, bool strict, struct arena *a, struct faults *f);
/* An item's id or a blocklist's name from a path: what is wrong with it, or NULL. */
const char *items_req_bad_name(const char *s, size_t n, size_t most);
