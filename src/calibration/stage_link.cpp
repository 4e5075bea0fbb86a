#include "calibration/stage_link.h"

#include <ATen/ATen.h>

#include <array>
#include <chrono>
#include <span>

namespace aimerge {
namespace {

constexpr int kHiddenStateTag = 11;
constexpr int kStepDoneTag = 12;
constexpr std::array<std::byte, 1> kStepDone{};

std::span<std::byte> bytesOf(const at::Tensor& tensor) {
    return {static_cast<std::byte*>(tensor.data_ptr()), static_cast<std::size_t>(tensor.nbytes())};
}

}  // namespace

StageLink::StageLink(World& world, const Stage& stage, std::vector<StepShape> steps, const Decoder& decoder,
                     std::size_t slots)
    : world_(world),
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

void StageLink::waitFor(World::Request& request) {
    if (!request.active()) return;
    const auto start = std::chrono::steady_clock::now();
    request.wait();
    waitSeconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void StageLink::expect(std::int64_t step) {
    Slot& slot = slotOf(step);
    waitFor(slot.outgoing);
    const StepShape shape = steps_[static_cast<std::size_t>(step)];
    slot.hidden = slot.memory.narrow(1, 0, shape.tokens()).view({shape.sequences, shape.length, hiddenSize_});
    if (!stage_.first()) slot.incoming = world_.receive(stage_.previous, kHiddenStateTag, bytesOf(slot.hidden));
}

at::Tensor& StageLink::take(std::int64_t step) {
    Slot& slot = slotOf(step);
    waitFor(slot.incoming);
    return slot.hidden;
}

void StageLink::pass(std::int64_t step) {
    Slot& slot = slotOf(step);
    if (!stage_.last()) slot.outgoing = world_.send(stage_.next, kHiddenStateTag, bytesOf(slot.hidden));
}

void StageLink::finish() {
    for (Slot& slot : slots_) waitFor(slot.outgoing);
}

std::vector<int> otherRanks(const World& world) {
    std::vector<int> others;
    for (int rank = 0; rank < world.size(); ++rank)
        if (rank != world.rank()) others.push_back(rank);
    return others;
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
