/* ops_cases.h — the op-case tables and the engine that runs them (test_ops.c, bench_ops.c).
 *
 * A row is an op at some sizes.  To cover an op write three functions and one row per shape:
 *
 *   static void seg_dot_setup(struct op_run *r)           inputs and index arrays from r->c->dim
 *   {
 *       op_pack(r, r->c->n_lens, POS_FIRST);               r->sp, lengths from r->c->lens
 *       op_input(r, r->sp.N, r->c->dim[0], 1);             r->in[0], normal with that deviation
 *       op_input(r, r->sp.B, r->c->dim[0], 1);             r->in[1]
 *   }
 *   static struct ten *seg_dot_build(struct op_run *r, struct tape *tp, struct ten **in)
 *   {
 *       return ad_seg_dot(tp, in[0], in[1], &r->sp, .25f);
 *   }
 *   static void seg_dot_ref(const struct op_run *r, double *y, double *const *in)  the definition,
 *                                                          in double, as plainly as possible
 *   { .op = "seg_dot", .what = "D=17", .setup = ..., .dim = { 17 }, .lens = { 3, 1 }, .n_lens = 2 },
 *
 * The engine needs no gradient from the row: it compares the op's with central differences of the
 * reference, which double precision makes exact to about 1e-8.  Dropout: the op's first
 * tape_drop_key() is OP_DROP_KEY, so the reference can ask drop_keeps() which entries stay.
 *
 * A table is a const struct op_table in a file cases_NAME.c; op_tables[] in ops_cases.c lists them. */
#pragma once
#include "core/ad/ops.h"
#include "core/base/rng.h"
#include <stdbool.h>
#include <stdint.h>

enum { OP_MAX_IN = 6, OP_MAX_DIM = 6, OP_MAX_LENS = 8 };

#define OP_STEP_KEY 0x5eedu
#define OP_DROP_KEY                                                                            \
    rng_hash(OP_STEP_KEY, 0) /* what the first tape_drop_key() of a step returns */

struct op_run;

struct op_case {
    const char *op;   /* name in ops.def */
    const char *what; /* the shape, for messages */
    void (*setup)(struct op_run *r);
    struct ten *(*build)(struct op_run *r, struct tape *tp, struct ten **in);
    void (*ref)(const struct op_run *r, double *y, double *const *in);
    int32_t dim[OP_MAX_DIM];           /* whatever setup reads from it */
    int32_t lens[OP_MAX_LENS], n_lens; /* sequence lengths, 0 allowed */
    float p;                           /* dropout, or another number */
    double tol_y, tol_g;               /* times the largest reference; 0: OP_TOL_Y, OP_TOL_G */
    bool eval;                         /* build with training off */
    bool bench; /* for bench_ops only: too large for the double reference */
    /* Bench: M, K, N of the product whose rate in cblas_sgemm is put beside the op's; zeros: none. */
    int32_t gemm[3];
};
#define OP_TOL_Y 2e-6
#define OP_TOL_G 1e-5

struct op_in {
    float *x;
    int32_t rows, cols;
};

/* A row set up: fixed inputs, which every run of it shares. */
struct op_run {
    const struct op_case *c;
    struct arena *mem;
    struct rng rng;
    int32_t n_in;
    struct op_in in[OP_MAX_IN];
    struct seqpack sp;
    int32_t *id, *target; /* for setup to use, from op_index() */
    int32_t rows, cols;   /* of the result */
};

struct op_table {
    const struct op_case *c;
    int32_t n;
};
extern const struct op_table *const op_tables[];
extern const int32_t n_op_tables;

/* For setup. */
struct op_in *op_input(struct op_run *r, int32_t rows, int32_t cols, float deviation);
int32_t *op_index(struct op_run *r, int32_t n, int32_t below); /* uniform in [0, below) */
/* r->sp: B sequences with the row's lens, over and over; positions below the largest; no key mask. */
void op_pack(struct op_run *r, int32_t B, enum pos_from from);
/* Masks about one token in `one_in` as a key; sequences may lose all of them. */
void op_mask_keys(struct op_run *r, uint32_t one_in);

/* For the tests and the bench. */
void op_run_init(struct op_run *r, const struct op_case *c);
void op_run_free(struct op_run *r);
/* The row's inputs as tensors of a step; bit i of `learn`: input i has a gradient, filled with
 * g0 to begin with. */
void op_tensors(struct op_run *r, struct tape *tp, uint32_t learn, float g0, struct ten **in);
/* sum of y * w (w of y's shape; NULL: all ones) as a node of the tape: what is differentiated. */
struct ten *op_loss(struct tape *tp, struct ten *y, const float *w);
