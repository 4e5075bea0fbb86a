#pragma once
// Hidden states on their way through the pipeline: received from the stage before, worked on in place, sent to the stage
// after, without waiting. Each micro-batch has a slot, step modulo the number of slots; with three slots one is being
// received, one computed and one sent. Messages are the tensor's bytes in the compute dtype.

#include "aimerge/distributed/world.h"
#include "aimerge/model/decoder.h"
#include "calibration/stage.h"

#include <vector>

namespace aimerge {

class StageLink {
public:
    StageLink(World& world, const Stage& stage, const MicroBatches& steps, const Decoder& decoder, std::int64_t length,
              std::int64_t slots);

    /// Starts receiving the step's hidden state; first waits until the slot's earlier one has left. At the first stage it
    /// only frees the slot.
    void expect(std::int64_t step);
    /// The step's hidden state [sequences, length, hidden], received; at the first stage uninitialised.
    at::Tensor& take(std::int64_t step);
    /// Starts sending what take() gave; at the last stage nothing.
    void pass(std::int64_t step);
    /// Waits until everything has been sent.
    void finish();

    double waitSeconds() const { return waitSeconds_; }

private:
    struct Slot {
        at::Tensor memory, hidden;
        World::Request incoming, outgoing;  // gone before the memory they use
    };
    Slot& slotOf(std::int64_t step) { return slots_[static_cast<std::size_t>(step) % slots_.size()]; }
    void waitFor(World::Request& request);

    World& world_;
    const Stage& stage_;
    const MicroBatches& steps_;
    std::vector<Slot> slots_;
    double waitSeconds_ = 0;
};

/// The last stage tells ranks without layers that a step is done, and these wait for that, so that no single wait of
/// theirs lasts as long as the whole calibration.
class IdleNotice {
public:
    IdleNotice(World& world, std::vector<int> idleRanks);
    void stepDone();
    void finish();
    /// On a rank without layers: returns when the last stage has done all steps.
    static void follow(World& world, int lastStage, std::int64_t steps);

private:
    World& world_;
    std::vector<int> idleRanks_;
    std::vector<World::Request> pending_;
};

}  // namespace aimerge
