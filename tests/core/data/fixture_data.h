/* fixture_data.h — data sets for tests.
 *   struct dataset d;
 *   data_from_text(&d, dir, "u1 a b c\nu2 b c d\n");      any format read_events knows
 *   if (!data_real(&d, dir, "Beauty")) return;            says so and skips where DATA lacks it
 * Written below dir (fixture_tmpdir).  Failing is a failed test. */
#pragma once
#include "core/data/dataset.h"

void data_from_text(struct dataset *d, const char *dir, const char *text);
/* The same with an items file (items_read.h); NULL: none. */
void data_with_items(struct dataset *d, const char *dir, const char *text, const char *items);
/* An items file of "i0" .. with the fields colour (some have two, some none), shape and year; malloc'd. */
char *data_items(int n_items);
/* One of the amazon-yelp sets of the test data. */
bool data_real(struct dataset *d, const char *dir, const char *name);
/* Path below the test data's root, in a static buffer; NULL, with a message, where it is absent. */
const char *data_path(const char *below);
/* Users with lengths 1 .. len_max (in turn) of pseudo-random items "i0" .. with data_items; seeded. */
void data_random(struct dataset *d, const char *dir, int n_users, int n_items, int len_max,
                 uint64_t seed);
