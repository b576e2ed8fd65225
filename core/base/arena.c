#include "core/base/arena.h"
#include "core/base/err.h"
#include "core/base/mem.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __has_feature /* clang */
#    if __has_feature(address_sanitizer)
#        define __SANITIZE_ADDRESS__ 1
#    endif
#endif
#ifdef __SANITIZE_ADDRESS__
#    include <sanitizer/asan_interface.h>
#    define POISON(p, n)   ASAN_POISON_MEMORY_REGION(p, n)
#    define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
enum { GAP = 64 }; /* poisoned space after each piece, so that overruns are seen */
#else
#    define POISON(p, n)   ((void)0)
#    define UNPOISON(p, n) ((void)0)
enum { GAP = 0 };
#endif

struct block {
    struct block *prev;
    size_t size, used;
    size_t before; /* bytes used in the blocks before this one */
    unsigned char *data;
};

struct arena {
    struct block *top;
    size_t cap, peak;
    size_t high; /* most bytes in use at once since the last reset */
    const char *name;
};

static struct block *block_new(size_t nb, struct block *prev)
{
    struct block *b = xmalloc(sizeof *b);
    b->data = xaligned(nb);
    b->size = nb;
    b->used = 0;
    b->prev = prev;
    b->before = prev ? prev->before + prev->used : 0;
    POISON(b->data, nb);
    return b;
}

static void block_free(struct block *b)
{
    UNPOISON(b->data, b->size);
    free(b->data);
    free(b);
}

struct arena *arena_new(const char *name, size_t nb_first, size_t nb_cap)
{
    struct arena *a = xcalloc(1, sizeof *a);
    a->name = name;
    a->cap = nb_cap;
    a->top = block_new(nb_first ? nb_first : 4096, NULL);
    return a;
}

void arena_free(struct arena *a)
{
    if (!a) return;
    for (struct block *b = a->top, *prev; b; b = prev) {
        prev = b->prev;
        block_free(b);
    }
    free(a);
}

size_t arena_used(const struct arena *a) { return a->top->before + a->top->used; }
size_t arena_peak(const struct arena *a) { return a->peak; }

void *arena_try(struct arena *a, size_t nb)
{
    if (nb > SIZE_MAX / 2) return NULL;
    size_t need = (nb + 63) & ~(size_t)63;
    if (!need) need = 64;
    if (a->cap && need + GAP + arena_used(a) > a->cap) return NULL;
    struct block *b = a->top;
    if (b->size - b->used < need + GAP) {
        size_t size = b->size * 2 > need + GAP ? b->size * 2 : need + GAP;
        b = a->top = block_new(size, b);
    }
    void *p = b->data + b->used;
    b->used += need + GAP;
    if (arena_used(a) > a->high) a->high = arena_used(a);
    if (a->high > a->peak) a->peak = a->high;
    UNPOISON(p, nb);
    return p;
}

void *arena_alloc(struct arena *a, size_t nb)
{
    void *p = arena_try(a, nb);
    REQUIRE(p, "arena %s: %zu bytes past the cap of %zu", a->name, nb, a->cap);
    return p;
}

void *arena_zalloc(struct arena *a, size_t nb)
{
    void *p = arena_alloc(a, nb);
    memset(p, 0, nb);
    return p;
}

struct arena_mark arena_mark(const struct arena *a)
{
    return (struct arena_mark){ a->top, a->top->used };
}

void arena_release(struct arena *a, struct arena_mark m)
{
    while (a->top != m.block) {
        struct block *b = a->top;
        REQUIRE(b->prev, "arena %s: released to a mark that is not in it", a->name);
        a->top = b->prev;
        block_free(b);
    }
    REQUIRE(m.used <= a->top->used, "arena %s: mark is ahead of use", a->name);
    POISON(a->top->data + m.used, a->top->used - m.used);
    a->top->used = m.used;
}

void arena_reset(struct arena *a)
{
    size_t high = a->high;
    a->high = 0;
    if (high > a->top->size ||
        a->top->prev) { /* it grew: one block that would have held everything */
        for (struct block *b = a->top, *prev; b; b = prev) {
            prev = b->prev;
            block_free(b);
        }
        a->top = block_new(high + high / 4, NULL);
        return;
    }
    POISON(a->top->data, a->top->used);
    a->top->used = 0;
}
