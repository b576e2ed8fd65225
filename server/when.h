/* when.h — instants as the API writes them.
 *   int64_t ms;  if (!when_rfc3339(&ms, "2026-11-22T18:04:11.5+01:00", 27)) ...
 * Thread: any (pure). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* RFC 3339 to milliseconds since 1970 UTC; digits beyond the millisecond are dropped, a leap second counts
 * as the second after it.  False: not such a date. */
bool when_rfc3339(int64_t *ms, const char *s, size_t n);
