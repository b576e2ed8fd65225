/* torch_file.h — the tensors of a state dict that PyTorch's torch.save wrote: the ZIP format of today and the one before
 * PyTorch 1.6.  Nothing in the file is run (pickle.h).
 *   struct torch_file *f; torch_open(&f, "model.pth", &e);
 *   const struct torch_tensor *t = torch_find(f, "item_embedding.weight");
 *   torch_read(x, t, &e);                        x [t->n], row-major
 * The file holds the state dict itself, or a dictionary with one under "state_dict", as RecBole's does; all else in
 * it is left closed.  Sizes, strides and offsets are checked against the file.  Immutable after open; any thread may read. */
#pragma once
#include "core/base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TORCH_RANK = 4 };

struct torch_type; /* of elements */
struct torch_tensor {
    const char *name; /* its key */
    const struct torch_type *type;
    int32_t rank;
    int64_t shape[TORCH_RANK], stride[TORCH_RANK]; /* in elements */
    int64_t n;                                     /* elements */
    const uint8_t *data;                           /* of element 0; not aligned */
};

struct torch_file;
NODISCARD int torch_open(struct torch_file **out, const char *path, struct err *e);
NODISCARD int torch_open_mem(struct torch_file **out, const void *data, size_t nb,
                             struct err *e); /* borrows */
void torch_close(struct torch_file *f);      /* NULL is fine */
int32_t torch_count(const struct torch_file *f);
int64_t
torch_numbers(const struct torch_file *f); /* in the file, whatever tensors share them */
const struct torch_tensor *torch_at(const struct torch_file *f, int32_t i); /* as saved */
const struct torch_tensor *torch_find(const struct torch_file *f,
                                      const char *name); /* or NULL */
/* As float32; ERR_FORMAT when the elements are no floating-point numbers. */
NODISCARD int torch_read(float *out, const struct torch_tensor *t, struct err *e);
/* A number or text of RecBole's settings, which lie in the file beside the state dict, as text cut at nb bytes; false:
 * it is not there. */
bool torch_setting(char *out, size_t nb, const struct torch_file *f, const char *key);
