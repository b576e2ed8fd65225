/* routes.h — paths and the functions behind them.
 *   const struct route *r = routes_find("/v1/models/default", METHOD_GET, &tail);
 * Thread: any; immutable. */
#pragma once
#include "core/base/buf.h"

struct call;
typedef void route_fn(struct call *c);

enum route_kind {
    ROUTE_API,   /* negotiated, refused under load and while starting, timed */
    ROUTE_OPS,   /* for people and scrapers */
    ROUTE_HEALTH /* always answered, never logged */
};
struct route {
    const char *path; /* ends with '/': a prefix, except "/" */
    const char *name; /* as a label */
    enum route_kind kind;
    unsigned methods; /* bits of enum metrics_method */
    route_fn *run;
    route_fn *finish; /* NULL: run answers; else it parses, and this writes what was computed */
    bool stores;      /* but for GET it waits for the disk */
};

/* method: of enum metrics_method; a path that has other methods only is found too.  Never
 * NULL: what is not found is the last route, whose run is NULL. */
const struct route *routes_find(const char *path, unsigned method, const char **tail);
/* Appends the methods, as in Allow. */
void routes_allow(struct buf *b, const struct route *r);
int routes_index(const struct route *r); /* into routes_names */
const char *const *
routes_names(void); /* by index, NULL at the end; routes of one name share an index */

/* api.c */
route_fn api_recommend, api_recommend_batch, api_encode, api_search, api_similar, api_rank;
route_fn api_recommend_reply, api_batch_reply, api_encode_reply, api_search_reply,
    api_rank_reply;
route_fn api_models, api_model;
/* api_items.c */
route_fn api_item, api_items_lookup, api_items_batch, api_blocklist;
/* ops.c */
route_fn ops_live, ops_ready, ops_metrics, ops_info, ops_version;
