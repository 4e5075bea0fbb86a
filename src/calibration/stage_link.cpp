#include "aimerge/calibration/stage_link.h"

#include <ATen/ATen.h>

#include <array>
#include <span>

namespace aimerge {
namespace {

constexpr int kStepDoneTag = 12;
constexpr std::array<std::byte, 1> kStepDone{};

/// Hidden states in the memory of their slots, uninitialised.
StageLink::MessageOf messagesIn(const std::vector<StepShape>& steps, const Decoder& decoder, std::size_t slots) {
    std::vector<at::Tensor> memory;
    for (std::size_t slot = 0; slot < slots; ++slot) {
        std::int64_t most = 0;  // of the steps that use the slot
        for (std::size_t step = slot; step < steps.size(); step += slots) most = std::max(most, steps[step].tokens());
        memory.push_back(decoder.emptyHidden(1, most));
    }
    return [steps, memory, hiddenSize = decoder.hiddenSize()](std::int64_t step, std::size_t slot) {
        const StepShape shape = steps[static_cast<std::size_t>(step)];
        return memory[slot].narrow(1, 0, shape.tokens()).view({shape.sequences, shape.length, hiddenSize});
    };
}

}  // namespace

StageLink::StageLink(HiddenTransport& transport, const Stage& stage, std::vector<StepShape> steps, const Decoder& decoder,
                     std::size_t slots)
    : MessageLink(transport, stage, std::min(slots, steps.size()),
                  messagesIn(steps, decoder, std::min(slots, steps.size()))) {}

std::vector<int> otherRanks(const World& world) {
    std::vector<int> others;
    for (int rank = 0; rank < world.size(); ++rank)
        if (rank != world.rank()) others.push_back(rank);
    return others;
}

void followStages(World& world, const CalibrationJob& job, int first, int end) {
    const std::int64_t microBatches = MicroBatches(job.blocks.blocks, job.config.microBatch).count();
    for (int rank = first; rank < end; ++rank) {
        const RankPlan& plan = job.plan.ranks.at(static_cast<std::size_t>(rank));
        StepNotice::follow(world, rank, microBatches * (plan.endLayer - plan.firstLayer));
    }
}

StepNotice::StepNotice(World& world, std::vector<int> waitingRanks)
    : world_(world), waitingRanks_(std::move(waitingRanks)), pending_(waitingRanks_.size()) {}

void StepNotice::stepDone() {
    finish();
    for (std::size_t i = 0; i < waitingRanks_.size(); ++i)
        pending_[i] = world_.send(waitingRanks_[i], kStepDoneTag, kStepDone);
}

void StepNotice::finish() {
    for (World::Request& request : pending_)
        if (request.active()) request.wait();
}

void StepNotice::follow(World& world, int worker, std::int64_t steps) {
    std::array<std::byte, 1> notice{};
    for (std::int64_t step = 0; step < steps; ++step) world.receive(worker, kStepDoneTag, notice).wait();
}

}  // namespace aimerge
