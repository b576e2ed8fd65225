#include "server/routes.h"
#include "server/metrics.h"
#include <stddef.h>
#include <string.h>

enum {
    GET = 1 << METHOD_GET | 1 << METHOD_HEAD,
    POST = 1 << METHOD_POST,
    PUT = 1 << METHOD_PUT,
    DELETE = 1 << METHOD_DELETE
};

/* Routes that are one thing to a scraper have one name: entries with equal names stand together. */
static const struct route routes[] = {
    { "/v1/recommend", "/v1/recommend", ROUTE_API, POST, api_recommend, api_recommend_reply,
      false },
    { "/v1/recommend/batch", "/v1/recommend/batch", ROUTE_API, POST, api_recommend_batch,
      api_batch_reply, false },
    { "/v1/encode", "/v1/encode", ROUTE_API, POST, api_encode, api_encode_reply, false },
    { "/v1/search", "/v1/search", ROUTE_API, POST, api_search, api_search_reply, false },
    { "/v1/similar", "/v1/similar", ROUTE_API, POST, api_similar, api_search_reply, false },
    { "/v1/rank", "/v1/rank", ROUTE_API, POST, api_rank, api_rank_reply, false },
    { "/v1/models", "/v1/models", ROUTE_API, GET, api_models, NULL, false },
    { "/v1/models/", "/v1/models/{name}", ROUTE_API, GET, api_model, NULL, false },
    { "/v1/items/lookup", "/v1/items/lookup", ROUTE_API, POST, api_items_lookup, NULL, false },
    { "/v1/items/batch", "/v1/items/batch", ROUTE_API, POST, api_items_batch, NULL, true },
    { "/v1/items/", "/v1/items/{id}", ROUTE_API, GET | PUT | DELETE, api_item, NULL, true },
    { "/v1/blocklists/", "/v1/blocklists/{name}", ROUTE_API, GET | PUT | DELETE, api_blocklist,
      NULL, true },
    { "/livez", "/livez", ROUTE_HEALTH, GET, ops_live, NULL, false },
    { "/readyz", "/readyz", ROUTE_HEALTH, GET, ops_ready, NULL, false },
    { "/healthz", "/readyz", ROUTE_HEALTH, GET, ops_ready, NULL, false },
    { "/health", "/readyz", ROUTE_HEALTH, GET, ops_ready, NULL, false },
    { "/ping", "/readyz", ROUTE_HEALTH, GET, ops_ready, NULL, false },
    { "/", "/readyz", ROUTE_HEALTH, GET, ops_ready, NULL, false },
    { "/metrics", "/metrics", ROUTE_OPS, GET, ops_metrics, NULL, false },
    { "/info", "/info", ROUTE_OPS, GET, ops_info, NULL, false },
    { "/version", "/version", ROUTE_OPS, GET, ops_version, NULL, false },
    { "", "other", ROUTE_OPS, GET, NULL, NULL, false },
};
enum { N_ROUTES = sizeof routes / sizeof *routes };

static const char *const names[] = { "/v1/recommend",
                                     "/v1/recommend/batch",
                                     "/v1/encode",
                                     "/v1/search",
                                     "/v1/similar",
                                     "/v1/rank",
                                     "/v1/models",
                                     "/v1/models/{name}",
                                     "/v1/items/lookup",
                                     "/v1/items/batch",
                                     "/v1/items/{id}",
                                     "/v1/blocklists/{name}",
                                     "/livez",
                                     "/readyz",
                                     "/metrics",
                                     "/info",
                                     "/version",
                                     "other",
                                     NULL };
_Static_assert(sizeof names / sizeof *names <= METRICS_ROUTES + 1,
               "room for every route's counters");

static bool matches(const struct route *r, const char *path, const char **tail)
{
    size_t n = strlen(r->path);
    bool prefix = n > 1 && r->path[n - 1] == '/';
    *tail = "";
    if (!prefix) return strcmp(path, r->path) == 0;
    if (strncmp(path, r->path, n) != 0 || !path[n]) return false;
    *tail = path + n;
    return true;
}

const struct route *routes_find(const char *path, unsigned method, const char **tail)
{
    const struct route *other_method = NULL;
    const char *its_tail = "";
    for (const struct route *r = routes; r < routes + N_ROUTES - 1; r++) {
        if (!matches(r, path, tail)) continue;
        if (r->methods >> method & 1) return r;
        if (other_method) continue;
        other_method = r;
        its_tail = *tail;
    }
    *tail = its_tail;
    return other_method ? other_method : &routes[N_ROUTES - 1];
}

void routes_allow(struct buf *b, const struct route *r)
{
    for (unsigned m = 0; m < METHOD_OTHER; m++)
        if (r->methods >> m & 1)
            buf_printf(b, "%s%s", b->len ? ", " : "", metrics_method_name(m));
}

int routes_index(const struct route *r)
{
    int i = 0;
    while (strcmp(names[i], r->name) != 0) i++;
    return i;
}

const char *const *routes_names(void) { return names; }
