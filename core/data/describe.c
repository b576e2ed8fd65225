#include "core/data/describe.h"
#include "core/base/mem.h"
#include "core/base/order.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int bin_of(int64_t x)
{
    int b = 0;
    while (x > 1 && b < DESCRIBE_BINS - 1) {
        x >>= 1;
        b++;
    }
    return b;
}

/* Sorts x. */
static void spread_of(struct spread *s, int64_t *x, int64_t n)
{
    *s = (struct spread){ .n = n };
    if (n == 0) return;
    qsort(x, (size_t)n, sizeof *x, order_i64);
    s->least = x[0];
    s->median = x[n / 2];
    s->p90 = x[(n * 9 + 9) / 10 - 1];
    s->most = x[n - 1];
    for (int64_t i = 0; i < n; i++) {
        int b = bin_of(x[i]);
        s->bin[b]++;
        s->bin_sum[b] += x[i];
        s->total += x[i];
    }
}

double describe_gini(const int64_t *x, int64_t n)
{
    double sum = 0, total = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)(2 * (i + 1) - n - 1) * (double)x[i];
        total += (double)x[i];
    }
    return total > 0 ? sum / ((double)n * total) : 0;
}

static double top_share(const int64_t *x, int64_t n, int64_t total, int64_t part)
{
    int64_t top = (n + part - 1) / part, sum = 0;
    for (int64_t i = n - top; i < n; i++) sum += x[i];
    return total > 0 ? (double)sum / (double)total : 0;
}

static void describe_items(struct description *s, const struct dataset *d)
{
    int64_t *pop = xcalloc((size_t)d->n_items + 1, sizeof *pop);
    for (int64_t i = 0; i < d->n_events; i++) pop[d->item[i]]++;
    spread_of(&s->popularity, pop, d->n_items);
    s->gini = describe_gini(pop, d->n_items);
    s->top_1 = top_share(pop, d->n_items, d->n_events, 100);
    s->top_10 = top_share(pop, d->n_items, d->n_events, 10);
    free(pop);
}

/* last [V]: the user (+ 1) who had the item last. */
static void describe_user(struct description *s, const struct dataset *d, int32_t u,
                          int32_t *last)
{
    const int32_t *hist;
    int32_t len, answer;
    bool test = dataset_case(d, u, SPLIT_TEST, &hist, &len, &answer);
    for (int64_t i = d->cu[u]; i < d->cu[u + 1]; i++) {
        bool seen = last[d->item[i]] == u + 1;
        s->repeats += seen;
        if (test && i == d->cu[u] + len) s->test_seen += seen;
        last[d->item[i]] = u + 1;
    }
    s->test += test;
    if (test) s->test_cold += items_popularity(d->items, answer) == 0;
    s->valid += dataset_case(d, u, SPLIT_VALID, &hist, &len, &answer);
    s->train_events += dataset_train_len(d, u);
}

void describe_dataset(struct description *s, const struct dataset *d)
{
    *s = (struct description){ 0 };
    int64_t *len = xcalloc((size_t)d->n_users + 1, sizeof *len);
    int32_t *last = xcalloc((size_t)d->n_items + 1, sizeof *last);
    for (int32_t u = 0; u < d->n_users; u++) {
        len[u] = d->cu[u + 1] - d->cu[u];
        describe_user(s, d, u, last);
    }
    spread_of(&s->length, len, d->n_users);
    describe_items(s, d);
    for (int64_t i = 0; d->time && i < d->n_events; i++) {
        if (i == 0 || d->time[i] < s->first_time) s->first_time = d->time[i];
        if (i == 0 || d->time[i] > s->last_time) s->last_time = d->time[i];
    }
    free(len);
    free(last);
}

/* ---- for people ---- */

static double percent(int64_t part, int64_t whole)
{
    return whole > 0 ? 100 * (double)part / (double)whole : 0;
}

static void print_bars(const struct spread *s, const char *of, const char *what, FILE *f)
{
    enum { WIDTH = 40 };
    int first = 0, last = DESCRIBE_BINS - 1;
    int64_t most = 1;
    while (first < last && s->bin[first] == 0) first++;
    while (last > first && s->bin[last] == 0) last--;
    for (int b = first; b <= last; b++)
        if (s->bin[b] > most) most = s->bin[b];
    fprintf(f, "  %11s %10s %7s %7s\n", of, what, "share", "events");
    for (int b = first; b <= last; b++) {
        char range[32], bar[WIDTH + 1];
        int full = (int)((double)s->bin[b] / (double)most * WIDTH + 0.5);
        if (b == 0)
            snprintf(range, sizeof range, "1");
        else
            snprintf(range, sizeof range, "%lld-%lld", 1LL << b, (1LL << (b + 1)) - 1);
        memset(bar, '#', sizeof bar);
        bar[full] = '\0';
        fprintf(f, "  %11s %10lld %6.1f%% %6.1f%% %s\n", range, (long long)s->bin[b],
                percent(s->bin[b], s->n), percent(s->bin_sum[b], s->total), bar);
    }
}

static void print_time(const char *what, int64_t t, FILE *f)
{
    char s[32];
    struct tm tm;
    time_t at = (time_t)t;
    strftime(s, sizeof s, "%Y-%m-%d %H:%M:%S", gmtime_r(&at, &tm));
    fprintf(f, "%s%s", what, s);
}

