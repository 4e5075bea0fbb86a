#pragma once

#include "aimerge/architecture/model_config.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace aimerge {

/// Causal attention of one layer: within its window, and with its soft cap, if it has one. Every operation can be
/// differentiated.
/// @param query [sequences, heads, length, headDim]; key, value: [sequences, keyValueHeads, length, headDim]
/// @return [sequences, length, heads * headDim]
at::Tensor attention(const ModelConfig& config, std::int64_t layer, const at::Tensor& query, const at::Tensor& key,
                     const at::Tensor& value);

struct AttentionScale {
    double factor;        // of a query's product with a key
    std::int64_t window;  // tokens that a token sees, itself included; 0: all before it
};
AttentionScale attentionScale(const ModelConfig& config, std::int64_t layer, std::int64_t length);

/// [sequences, length, heads * headDim] seen as [sequences, heads, length, headDim].
at::Tensor splitHeads(const at::Tensor& x, std::int64_t heads);

struct AttentionGradient {
    at::Tensor query, key, value;  // of the inputs' shapes and dtype
};

/// The gradient of sum(attention * gradient) with respect to attention's inputs. On a CPU, scores, their softmax and the
/// gradients with respect to them are float32, for some heads and queries at a time.
/// @param query, gradient [1, length, heads * headDim]; key, value: [1, length, keyValueHeads * headDim]
AttentionGradient attentionGradient(const ModelConfig& config, std::int64_t layer, const at::Tensor& query,
                                    const at::Tensor& key, const at::Tensor& value, const at::Tensor& gradient);

}  // namespace aimerge
