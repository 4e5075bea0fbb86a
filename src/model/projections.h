#pragma once
// A layer's projections one by one, whether its family stores them so or several in one matrix. Views: a gradient with
// respect to the stored matrix comes through.

#include "aimerge/model/decoder.h"

#include <ATen/ATen.h>

namespace aimerge {

struct AttentionInputs {
    LinearWeights query, key, value;
};

struct MlpInputs {
    LinearWeights gate, up;
};

/// Output channels [first, first + count).
inline LinearWeights outputsOf(const LinearWeights& weights, std::int64_t first, std::int64_t count) {
    return {weights.weight.narrow(0, first, count),
            weights.bias.defined() ? weights.bias.narrow(0, first, count) : at::Tensor()};
}

inline AttentionInputs attentionInputs(const ModelConfig& config, const LayerWeights& weights) {
    if (!weights.attentionInput.weight.defined()) return {weights.query, weights.key, weights.value};
    const std::int64_t queries = config.heads * config.headDim, keys = config.keyValueHeads * config.headDim;
    return {outputsOf(weights.attentionInput, 0, queries), outputsOf(weights.attentionInput, queries, keys),
            outputsOf(weights.attentionInput, queries + keys, keys)};
}

inline MlpInputs mlpInputs(const ModelConfig& config, const LayerWeights& weights) {
    if (!weights.mlpInput.weight.defined()) return {weights.gate, weights.up};
    return {outputsOf(weights.mlpInput, 0, config.intermediateSize),
            outputsOf(weights.mlpInput, config.intermediateSize, config.intermediateSize)};
}

}  // namespace aimerge
