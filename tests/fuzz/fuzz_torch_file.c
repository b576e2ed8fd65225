/* Bytes as a PyTorch checkpoint.  What is accepted is read to its last element. */
#include "core/base/mem.h"
#include "core/fmt/torch_file.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    struct torch_file *f;
    struct err e = { 0 };
    char text[16];
    if (torch_open_mem(&f, data, nb, &e) < 0) {
        if ((e.code != ERR_FORMAT && e.code != ERR_LIMIT) || e.msg[0] == '\0') abort();
        return 0;
    }
    for (int32_t i = 0; i < torch_count(f); i++) {
        const struct torch_tensor *t = torch_at(f, i);
        if (t->n < 0 || (size_t)t->n > nb || !torch_find(f, t->name)) abort();
        float *x = xmalloc((size_t)t->n * sizeof *x + 1);
        if (torch_read(x, t, &e) < 0 && e.code != ERR_FORMAT) abort();
        free(x);
    }
    (void)torch_setting(text, sizeof text, f, "n_heads");
    torch_close(f);
    return 0;
}
