#pragma once

#include "aimerge/architecture/decoder_description.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace aimerge {

/// Causal attention: within its window, and with its soft cap, if it has one. Every operation can be
/// differentiated.
/// @param query [sequences, heads, length, headDim]; key, value: [sequences, keyValueHeads, length, headDim]
/// @return [sequences, length, heads * headDim]
at::Tensor attention(const AttentionDescription& description, const at::Tensor& query, const at::Tensor& key,
                     const at::Tensor& value);

/// That of sequences of a length: 0 where it is as long as they are.
inline std::int64_t windowOf(const AttentionDescription& description, std::int64_t length) {
    return description.window < length ? description.window : 0;
}

/// [sequences, length, heads * headDim] seen as [sequences, heads, length, headDim].
at::Tensor splitHeads(const at::Tensor& x, std::int64_t heads);

struct AttentionGradient {
    at::Tensor query, key, value;  // of the inputs' shapes and dtype
};

/// The gradient of sum(attention * gradient) with respect to attention's inputs. On a CPU, scores, their softmax and the
/// gradients with respect to them are float32, for some heads and queries at a time.
/// @param query, gradient [1, length, heads * headDim]; key, value: [1, length, keyValueHeads * headDim]
AttentionGradient attentionGradient(const AttentionDescription& description, const at::Tensor& query, const at::Tensor& key,
                                    const at::Tensor& value, const at::Tensor& gradient);

}  // namespace aimerge
