/* guard.h — bytes that end at an unreadable page, so that a parser which reads one byte too many stops
 * at its place, under any build.
 *   char *p = guard_copy(data, nb);  parse(p, nb);  guard_free(p, nb);
 * p is aligned only as far as nb allows; nb may be 0.  Thread: any. */
#pragma once
#include <stddef.h>

char *guard_copy(const void *data, size_t nb);
void guard_free(char *p, size_t nb);
