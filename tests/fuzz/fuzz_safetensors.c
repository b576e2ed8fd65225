/* Bytes as a safetensors file.  What is accepted is read to its last element. */
#include "core/fmt/safet.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

static const size_t size_of[SAFET_DTYPES] = { 4, 8, 4, 8, 1 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    struct safet *s;
    struct err e = { 0 };
    if (safet_open_mem(&s, data, nb, &e) < 0) {
        if (e.code != ERR_FORMAT || e.msg[0] == '\0') abort();
        return 0;
    }
    uint8_t sum = 0;
    size_t total = 0;
    for (int32_t i = 0; i < safet_count(s); i++) {
        const struct safet_tensor *t = safet_at(s, i);
        if (safet_find(s, t->name) != t) abort();
        size_t nb_t = (size_t)t->n * size_of[t->dtype];
        const uint8_t *p = t->data;
        for (size_t j = 0; j < nb_t; j++) sum ^= p[j];
        total += nb_t;
    }
    if (total > nb) abort();
    (void)safet_meta(s, "format");
    safet_close(s);
    return sum == 1 && nb == 0; /* keeps the reads */
}
