/* bench_ops.c — the rows of the op-case tables made for it: time of the forward and of the
 * backward pass with 1 and 2 threads, and what that is in GFLOP/s and GB/s (each input and
 * output read or written once, twice more for gradients).  Beside an op that is mostly a product stands
 * cblas_sgemm's rate on that product's shape, measured in the same run on one thread, and the ratio.
 *   build/release/bench_ops [NAME]         only ops (or adam) of that name
 * Every figure is the best of several runs. */
#include "core/ad/opt.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/num/rate.h"
#include "tests/core/ad/ops_cases.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_RUNS = 5, MAX_RUNS = 200 };
static const double run_s = 0.15; /* time spent on one figure */

struct timing {
    double fwd, bwd; /* seconds */
    struct cost cost;
};

static double smaller(double a, double b) { return a < b ? a : b; }

/* ---- ops ---- */

static struct timing once(struct op_run *r, struct tape *tp, uint32_t learn)
{
    struct ten *in[OP_MAX_IN];
    tape_begin(tp, GROUPS_ALL, OP_STEP_KEY, !r->c->eval);
    op_tensors(r, tp, learn, 0, in);
    double t0 = clock_s();
    struct ten *y = r->c->build(r, tp, in);
    double t1 = clock_s();
    struct ten *loss = op_loss(tp, y, NULL);
    double t2 = clock_s();
    tape_backward(tp, loss);
    double t3 = clock_s();
    return (struct timing){ t1 - t0, t3 - t2, *tape_node_cost(tp, 0) };
}

static struct timing best_of(struct op_run *r, int threads, uint32_t learn)
{
    struct arena *mem = arena_new("bench", 64 << 20, 0);
    struct par *pool = par_new(threads);
    struct tape *tp = tape_new(mem, pool);
    struct timing best = { .fwd = HUGE_VAL, .bwd = HUGE_VAL };
    double start = clock_s();
    (void)once(r, tp, learn); /* the arena takes its final size */
    for (int i = 0; i < MAX_RUNS && (i < MIN_RUNS || clock_s() - start < run_s); i++) {
        struct timing t = once(r, tp, learn);
        best = (struct timing){ smaller(best.fwd, t.fwd), smaller(best.bwd, t.bwd), t.cost };
    }
    tape_free(tp);
    par_free(pool);
    arena_free(mem);
    return best;
}

static double bytes_of(const struct op_run *r)
{
    double n = (double)r->rows * r->cols;
    for (int32_t i = 0; i < r->n_in; i++) n += (double)r->in[i].rows * r->in[i].cols;
    return n * sizeof(float);
}

static void print_row(const char *op, const char *what, const struct timing t[2], double flop,
                      double bytes, double sgemm)
{
    double one = t[0].fwd + t[0].bwd, two = t[1].fwd + t[1].bwd;
    char rate[2][16] = { "", "" }, beside[32] = "";
    for (int i = 0; flop > 0 && i < 2; i++)
        snprintf(rate[i], sizeof rate[i], "%.1f", flop / (i ? two : one) * 1e-9);
    if (sgemm > 0)
        snprintf(beside, sizeof beside, "%8.1f %6.2f", sgemm, flop / one * 1e-9 / sgemm);
    printf("%-12s %-28s %9.1f %9.1f %9.1f %9.1f %8s %8s %7.1f %s\n", op, what, t[0].fwd * 1e6,
           t[0].bwd * 1e6, t[1].fwd * 1e6, t[1].bwd * 1e6, rate[0], rate[1], bytes / one * 1e-9,
           beside);
    fflush(stdout);
}

static void bench_case(const struct op_case *c)
{
    struct op_run r;
    op_run_init(&r, c);
    double sgemm = 0;
    if (c->gemm[0]) sgemm = rate_sgemm(NULL, c->gemm[0], c->gemm[1], c->gemm[2]) * 1e-9;
    struct timing t[2] = { best_of(&r, 1, GROUPS_ALL), best_of(&r, 2, GROUPS_ALL) };
    const double *flop = t[0].cost.flop;
    print_row(c->op, c->what, t, flop[PROF_FORWARD] + flop[PROF_BACKWARD], 3 * bytes_of(&r),
              sgemm);
    op_run_free(&r);
}

/* ---- beside them ---- */

static double adam_s(struct params *ps, int threads)
{
    struct par *pool = par_new(threads);
    struct opt_adam *o = opt_new(
        ps, (struct opt_cfg){ .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f });
    double best = HUGE_VAL, start = clock_s();
    for (int i = 0; i < MAX_RUNS && (i < MIN_RUNS || clock_s() - start < run_s); i++) {
        double t = clock_s();
        opt_step(o, ps, GROUPS_ALL, pool);
        best = smaller(best, clock_s() - t);
    }
    opt_free(o);
    par_free(pool);
    return best;
}

static void bench_adam(void)
{
    struct params *ps = params_new(true);
    params_add(ps, "item.weight", 12101, 64, 1, INIT_NORMAL, 0.02f);
    params_init(ps, 1);
    struct timing t[2] = { { .fwd = adam_s(ps, 1) }, { .fwd = adam_s(ps, 2) } };
    /* reads x, g, m, v; writes all four */
    print_row("adam", "12101x64", t, 0, 8.0 * 12101 * 64 * sizeof(float), 0);
    params_free(ps);
}

int main(int argc, char **argv)
{
    num_init();
    const char *only = argc > 1 ? argv[1] : NULL;
    printf("kernels %s; best of up to %d runs; 2t: two threads\n", num->isa, MAX_RUNS);
    printf("%-12s %-28s %9s %9s %9s %9s %8s %8s %7s %8s %6s\n", "op", "shape", "fwd us",
           "bwd us", "2t fwd", "2t bwd", "GFLOP/s", "2t", "GB/s", "sgemm", "ratio");
    for (int32_t t = 0; t < n_op_tables; t++)
        for (int32_t i = 0; i < op_tables[t]->n; i++) {
            const struct op_case *c = &op_tables[t]->c[i];
            if (c->bench && (!only || strcmp(only, c->op) == 0)) bench_case(c);
        }
    if (!only || strcmp(only, "adam") == 0) bench_adam();
    return 0;
}
