/* split.h — which events are for training, which answer is for validation, which for test.
 *   leave-one-out  a user's last event is test, the one before valid, the rest training; users with fewer than
 *                  3 events only train
 *   time           what happened before valid_from is training; a user's first event from valid_from on (and before
 *                  test_from) is the validation answer, the first from test_from on the test answer; what came before
 *                  an answer is its history.  A user without history has no case.
 * Thread: any (pure). */
#pragma once
#include "core/base/err.h"
#include <stdint.h>

enum split_kind { SPLIT_LEAVE_ONE_OUT, SPLIT_TIME };

/* A moment, or the share of events before it where share > 0. */
struct split_point {
    double share;
    int64_t time; /* seconds since 1970 */
};
struct split_opts { /* what is asked for */
    enum split_kind kind;
    struct split_point valid, test;
};
struct split_rule { /* what a data set has */
    enum split_kind kind;
    int64_t valid_from, test_from; /* seconds since 1970 */
};

/* "2021-03-04", "1614834000", "80%"; ERR_USAGE for anything else. */
NODISCARD int split_point_parse(struct split_point *p, const char *text, struct err *e);
/* Moments for the events' times [n], not sorted.  ERR_INVALID: no training part, or validation does not lie before test. */
NODISCARD int split_resolve(struct split_rule *r, const struct split_opts *o,
                            const int64_t *time, int64_t n, struct err *e);

/* Of one user's n events with times in order (NULL for leave-one-out): */
int64_t split_train_len(const struct split_rule *r, const int64_t *time, int64_t n);
int64_t split_valid_at(const struct split_rule *r, const int64_t *time,
                       int64_t n); /* -1: none */
int64_t split_test_at(const struct split_rule *r, const int64_t *time,
                      int64_t n); /* -1: none */
