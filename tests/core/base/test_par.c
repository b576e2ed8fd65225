#include "core/base/par.h"
#include "tests/child.h"
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { MOST_BLOCKS = 1000 };
struct tally {
    atomic_int seen[MOST_BLOCKS];
    atomic_int bad_worker;
    int threads;
};

static void count(void *ctx, int block, int worker)
{
    struct tally *t = ctx;
    atomic_fetch_add(&t->seen[block], 1);
    if (worker < 0 || worker >= t->threads) atomic_fetch_add(&t->bad_worker, 1);
}

static void check_every_block_once(struct par *p)
{
    static const int sizes[] = { 0, 1, 2, 3, 7, 64, MOST_BLOCKS };
    static struct tally t;
    for (int s = 0; s < 7; s++) {
        memset(&t, 0, sizeof t);
        t.threads = par_threads(p);
        par_for(p, sizes[s], count, &t);
        for (int b = 0; b < MOST_BLOCKS; b++) {
            int want = b < sizes[s];
            if (t.seen[b] != want)
                ck_abort_msg("block %d of %d ran %d times", b, sizes[s], t.seen[b]);
        }
        ck_assert_int_eq(t.bad_worker, 0);
    }
}

START_TEST(every_block_runs_once)
{
    static const int threads[] = { 1, 2, 4 };
    struct par *p = par_new(threads[_i]);
    ck_assert_int_eq(par_threads(p), threads[_i]);
    check_every_block_once(p);
    par_free(p);
}
END_TEST

START_TEST(no_pool_runs_inline)
{
    ck_assert_int_eq(par_threads(NULL), 1);
    check_every_block_once(NULL);
    par_free(NULL);
}
END_TEST

struct sum {
    const int *x;
    long part[64];
};

static void add(void *ctx, int block, int worker)
{
    (void)worker;
    struct sum *s = ctx;
    s->part[block] = 0;
    for (int i = 0; i < 10; i++) s->part[block] += s->x[block * 10 + i];
}

/* Each round's context is on the stack and its data changes: a worker that came late would read
 * the wrong round's (and ASan or TSan would see it). */
START_TEST(ten_thousand_loops_give_the_right_sums)
{
    struct par *p = par_new(2);
    int x[640];
    for (int round = 0; round < 10000; round++) {
        struct sum s = { .x = x };
        int n = 2 + round % 63;
        for (int i = 0; i < n * 10; i++) x[i] = round + i;
        par_for(p, n, add, &s);
        for (int b = 0; b < n; b++) {
            long want = 10L * (round + b * 10) + 45;
            if (s.part[b] != want)
                ck_abort_msg("round %d, block %d: %ld, not %ld", round, b, s.part[b], want);
        }
    }
    par_free(p);
}
END_TEST

START_TEST(workers_that_fell_asleep_wake_up)
{
    struct par *p = par_new(4);
    for (int round = 0; round < 5; round++) {
        usleep(5000); /* longer than they spin */
        check_every_block_once(p);
    }
    par_free(p);
}
END_TEST

START_TEST(a_pool_can_end_unused)
{
    for (int i = 0; i < 50; i++) par_free(par_new(1 + i % 4));
}
END_TEST

static void nothing(void *ctx, int block, int worker) { (void)ctx, (void)block, (void)worker; }

static void inner(void *ctx, int block, int worker)
{
    (void)block, (void)worker;
    par_for(ctx, 2, nothing, NULL);
}

static void nest(void *ctx)
{
    (void)ctx;
    struct par *p = par_new(2);
    par_for(p, 2, inner, p);
}

static void no_threads(void *ctx)
{
    (void)ctx;
    par_free(par_new(0));
}

START_TEST(nesting_and_no_threads_are_bugs)
{
    child_must_abort(nest, NULL, "par_for inside par_for");
    child_must_abort(no_threads, NULL, "0 threads");
}
END_TEST

struct masks {
    atomic_int open[4]; /* signals a worker would take */
};

static void look_at_mask(void *ctx, int block, int worker)
{
    (void)block;
    struct masks *m = ctx;
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    atomic_store(&m->open[worker], !sigismember(&now, SIGINT) + !sigismember(&now, SIGTERM));
    usleep(1000); /* so that every worker gets a block */
}

START_TEST(workers_take_no_signals_and_the_caller_still_does)
{
    struct masks m = { 0 };
    struct par *p = par_new(4);
    par_for(p, 64, look_at_mask, &m);
    par_free(p);
    ck_assert_int_eq(m.open[0], 2);
    for (int w = 1; w < 4; w++) ck_assert_int_eq(m.open[w], 0);
}
END_TEST

START_TEST(cores_are_at_least_one_and_at_most_the_machine_s)
{
    ck_assert_int_ge(par_cores(), 1);
    ck_assert_int_le(par_cores(), (int)sysconf(_SC_NPROCESSORS_CONF));
}
END_TEST

Suite *suite_par(void);
Suite *suite_par(void)
{
    Suite *s = suite_create("par");
    TCase *t = tcase_create("par");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, every_block_runs_once, 0, 3);
    tcase_add_test(t, no_pool_runs_inline);
    tcase_add_test(t, ten_thousand_loops_give_the_right_sums);
    tcase_add_test(t, workers_that_fell_asleep_wake_up);
    tcase_add_test(t, a_pool_can_end_unused);
    tcase_add_test(t, nesting_and_no_threads_are_bugs);
    tcase_add_test(t, workers_take_no_signals_and_the_caller_still_does);
    tcase_add_test(t, cores_are_at_least_one_and_at_most_the_machine_s);
    suite_add_tcase(s, t);
    return s;
}
