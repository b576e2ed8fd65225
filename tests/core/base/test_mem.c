#include "core/base/mem.h"
#include "tests/child.h"
#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

START_TEST(zero_bytes_give_a_pointer)
{
    void *p[] = { xmalloc(0), xcalloc(0, 8), xcalloc(8, 0), xaligned(0), xrealloc(NULL, 0, 8) };
    for (int i = 0; i < 5; i++) {
        ck_assert_ptr_nonnull(p[i]);
        free(p[i]);
    }
}
END_TEST

START_TEST(realloc_keeps_what_was_there)
{
    int32_t *x = xrealloc(NULL, 3, sizeof *x);
    for (int i = 0; i < 3; i++) x[i] = i;
    x = xrealloc(x, 3000, sizeof *x);
    for (int i = 0; i < 3; i++) ck_assert_int_eq(x[i], i);
    free(x);
}
END_TEST

START_TEST(aligned_memory_starts_at_a_multiple_of_64)
{
    for (size_t nb = 1; nb < 300; nb += 37) {
        char *p = xaligned(nb);
        ck_assert_uint_eq((uintptr_t)p % 64, 0);
        memset(p, 1, nb);
        free(p);
    }
}
END_TEST

START_TEST(strings_are_copies)
{
    char a[] = "behaviour", *b = xstrdup(a), *c = xstrndup(a, 6), *d = xasprintf("%d:%s", 7, a);
    a[0] = 'x';
    ck_assert_str_eq(b, "behaviour");
    ck_assert_str_eq(c, "behavi");
    ck_assert_str_eq(d, "7:behaviour");
    free(b);
    free(c);
    free(d);
}
END_TEST

static volatile size_t huge =
    SIZE_MAX / 4; /* volatile: the compiler would warn of the constant */

static void overflow_realloc(void *ctx) { *(void **)ctx = xrealloc(NULL, huge, 8); }
static void overflow_calloc(void *ctx) { *(void **)ctx = xcalloc(huge, 8); }
static void overflow_aligned(void *ctx) { *(void **)ctx = xaligned(huge * 4); }

START_TEST(sizes_that_overflow_die_and_say_so)
{
    void *kept = NULL;
    child_must_abort(overflow_realloc, &kept, "out of memory: 4611686018427387903 x 8 bytes");
    child_must_abort(overflow_aligned, &kept, "out of memory: 1 x 18446744073709551612 bytes");
    struct child c =
        child_run(overflow_calloc, &kept); /* AddressSanitizer may be first to refuse */
    ck_assert_msg(strstr(c.text, "out of memory: 4611686018427387903 x 8 bytes") ||
                      strstr(c.text, "calloc-overflow"),
                  "%s", c.text);
    free(c.text);
}
END_TEST

/* Neither nothing nor more than the machine has. */
START_TEST(a_process_may_have_some_of_the_machines_memory)
{
    const double machine = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    ck_assert_uint_gt(mem_most(), 16 << 20);
    ck_assert_double_le((double)mem_most(), machine);
}
END_TEST

Suite *suite_mem(void);
Suite *suite_mem(void)
{
    Suite *s = suite_create("mem");
    TCase *t = tcase_create("mem");
    tcase_add_test(t, zero_bytes_give_a_pointer);
    tcase_add_test(t, realloc_keeps_what_was_there);
    tcase_add_test(t, aligned_memory_starts_at_a_multiple_of_64);
    tcase_add_test(t, strings_are_copies);
    tcase_add_test(t, a_process_may_have_some_of_the_machines_memory);
    tcase_add_test(t, sizes_that_overflow_die_and_say_so);
    suite_add_tcase(s, t);
    return s;
}
