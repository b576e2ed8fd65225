/* What the encoder makes of every test history of a data set, for `make import-check`:
 *   bench_states BUNDLE DATASET OUT.safetensors
 * writes "states" [N,D] of all events (the newest max_len of each history), users in order, and "phi" [users K,D]. */
#include "core/base/arena.h"
#include "core/base/mem.h"
#include "core/data/dataset.h"
#include "core/fmt/safet.h"
#include "core/num/num.h"
#include "core/serve/load.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct out {
    float *states, *phi;
    int64_t n_states, n_phi;
};

static void keep(float *to, int64_t *rows, const struct ten *t)
{
    memcpy(to + *rows * t->cols, t->x, (size_t)t->rows * (size_t)t->cols * sizeof *to);
    *rows += t->rows;
}

static void one_user(struct out *o, const struct model *m, struct tape *tp, const int32_t *hist,
                     int32_t len)
{
    const struct model_cfg *c = model_config(m);
    int32_t n = len < c->max_len ? len : c->max_len, cu[2] = { 0, n };
    tape_begin(tp, 0, 0, false);
    int32_t *pos = ARENA_NEW(tape_arena(tp), int32_t, n);
    seqpack_positions(pos, cu, 1, c->max_len, (enum pos_from)c->positions);
    struct seqpack sp = { .B = 1, .N = n, .cu = cu, .pos = pos };
    keep(o->states, &o->n_states, model_states(m, tp, &sp, hist + len - n));
    keep(o->phi, &o->n_phi, model_encode(m, tp, &sp, hist + len - n, BETA_IN).phi);
}

static int all_users(const struct model *m, const struct dataset *d, const char *path,
                     struct err *e)
{
    const int32_t D = model_config(m)->width, K = model_interests(m), *hist;
    struct out o = { xmalloc((size_t)d->n_events * (size_t)D * sizeof(float)),
                     xmalloc((size_t)d->n_users * (size_t)K * (size_t)D * sizeof(float)), 0,
                     0 };
    struct arena *mem = arena_new("states", 1 << 20, 0);
    struct tape *tp = tape_new(mem, NULL);
    int32_t len, answer;
    for (int32_t u = 0; u < d->n_users; u++)
        if (dataset_case(d, u, SPLIT_TEST, &hist, &len, &answer))
            one_user(&o, m, tp, hist, len);
    const struct safet_tensor t[] = {
        { .name = "states",
          .rank = 2,
          .shape = { o.n_states, D },
          .data = o.states,
          .n = o.n_states * D },
        { .name = "phi", .rank = 2, .shape = { o.n_phi, D }, .data = o.phi, .n = o.n_phi * D }
    };
    int rc = safet_write(path, t, 2, NULL, e);
    tape_free(tp);
    arena_free(mem);
    free(o.states);
    free(o.phi);
    return rc;
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    struct bundle b;
    struct dataset d;
    struct model *m;
    struct items *it;
    if (argc != 4) return fprintf(stderr, "usage: bench_states BUNDLE DATASET OUT\n"), 2;
    num_init();
    int rc = bundle_open(&b, argv[1], false, &e);
    if (rc == 0) rc = load_model(&m, &it, &b, false, &e);
    if (rc == 0) rc = dataset_open(&d, argv[2], &e);
    if (rc == 0) rc = all_users(m, &d, argv[3], &e);
    if (rc < 0) fprintf(stderr, "bench_states: %s\n", e.msg);
    return rc < 0;
}
