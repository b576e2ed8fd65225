/* What the encoder makes of every test history of a data set, for `make import-check`:
 *   bench_states BUNDLE DATASET OUT.safetensors
 * writes "states" [N,D] of all events (the newest max_len of each history), users in order, "phi" [users K,D] and
 * "shares" [users,K]. */
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
    float *states, *phi, *shares;
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
    struct encoded enc = model_encode(m, tp, &sp, hist + len - n, BETA_IN);
    model_shares(o->shares + o->n_phi, m, &enc, &sp);
    keep(o->phi, &o->n_phi, enc.phi);
}

static struct safet_tensor matrix(const char *name, const float *x, int64_t rows, int64_t cols)
{
    return (struct safet_tensor){
        .name = name, .rank = 2, .shape = { rows, cols }, .data = x, .n = rows * cols
    };
}

static int all_users(const struct model *m, const struct dataset *d, const char *path,
                     struct err *e)
{
    const int32_t D = model_config(m)->width, K = model_interests(m), *hist;
    const size_t n_phi = (size_t)d->n_users * (size_t)K;
    struct out o = { .states = xmalloc((size_t)d->n_events * (size_t)D * sizeof(float)),
                     .phi = xmalloc(n_phi * (size_t)D * sizeof(float)),
                     .shares = xmalloc(n_phi * sizeof(float)) };
    struct arena *mem = arena_new("states", 1 << 20, 0);
    struct tape *tp = tape_new(mem, NULL);
    int32_t len, answer;
    for (int32_t u = 0; u < d->n_users; u++)
        if (dataset_case(d, u, SPLIT_TEST, &hist, &len, &answer))
            one_user(&o, m, tp, hist, len);
    const struct safet_tensor t[] = { matrix("states", o.states, o.n_states, D),
                                      matrix("phi", o.phi, o.n_phi, D),
                                      matrix("shares", o.shares, o.n_phi / K, K) };
    int rc = safet_write(path, t, 3, NULL, e);
    tape_free(tp);
    arena_free(mem);
    free(o.states);
    free(o.phi);
    free(o.shares);
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
