/* arena.h — bump allocator with one owner and one lifetime (step, request, loader).
 *   struct arena *a = arena_new("step", 1 << 20, 0);
 *   float *x = arena_alloc(a, n * sizeof *x);   64-byte aligned, not zeroed
 *   arena_reset(a);                             everything at once
 * Blocks are kept over a reset; after growth the next reset merges them into one.  Free bytes are
 * poisoned under ASan.  Thread: owner. */
#pragma once
#include <stddef.h>

struct arena;
struct arena_mark {
    void *block;
    size_t used;
};

/* nb_first: size of the first block; nb_cap: total that may be handed out (0 = no cap). */
struct arena *arena_new(const char *name, size_t nb_first, size_t nb_cap);
void arena_free(struct arena *a); /* NULL is fine */

/* Dies (REQUIRE) past the cap: for code whose need is bounded by construction. */
void *arena_alloc(struct arena *a, size_t nb) __attribute__((malloc));
void *arena_zalloc(struct arena *a, size_t nb) __attribute__((malloc)); /* zeroed */
/* NULL past the cap: for sizes that come from outside. */
void *arena_try(struct arena *a, size_t nb) __attribute__((malloc));

struct arena_mark arena_mark(const struct arena *a);
void arena_release(struct arena *a, struct arena_mark m); /* frees what came after the mark */
void arena_reset(struct arena *a);
size_t arena_used(const struct arena *a);
size_t arena_peak(const struct arena *a); /* most bytes in use at once since arena_new */

#define ARENA_NEW(a, type, n)  ((type *)arena_alloc((a), (size_t)(n) * sizeof(type)))
#define ARENA_NEW0(a, type, n) ((type *)arena_zalloc((a), (size_t)(n) * sizeof(type)))
