/* mem.h — allocation that cannot fail quietly: for start-up and the trainer.
 * Each dies with the size when memory is out; the request path uses an arena instead.
 * Thread: any. */
#pragma once
#include <stddef.h>

void *xmalloc(size_t nb) __attribute__((malloc));
void *xcalloc(size_t n, size_t nb) __attribute__((malloc)); /* zeroed; overflow of n*nb dies */
void *xrealloc(void *p, size_t n, size_t nb);               /* n elements of nb bytes */
void *xaligned(size_t nb)
    __attribute__((malloc)); /* 64-byte aligned, huge pages where they fit; free() it */
size_t
mem_most(void); /* bytes that this process may have: the machine's, or fewer by its cgroup */
char *xstrdup(const char *s) __attribute__((malloc));
char *xstrndup(const char *s, size_t n) __attribute__((malloc));
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
