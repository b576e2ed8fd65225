/* Files of titles and attributes: the first byte chooses options, the rest is the file, read for three items. */
#include "core/base/mem.h"
#include "core/data/interact.h"
#include "core/data/items_read.h"
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    if (nb == 0) return 0;
    struct interactions *x = interactions_new();
    struct items_opts o = { 0 };
    struct read_stats rs;
    struct items_stats st;
    struct err e = { 0 };
    if (data[0] & 1) o.columns.name[COL_ITEM] = "thing";
    if (data[0] & 2) o.columns.name[COL_TITLE] = data[0] & 4 ? "-" : "what";
    if (data[0] & 8) o.header = "thing,what,genres,price";
    o.add = data[0] & 64;
    if (data[0] & 16) o.fields = data[0] & 32 ? "genres:values,price:number" : "genres,price";
    REQUIRE(read_events_mem(x, "u 1 2 a b", 9, "events", NULL, &rs, &e) == 0, "%s", e.msg);
    int rc = read_items_mem(interactions_items(x), (const char *)data + 1, nb - 1, "items", &o,
                            &st, &e);
    REQUIRE((rc < 0) == (e.code != 0), "%d: '%s'", rc, e.msg);
    REQUIRE(st.n_fields >= 0 && st.n_fields <= LIMIT_FIELDS && st.matched >= 0 && st.bad >= 0,
            "%d fields", st.n_fields);
    for (int32_t i = 0; i < items_builder_count(x->items); i++) {
        struct str t = items_builder_title(x->items, i);
        REQUIRE(text_utf8_ok(t.p, (size_t)t.len), "title of %d bytes", t.len);
    }
    /* the second time everything is there already */
    (void)!read_items_mem(interactions_items(x), (const char *)data + 1, nb - 1, "again", &o,
                          &st, NULL);
    interactions_free(x);
    return 0;
}
