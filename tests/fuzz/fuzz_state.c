/* Bytes as the saved state of a training. What is accepted must have a progress and a recipe that can be looked at. */
#include "core/base/mem.h"
#include "models/trainer.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

static void look(const struct state *s)
{
    const struct progress *at = state_progress(s);
    REQUIRE(at->epoch >= 1 && at->stage >= 0 && at->batch >= 0 && at->log_bytes >= 0, "epoch %lld",
            (long long)at->epoch);
    REQUIRE(isfinite(at->best_score) && isfinite(at->loss_sum), "score %g", at->best_score);
    struct recipe r;
    struct err e = { 0 };
    (void)state_fingerprint(s);
    REQUIRE(state_isa(s), "no instruction set");
    int rc = recipe_from_json(&r, state_recipe(s), &e);
    REQUIRE((rc < 0) == (e.code != 0), "%d: '%s'", rc, e.msg);
    if (rc < 0) return;
    r.model.n_items = 10;
    (void)!recipe_check(&r, NULL);
    recipe_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    char path[64];
    struct state *s;
    struct err e = { 0 };
    int fd = memfd_create("state", MFD_CLOEXEC);
    REQUIRE(fd >= 0 && write(fd, data, nb) == (ssize_t)nb, "no memory file of %zu bytes", nb);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int rc = state_open(&s, path, &e);
    REQUIRE((rc < 0) == (e.code != 0) && (rc < 0) == (s == NULL), "%d: '%s'", rc, e.msg);
    if (s) look(s);
    state_close(s);
    close(fd);
    return 0;
}
