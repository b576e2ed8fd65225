/* ckpt.h — parameters to and from safetensors.
 * Loading demands every declared parameter of the groups with its shape, F32, finite; extra tensors are an
 * error that names them.  Thread: owner of the params. */
#pragma once
#include "core/ad/tape.h"

/* The parameters of these groups (bits of struct param's group). */
NODISCARD int ckpt_save(const char *path, const struct params *ps, uint32_t groups,
                        struct err *e);
/* The same with metadata of one's own: key, value, ..., NULL. */
NODISCARD int ckpt_save_with(const char *path, const struct params *ps, uint32_t groups,
                             const char *const *meta, struct err *e);
NODISCARD int ckpt_load(struct params *ps, uint32_t groups, const char *path, struct err *e);
/* The same from a file that may hold more: other tensors are not looked at. */
NODISCARD int ckpt_load_part(struct params *ps, uint32_t groups, const char *path,
                             struct err *e);
/* ERR_FORMAT names the first place of x [n / cols, cols] that is NaN or infinite. */
NODISCARD int ckpt_check_finite(const char *name, const float *x, int64_t n, int32_t cols,
                                struct err *e);
NODISCARD int ckpt_check_params(const struct params *ps, struct err *e);
