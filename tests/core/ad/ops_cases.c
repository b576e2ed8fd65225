#include "tests/core/ad/ops_cases.h"
#include "core/num/num.h"
#include <string.h>

extern const struct op_table cases_head;
extern const struct op_table cases_pairs;
extern const struct op_table cases_rank;
extern const struct op_table cases_sampled;
extern const struct op_table cases_transformer;

const struct op_table *const op_tables[] = { &cases_head, &cases_pairs, &cases_rank,
                                             &cases_sampled, &cases_transformer };
const int32_t n_op_tables = sizeof op_tables / sizeof *op_tables;

struct op_in *op_input(struct op_run *r, int32_t rows, int32_t cols, float deviation)
{
    REQUIRE(r->n_in < OP_MAX_IN, "%s: more than %d inputs", r->c->op, OP_MAX_IN);
    struct op_in *in = &r->in[r->n_in++];
    size_t n = (size_t)rows * (size_t)cols;
    *in = (struct op_in){ ARENA_NEW(r->mem, float, n), rows, cols };
    for (size_t i = 0; i < n; i++) in->x[i] = deviation * rng_normal(&r->rng);
    return in;
}

int32_t *op_index(struct op_run *r, int32_t n, int32_t below)
{
    int32_t *id = ARENA_NEW(r->mem, int32_t, n);
    for (int32_t i = 0; i < n; i++) id[i] = (int32_t)rng_below(&r->rng, (uint32_t)below);
    return id;
}

void op_pack(struct op_run *r, int32_t B, enum pos_from from)
{
    const struct op_case *c = r->c;
    int32_t *cu = ARENA_NEW(r->mem, int32_t, B + 1), L = 1;
    cu[0] = 0;
    for (int32_t b = 0; b < B; b++) {
        int32_t len = c->lens[b % c->n_lens];
        cu[b + 1] = cu[b] + len;
        L = len > L ? len : L;
    }
    int32_t *pos = ARENA_NEW(r->mem, int32_t, cu[B]);
    seqpack_positions(pos, cu, B, L, from);
    r->sp = (struct seqpack){ .B = B, .N = cu[B], .cu = cu, .pos = pos };
}

void op_mask_keys(struct op_run *r, uint32_t one_in)
{
    uint8_t *key = ARENA_NEW(r->mem, uint8_t, r->sp.N);
    for (int32_t i = 0; i < r->sp.N; i++) key[i] = rng_below(&r->rng, one_in) != 0;
    r->sp.key = key;
}

void op_tensors(struct op_run *r, struct tape *tp, uint32_t learn, float g0, struct ten **in)
{
    for (int32_t i = 0; i < r->n_in; i++) {
        const struct op_in *o = &r->in[i];
        in[i] = tape_const(tp, o->x, o->rows, o->cols);
        if (!(learn >> i & 1)) continue;
        int64_t n = (int64_t)o->rows * o->cols;
        in[i]->g = ARENA_NEW(tape_arena(tp), float, n);
        for (int64_t j = 0; j < n; j++) in[i]->g[j] = g0;
    }
}

void op_run_init(struct op_run *r, const struct op_case *c)
{
    memset(r, 0, sizeof *r);
    r->c = c;
    r->mem = arena_new("op case", 1 << 16, 0);
    uint64_t seed = 0;
    for (const char *s = c->op; *s; s++) seed = rng_hash(seed, (unsigned char)*s);
    for (const char *s = c->what; *s; s++) seed = rng_hash(seed, (unsigned char)*s);
    r->rng = rng_make(seed, RNG_TEST);
    c->setup(r);

    struct arena *mem = arena_new("op shape", 1 << 16, 0);
    struct tape *tp = tape_new(mem, NULL);
    struct ten *in[OP_MAX_IN];
    tape_begin(tp, 0, OP_STEP_KEY, !c->eval);
    op_tensors(r, tp, 0, 0, in);
    const struct ten *y = c->build(r, tp, in);
    r->rows = y->rows;
    r->cols = y->cols;
    tape_free(tp);
    arena_free(mem);
}

void op_run_free(struct op_run *r) { arena_free(r->mem); }

struct weighted {
    struct ten *y;
    const float *w;
};

static void weighted_bwd(struct tape *tp, const struct ten *loss, void *saved)
{
    const struct weighted *c = saved;
    grad_open(tp, c->y);
    int64_t n = (int64_t)c->y->rows * c->y->cols;
    for (int64_t i = 0; i < n; i++) c->y->g[i] += loss->g[0] * (c->w ? c->w[i] : 1.0f);
}

struct ten *op_loss(struct tape *tp, struct ten *y, const float *w)
{
    struct weighted *c = ARENA_NEW(tape_arena(tp), struct weighted, 1);
    *c = (struct weighted){ y, w };
    struct ten *loss = tape_ten(tp, 1, 1, y->g != NULL);
    double s = 0;
    int64_t n = (int64_t)y->rows * y->cols;
    for (int64_t i = 0; i < n; i++) s += (double)y->x[i] * (w ? (double)w[i] : 1.0);
    loss->x[0] = (float)s;
    tape_push(tp, loss, weighted_bwd, c, "weighted");
    return loss;
}
