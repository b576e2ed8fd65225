/* Records of the item store.  Whatever the bytes, the checksum is made right first, so that
 * what stands behind it is read; what was read is written again and must be the same record. */
#include "core/base/limits.h"
#include "core/serve/record.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

static void check_item(const struct item_change *c, const uint8_t *data, size_t nb)
{
    struct buf b = { .cap_max = 0 };
    REQUIRE(c->id.len >= 1 && c->id.len <= LIMIT_ID_BYTES, "id of %d bytes", c->id.len);
    REQUIRE(c->attrs.n <= LIMIT_FIELDS && c->dim <= LIMIT_WIDTH, "%d attributes, %d numbers",
            c->attrs.n, c->dim);
    record_put_item(&b, c);
    REQUIRE(b.len == nb && memcmp(b.data, data, nb) == 0, "%zu bytes from %zu", b.len, nb);
    buf_free(&b);
}

static void check_list(const struct blocklist *l, const uint8_t *data, size_t nb)
{
    struct buf b = { .cap_max = 0 };
    REQUIRE(l->n <= LIMIT_LIST_IDS, "%d ids", l->n);
    record_put_blocklist(&b, l);
    REQUIRE(b.len == nb && memcmp(b.data, data, nb) == 0, "%zu bytes from %zu", b.len, nb);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    struct arena *a = arena_new("fuzz", 4096, 16 << 20);
    struct item_change c;
    struct blocklist l;
    uint8_t *exact = malloc(nb ? nb : 1); /* the sanitizer sees one byte too many */
    if (!exact) abort();
    if (nb) memcpy(exact, data, nb);
    if (nb >= 8) {
        const uint64_t sum = XXH3_64bits(exact, nb - 8);
        memcpy(exact + nb - 8, &sum, 8);
    }
    if (record_get_item(&c, exact, nb, a, NULL) == 0) check_item(&c, exact, nb);
    if (record_get_blocklist(&l, exact, nb, a, NULL) == 0) check_list(&l, exact, nb);
    free(exact);
    arena_free(a);
    return 0;
}
