/* fixture_attrs.h — catalogues with attributes of every shape, for tests and benchmarks of
 * filters.
 *   struct items *it = fixture_attrs(dir, 1000, seed);  ...  items_close(it);
 * Every field is missing from a part of the items:
 *   genre     values, 0 to 3 of 20, the first ones often
 *   brand     values, one of n / 20, some of them never
 *   shelf     values, one for long runs of rows
 *   in_stock  "true" (most) or "false"
 *   size      values that read like numbers: "1", "2.5", ..
 *   only      a value that no item but the last has
 *   price     numbers 0.00 to 99.99
 *   year      whole numbers 1990 to 2019
 * A file in dir stays mapped until it is closed.  Failing to write aborts. */
#pragma once
#include "core/data/items.h"

struct items *fixture_attrs(const char *dir, int32_t n, uint64_t seed);
