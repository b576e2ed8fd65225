#include "tests/guard.h"
#include <check.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t pages(size_t nb)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (nb + page - 1) / page * page + page;
}

char *guard_copy(const void *data, size_t nb)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = pages(nb);
    char *map = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(map, MAP_FAILED);
    ck_assert_int_eq(mprotect(map + n - page, page, PROT_NONE), 0);
    char *p = map + n - page - nb;
    if (nb) memcpy(p, data, nb);
    return p;
}

void guard_free(char *p, size_t nb)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = pages(nb);
    munmap(p + nb + page - n, n);
}
