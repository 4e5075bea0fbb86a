#pragma once
// The memory a rank's share takes, from shapes alone: what fits the limit, and the least that would.

#include "aimerge/architecture/model_config.h"
#include "aimerge/distributed/plan.h"

#include <cstdint>

namespace aimerge {

/// The memory of one micro-batch.
struct StepMemory {
    std::uint64_t hiddenBytes = 0;  // one hidden state [sequences, length, hidden]
    std::uint64_t workBytes = 0;    // activations alive at the widest moment of a layer

    static StepMemory of(const ModelConfig& config, const PlanSettings& settings);
};

struct StageWeights {
    std::uint64_t all = 0;
    std::uint64_t leastStreamed = 0;  // the largest layer, and the final norm at the end of the model
};

/// Fills hiddenStateBytes, streamsLayers and peakMemoryBytes of a rank whose other fields are there.
/// @return the smallest memory limit with which this rank's share can be done
std::uint64_t estimateMemory(RankPlan& rank, const StageWeights& weights, const StepMemory& step,
                             const PlanSettings& settings);

}  // namespace aimerge
