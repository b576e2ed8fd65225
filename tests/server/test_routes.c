#include "server/routes.h"
#include <check.h>
#include <stddef.h>
#include <string.h>

Suite *suite_routes(void);

static const struct {
    const char *path, *name, *tail;
} paths[] = {
    { "/v1/recommend", "/v1/recommend", "" },
    { "/v1/recommend/", "other", "" },
    { "/v1/recommendx", "other", "" },
    { "/v1/rank", "/v1/rank", "" },
    { "/v1/models", "/v1/models", "" },
    { "/v1/models/", "other", "" },
    { "/v1/models/a/b", "/v1/models/{name}", "a/b" },
    { "/", "/readyz", "" },
    { "/ping", "/readyz", "" },
    { "", "other", "" },
    { "//", "other", "" },
};

START_TEST(routes_are_exact_or_prefixes)
{
    const char *tail;
    const struct route *r = routes_find(paths[_i].path, &tail);
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
