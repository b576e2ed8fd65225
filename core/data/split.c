#include "core/data/split.h"
#include "core/base/mem.h"
#include "core/base/order.h"
#include "core/data/text.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int split_point_parse(struct split_point *p, const char *text, struct err *e)
{
    size_t n = strlen(text);
    double x;
    *p = (struct split_point){ 0 };
    if (n && text[n - 1] == '%') {
        if (text_number((struct span){ text, n - 1 }, &x) && x > 0 && x < 100) {
            p->share = x / 100;
            return 0;
        }
    } else if (text_time((struct span){ text, n }, &x)) {
        p->time = (int64_t)floor(x);
        return 0;
    }
    return err_set(e, ERR_USAGE,
                   "'%s' is not a moment: a share of the events (80%%), a date (2021-03-04, "
                   "2021-03-04T05:06:07Z) or seconds since 1970",
                   text);
}

static const char *date(char out[32], int64_t t)
{
    struct tm tm;
    time_t at = (time_t)t;
    strftime(out, 32, "%Y-%m-%d %H:%M:%S", gmtime_r(&at, &tm));
    return out;
}

/* first, last: of all events */
static int check_order(const struct split_rule *r, int64_t first, int64_t last, struct err *e)
{
    char valid[32], test[32], edge[32];
    date(valid, r->valid_from);
    date(test, r->test_from);
    if (r->valid_from <= first)
        return err_set(
            e, ERR_INVALID,
            "validation from %s: nothing comes before it for training (the first event "
            "is of %s)",
            valid, date(edge, first));
    if (r->valid_from > last || r->test_from > last)
        return err_set(e, ERR_INVALID, "%s from %s: the last event is of %s",
                       r->valid_from > last ? "validation" : "test",
                       r->valid_from > last ? valid : test, date(edge, last));
    if (r->test_from == r->valid_from)
        return err_set(e, ERR_INVALID,
                       "validation and test both begin at %s: set --valid-from and --test-from "
                       "further apart",
                       valid);
    if (r->test_from < r->valid_from)
        return err_set(e, ERR_INVALID, "test from %s: must come after validation's %s", test,
                       valid);
    return 0;
}

int split_resolve(struct split_rule *r, const struct split_opts *o, const int64_t *time,
                  int64_t n, struct err *e)
{
    *r = (struct split_rule){ .kind = o->kind };
    if (o->kind == SPLIT_LEAVE_ONE_OUT) return 0;
    if (!time)
        return err_set(e, ERR_INVALID,
                       "a split by time needs timestamps, and the input has none: use "
                       "--split leave-one-out or name the column with --time-col");
    int64_t *sorted = xmalloc((size_t)n * sizeof *sorted + 1);
    memcpy(sorted, time, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, order_i64);
    r->valid_from =
        o->valid.share > 0 ? sorted[(int64_t)(o->valid.share * (double)n)] : o->valid.time;
    r->test_from =
        o->test.share > 0 ? sorted[(int64_t)(o->test.share * (double)n)] : o->test.time;
    int64_t first = sorted[0], last = sorted[n - 1];
    free(sorted);
    return check_order(r, first, last, e);
}

/* The first place whose time is at least t. */
static int64_t lower(const int64_t *time, int64_t n, int64_t t)
{
    int64_t lo = 0;
    for (int64_t hi = n; lo < hi;) {
        int64_t mid = lo + (hi - lo) / 2;
        if (time[mid] < t)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int64_t split_train_len(const struct split_rule *r, const int64_t *time, int64_t n)
{
    if (r->kind == SPLIT_TIME) return lower(time, n, r->valid_from);
    return n < 3 ? n : n - 2;
}

int64_t split_valid_at(const struct split_rule *r, const int64_t *time, int64_t n)
{
    if (r->kind == SPLIT_LEAVE_ONE_OUT) return n < 3 ? -1 : n - 2;
    int64_t at = lower(time, n, r->valid_from);
    return at > 0 && at < n && time[at] < r->test_from ? at : -1;
}

int64_t split_test_at(const struct split_rule *r, const int64_t *time, int64_t n)
{
    if (r->kind == SPLIT_LEAVE_ONE_OUT) return n < 3 ? -1 : n - 1;
    int64_t at = lower(time, n, r->test_from);
    return at > 0 && at < n ? at : -1;
}
