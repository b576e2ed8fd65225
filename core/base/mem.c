#include "core/base/mem.h"
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((noreturn)) static void out_of_memory(size_t n, size_t nb)
{
    fprintf(stderr, "out of memory: %zu x %zu bytes\n", n, nb);
    abort();
}

void *xmalloc(size_t nb)
{
    void *p = malloc(nb ? nb : 1);
    if (!p) out_of_memory(1, nb);
    return p;
}

void *xcalloc(size_t n, size_t nb)
{
    void *p = calloc(n ? n : 1, nb ? nb : 1);
    if (!p) out_of_memory(n, nb);
    return p;
}

void *xrealloc(void *p, size_t n, size_t nb)
{
    size_t total;
    if (__builtin_mul_overflow(n, nb, &total)) out_of_memory(n, nb);
    void *q = realloc(p, total ? total : 1);
    if (!q) out_of_memory(n, nb);
    return q;
}

enum { LINE = 64, HUGE_PAGE = 2 << 20 };

void *xaligned(size_t nb)
{
    const size_t to = nb < HUGE_PAGE ? LINE : HUGE_PAGE;
    if (nb > SIZE_MAX - to) out_of_memory(1, nb);
    const size_t size = (nb + to) & ~(to - 1); /* at least a byte */
    void *p = aligned_alloc(to, size);
    if (!p) out_of_memory(1, nb);
    if (to == HUGE_PAGE)
        (void)madvise(p, size, MADV_HUGEPAGE); /* a wish: small pages work as well */
    return p;
}

char *xstrndup(const char *s, size_t n)
{
    char *p = xmalloc(n + 1);
    if (n) memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *xstrdup(const char *s) { return xstrndup(s, strlen(s)); }

char *xasprintf(const char *fmt, ...)
{
    char *p;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&p, fmt, ap);
    va_end(ap);
    if (n < 0) out_of_memory(1, 0);
    return p;
}

/* Of the cgroup (version 2); SIZE_MAX: none. */
static size_t cgroup_most(void)
{
    FILE *f = fopen("/sys/fs/cgroup/memory.max", "r");
    if (!f) return SIZE_MAX;
    unsigned long long nb;
    const int n = fscanf(f, "%llu", &nb); /* "max" is no number */
    fclose(f);
    return n == 1 && nb < SIZE_MAX ? (size_t)nb : SIZE_MAX;
}

size_t mem_most(void)
{
    const size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE),
                 group = cgroup_most();
    return machine < group ? machine : group;
}
