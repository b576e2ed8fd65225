/* rng.h — counter-based random numbers: value i of stream (seed, stream) is a pure function of
 * (seed, stream, i), so results do not depend on threads or order, and a state is two integers.
 *   struct rng r = rng_make(seed, RNG_INIT);
 *   int j = rng_below(&r, n);
 * The generator is SplitMix64 (Steele et al. 2014) read as a hash of the counter.
 * Thread: owner of the struct; rng_hash is pure. */
#pragma once
#include <stdint.h>

/* Streams of one seed; each user of randomness has its own.  The numbers stay: results hang on them. */
enum rng_stream {
    RNG_INIT = 1,
    RNG_SHUFFLE,
    RNG_DROPOUT,
    RNG_SAMPLE,
    RNG_NEGATIVES,
    RNG_TEST,
    RNG_SYNTH,
    RNG_AUGMENT
};

struct rng {
    uint64_t key, ctr;
};

static inline uint64_t rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static inline uint64_t rng_hash(uint64_t key, uint64_t ctr)
{
    return rng_mix(key + 0x9e3779b97f4a7c15u * (ctr + 1));
}
static inline struct rng rng_make(uint64_t seed, uint64_t stream)
{
    return (struct rng){ rng_hash(rng_hash(seed, stream), 0x243f6a88u), 0 };
}
static inline uint64_t rng_u64(struct rng *r) { return rng_hash(r->key, r->ctr++); }
/* Uniform in [0,1), 53 bits. */
static inline double rng_f64(struct rng *r) { return (double)(rng_u64(r) >> 11) * 0x1p-53; }
/* Uniform in [0,n), n > 0 (multiply-shift; bias below n/2^64). */
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(((unsigned __int128)rng_u64(r) * n) >> 64);
}
float rng_normal(struct rng *r); /* N(0,1), Box-Muller, two draws a call */
void rng_shuffle(struct rng *r, int32_t *x, int32_t n);
