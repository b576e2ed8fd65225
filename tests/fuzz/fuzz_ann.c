/* Bytes as an index file of 40 rows of 3. What is accepted must search within bounds and
 * return every row, whatever the type, with a filter and without. */
#include "core/ann/ann.h"
#include "core/num/num.h"
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

enum { V = 40, D = 3 };

static void search(const struct ann *a, const uint64_t *allow, int32_t n_allow)
{
    static const float query[2 * D] = { 1, -0.5f, 0.25f, 0.1f, 1, 0.3f };
    int32_t ids[2 * V];
    float scores[2 * V];
    struct err e = { 0 };
    struct ann_params p = { .allow = allow, .n_allow = n_allow };
    REQUIRE(ann_search(ids, scores, a, query, 2, V, &p, &e) == 0, "%s", e.msg);
    for (int q = 0; q < 2; q++) {
        uint64_t seen = 0;
        for (int i = 0; i < V; i++) {
            const int32_t row = ids[q * V + i];
            REQUIRE((row == -1) == (i >= n_allow) && row < V, "place %d: row %d", i, row);
            if (row < 0) continue;
            REQUIRE(!(seen >> row & 1) && (!allow || (*allow >> row & 1)), "row %d", row);
            seen |= (uint64_t)1 << row;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    static const uint64_t odd = 0xaaaaaaaaaa;
    struct ann *a;
    struct err e = { 0 };
    num_init();
    int rc = ann_open_mem(&a, data, nb, NULL, V, D, &e);
    REQUIRE((rc < 0) == (e.code != 0) && (rc < 0) == (a == NULL), "%d: '%s'", rc, e.msg);
    if (rc < 0) return 0;
    search(a, NULL, V);
    search(a, &odd, V / 2);
    ann_free(a);
    return 0;
}
