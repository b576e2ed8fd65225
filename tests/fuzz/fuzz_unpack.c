/* Bytes as a data file that may be packed with gzip or zstd. */
#include "core/base/mem.h"
#include "core/data/unpack.h"
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    struct unpacked u;
    struct err e = { 0 };
    enum { MOST = 1 << 20 };
    int rc = unpack_mem(&u, data, nb, MOST, &e);
    REQUIRE((rc < 0) == (e.code != 0), "%d: '%s'", rc, e.msg);
    if (rc < 0) return 0;
    uint64_t sum = 0; /* reads every byte */
    for (size_t i = 0; i < u.nb; i++) sum += (uint8_t)u.data[i];
    REQUIRE(!u.packed || u.nb <= MOST, "%zu bytes", u.nb);
    REQUIRE(u.packed || u.nb == nb, "%zu of %zu bytes", u.nb, nb);
    REQUIRE(sum <= 255 * (uint64_t)u.nb, "sum");
    unpack_close(&u);
    return 0;
}
