#pragma once
// Calibration: blocks of token ids pass through the base model as a pipeline over the ranks, and what enters every linear
// layer, norm and head is summed up per input channel.

#include "aimerge/checkpoint/weight_source.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/core/progress.h"
#include "aimerge/corpus/token_blocks.h"
#include "aimerge/device/device.h"
#include "aimerge/distributed/plan.h"
#include "aimerge/distributed/world.h"
#include "aimerge/statistics/statistics.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace aimerge {

/// What a sequential calibration passes its hidden states through.
class MergedLayers {
public:
    virtual ~MergedLayers() = default;
    /// A source that has the merged embedding.
    virtual std::unique_ptr<WeightSource> embedding() = 0;
    /// One that has the merged layer. @param statistics of the modules of the base's layer
    virtual std::unique_ptr<WeightSource> layer(std::int64_t layer, const StatisticsByModule& statistics) = 0;
};

struct CalibrationJob {
    const WeightSource& base;
    const CalibrationConfig& config;
    const Plan& plan;               // which layers each rank runs, and whether a rank streams its layers
    const TokenBlocks& blocks;      // the same on every rank
    int threads = 1;                // of this rank
    std::uint64_t memoryLimit = 0;  // bytes per rank for weights and hidden states; 0 = no limit
    ProgressListener progress = {};
    void (*safePoint)() = nullptr;  // called between micro-batches; throws Interrupted when a signal asks for a stop
    Device device = {};
    MergedLayers* merged = nullptr;  // of a sequential calibration. @pre the plan has one replica
};

struct CalibrationResult {
    StatisticsByModule modules;       // on rank 0; empty elsewhere
    std::vector<StageRecord> stages;  // on rank 0
    StageRecord own;                  // of this rank
};

/// Collective. A sequential calibration keeps the hidden states of all blocks, and its stages work one after another: what
/// enters a layer of the base has passed the merged embedding and the merged layers below it.
/// @throws InputError when an activation is NaN or infinite (names the module and the block), RuntimeFault, PeerFailed
CalibrationResult calibrate(World& world, const CalibrationJob& job);

}  // namespace aimerge
