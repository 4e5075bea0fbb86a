#pragma once
// Hidden states on their way through the pipeline: received from the stage before, worked on in place, sent to the stage
// after, without waiting. Each step has a slot, step modulo the number of slots; with three slots one is being
// received, one computed and one sent. Messages are the tensor's bytes in the compute dtype.

#include "aimerge/distributed/world.h"
#include "aimerge/model/decoder.h"
#include "calibration/hidden_transport.h"
#include "calibration/stage.h"

#include <vector>

namespace aimerge {

class StageLink {
public:
    /// @param steps their shapes; the same on every stage
    StageLink(HiddenTransport& transport, const Stage& stage, std::vector<StepShape> steps, const Decoder& decoder,
              std::size_t slots);

    /// The step's hidden state is to be received by the next exchange; first waits until the slot's earlier one has left. At
    /// the first stage it only frees the slot.
    void expect(std::int64_t step);
    /// The step's hidden state [sequences, length, hidden], received; at the first stage uninitialised.
    at::Tensor& take(std::int64_t step);
    /// What take() gave is to be sent by the next exchange; at the last stage nothing.
    void pass(std::int64_t step);
    /// Starts what is to be received and sent: one step each at most.
    void exchange();
    /// Waits until everything has been sent.
    void finish();

    double waitSeconds() const { return waitSeconds_; }

private:
    struct Slot {
        at::Tensor memory, hidden;
        std::unique_ptr<Transfer> incoming, outgoing;  // gone before the memory they use
    };
    Slot& slotOf(std::int64_t step) { return slots_[static_cast<std::size_t>(step) % slots_.size()]; }
    void waitFor(std::unique_ptr<Transfer>& transfer);

    HiddenTransport& transport_;
    const Stage& stage_;
    std::vector<StepShape> steps_;
    std::int64_t hiddenSize_;
    std::vector<Slot> slots_;
    Slot *receiving_ = nullptr, *sending_ = nullptr;  // by the next exchange
    double waitSeconds_ = 0;
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
