/* mm16.h — products of bf16 matrices with fp32 sums through oneDNN, which runs them on AMX or AVX-512 BF16 units: two to
 * five times the rate of fp32.  Only training links it: tapes get it as a struct of functions (tape_precise).
 *   struct mm16 *m = mm16_new(par_threads(pool));           NULL where the CPU has no such units
 *   mm16_product(m, worker, &(struct mm16_shape){ .M = ... }, c, a, b);
 * Same shapes and values: same bits, whatever thread runs it.  Thread: each worker under its own number. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef uint16_t bf16; /* the upper half of a float */

struct mm16_shape {
    int32_t M, N, K;
    int32_t lda, ldb, ldc; /* strides of the rows of a, b, c as they are stored */
    bool ta, tb;           /* a is stored [K,M], b [N,K] */
    bool add;              /* c += a b */
};

struct mm16;
struct mm16 *mm16_new(int workers);
void mm16_free(struct mm16 *m);
/* c [M,N] = a b, a [M,K], b [K,N]; sums in fp32. */
void mm16_product(struct mm16 *m, int worker, const struct mm16_shape *s, float *c,
                  const bf16 *a, const bf16 *b);
