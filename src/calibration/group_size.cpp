#include "calibration/group_size.h"

#include "aimerge/calibration/gradient_memory.h"

#include <algorithm>

namespace aimerge {
namespace {

/// Activations alive at the widest moment of a layer, per token.
std::uint64_t workBytesPerToken(const ModelConfig& config, std::uint64_t bytesPerValue) {
    return static_cast<std::uint64_t>(config.decoder->mostOfLayer(&LayerDescription::widestWork)) * bytesPerValue;
}

}  // namespace

std::int64_t groupSizeOf(const CalibrationJob& job, const MicroBatches& steps) {
    if (job.memoryLimit == 0) return groupSize(steps, job.plan.streamedGroups, std::nullopt);

    const ModelConfig& config = job.base.modelConfig();
    const std::uint64_t bytesPerValue = bytesPerElement(job.config.dtype);
    const auto tokens = static_cast<std::uint64_t>(steps.sequencesPerStep() * job.blocks.length);
    const std::uint64_t fixed = static_cast<std::uint64_t>(parametersOfLayer(config)) * bytesPerValue +
                                tokens * workBytesPerToken(config, bytesPerValue);
    const std::uint64_t perStep = tokens * static_cast<std::uint64_t>(config.hiddenSize) * bytesPerValue;
    const std::uint64_t left = job.memoryLimit > fixed ? job.memoryLimit - fixed : 0;
    return groupSize(steps, job.plan.streamedGroups,
                     static_cast<std::int64_t>(std::min<std::uint64_t>(left / perStep, 1u << 30)));
}

}  // namespace aimerge
