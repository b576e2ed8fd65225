#include "core/base/arena.h"
#include "tests/child.h"
#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __has_feature
#    if __has_feature(address_sanitizer)
#        define __SANITIZE_ADDRESS__ 1
#    endif
#endif
#ifdef __SANITIZE_ADDRESS__
#    include <sanitizer/asan_interface.h>
static int poisoned(const void *p) { return __asan_address_is_poisoned(p); }
enum { WATCHED = 1 };
#else
static int poisoned(const void *p)
{
    (void)p;
    return 1;
}
enum { WATCHED = 0 };
#endif

static const size_t sizes[] = { 0, 1, 3, 63, 64, 65, 127, 128, 1000, 4096, 10000 };
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

START_TEST(pieces_are_aligned_and_do_not_overlap)
{
    struct arena *a = arena_new("t", 256, 0); /* small: most pieces start a new block */
    unsigned char *p[N_SIZES];
    for (int i = 0; i < N_SIZES; i++) {
        p[i] = arena_alloc(a, sizes[i]);
        ck_assert_uint_eq((uintptr_t)p[i] % 64, 0);
        memset(p[i], i + 1, sizes[i]);
    }
    for (int i = 0; i < N_SIZES; i++)
        for (size_t j = 0; j < sizes[i]; j++) ck_assert_uint_eq(p[i][j], i + 1);
    arena_free(a);
}
END_TEST

START_TEST(zero_bytes_still_give_distinct_pieces)
{
    struct arena *a = arena_new("t", 0, 0);
    void *p = arena_alloc(a, 0), *q = arena_alloc(a, 0);
    ck_assert_ptr_nonnull(p);
    ck_assert_ptr_ne(p, q);
    arena_free(a);
}
END_TEST

START_TEST(zalloc_zeroes_what_was_used_before)
{
    struct arena *a = arena_new("t", 4096, 0);
    memset(arena_alloc(a, 1000), 0xff, 1000);
    arena_reset(a);
    const unsigned char *p = arena_zalloc(a, 1000);
    for (int i = 0; i < 1000; i++) ck_assert_uint_eq(p[i], 0);
    arena_free(a);
}
END_TEST

START_TEST(release_gives_the_same_bytes_again)
{
    struct arena *a = arena_new("t", 1024, 0);
    char *kept = arena_alloc(a, 100);
    memset(kept, 'k', 100);
    struct arena_mark m = arena_mark(a);
    size_t used = arena_used(a);
    void *p = arena_alloc(a, 100);
    arena_alloc(a, 200);
    arena_release(a, m);
    ck_assert_uint_eq(arena_used(a), used);
    ck_assert_ptr_eq(arena_alloc(a, 100), p);
    for (int i = 0; i < 100; i++) ck_assert_int_eq(kept[i], 'k');
    arena_free(a);
}
END_TEST

START_TEST(release_drops_blocks_that_came_after_the_mark)
{
    struct arena *a = arena_new("t", 1024, 0);
    arena_alloc(a, 100);
    struct arena_mark m = arena_mark(a), inner;
    size_t used = arena_used(a);
    for (int i = 0; i < 20; i++) {
        inner = arena_mark(a);
        arena_alloc(a, 1000);
    }
    arena_release(a, inner);
    arena_release(a, m);
    ck_assert_uint_eq(arena_used(a), used);
    ck_assert_uint_gt(arena_peak(a), 20 * 1000);
    arena_free(a);
}
END_TEST

START_TEST(reset_after_growth_leaves_one_block_for_the_same_need)
{
    struct arena *a = arena_new("t", 256, 0);
    for (int i = 0; i < 50; i++) arena_alloc(a, 320);
    size_t need = arena_used(a);
    arena_reset(a);
    ck_assert_uint_eq(arena_used(a), 0);
    char *first = arena_alloc(a, 320), *last = first;
    for (int i = 1; i < 50; i++) {
        char *p = arena_alloc(a, 320);
        ck_assert_int_eq(p - last, (long)(need / 50)); /* back to back: no new block */
        last = p;
    }
    ck_assert_uint_eq(arena_used(a), need);
    ck_assert_uint_eq(arena_peak(a), need);
    arena_reset(a);
    ck_assert_ptr_eq(arena_alloc(a, 320), first);
    arena_free(a);
}
END_TEST

