#pragma once
// Who does what: contiguous layers per rank, embeddings with the first, final norm and head with the last, balanced by cost,
// and what that means in bytes, memory and FLOPs. A calibration may run several replicas of the pipeline, each on its share
// of the corpus; ranks are replica after replica, stage after stage. Made by rank 0 from headers alone, then broadcast.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/distributed/hardware.h"
#include "aimerge/safetensors/shard_layout.h"

#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

class World;

/// Replicas of a pipeline, at most: the corpus is summed up in so many parts (stage.h).
inline constexpr int kMostReplicas = 16;

struct RankPlan {
    int replica = 0;
    std::int64_t firstLayer = 0, endLayer = 0;        // [firstLayer, endLayer)
    bool embedding = false, head = false;             // embeddings with the first rank, norm and lm_head with the last
    std::vector<std::string> tensors;                 // output parameters this rank merges, in model order
    std::uint64_t bytesToRead = 0, bytesToWrite = 0;  // of the merge
    std::uint64_t calibrationWeightBytes = 0;         // of the stage in the compute dtype: its layers, at the end the norm
    std::uint64_t calibrationBytesToRead = 0;         // the same, as it is stored
    std::uint64_t statisticsBytes = 0;                // sums that rank 0 gathers, for each part of the corpus
    std::int64_t hiddenStates = 0;                    // of micro-batches, held at once while calibrating
    std::uint64_t hiddenStateBytes = 0;               // held while calibrating, in the link and at work in one layer
    bool streamsLayers = false;                       // the stage would exceed the memory limit with all layers in memory
    std::uint64_t peakMemoryBytes = 0;  // estimate: weights, hidden states, merge buffers; not page cache or code
    double calibrationFlops = 0;

    bool idle() const { return firstLayer == endLayer && tensors.empty(); }
};

struct PlanSettings {
    int ranks = 1;
    int threadsPerRank = 1;
    Hardware hardware = processorHardware(1);
    std::uint64_t memoryLimit = 0;             // bytes per rank; 0 = no limit
    std::int64_t blocks = 0, blockLength = 0;  // of the calibration; 0 blocks = no calibration
    std::int64_t microBatch = 1;
    Dtype computeDtype = Dtype::BF16;
    int stages = 0, replicas = 0;            // of the calibration; 0: chosen
    std::size_t inputs = 0;                  // models read by the merge, the base included
    std::uint64_t inputBytesPerElement = 2;  // of the widest input
    std::size_t omegas = 1;                  // outputs written per tensor
    std::uint64_t mergeBytesPerThread = 0;   // buffers of a merging thread
    std::uint64_t mergeParameterBytes = 0;   // whatever a method keeps of whole parameters, at once
    std::uint64_t readAheadBytes = 0;        // what is read ahead of the merge, at once
    bool merging = true;                     // false: calibrate only
    /// For a sequential calibration, which merges while it measures: the bytes of the largest layer, or of the embedding, as
    /// it is written; 0 for another calibration.
    std::uint64_t mergedAtOnceBytes = 0;
};

struct Plan {
    std::vector<RankPlan> ranks;
    int replicas = 1;
    std::int64_t streamedGroups = 1;  // in which micro-batches pass stages that read their layers anew for each (stage.h)

    std::uint64_t totalBytesToRead() const;
    std::uint64_t totalBytesToWrite() const;

    std::string toJson() const;
    static Plan fromJson(const std::string& text);
};

/// Pure function of its arguments, apart from a warning in the log when ranks stay idle: of R ranks and L layers the first
/// min(R, L) have at least one layer each, and the largest estimated time of a rank is as small as contiguous layers allow.
/// `base` gives the layers and what calibration runs; `output` the tensors to merge (unused when not merging). Tensors that
/// belong to no layer go, one by one, to the rank that has the least to do; so does everything of a model without layers.
/// Replicas are as the settings say, or as many as make the calibration fastest among those whose layers fit the memory
/// limit; one without a limit. With several, tensors to merge are balanced over all ranks by themselves.
/// @throws UsageError when the memory limit is too small even for one streamed layer or the merge buffers, with the least
///         that works; when stages and replicas do not take all ranks, or there is not a micro-batch for each replica
Plan makePlan(const Checkpoint& base, const std::vector<OutputTensor>& output, const PlanSettings& settings);

/// The table that `aimerge plan` prints: per rank layers, bytes to read and write, memory, FLOPs; then totals against free
/// disk and the memory limit.
std::string planTable(const Plan& plan, const PlanSettings& settings, std::uint64_t freeDiskBytes);

}  // namespace aimerge
