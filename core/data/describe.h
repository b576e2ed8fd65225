/* describe.h — what a data set is like: counts, lengths, popularity, repeats, time.
 *   struct description s;  describe_dataset(&s, &ds);  describe_print(&s, &ds, stdout);
 * Thread: any (pure). */
#pragma once
#include "core/data/dataset.h"
#include <jansson.h>
#include <stdio.h>

enum { DESCRIBE_BINS = 32 }; /* bin i counts 2^i .. 2^(i+1) - 1 */

struct spread { /* of positive whole numbers */
    int64_t n, least, median, p90, most, total;
    int64_t bin[DESCRIBE_BINS];     /* how many of each size */
    int64_t bin_sum[DESCRIBE_BINS]; /* their total */
};
struct description {
    struct spread length;     /* events of a user */
    struct spread popularity; /* events of an item, over all splits */
    double gini;              /* of popularity: 0 all equal, 1 all events on one item */
    double top_1, top_10; /* share of the events on the most popular 1 % and 10 % of items */
    int64_t repeats;      /* events whose item the user had before */
    int64_t valid, test;  /* cases */
    int64_t test_seen;    /* test answers that are in their history: masking hides them */
    int64_t test_cold;    /* test answers without a training event */
    int64_t train_events, first_time, last_time; /* times 0 without timestamps */
};
/* Of x [n] in ascending order (Gini 1912): 0 all equal, towards 1 where one has all. */
double describe_gini(const int64_t *x, int64_t n);
void describe_dataset(struct description *s, const struct dataset *d);
void describe_print(const struct description *s, const struct dataset *d, FILE *f);
json_t *describe_json(const struct description *s, const struct dataset *d);
