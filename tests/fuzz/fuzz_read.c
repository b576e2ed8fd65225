/* Interaction files: the first byte chooses the format, the second the options, the rest is the file. What is kept
 * must be consistent and the counts must add up. */
#include "core/base/err.h"
#include "core/data/interact.h"
#include "core/data/read.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

static void check(const struct interactions *x, const struct read_stats *st)
{
    int64_t dropped = 0;
    for (int k = 0; k < DROP_KINDS; k++) {
        dropped += st->dropped[k];
        REQUIRE((st->dropped[k] > 0) == (st->first_line[k] > 0),
                "reason %d: %lld dropped, line %lld", k, (long long)st->dropped[k],
                (long long)st->first_line[k]);
    }
    REQUIRE(st->events == st->kept + dropped, "%lld events", (long long)st->events);
    for (int64_t i = 0; i < x->n; i++)
        REQUIRE(x->user[i] >= 0 && x->user[i] < items_builder_count(x->users) &&
                    x->item[i] >= 0 && x->item[i] < items_builder_count(x->items),
                "event %lld", (long long)i);
}

/* Bits of the second byte turn options on. */
static struct read_opts options(const uint8_t *data, struct event_types *types)
{
    uint8_t on = data[1];
    struct err e = { 0 };
    struct read_opts o = { .format = (enum read_format)(data[0] % 5) };
    if (on & 1) o.columns.name[COL_USER] = "visitor";
    if (on & 2) o.columns.name[COL_ITEM] = "thing";
    if (on & 4) o.columns.name[COL_TIME] = on & 8 ? "-" : "when";
    if (on & 16) o.columns.name[COL_EVENT] = "kind";
    if (on & 32) o.header = "user,thing,when,kind";
    if (on & 64) {
        REQUIRE(event_types_parse(types, on & 128 ? "buy=5,*" : "view,buy=5", &e) == 0, "%s",
                e.msg);
        o.types = types;
    }
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    if (nb < 2) return 0;
    struct interactions *x = interactions_new();
    struct event_types types;
    struct read_opts o = options(data, &types);
    struct read_stats st;
    struct err e = { 0 };
    const char *text = (const char *)data + 2;
    (void)!read_events_mem(x, text, nb - 2, "input", &o, &st, &e);
    check(x, &st);
    REQUIRE(x->n == st.kept, "%lld events", (long long)st.kept);
    for (int64_t i = 0; i < x->n; i++)
        REQUIRE((!x->time || x->time[i] >= 0) && (!x->weight || x->weight[i] > 0), "event %lld",
                (long long)i);
    /* The same bytes as a second file. */
    (void)!read_events_mem(x, text, nb - 2, "again", NULL, &st, &e);
    check(x, &st);
    interactions_free(x);
    return 0;
}
