/* Interaction files: the first byte chooses the format (or titles), the rest is the file. What is kept must be
 * consistent and the counts must add up. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    if (nb == 0) return 0;
    struct interactions *x = interactions_new();
    struct read_stats st;
    struct title_stats ts;
    struct err e = { 0 };
    const char *text = (const char *)data + 1;
    if (data[0] % 5 < 4) {
        (void)!read_events_mem(x, text, nb - 1, "input", (enum read_format)(data[0] % 5), &st,
                               &e);
        check(x, &st);
        REQUIRE(x->n == st.kept, "%lld events", (long long)st.kept);
        /* The same bytes as a second file. */
        (void)!read_events_mem(x, text, nb - 1, "again", READ_AUTO, &st, &e);
        check(x, &st);
    } else {
        (void)!read_events_mem(x, "u 1 2 a b", 9, "events", READ_SEQ, &st, &e);
        (void)!read_titles_mem(x, text, nb - 1, "titles", &ts, &e);
        for (int32_t i = 0; i < items_builder_count(x->items); i++) {
            struct str t = items_builder_title(x->items, i);
            REQUIRE(text_utf8_ok(t.p, (size_t)t.len), "title of %d bytes", t.len);
        }
    }
    interactions_free(x);
    return 0;
}
