/* par.h — the pool: one parallel loop; every thread starts with its own share of the blocks, the caller too.
 *   struct par *p = par_new(2);
 *   par_for(p, n_blocks, fn, ctx);       fn(ctx, block, worker) for every block, then returns
 * Blocks must not depend on the number of threads: that is what keeps results bit-equal.
 * p = NULL runs inline.  Workers spin briefly, then sleep.  Nested par_for is a bug.
 * Thread: one caller at a time (the pool's owner). */
#pragma once

struct par;
typedef void par_fn(void *ctx, int block, int worker); /* worker in [0, par_threads) */

struct par *par_new(int n_threads); /* n_threads >= 1, counting the caller */
void par_free(struct par *p);
int par_threads(const struct par *p); /* 1 for NULL */
void par_for(struct par *p, int n_blocks, par_fn *fn, void *ctx);
int par_cores(void); /* cores this process may use: affinity and cgroup quota */
