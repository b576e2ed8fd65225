/* sampler.h — items drawn at random, uniformly or by how often they were interacted with.
 *   struct sampler *s = sampler_new(items, SAMPLE_POPULARITY, 0);  int32_t i = sampler_draw(s, &rng);  sampler_free(s);
 * A draw takes constant time (alias method: Walker 1977, Vose 1991).  Immutable; any thread may draw with its own rng. */
#pragma once
#include "core/base/rng.h"
#include "core/data/items.h"

enum sampling { SAMPLE_UNIFORM, SAMPLE_POPULARITY };

struct sampler;
/* SAMPLE_POPULARITY: q(i) proportional to training events + plus; items without any are never drawn when plus is 0
 * (uniform when no item has any). */
struct sampler *sampler_new(const struct items *it, enum sampling how, int64_t plus);
void sampler_free(struct sampler *s); /* NULL is fine */
int32_t sampler_draw(const struct sampler *s, struct rng *r);
float sampler_log_q(const struct sampler *s,
                    int32_t item); /* log of its probability; -inf: never drawn */
