#pragma once
// Statistics of an expert that some methods merge by (merge/method.h, ExpertStatistic), measured on blocks of token ids and
// written as safetensors files in float32 (merge/expert_statistics.h reads them).

#include "aimerge/calibration/calibrate.h"

#include <filesystem>

namespace aimerge {

/// Collective. The Gram matrix of every linear layer's inputs, sum x x^T / tokens, as `<module>.gram`. Ranks write their own
/// layers, one layer at a time in memory; the hidden states of all blocks are kept. The bits do not depend on the ranks.
/// @param job its `base` is the expert
/// @param folder exists, is empty, and is seen by all ranks
/// @throws InputError when an activation is NaN or infinite (names the module and the block), RuntimeFault, PeerFailed
void measureGrams(World& world, const CalibrationJob& job, const std::filesystem::path& folder);

/// Collective. The diagonal of the empirical Fisher information of every parameter, under its own name:
///
///     F = 1/B sum_b (d L_b / d theta)^2,   L_b = - sum_t ln p(token t + 1 of block b | tokens 1..t of block b)
///
/// A pipeline, forwards and back; ranks write their own layers, and the bits do not depend on the ranks. What a rank has in
/// memory: calibration/gradient_memory.h.
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
