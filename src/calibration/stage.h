#pragma once
// A rank's place in the pipeline, and how the blocks of the corpus are cut into steps. Pure functions of plan and job.

#include "aimerge/calibration/calibrate.h"

#include <cstdint>
#include <vector>

namespace aimerge {

struct Stage {
    int rank = 0;
    std::int64_t firstLayer = 0, endLayer = 0;  // [firstLayer, endLayer); empty = the rank only takes part in collectives
    int previous = -1, next = -1;               // ranks of the neighbouring stages, -1 at the ends
    int stages = 1;                             // of the whole pipeline
    std::vector<int> ranks;                     // those that run layers, in the order of the stages
    bool streamsLayers = false;

    bool empty() const { return endLayer <= firstLayer; }
    bool first() const { return previous < 0; }
    bool last() const { return next < 0; }
    int number() const;  // of the stage, from 0. @pre !empty()
};

/// @throws RuntimeFault when the layers of the plan's ranks are not [0, layers) in ascending order
Stage stageOf(const Plan& plan, int rank, std::int64_t layers);

/// The rank of the last stage, and the ranks that run no layer.
int lastStage(const Plan& plan);
std::vector<int> idleRanks(const Plan& plan);

/// Sequences of one length that pass a layer together.
struct StepShape {
    std::int64_t sequences = 0, length = 0;
    std::int64_t tokens() const { return sequences * length; }
};

/// Consecutive blocks, `sequencesPerStep` at a time; the last step may have fewer.
class MicroBatches {
public:
    MicroBatches(std::int64_t blocks, std::int64_t sequencesPerStep)
        : blocks_(blocks), sequencesPerStep_(sequencesPerStep) {}

    std::int64_t count() const { return (blocks_ + sequencesPerStep_ - 1) / sequencesPerStep_; }
    std::int64_t sequencesPerStep() const { return sequencesPerStep_; }
    std::int64_t firstBlock(std::int64_t step) const { return step * sequencesPerStep_; }
    std::int64_t sequences(std::int64_t step) const { return std::min(sequencesPerStep_, blocks_ - firstBlock(step)); }
    /// Of all steps, with blocks of `length` tokens.
    std::vector<StepShape> shapes(std::int64_t length) const;

private:
    std::int64_t blocks_, sequencesPerStep_;
};

/// How many micro-batches a stage that streams its layers takes through them at once: as many hidden states as the memory
/// limit holds beside one layer and the work of one step, but several groups per stage, so that all stages have work.
std::int64_t groupSize(const CalibrationJob& job, const Stage& stage, const MicroBatches& steps);

}  // namespace aimerge
