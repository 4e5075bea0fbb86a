#include "distributed/memory_estimate.h"

#include <algorithm>

namespace aimerge {
namespace {

// A stage that holds its layers receives one hidden state while it computes one and sends one.
constexpr std::uint64_t kStatesInFlight = 3;

struct CalibrationMemory {
    std::uint64_t states;
    std::uint64_t hiddenStateBytes, peakBytes, leastBytes;
    bool streams;
};

std::uint64_t ofMerge(const PlanSettings& settings) {
    return settings.mergeBytesPerThread * static_cast<std::uint64_t>(settings.threadsPerRank) +
           settings.mergeParameterBytes + settings.readAheadBytes;
}

/// The hidden states of all blocks wait while a layer of the base is run and taken down, merged, and run as merged.
CalibrationMemory ofSequentialCalibration(const StageWeights& weights, const StepMemory& step, std::uint64_t steps,
                                          const PlanSettings& settings) {
    const std::uint64_t hidden = (steps + 1) * step.hiddenBytes + step.workBytes;
    const std::uint64_t running = weights.leastStreamed + hidden;
    const std::uint64_t waiting = steps * step.hiddenBytes + settings.mergedAtOnceBytes;
    const std::uint64_t merging = waiting + std::max(ofMerge(settings), weights.leastStreamed);
    const std::uint64_t peak = std::max(running, merging);
    return {steps, hidden, peak, peak, true};
}

CalibrationMemory ofCalibration(const StageWeights& weights, const StepMemory& step, const PlanSettings& settings) {
    const std::uint64_t steps =
        static_cast<std::uint64_t>((settings.blocks + settings.microBatch - 1) / settings.microBatch);
    if (settings.mergedAtOnceBytes > 0) return ofSequentialCalibration(weights, step, steps, settings);
    const std::uint64_t residentHidden = std::min(steps, kStatesInFlight) * step.hiddenBytes + step.workBytes;
    const std::uint64_t resident = weights.all + residentHidden;
    const std::uint64_t leastStreaming = weights.leastStreamed + step.workBytes + step.hiddenBytes;
    const std::uint64_t least = std::min(resident, leastStreaming);
    if (settings.memoryLimit == 0 || resident <= settings.memoryLimit)
        return {std::min(steps, kStatesInFlight), residentHidden, resident, least, false};

    // As many hidden states pass through a layer at a time as the limit leaves room for.
    const std::uint64_t room = settings.memoryLimit > leastStreaming ? settings.memoryLimit - leastStreaming : 0;
    const std::uint64_t states = std::min(steps, 1 + room / std::max<std::uint64_t>(step.hiddenBytes, 1));
    const std::uint64_t hidden = states * step.hiddenBytes + step.workBytes;
    return {states, hidden, weights.leastStreamed + hidden, least, true};
}

}  // namespace

StepMemory StepMemory::of(const ModelConfig& config, const PlanSettings& settings) {
    const std::int64_t tokens = std::min(settings.microBatch, settings.blocks) * settings.blockLength;
    // A model that the decoder does not run is not calibrated.
    const std::int64_t widest = config.decoder ? config.decoder->mostOfLayer(&LayerDescription::widestWork) : 0;
    const std::uint64_t bytes = bytesPerElement(settings.computeDtype);
    return {static_cast<std::uint64_t>(tokens * config.hiddenSize) * bytes,
            static_cast<std::uint64_t>(tokens * widest) * bytes};
}

std::uint64_t estimateMemory(RankPlan& rank, const StageWeights& weights, const StepMemory& step,
                             const PlanSettings& settings) {
    std::uint64_t least = 0;
    if (settings.blocks > 0 && rank.firstLayer < rank.endLayer) {
        const CalibrationMemory calibration = ofCalibration(weights, step, settings);
        rank.hiddenStates = static_cast<std::int64_t>(calibration.states);
        rank.hiddenStateBytes = calibration.hiddenStateBytes;
        rank.streamsLayers = calibration.streams;
        rank.peakMemoryBytes = calibration.peakBytes;
        least = calibration.leastBytes;
    }
    if (!rank.tensors.empty()) {  // calibration is over, and its memory free, when the merge begins
        const std::uint64_t merge = ofMerge(settings);
        rank.peakMemoryBytes = std::max(rank.peakMemoryBytes, merge);
        least = std::max(least, merge);
    }
    return least;
}

}  // namespace aimerge
