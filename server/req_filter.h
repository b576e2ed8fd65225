/* req_filter.h — a request's `filter` object, checked as far as it can be without a
 * catalogue.
 *   {"must": [{"key": "category", "any": ["shoes", "bags"]},
 *             {"key": "price", "range": {"gte": 20, "lt": 80}}],
 *    "must_not": [{"key": "in_stock", "value": false}, {"key": "brand", "exists": false}]}
 * A clause has a key and one of: any (a list), value (one), range (at least one of gte, gt,
 * lte, lt), exists.  A value is a string, a number, or true or false, which are the texts
 * "true" and "false".
 * Thread: any (pure). */
#pragma once
#include "core/serve/filter.h"
#include "server/req_json.h"

/* In the request's arena.  Faults: ERR_BAD_TYPE, ERR_UNKNOWN_FIELD (when strict),
 * ERR_INVALID (more than LIMIT_FILTER_CLAUSES or LIMIT_FILTER_VALUES, a member that is
 * missing or too many), ERR_LIMIT (no memory). */
bool req_filter_read(struct req_json *p, const char *ptr, const json_t *v, struct filter *out);
