#pragma once
// What measuring gradients takes of a rank's memory, on a CPU or on a GPU, and what is kept there between blocks:
// weights and activations that are kept need not be read and computed again for every block.

#include "aimerge/architecture/model_config.h"
#include "aimerge/core/dtype.h"

#include <algorithm>
#include <cstdint>

namespace aimerge {

/// Blocks that go through the layers together, at most, where weights are read for each pass.
inline constexpr std::int64_t kMostSequencesAtOnce = 4;

/// Where memory is not limited: as much is kept of weights, and of activations, at most.
inline constexpr std::uint64_t kMostKeptBytes = std::uint64_t{4} << 30;

/// Weights of the largest layer, without biases. @pre the decoder runs the model
inline std::int64_t parametersOfLayer(const ModelConfig& config) {
    return config.decoder->mostOfLayer(&LayerDescription::parameters);
}

/// Bytes that a layer keeps of a block for the backward pass, at most.
inline std::uint64_t keptBytesOfLayer(const ModelConfig& config, std::int64_t length, Dtype dtype) {
    const std::int64_t elements = length * config.decoder->mostOfLayer(&LayerDescription::keptPerToken);
    return static_cast<std::uint64_t>(elements) * bytesPerElement(dtype);
}

/// Bytes of the largest stage.
struct GradientMemory {
    std::uint64_t ends = 0;       // a float32 sum per parameter of the tables, the head, and the logits of a block
    std::uint64_t layerSums = 0;  // a float32 sum per parameter of the stage's layers
    std::uint64_t weights = 0;    // of the stage's layers, in the compute dtype
    std::uint64_t states = 0;     // inputs of layers, where weights are not kept
    std::uint64_t limit = 0;      // 0: none
    std::int64_t layers = 0;      // of the stage

    std::uint64_t always() const { return ends + layerSums; }
    bool keepsWeights() const { return limit == 0 ? weights <= kMostKeptBytes : always() + weights <= limit; }

    /// Bytes that a stage with its weights in memory keeps of so many passes of a block through a layer, from the forward to
    /// the backward pass. 0: none, because they are too large, and every layer runs again in the backward pass.
    std::uint64_t keptActivationBytes(std::int64_t passes, const ModelConfig& config, std::int64_t length,
                                      Dtype dtype) const {
        const std::uint64_t bytes = static_cast<std::uint64_t>(passes) * keptBytesOfLayer(config, length, dtype);
        const bool fits = limit == 0 ? bytes <= kMostKeptBytes : always() + weights + bytes <= limit;
        return fits ? bytes : 0;
    }

    /// Layers whose gradients are summed up at a time: where not all sums fit, all blocks go through the model once for
    /// every so many layers of a stage. At least one.
    std::int64_t layersAtOnce() const {
        if (limit == 0 || keepsWeights() || always() + states <= limit) return layers;
        const std::uint64_t sumsOfLayer = layerSums / static_cast<std::uint64_t>(layers);
        const std::uint64_t room = limit > ends + states ? limit - ends - states : 0;
        return std::clamp<std::int64_t>(static_cast<std::int64_t>(room / sumsOfLayer), 1, layers);
    }

    /// What a stage takes that keeps no weights.
    std::uint64_t streamed() const {
        return ends + states + layerSums / static_cast<std::uint64_t>(layers) * static_cast<std::uint64_t>(layersAtOnce());
    }
};

/// @param stageLayers layers of the largest stage, at least one @param length of a block @param memoryLimit 0 = no limit
inline GradientMemory gradientMemory(const ModelConfig& config, std::int64_t stageLayers, int stages, std::int64_t length,
                                     Dtype dtype, std::uint64_t memoryLimit) {
    const std::int64_t table = config.vocabSize * config.hiddenSize;
    const std::int64_t parameters = stageLayers * parametersOfLayer(config);
    const auto floats = [](std::int64_t count) { return static_cast<std::uint64_t>(count) * sizeof(float); };
    const auto numbers = [&](std::int64_t count) { return static_cast<std::uint64_t>(count) * bytesPerElement(dtype); };
    // The first stage's table and the last one's; where they are one, their sums meet on the first.
    const std::int64_t tables = stages > 1 && !config.tieWordEmbeddings ? 1 : 2;
    GradientMemory memory;
    // The head; logits and the gradient with respect to them.
    memory.ends = floats(tables * table) + numbers(table + 2 * config.vocabSize * length);
    memory.layerSums = floats(parameters);
    memory.weights = numbers(parameters);
    // The first of several stages has fewer layers, and a block under way for each of the others.
    memory.states = numbers(kMostSequencesAtOnce * config.layers * length * config.hiddenSize);
    memory.limit = memoryLimit;
    memory.layers = stageLayers;
    return memory;
}

}  // namespace aimerge
