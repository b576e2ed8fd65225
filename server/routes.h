/* routes.h — paths and the functions behind them.
 *   const char *tail;  const struct route *r = routes_find("/v1/models/default", &tail);
 * Thread: any; immutable. */
#pragma once
#include <stdbool.h>

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
    bool post; /* POST; else GET and HEAD */
    route_fn *run;
};

/* Never NULL: what is not found is the last route, whose run is NULL. */
const struct route *routes_find(const char *path, const char **tail);
int routes_index(const struct route *r); /* into routes_names */
const char *const *
routes_names(void); /* by index, NULL at the end; routes of one name share an index */

/* api.c */
route_fn api_recommend, api_encode, api_rank, api_models, api_model;
/* ops.c */
route_fn ops_live, ops_ready, ops_metrics, ops_info, ops_version;
