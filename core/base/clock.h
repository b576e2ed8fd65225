/* clock.h — monotonic time, and the processor's time of a thread.  Thread: any. */
#pragma once
#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline double clock_ms_since(uint64_t start_ns)
{
    return (double)(clock_ns() - start_ns) * 1e-6;
}
static inline double clock_s(void) { return (double)clock_ns() * 1e-9; }
/* What the calling thread has computed: what else runs on the machine is left out. */
static inline double clock_cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
