/* rate.h — what this machine can do, measured: the yardsticks of profiles and benches.
 *   double flops = rate_sgemm(pool, 2304, 64, 256);   operations a second
 * Every thread of the pool works on its own share at once.  Each call takes a few hundredths of a second.
 * Thread: the pool's owner. */
#pragma once
#include "core/base/par.h"
#include <stdint.h>

/* cblas_sgemm on [M,K] x [K,N], M cut in equal parts: operations a second of all threads. */
double rate_sgemm(struct par *pool, int32_t M, int32_t K, int32_t N);
/* memcpy of 64 MB: bytes read and written a second. */
double rate_copy(struct par *pool);
