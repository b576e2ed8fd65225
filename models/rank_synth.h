/* rank_synth.h — impressions of the Taobao schema with a known structure, to see whether a rank model finds it.
 *
 * Categories and brands belong to themes, and an item has a category and a brand of one theme.  Every impression has
 * `interests` themes of its own, which nothing tells but the steps of its sequence: each is a category and a brand of
 * one of them, or of any theme (part `noise`).  The candidate is of such a theme in half of the impressions.
 *   logit = bias + match [the candidate's theme is one of the interests]
 *         + user ([(age_level + theme) mod 3 = 0] - 1/3) + price (1/2 - |pvalue_level - price_level| / 2)
 *         + 0.3 [pid = 1]
 * Thread: any. */
#pragma once
#include "core/base/err.h"
#include <stdint.h>

struct rank_synth {
    char *out; /* file */
    int32_t users, rows, items, themes, categories, brands, interests, steps;
    float noise, bias, match, user, price;
    int64_t seed;
};
/* best: the AUC of the true probabilities; without: of what is known without the sequence; clicks: their share; empty: impressions without a sequence. */
struct rank_synth_stats {
    double best, without, clicks;
    int32_t empty;
};
NODISCARD int rank_synth(const struct rank_synth *a, struct rank_synth_stats *st,
                         struct err *e);
