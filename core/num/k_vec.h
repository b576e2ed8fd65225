/* k_vec.h — vectors and rows: the small change of every other file.
 *   num->vec->axpy(y, a, x, n);      y += a x
 * n may be 0.  Outputs may be the same array as an input, but not overlap it otherwise.
 * Reductions add in an order that is fixed by n and the instruction set.  Thread: any (pure). */
#pragma once
#include <stdint.h>

struct k_vec_ops {
    void (*fill)(float *y, float a, int64_t n);
    void (*scale)(float *y, float a, const float *x, int64_t n);           /* y = a x */
    void (*axpy)(float *y, float a, const float *x, int64_t n);            /* y += a x */
    void (*add)(float *y, const float *a, const float *b, int64_t n);      /* y = a + b */
    void (*mul)(float *y, const float *a, const float *b, int64_t n);      /* y = a b */
    float (*dot)(const float *x, const float *y, int64_t n);
    float (*sum)(const float *x, int64_t n);
    float (*max)(const float *x, int64_t n); /* -inf for n = 0; NaNs may be lost */

    /* y = exp(x - shift), returns the sum.  exp(-inf) = 0. */
    float (*exp_sum)(float *y, const float *x, float shift, int64_t n);
    /* log sum exp x, safe for any finite x; -inf where every x is -inf (or n = 0). */
    float (*lse)(const float *x, int64_t n);
    /* y = softmax(x), returns log sum exp x; a row of -inf gives zeros and -inf. */
    float (*softmax_row)(float *y, const float *x, int64_t n);
    /* dx += y (dy - dy.y): backward of softmax_row given its output. */
    void (*softmax_row_bwd)(float *dx, const float *y, const float *dy, int64_t n);

    /* y[c] += sum_r x[r*ld + c]: bias gradients, reductions of partial sums (row order). */
    void (*sum_rows)(float *y, const float *x, int64_t rows, int64_t cols, int64_t ld);
    /* table[row[i]*ldt + c] += x[i*ldx + c] for c < cols, i in order: repeated rows add up, those below 0 are
     * left out. */
    void (*scatter_add)(float *table, int64_t ldt, const float *x, int64_t ldx, const int32_t *row,
                        int64_t n, int64_t cols);
    /* table[row[i]*ldt + c] += a coef[i] x[src[i]*ldx + c] for c < cols, i in order; src NULL: all 0. */
    void (*scatter_axpy)(float *table, int64_t ldt, const int32_t *row, float a, const float *coef,
                         const float *x, int64_t ldx, const int32_t *src, int64_t n, int64_t cols);
    /* y = x rounded to the nearest bf16, ties to even; NaN stays NaN */
    void (*to_bf16)(uint16_t *y, const float *x, int64_t n);
    /* y [cols, rows] = transpose of x [rows, cols] */
    void (*transpose)(float *y, const float *x, int64_t rows, int64_t cols);
};
