/* Runs the suites whose names are given, or all of them. The Makefile writes suites.h from the names of the files
 * tests/.../test_NAME.c, each of which defines suite_NAME(). */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUITE(name) Suite *suite_##name(void);
#include "suites.h"
#undef SUITE

static const struct {
    const char *name;
    Suite *(*make)(void);
} suites[] = {
#define SUITE(name) { #name, suite_##name },
#include "suites.h"
#undef SUITE
};
enum { n_suites = sizeof suites / sizeof *suites };

static int wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(name, argv[i]) == 0) return 1;
    return argc < 2;
}

static int known(const char *name)
{
    for (int i = 0; i < n_suites; i++)
        if (strcmp(name, suites[i].name) == 0) return 1;
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (known(argv[i])) continue;
        fprintf(stderr, "no suite named %s; there are:", argv[i]);
        for (int s = 0; s < n_suites; s++) fprintf(stderr, " %s", suites[s].name);
        fputc('\n', stderr);
        return 2;
    }
    /* One process: sanitizers report leaks once, and a crash stops at its place. */
    setenv("CK_FORK", "no", 0);
    SRunner *runner = srunner_create(NULL);
    for (int i = 0; i < n_suites; i++)
        if (wanted(suites[i].name, argc, argv)) srunner_add_suite(runner, suites[i].make());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
