/* req.h — the bodies of POST /v1/recommend, /v1/encode, /v1/search, /v1/similar and /v1/rank, from bytes to a checked request.
 *   struct req_recommend r;  struct faults f = { 0 };
 *   if (req_parse_recommend(&r, body, n, true, arena, &f) < 0) ... f says what and where
 * The result lives in the arena; nothing points into the body.  Thread: any (pure).
 *
 * An element of `history` is an id or {"item_id": id, "ts": ..., "event": ...}; ids are strings or
 * whole numbers.  ts is RFC 3339 or epoch milliseconds; when any element has one, the history is sorted by it
 * (stable; an element without takes its predecessor's). */
#pragma once
#include "core/base/arena.h"
#include "core/serve/recommend.h"
#include "core/serve/score.h"
#include "server/fault.h"

enum req_format { REQ_FLOAT, REQ_BASE64 };

struct req_recommend {
    struct rec_request rec; /* the whole history: core/serve takes the newest of it */
    struct str user_id;     /* p NULL: not given */
    struct str model;       /* p NULL: not given */
    enum req_format format; /* encode only */
    int32_t n_floats;       /* search only: of rec.vectors */
    struct {                /* rank only */
        const struct score_value
            *value; /* members of "user", numbers as text; null ones are left out */
        int32_t n_values;
        const struct str *candidate;
        int32_t n_candidates;
    } rank;
};

/* 0, or the first fault's code: ERR_BAD_JSON, ERR_BAD_TYPE, ERR_UNKNOWN_FIELD (not when strict is false),
 * ERR_INVALID; ERR_LIMIT when the arena is full. */
NODISCARD int req_parse_recommend(struct req_recommend *out, const char *body, size_t n,
                                  bool strict, struct arena *a, struct faults *f);
/* A smaller set of fields: user_id, history, unknown_items, model, format. */
NODISCARD int req_parse_encode(struct req_recommend *out, const char *body, size_t n,
                               bool strict, struct arena *a, struct faults *f);
/* user, history, candidates (needed), model. */
NODISCARD int req_parse_rank(struct req_recommend *out, const char *body, size_t n, bool strict,
                             struct arena *a, struct faults *f);
/* vectors (needed: arrays of numbers of one length, or base64 of little-endian float32) and what shapes an answer. */
NODISCARD int req_parse_search(struct req_recommend *out, const char *body, size_t n,
                               bool strict, struct arena *a, struct faults *f);
/* items (needed: ids) and what shapes an answer. */
NODISCARD int req_parse_similar(struct req_recommend *out, const char *body, size_t n,
                                bool strict, struct arena *a, struct faults *f);
/* {"model", "defaults": {...}, "requests": [{...}, ...]}: 1 to LIMIT_BATCH_ROWS requests as of /v1/recommend less `model`; what one
 * does not say is said by the defaults.  ERR_LIMIT: more of them. */
NODISCARD int req_parse_batch(struct req_recommend **out, int32_t *n_out, struct str *model,
                              const char *body, size_t n, bool strict, struct arena *a,
                              struct faults *f);
