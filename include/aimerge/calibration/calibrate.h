#pragma once
// Calibration: blocks of token ids pass through the base model as a pipeline over the ranks, and what enters every linear
// layer, norm and head is summed up per input channel.

#include "aimerge/calibration/token_blocks.h"
#include "aimerge/checkpoint/weight_source.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/core/progress.h"
#include "aimerge/device/device.h"
#include "aimerge/distributed/plan.h"
#include "aimerge/distributed/world.h"
#include "aimerge/statistics/statistics.h"

#include <cstdint>
#include <vector>

namespace aimerge {

struct CalibrationJob {
    const WeightSource& base;
    const CalibrationConfig& config;
    const Plan& plan;               // which layers each rank runs, and whether a rank streams its layers
    const TokenBlocks& blocks;      // the same on every rank
    int threads = 1;                // of this rank
    std::uint64_t memoryLimit = 0;  // bytes per rank for weights and hidden states; 0 = no limit
    ProgressMode progress = ProgressMode::None;
    void (*safePoint)() = nullptr;  // called between micro-batches; throws Interrupted when a signal asks for a stop
    Device device = {};
};

struct CalibrationResult {
    StatisticsByModule modules;       // on rank 0; empty elsewhere
    std::vector<StageRecord> stages;  // on rank 0
    StageRecord own;                  // of this rank
};

/// Collective. @throws InputError when an activation is NaN or infinite (names the module and the block), RuntimeFault,
/// PeerFailed
CalibrationResult calibrate(World& world, const CalibrationJob& job);

}  // namespace aimerge
