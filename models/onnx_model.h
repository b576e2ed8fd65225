/* onnx_model.h — the encoder and its head as an ONNX graph, the same function as core/nn's.
 *   items    int64 [batch, events]   rows of histories, oldest first, from the left; at most max_len slots
 *   lengths  int64 [batch]           1 to `events`: how many of a row's slots are events; the rest may hold anything
 *   interests float32 [batch, K, D]  what model_encode gives
 *   shares    float32 [batch, K]     share of importance of each interest (model_shares); K-interest heads only
 * Thread: any. */
#pragma once
#include "core/fmt/onnx.h"
#include "core/nn/model.h"

void onnx_model(struct onnx *o, const struct model *m);
