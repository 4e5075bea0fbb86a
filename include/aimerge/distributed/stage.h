#pragma once
// A rank's place in its pipeline, and how the blocks of the corpus are cut into steps. Pure functions of the plan.
//
// The steps of a corpus are summed up in kMostReplicas parts (one per step where there are fewer), each by itself, and the
// parts are added up in order. Replicas take whole parts, so that how many there are leaves no trace in the sums.

#include "aimerge/distributed/plan.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace aimerge {

struct Stage {
    int rank = 0;
    std::int64_t firstLayer = 0, endLayer = 0;  // [firstLayer, endLayer); empty = the rank only takes part in collectives
    int previous = -1, next = -1;               // ranks of the neighbouring stages, -1 at the ends
    int stages = 1;                             // of the whole pipeline
    int replica = 0;
    std::vector<std::vector<int>> pipelines;  // of each replica the ranks that run layers, in the order of the stages
    bool streamsLayers = false;

    bool empty() const { return endLayer <= firstLayer; }
    bool first() const { return previous < 0; }
    bool last() const { return next < 0; }
    int number() const;  // of the stage, from 0. @pre !empty()
};

/// @throws RuntimeFault when the layers of the plan's ranks are not [0, layers) in ascending order
Stage stageOf(const Plan& plan, int rank, std::int64_t layers);

/// The rank of the first replica's last stage, and the ranks that run no layer.
int lastStage(const Plan& plan);
std::vector<int> idleRanks(const Plan& plan);

/// Sequences of one length that pass a layer together.
struct StepShape {
    std::int64_t sequences = 0, length = 0;
    std::int64_t tokens() const { return sequences * length; }
};

/// Consecutive blocks, `sequencesPerStep` at a time; the last step may have fewer. Steps are a replica's own.
class MicroBatches {
public:
    MicroBatches(std::int64_t blocks, std::int64_t sequencesPerStep, int replica = 0, int replicas = 1);

    bool beginsCorpus() const { return firstStep_ == 0; }
    std::int64_t count() const { return endStep_ - firstStep_; }
    std::int64_t blocks() const;  // of all its steps
    std::int64_t sequencesPerStep() const { return sequencesPerStep_; }
    std::int64_t firstBlock(std::int64_t step) const { return (firstStep_ + step) * sequencesPerStep_; }
    std::int64_t sequences(std::int64_t step) const { return std::min(sequencesPerStep_, blocks_ - firstBlock(step)); }
    /// The shapes of all steps, with blocks of `length` tokens.
    std::vector<StepShape> shapes(std::int64_t length) const;

    /// The part of the corpus to which the step belongs that begins with this block.
    int partOf(std::int64_t firstBlock) const;

private:
    std::int64_t blocks_, sequencesPerStep_, stepsOfAll_, parts_, firstStep_, endStep_;
};

/// How many micro-batches a stage that streams its layers takes through them at once: as many as the plan says and there is
/// room for.
/// @param groups Plan::streamedGroups
/// @param fitting hidden states that the memory limit holds beside one layer and the work of one step; none: no limit
std::int64_t groupSize(const MicroBatches& steps, std::int64_t groups, std::optional<std::int64_t> fitting);

}  // namespace aimerge
