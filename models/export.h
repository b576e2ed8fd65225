/* export.h — a bundle's weights for other programs; every format comes with ids.txt, the item id of each row, a line each.
 *   safetensors  model.safetensors: parameters under the names of models/README.md, settings as metadata
 *   npy          NAME.npy of every parameter (item.weight.npy: the item vectors), encoder.json: the settings
 *   onnx         model.onnx (onnx_model.h), item.weight.npy: the item vectors to search among
 * Thread: any, on different directories. */
#pragma once
#include "core/base/err.h"

enum export_format { EXPORT_SAFETENSORS, EXPORT_NPY, EXPORT_ONNX };
#define EXPORT_CHOICES "safetensors|npy|onnx"

/* Files of these names in directory out are replaced, one by one. */
NODISCARD int export_bundle(const char *bundle_path, enum export_format format, const char *out,
                            struct err *e);
