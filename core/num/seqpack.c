#include "core/num/seqpack.h"
#include "core/base/err.h"

void seqpack_positions(int32_t *pos, const int32_t *cu, int32_t B, int32_t L,
                       enum pos_from from)
{
    for (int32_t b = 0; b < B; b++) {
        int32_t len = cu[b + 1] - cu[b];
        REQUIRE(len >= 0 && len <= L, "sequence %d has %d tokens, positions end at %d", b, len,
                L);
        int32_t first = from == POS_FIRST ? 0 : L - len;
        for (int32_t i = 0; i < len; i++) pos[cu[b] + i] = first + i;
    }
}