static void print_split(const struct description *s, const struct dataset *d, FILE *f)
{
    if (d->split.kind == SPLIT_TIME) {
        print_time("split by time: validation from ", d->split.valid_from, f);
        print_time(", test from ", d->split.test_from, f);
        fputs(" UTC\n", f);
    } else {
        fputs("split: leave one out (the last event is test, the one before validation)\n", f);
    }
    fprintf(f, "  %lld training events (%.1f %%), %lld validation and %lld test cases\n",
            (long long)s->train_events, percent(s->train_events, d->n_events),
            (long long)s->valid, (long long)s->test);
    fprintf(f,
            "  of the test answers %.2f %% are in their own history, %.2f %% have no training "
            "event\n",
            percent(s->test_seen, s->test), percent(s->test_cold, s->test));
}

static void print_fields(const struct dataset *d, FILE *f)
{
    for (int32_t k = 0; k < items_fields(d->items); k++) {
        struct str name = items_field_name(d->items, k);
        fprintf(f, "field %.*s: ", name.len, name.p);
        if (items_field_kind(d->items, k) == FIELD_NUMBER)
            fputs("a number\n", f);
        else
            fprintf(f, "%d values\n", items_field_values(d->items, k));
    }
}

/* Part of all pairs of a user and an item that occur. */
static double density(const struct description *s, const struct dataset *d)
{
    return (double)(d->n_events - s->repeats) / ((double)d->n_users * d->n_items);
}

void describe_print(const struct description *s, const struct dataset *d, FILE *f)
{
    fprintf(f, "%s: %d users, %d items, %lld events, density %.4g %%\n", d->name, d->n_users,
            d->n_items, (long long)d->n_events, 100 * density(s, d));
    if (d->time) {
        print_time("time: ", s->first_time, f);
        print_time(" to ", s->last_time, f);
        fprintf(f, " UTC, %.1f days\n", (double)(s->last_time - s->first_time) / 86400);
    }
    fprintf(f, "repeats: %.2f %% of the events are of an item the user had before\n",
            percent(s->repeats, d->n_events));
    print_split(s, d, f);
    fprintf(f, "events a user: %lld to %lld, median %lld, mean %.2f, 90 %% have at most %lld\n",
            (long long)s->length.least, (long long)s->length.most, (long long)s->length.median,
            (double)d->n_events / d->n_users, (long long)s->length.p90);
    print_bars(&s->length, "length", "users", f);
    fprintf(f,
            "events an item: %lld to %lld, median %lld; the top 1 %% of items have %.1f %% of "
            "the events, the top 10 %% %.1f %%; Gini %.3f\n",
            (long long)s->popularity.least, (long long)s->popularity.most,
            (long long)s->popularity.median, 100 * s->top_1, 100 * s->top_10, s->gini);
    print_bars(&s->popularity, "popularity", "items", f);
    print_fields(d, f);
}

static json_t *spread_json(const struct spread *s)
{
    json_t *bins = json_array();
    for (int b = 0; b < DESCRIBE_BINS; b++)
        if (s->bin[b])
            json_array_append_new(bins, json_pack("{s:I, s:I, s:I}", "from", (json_int_t)1 << b,
                                                  "count", (json_int_t)s->bin[b], "events",
                                                  (json_int_t)s->bin_sum[b]));
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:o}", "least", (json_int_t)s->least, "median",
                     (json_int_t)s->median, "p90", (json_int_t)s->p90, "most",
                     (json_int_t)s->most, "mean", s->n ? (double)s->total / (double)s->n : 0,
                     "histogram", bins);
}

json_t *describe_json(const struct description *s, const struct dataset *d)
{
    json_t *o = json_pack("{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name", d->name,
                          "users", d->n_users, "items", d->n_items, "events",
                          (json_int_t)d->n_events, "train_events", (json_int_t)s->train_events,
                          "valid_cases", (json_int_t)s->valid, "test_cases",
                          (json_int_t)s->test, "repeats", (json_int_t)s->repeats, "test_seen",
                          (json_int_t)s->test_seen, "test_cold", (json_int_t)s->test_cold);
    json_object_set_new(o, "density", json_real(density(s, d)));
    json_object_set_new(o, "split",
                        d->split.kind == SPLIT_TIME
                            ? json_pack("{s:s, s:I, s:I}", "kind", "time", "valid_from",
                                        (json_int_t)d->split.valid_from, "test_from",
                                        (json_int_t)d->split.test_from)
                            : json_pack("{s:s}", "kind", "leave-one-out"));
    if (d->time)
        json_object_set_new(o, "time",
                            json_pack("{s:I, s:I}", "first", (json_int_t)s->first_time, "last",
                                      (json_int_t)s->last_time));
    json_t *fields = json_object();
    for (int32_t k = 0; k < items_fields(d->items); k++) {
        bool number = items_field_kind(d->items, k) == FIELD_NUMBER;
        json_object_set_new(fields, items_field_name(d->items, k).p,
                            number ? json_string("number")
                                   : json_integer(items_field_values(d->items, k)));
    }
    json_object_set_new(o, "fields", fields);
    json_object_set_new(o, "events_a_user", spread_json(&s->length));
    json_object_set_new(o, "events_an_item", spread_json(&s->popularity));
    json_object_set_new(
        o, "popularity",
        json_pack("{s:f, s:f, s:f}", "gini", s->gini, "top_1", s->top_1, "top_10", s->top_10));
    return o;
}
