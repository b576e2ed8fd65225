/* onnx.h — an ONNX model, written node by node: opset 17, as runtimes from 2022 on read it.
 *   struct onnx *o = onnx_new("intent");
 *   onnx_input(o, "items", ONNX_I64, (const char *[]){ "batch", "events", NULL });
 *   onnx_floats(o, "w", w, 2, (int64_t[]){ 64, 64 });
 *   onnx_node(o, "MatMul", "y", "x w");
 *   onnx_attr_int(o, "axis", -1);  onnx_node(o, "Softmax", "p", "y");     attributes come before their node
 *   onnx_write(o, path, &e);  onnx_free(o);
 * The file is a Protocol Buffers message (onnx.proto); the few kinds of fields in it are written by hand.  Thread: owner. */
#pragma once
#include "core/base/err.h"
#include <stdint.h>

enum onnx_type { ONNX_F32 = 1, ONNX_I64 = 7 };

struct onnx;
struct onnx *onnx_new(const char *name);
void onnx_free(struct onnx *o);
void onnx_meta(struct onnx *o, const char *key, const char *value);
/* dims: numbers as text, or names of sizes that the caller brings; NULL ends them. */
void onnx_input(struct onnx *o, const char *name, enum onnx_type type, const char *const *dims);
void onnx_output(struct onnx *o, const char *name, enum onnx_type type,
                 const char *const *dims);
/* Constants; rank 0: one value. */
void onnx_floats(struct onnx *o, const char *name, const float *x, int32_t rank,
                 const int64_t *dims);
void onnx_ints(struct onnx *o, const char *name, const int64_t *x, int32_t rank,
               const int64_t *dims);
/* Of the node that comes next. */
void onnx_attr_int(struct onnx *o, const char *name, int64_t v);
void onnx_attr_ints(struct onnx *o, const char *name, const int64_t *v, int32_t n);
void onnx_attr_float(struct onnx *o, const char *name, float v);
/* outputs, inputs: names with a space between them. */
void onnx_node(struct onnx *o, const char *op, const char *outputs, const char *inputs);
/* ERR_LIMIT past 2 GiB, the most that a message may have.  Written atomically. */
NODISCARD int onnx_write(const struct onnx *o, const char *path, struct err *e);
