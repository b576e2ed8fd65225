/* Bodies of the routes about items and blocklists.  The first byte chooses: its two low bits
 * the route, bit 2 not strict. */
#include "core/base/limits.h"
#include "core/data/text.h"
#include "server/items_req.h"
#include <math.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

static void check_text(struct str s, int32_t least, int32_t most)
{
    REQUIRE(s.len >= least && s.len <= most, "%d bytes", s.len);
    REQUIRE(text_utf8_ok(s.p, (size_t)s.len), "not UTF-8");
}

static void check_change(const struct item_change *c, bool has_id)
{
    struct buf b = { .cap_max = 0 };
    if (has_id) check_text(c->id, 1, LIMIT_ID_BYTES);
    check_text(c->title, 0, LIMIT_TITLE_BYTES);
    REQUIRE(c->attrs.n <= LIMIT_FIELDS, "%d attributes", c->attrs.n);
    REQUIRE(!c->vector == !c->dim && c->dim <= LIMIT_WIDTH, "%d numbers", c->dim);
    for (int32_t i = 0; i < c->dim; i++) REQUIRE(isfinite(c->vector[i]), "number %d", i);
    record_put_item(&b, c); /* every byte is there */
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    if (nb == 0) return 0;
    struct arena *a = arena_new("fuzz", 4096, 4 << 20);
    struct items_req r;
    struct faults f = { 0 };
    const enum items_req_kind kind = (enum items_req_kind)(data[0] & 3);
    int rc = items_req_parse(&r, kind, (const char *)data + 1, nb - 1, !(data[0] & 4), a, &f);
    REQUIRE((rc == 0) == (f.n == 0), "code %d with %d faults", rc, f.n);
    for (int32_t i = 0; rc == 0 && i < r.n_changes; i++)
        check_change(&r.change[i], kind == ITEMS_REQ_BATCH);
    for (int32_t i = 0; rc == 0 && i < r.n_ids; i++) check_text(r.id[i], 1, LIMIT_ID_BYTES);
    arena_free(a);
    return 0;
}
