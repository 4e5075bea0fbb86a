#pragma once
// Hidden states on their way through the pipeline, in slots whose memory is allocated once. Messages are the tensor's bytes
// in the compute dtype.

#include "aimerge/calibration/calibrate.h"
#include "aimerge/calibration/hidden_transport.h"
#include "aimerge/distributed/message_link.h"
#include "aimerge/distributed/world.h"
#include "aimerge/model/decoder.h"

#include <vector>

namespace aimerge {

class StageLink : public MessageLink<at::Tensor> {
public:
    /// @param steps their shapes; the same on every stage
    StageLink(HiddenTransport& transport, const Stage& stage, std::vector<StepShape> steps, const Decoder& decoder,
              std::size_t slots);
};

std::vector<int> otherRanks(const World& world);

/// Waits while the stages of ranks [first, end) work, one after another, a step per micro-batch and layer.
void followStages(World& world, const CalibrationJob& job, int first, int end);

/// A rank at work tells the ranks that wait for it that a step is done, and these follow it, so that no single wait of
/// theirs lasts as long as all its work.
class StepNotice {
public:
    StepNotice(World& world, std::vector<int> waitingRanks);
    void stepDone();
    void finish();
    /// On a waiting rank: returns when `worker` has done all steps.
    static void follow(World& world, int worker, std::int64_t steps);

private:
    World& world_;
    std::vector<int> waitingRanks_;
    std::vector<World::Request> pending_;
};

}  // namespace aimerge
