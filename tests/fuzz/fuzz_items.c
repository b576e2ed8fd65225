/* items.bin, and with a first byte of 1 seqs.bin: what is accepted must be readable everywhere. The size field of the
 * header is set right, so that a change of length does not end at the first check. */
#include "core/base/mem.h"
#include "core/data/dataset.h"
#include "core/data/items_fmt.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

static uint64_t read_field(const struct items *it, int32_t f, int32_t row)
{
    uint64_t sum = 0;
    int32_t n;
    if (items_field_kind(it, f) == FIELD_NUMBER) return items_number(it, f, row) > 0;
    const int32_t *v = items_values(it, f, row, &n);
    for (int32_t k = 0; k < n; k++) {
        struct str s = items_field_value(it, f, v[k]);
        for (int32_t j = 0; j < s.len; j++) sum += (uint8_t)s.p[j];
    }
    return sum;
}

static void fuzz_items(const char *file, size_t nb)
{
    struct items *it;
    if (items_open_mem(&it, file, nb, NULL) < 0) return;
    uint64_t sum = 0; /* reads every byte */
    for (int32_t i = 0; i < items_count(it); i++) {
        struct str id = items_id(it, i), title = items_title(it, i);
        REQUIRE(items_find(it, id.p, (size_t)id.len) == i, "row %d", i);
        for (int32_t k = 0; k < title.len; k++) sum += (uint8_t)title.p[k];
        sum += (uint64_t)items_popularity(it, i);
        sum += (uint64_t)items_popularity(it, items_by_popularity(it)[i]);
        for (int32_t f = 0; f < items_fields(it); f++) sum += read_field(it, f, i);
    }
    REQUIRE(items_find(it, "no such item", 12) < items_count(it) || sum == 0, "find");
    items_close(it);
}

static void fuzz_seqs(const char *file, size_t nb)
{
    struct dataset d = { .n_users = 3, .n_items = 3 };
    const int32_t *hist;
    int32_t len, answer;
    if (dataset_view_seqs(&d, file, nb, NULL) < 0) return;
    for (int32_t u = 0; u < d.n_users; u++) {
        REQUIRE(dataset_train_len(&d, u) >= 0, "user %d", u);
        for (int split = SPLIT_VALID; split <= SPLIT_TEST; split++)
            if (dataset_case(&d, u, (enum split)split, &hist, &len, &answer))
                REQUIRE(len >= 1 && answer >= 0 && answer < 3, "user %d", u);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    if (nb < 1 + 64) return 0;
    bool seqs = data[0] == 1;
    char *file = xaligned(nb - 1);
    memcpy(file, data + 1, nb - 1);
    uint64_t said = nb - 1;
    memcpy(file + (seqs ? 32 : offsetof(struct items_header, nb_file)), &said, sizeof said);
    if (seqs)
        fuzz_seqs(file, nb - 1);
    else
        fuzz_items(file, nb - 1);
    free(file);
    return 0;
}
