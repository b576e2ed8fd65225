/* ckpt.h — parameters to and from safetensors.
 * Loading demands every declared parameter with its shape, F32, finite; extra tensors are an
 * error that names them.  Thread: owner of the params. */
#pragma once
#include "core/ad/tape.h"

NODISCARD int ckpt_save(const char *path, const struct params *ps, struct err *e);
NODISCARD int ckpt_load(struct params *ps, const char *path, struct err *e);
