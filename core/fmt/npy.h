/* npy.h — a matrix as NumPy's .npy file, format 1.0: np.load(path) gives float32 [rows, cols].
 * Thread: any. */
#pragma once
#include "core/base/err.h"
#include <stdint.h>

/* Written atomically. */
NODISCARD int npy_write(const char *path, const float *x, int64_t rows, int64_t cols,
                        struct err *e);
