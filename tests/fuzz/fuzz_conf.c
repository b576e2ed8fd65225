/* Bytes as a recipe file, and as a --set argument.  A recipe that is accepted can be written as JSON that makes the
 * same one. */
#include "core/base/mem.h"
#include "models/recipe.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

static void read_again(const json_t *options)
{
    struct recipe r;
    struct err e = { 0 };
    REQUIRE(recipe_from_json(&r, options, &e) == 0, "%s", e.msg);
    json_t *again = recipe_json(&r);
    REQUIRE(json_equal(options, again), "JSON makes another recipe");
    json_decref(again);
    recipe_free(&r);
}

/* What passed the check can be trained stage by stage. */
static void try_stages(const struct recipe *r)
{
    for (int i = 0; i < recipe_stages(r); i++) {
        struct recipe one;
        recipe_stage(&one, r, i);
        REQUIRE(recipe_batches(&one).batch_size > 0, "batches");
        recipe_free(&one);
    }
}

static void fuzz_file(const uint8_t *data, size_t nb)
{
    char path[64];
    struct recipe r;
    struct err e = { 0 };
    int fd = memfd_create("recipe", MFD_CLOEXEC);
    REQUIRE(fd >= 0 && write(fd, data, nb) == (ssize_t)nb, "no memory file of %zu bytes", nb);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    recipe_defaults(&r);
    int rc = recipe_load(&r, path, &e);
    REQUIRE((rc < 0) == (e.code != 0) && (rc < 0) == (e.msg[0] != '\0'), "%d: '%s'", rc, e.msg);
    if (rc == 0) {
        r.model.n_items = 100;
        if (recipe_check(&r, NULL, &e) == 0) try_stages(&r);
        json_t *o = recipe_json(&r);
        read_again(o);
        json_decref(o);
    }
    recipe_free(&r);
    close(fd);
}

static void fuzz_set(const uint8_t *data, size_t nb)
{
    struct recipe r;
    struct err e = { 0 };
    char *text = xstrndup((const char *)data, nb);
    recipe_defaults(&r);
    int rc = recipe_set(&r, text, &e);
    REQUIRE((rc < 0) == (e.code != 0), "%d: '%s'", rc, e.msg);
    recipe_free(&r);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    fuzz_file(data, nb);
    if (nb < 1000) fuzz_set(data, nb);
    return 0;
}
