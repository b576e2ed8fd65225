#include "server/metrics.h"
#include "server/routes.h"
#include <check.h>
#include <stddef.h>
#include <string.h>

Suite *suite_routes(void);

static const struct {
    const char *path, *name, *tail;
    unsigned method;
} paths[] = {
    { "/v1/recommend", "/v1/recommend", "", METHOD_POST },
    { "/v1/recommend/", "other", "", METHOD_POST },
    { "/v1/recommendx", "other", "", METHOD_POST },
    { "/v1/rank", "/v1/rank", "", METHOD_POST },
    { "/v1/models", "/v1/models", "", METHOD_GET },
    { "/v1/models/", "other", "", METHOD_GET },
    { "/v1/models/a/b", "/v1/models/{name}", "a/b", METHOD_GET },
    { "/v1/items/a/b", "/v1/items/{id}", "a/b", METHOD_PUT },
    { "/v1/items/lookup", "/v1/items/lookup", "", METHOD_POST },
    { "/v1/items/lookup", "/v1/items/lookup", "", METHOD_OTHER },
    { "/v1/items/lookup", "/v1/items/{id}", "lookup", METHOD_GET }, /* an item's id */
    { "/v1/items/batch", "/v1/items/{id}", "batch", METHOD_DELETE },
    { "/v1/items/", "other", "", METHOD_GET },
    { "/v1/blocklists/x", "/v1/blocklists/{name}", "x", METHOD_PUT },
    { "/", "/readyz", "", METHOD_GET },
    { "/ping", "/readyz", "", METHOD_GET },
    { "", "other", "", METHOD_GET },
    { "//", "other", "", METHOD_GET },
};

START_TEST(routes_are_exact_or_prefixes)
{
    const char *tail;
    const struct route *r = routes_find(paths[_i].path, paths[_i].method, &tail);
    ck_assert_str_eq(r->name, paths[_i].name);
    ck_assert_str_eq(tail, paths[_i].tail);
    ck_assert_str_eq(routes_names()[routes_index(r)], r->name);
    ck_assert_int_eq(r->run == NULL, strcmp(r->name, "other") == 0);
}
END_TEST

Suite *suite_routes(void)
{
    Suite *s = suite_create("routes");
    TCase *t = tcase_create("routes");
    tcase_add_loop_test(t, routes_are_exact_or_prefixes, 0,
                        (int)(sizeof paths / sizeof *paths));
    suite_add_tcase(s, t);
    return s;
}
