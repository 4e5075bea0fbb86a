#pragma once

#include "aimerge/checkpoint/model_config.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace aimerge {

/// Causal attention of one layer: within its window, and with its soft cap, if it has one. Every operation can be
/// differentiated.
/// @param query [sequences, heads, length, headDim]; key, value: [sequences, keyValueHeads, length, headDim]
/// @return [sequences, length, heads * headDim]
at::Tensor attention(const ModelConfig& config, std::int64_t layer, const at::Tensor& query, const at::Tensor& key,
                     const at::Tensor& value);

}  // namespace aimerge
