#include "server/routes.h"
#include "server/metrics.h"
#include <stddef.h>
#include <string.h>

/* Routes that are one thing to a scraper have one name: entries with equal names stand together. */
static const struct route routes[] = {
    { "/v1/recommend", "/v1/recommend", ROUTE_API, true, api_recommend },
    { "/v1/encode", "/v1/encode", ROUTE_API, true, api_encode },
    { "/v1/rank", "/v1/rank", ROUTE_API, true, api_rank },
    { "/v1/models", "/v1/models", ROUTE_API, false, api_models },
    { "/v1/models/", "/v1/models/{name}", ROUTE_API, false, api_model },
    { "/livez", "/livez", ROUTE_HEALTH, false, ops_live },
    { "/readyz", "/readyz", ROUTE_HEALTH, false, ops_ready },
    { "/healthz", "/readyz", ROUTE_HEALTH, false, ops_ready },
    { "/health", "/readyz", ROUTE_HEALTH, false, ops_ready },
    { "/ping", "/readyz", ROUTE_HEALTH, false, ops_ready },
    { "/", "/readyz", ROUTE_HEALTH, false, ops_ready },
    { "/metrics", "/metrics", ROUTE_OPS, false, ops_metrics },
    { "/info", "/info", ROUTE_OPS, false, ops_info },
    { "/version", "/version", ROUTE_OPS, false, ops_version },
    { "", "other", ROUTE_OPS, false, NULL },
};
enum { N_ROUTES = sizeof routes / sizeof *routes };

static const char *const names[] = {
    "/v1/recommend", "/v1/encode", "/v1/rank", "/v1/models", "/v1/models/{name}",
    "/livez",        "/readyz",    "/metrics", "/info",      "/version",
    "other",         NULL
};
_Static_assert(sizeof names / sizeof *names <= METRICS_ROUTES + 1,
               "room for every route's counters");

const struct route *routes_find(const char *path, const char **tail)
{
    *tail = "";
    for (const struct route *r = routes; r < routes + N_ROUTES - 1; r++) {
        size_t n = strlen(r->path);
        bool prefix = n > 1 && r->path[n - 1] == '/';
        if (!prefix && strcmp(path, r->path) == 0) return r;
        if (prefix && strncmp(path, r->path, n) == 0 && path[n]) {
            *tail = path + n;
            return r;
        }
    }
    return &routes[N_ROUTES - 1];
}

int routes_index(const struct route *r)
{
    int i = 0;
    while (strcmp(names[i], r->name) != 0) i++;
    return i;
}

const char *const *routes_names(void) { return names; }
