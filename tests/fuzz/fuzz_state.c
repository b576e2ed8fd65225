/* Bytes as the saved state of a training. What is accepted must have a progress and a recipe that can be looked at;
 * what a small model takes from it must be numbers that training could have made. */
#include "core/base/mem.h"
#include "core/num/num.h"
#include "models/trainer.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

/* A model of which the corpus has a whole state. */
static struct trainer *small(void)
{
    static struct trainer t;
    if (t.model) return &t;
    struct model_cfg c;
    num_init();
    conf_defaults(model_opts, &c);
    c.n_items = c.width = 4;
    c.heads = 1;
    c.max_len = 2;
    c.layers = c.interests = 0;
    t.model = model_new(&c, true);
    t.opt = opt_new(model_params(t.model), (struct opt_cfg){ .lr = 0.1f });
    return &t;
}

static void restore(const struct state *s)
{
    struct trainer *t = small();
    struct err e = { 0 };
    int rc = state_restore(s, t, &e);
    REQUIRE((rc < 0) == (e.code != 0), "%d: '%s'", rc, e.msg);
    for (int32_t i = 0; rc == 0 && i < params_count(model_params(t->model)); i++) {
        const struct ten *p = &params_at(model_params(t->model), i)->t;
        struct opt_state o = opt_state(t->opt, i);
        REQUIRE(*o.steps >= 0, "%lld steps", (long long)*o.steps);
        for (int64_t k = 0; k < (int64_t)p->rows * p->cols; k++)
            REQUIRE(isfinite(p->x[k]) && isfinite(o.m[k]) && isfinite(o.v[k]) && o.v[k] >= 0,
                    "value %lld of parameter %d", (long long)k, i);
    }
}

static void look(const struct state *s)
{
    const struct progress *at = state_progress(s);
    REQUIRE(at->epoch >= 1 && at->stage >= 0 && at->batch >= 0 && at->log_bytes >= 0,
            "epoch %lld", (long long)at->epoch);
    REQUIRE(isfinite(at->best_score) && isfinite(at->loss_sum), "score %g", at->best_score);
    struct recipe r;
    struct err e = { 0 };
    (void)state_fingerprint(s);
    REQUIRE(state_isa(s), "no instruction set");
    int rc = recipe_from_json(&r, state_recipe(s), &e);
    REQUIRE((rc < 0) == (e.code != 0), "%d: '%s'", rc, e.msg);
    if (rc < 0) return;
    r.model.n_items = 10;
    (void)!recipe_check(&r, NULL, NULL);
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
    if (s) restore(s);
    state_close(s);
    close(fd);
    return 0;
}
