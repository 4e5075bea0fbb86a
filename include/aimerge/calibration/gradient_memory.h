#pragma once
// What measuring gradients takes of a rank's memory, on processors or on a GPU, and what is kept there between blocks:
// weights and graphs that are kept need not be read and computed again for every block.

#include "aimerge/checkpoint/model_config.h"
#include "aimerge/core/dtype.h"

#include <cstdint>

namespace aimerge {

/// Blocks that go through the layers together, at most, where weights are read for each pass.
inline constexpr std::int64_t kMostSequencesAtOnce = 4;

/// Where memory is not limited: as much is kept of weights, and of graphs, at most.
inline constexpr std::uint64_t kMostKeptBytes = std::uint64_t{4} << 30;

/// Weights of one layer, without biases.
inline std::int64_t parametersOfLayer(const ModelConfig& config) {
    const std::int64_t attention = 2 * (config.heads + config.keyValueHeads) * config.headDim;
    return config.hiddenSize * (attention + 3 * config.intermediateSize + 2);
}

/// What the operations of one layer keep of a block for the way back, about.
inline std::uint64_t graphBytesOfLayer(const ModelConfig& config, std::int64_t length, Dtype dtype) {
    const auto bytes = static_cast<std::int64_t>(bytesPerElement(dtype));
    const std::int64_t norms = 2 * config.hiddenSize * (static_cast<std::int64_t>(sizeof(float)) + 2 * bytes);
    const std::int64_t attention = 5 * config.heads * config.headDim * bytes;
    const std::int64_t feedForward = 4 * config.intermediateSize * bytes;
    const bool keepsScores = config.attentionSoftcap > 0 || !config.windows.empty();
    const std::int64_t scores = keepsScores ? 3 * config.heads * length * static_cast<std::int64_t>(sizeof(float)) : 0;
    return static_cast<std::uint64_t>(length * (norms + attention + feedForward + scores));
}

/// Bytes of the largest stage.
struct GradientMemory {
    std::uint64_t always = 0;   // a float32 sum per parameter, the head, and the logits of a block
    std::uint64_t weights = 0;  // of the stage, in the compute dtype
    std::uint64_t limit = 0;    // 0: none

    bool keepsWeights() const { return limit == 0 ? weights <= kMostKeptBytes : always + weights <= limit; }

    /// Of so many graphs of a layer and a block, what a stage that keeps its weights keeps from the forward to the backward
    /// pass. 0: none, because they are too large, and every layer runs again on the way back.
    std::uint64_t keptGraphBytes(std::int64_t graphs, const ModelConfig& config, std::int64_t length, Dtype dtype) const {
        const std::uint64_t bytes = static_cast<std::uint64_t>(graphs) * graphBytesOfLayer(config, length, dtype);
        const bool fits = limit == 0 ? bytes <= kMostKeptBytes : always + weights + bytes <= limit;
        return fits ? bytes : 0;
    }
};

/// @param stageLayers layers of the largest stage @param length of a block @param memoryLimit 0 = no limit
inline GradientMemory gradientMemory(const ModelConfig& config, std::int64_t stageLayers, int stages, std::int64_t length,
                                     Dtype dtype, std::uint64_t memoryLimit) {
    const std::int64_t table = config.vocabSize * config.hiddenSize;
    const std::int64_t tables = stages > 1 || config.tieWordEmbeddings ? 1 : 2;  // the first stage's and the last one's
    const auto parameters = static_cast<std::uint64_t>(stageLayers * parametersOfLayer(config) + tables * table);
    // The head and its gradient, and what freed memory of that size is kept; logits and their gradient, and what computes
    // them.
    const auto ends = static_cast<std::uint64_t>(3 * table + 4 * config.vocabSize * length);
    return {(parameters + ends) * sizeof(float), parameters * bytesPerElement(dtype), memoryLimit};
}

}  // namespace aimerge