START_TEST(the_cap_holds_and_the_arena_stays_usable)
{
    struct arena *a = arena_new("t", 64, 10000);
    ck_assert_ptr_null(arena_try(a, 10001));
    ck_assert_ptr_null(arena_try(a, SIZE_MAX));
    ck_assert_ptr_null(arena_try(a, SIZE_MAX - 63));
    int n = 0;
    while (arena_try(a, 400)) n++;
    ck_assert_int_ge(n, 19); /* 400 takes 512 bytes with the gap */
    ck_assert_int_le(n, 25);
    ck_assert_uint_le(arena_used(a), 10000);
    arena_reset(a);
    ck_assert_ptr_nonnull(arena_try(a, 400));
    arena_free(a);
}
END_TEST

START_TEST(without_a_cap_sizes_that_overflow_are_refused)
{
    struct arena *a = arena_new("t", 64, 0);
    ck_assert_ptr_null(arena_try(a, SIZE_MAX));
    ck_assert_ptr_null(arena_try(a, SIZE_MAX / 2 + 1));
    arena_free(a);
}
END_TEST

static void pass_the_cap(void *ctx) { arena_alloc(ctx, 5000); }

static void release_a_foreign_mark(void *ctx)
{
    struct arena *other = arena_new("other", 64, 0);
    arena_release(ctx, arena_mark(other));
}

static void release_forward(void *ctx)
{
    arena_alloc(ctx, 10);
    struct arena_mark m = arena_mark(ctx);
    arena_reset(ctx);
    arena_release(ctx, m);
}

START_TEST(misuse_dies_with_the_arena_s_name)
{
    struct arena *a = arena_new("request", 4096, 4096);
    child_must_abort(pass_the_cap, a, "arena request: 5000 bytes past the cap of 4096");
    child_must_abort(release_a_foreign_mark, a, "arena request: released to a mark");
    child_must_abort(release_forward, a, "arena request: mark is ahead of use");
    arena_free(a);
}
END_TEST

START_TEST(bytes_that_are_not_handed_out_are_poisoned)
{
    struct arena *a = arena_new("t", 4096, 0);
    char *p = arena_alloc(a, 100), *q = arena_alloc(a, 64);
    if (WATCHED) {
        ck_assert(!poisoned(p) && !poisoned(p + 99) && !poisoned(q + 63));
        ck_assert_int_ge(q - (p + 100), 64); /* a gap, so that an overrun is seen */
    }
    ck_assert(poisoned(p + 100) && poisoned(q + 64));
    struct arena_mark m = arena_mark(a);
    const char *after = arena_alloc(a, 10);
    arena_release(a, m);
    ck_assert(poisoned(after));
    arena_reset(a);
    ck_assert(poisoned(p) && poisoned(q + 63));
    arena_free(a);
}
END_TEST

START_TEST(freeing_nothing_is_fine) { arena_free(NULL); }
END_TEST

Suite *suite_arena(void);
Suite *suite_arena(void)
{
    Suite *s = suite_create("arena");
    TCase *t = tcase_create("arena");
    tcase_add_test(t, pieces_are_aligned_and_do_not_overlap);
    tcase_add_test(t, zero_bytes_still_give_distinct_pieces);
    tcase_add_test(t, zalloc_zeroes_what_was_used_before);
    tcase_add_test(t, release_gives_the_same_bytes_again);
    tcase_add_test(t, release_drops_blocks_that_came_after_the_mark);
    tcase_add_test(t, reset_after_growth_leaves_one_block_for_the_same_need);
    tcase_add_test(t, the_cap_holds_and_the_arena_stays_usable);
    tcase_add_test(t, without_a_cap_sizes_that_overflow_are_refused);
    tcase_add_test(t, misuse_dies_with_the_arena_s_name);
    tcase_add_test(t, bytes_that_are_not_handed_out_are_poisoned);
    tcase_add_test(t, freeing_nothing_is_fine);
    suite_add_tcase(s, t);
    return s;
}
