#include "calibration/stage_link.h"

#include <ATen/ATen.h>

#include <array>
#include <chrono>
#include <span>

namespace aimerge {
namespace {

constexpr int kStepDoneTag = 12;
constexpr std::array<std::byte, 1> kStepDone{};

}  // namespace

StageLink::StageLink(HiddenTransport& transport, const Stage& stage, std::vector<StepShape> steps, const Decoder& decoder,
                     std::size_t slots)
    : transport_(transport),
      stage_(stage),
      steps_(std::move(steps)),
      hiddenSize_(decoder.hiddenSize()),
      slots_(std::min(slots, steps_.size())) {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        std::int64_t most = 0;  // of the steps that use the slot
        for (std::size_t step = i; step < steps_.size(); step += slots_.size()) most = std::max(most, steps_[step].tokens());
        slots_[i].memory = decoder.emptyHidden(1, most);
    }
}

void StageLink::waitFor(std::unique_ptr<Transfer>& transfer) {
    if (!transfer) return;
    const auto start = std::chrono::steady_clock::now();
    transfer->wait();
    transfer.reset();
    waitSeconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void StageLink::expect(std::int64_t step) {
    Slot& slot = slotOf(step);
    waitFor(slot.outgoing);
    const StepShape shape = steps_[static_cast<std::size_t>(step)];
    slot.hidden = slot.memory.narrow(1, 0, shape.tokens()).view({shape.sequences, shape.length, hiddenSize_});
    if (!stage_.first()) receiving_ = &slot;
}

at::Tensor& StageLink::take(std::int64_t step) {
    Slot& slot = slotOf(step);
    waitFor(slot.incoming);
    return slot.hidden;
}

void StageLink::pass(std::int64_t step) {
    if (!stage_.last()) sending_ = &slotOf(step);
}

void StageLink::exchange() {
    if (!receiving_ && !sending_) return;
    Exchange started =
        transport_.start(sending_ ? sending_->hidden : at::Tensor(), receiving_ ? receiving_->hidden : at::Tensor());
    if (sending_) sending_->outgoing = std::move(started.outgoing);
    if (receiving_) receiving_->incoming = std::move(started.incoming);
    sending_ = receiving_ = nullptr;
}

void StageLink::finish() {
    exchange();
    for (Slot& slot : slots_) waitFor(slot.outgoing);
}

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
