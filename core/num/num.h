/* num.h — kernels over raw pointers, built per instruction set and picked once.
 *   num_init();                        first thing in main, before threads
 *   num->norm->fwd(y, ..., n, d);      pure functions: no allocation, no globals, no threads
 * Every file k_NAME.c is compiled once per instruction set (v4: AVX-512, v3: AVX2+FMA, base:
 * portable C) and exports one table `k_NAME_<isa>` of the type struct k_NAME_ops in k_NAME.h.
 * Conventions: outputs, inputs, sizes; gradients accumulate (+=); matrices are row-major.
 * Thread: any after num_init. */
#pragma once
#include "core/num/k_act.h"
#include "core/num/k_adam.h"
#include "core/num/k_attn.h"
#include "core/num/k_last.h"
#include "core/num/k_loss.h"
#include "core/num/k_mm.h"
#include "core/num/k_norm.h"
#include "core/num/k_scan.h"
#include "core/num/k_seg.h"
#include "core/num/k_vec.h"

struct num_ops {
    const char *isa; /* "v4", "v3", "base" */
    const struct k_vec_ops *vec;
    const struct k_mm_ops *mm;
    const struct k_act_ops *act;
    const struct k_norm_ops *norm;
    const struct k_attn_ops *attn;
    const struct k_last_ops *last;
    const struct k_seg_ops *seg;
    const struct k_loss_ops *loss;
    const struct k_adam_ops *adam;
    const struct k_scan_ops *scan;
};
extern const struct num_ops *num; /* set once by num_init */

/* Picks the best instruction set this CPU has, or the one that the environment variable INTENTD_ISA
 * names: base, v3 or v4.  A word that is none of them, or a set that the CPU lacks, changes nothing.
 * OpenBLAS is held to one thread: our pool splits the work. */
void num_init(void);
/* The instruction sets compiled in that this CPU can run, best first; for tests and benches. */
int num_available(const struct num_ops *out[3]);
