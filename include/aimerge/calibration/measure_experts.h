#pragma once
// Statistics of an expert that some methods merge by (merge/method.h, ExpertStatistic), measured on blocks of token ids and
// written as safetensors files in float32 (merge/expert_statistics.h reads them).

#include "aimerge/calibration/calibrate.h"

#include <cstdint>
#include <filesystem>

namespace aimerge {

/// Collective. The Gram matrix of every linear layer's inputs, sum x x^T / tokens, as `<module>.gram`. Ranks write their own
/// layers, one layer at a time in memory; the hidden states of all blocks are kept. The bits do not depend on the ranks.
/// @param job its `base` is the expert
/// @param folder exists, is empty, and is seen by all ranks
/// @throws InputError when an activation is NaN or infinite (names the module and the block), RuntimeFault, PeerFailed
void measureGrams(World& world, const CalibrationJob& job, const std::filesystem::path& folder);

/// Blocks that go through the layers together, at most, where weights are read for each pass.
inline constexpr std::int64_t kMostSequencesAtOnce = 4;

/// What a stage keeps in memory between blocks takes at most so much: its weights, and its graphs.
inline constexpr std::uint64_t kMostKeptBytes = std::uint64_t{4} << 30;

/// Whether a stage's weights stay in memory from block to block; else one layer's do. @param memoryLimit 0 = no limit
inline bool keepsWeights(std::uint64_t stageBytes, std::uint64_t memoryLimit) {
    return memoryLimit == 0 && stageBytes <= kMostKeptBytes;
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

/// Of so many graphs of a layer and a block: what a stage that keeps its weights keeps of them from the forward to the
/// backward pass. 0: none, because they are too large, and every layer runs again on the way back.
inline std::uint64_t keptGraphBytes(std::int64_t graphs, const ModelConfig& config, std::int64_t length, Dtype dtype) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(graphs) * graphBytesOfLayer(config, length, dtype);
    return bytes <= kMostKeptBytes ? bytes : 0;
}

/// Collective. The diagonal of the empirical Fisher information of every parameter, under its own name:
///
///     F = 1/B sum_b (d L_b / d theta)^2,   L_b = - sum_t ln p(token t + 1 of block b | tokens 1..t of block b)
///
/// A pipeline, forwards and back; ranks write their own layers, and the bits do not depend on the ranks. A rank keeps a
/// float32 number per parameter of its stage, the inputs of its layers for kMostSequencesAtOnce blocks per stage, and, where
/// these are small and memory is not limited, its weights and graphs, else those of one layer.
/// @throws UsageError for blocks of one token; InputError naming the parameter when a value is beyond float32
void measureFisher(World& world, const CalibrationJob& job, const std::filesystem::path& folder);

/// Collective. The sensitivity of every parameter of the base (paper, arXiv 2502.02421, Eq. 5, before its normalisation),
/// under its own name, likewise:
///
///     G = 1/B sum_b |d L_b / d theta|,   L_b = - 1/T sum_t sum_v p_tv ln p_tv: the mean entropy of the T next tokens'
///     distributions
///
/// Magnitudes are taken per block, so G depends on how the corpus is cut into blocks.
/// @throws InputError as measureFisher()
void measureSensitivity(World& world, const CalibrationJob& job, const std::filesystem::path& folder);

}  // namespace aimerge
