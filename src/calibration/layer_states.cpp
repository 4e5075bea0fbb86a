#include "calibration/layer_states.h"

#include <ATen/ATen.h>

#include <array>

namespace aimerge {
namespace {

constexpr std::array kTensors{&LayerState::hidden, &LayerState::input, &LayerState::query, &LayerState::key,
                              &LayerState::value};

std::span<std::byte> bytesOf(const at::Tensor& tensor) {
    return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

/// Where what enters the modules is a view of the sum, of a query or of a key, it is not kept twice.
at::Tensor* viewedBy(LayerState& state) {
    for (at::Tensor* other : {&state.hidden, &state.query, &state.key})
        if (other->defined() && state.input.defined() && other->data_ptr() == state.input.data_ptr()) return other;
    return nullptr;
}

}  // namespace

LayerStates::LayerStates(std::size_t count, std::uint64_t largestBytes, Where where)
    : where_(where), largestBytes_(largestBytes), states_(count) {
    if (where_ != Where::Disk) return;
    folder_.emplace();
    file_ = File::openForWriting(folder_->path() / "states");
}

LayerState LayerStates::take(std::size_t number, at::Device device) {
    LayerState state = std::exchange(states_[number], {});
    if (where_ == Where::Device) return state;
    std::uint64_t offset = number * largestBytes_;
    at::Tensor* const viewed = viewedBy(state);
    const std::vector<std::int64_t> inputSizes = state.input.sizes().vec();
    if (viewed != nullptr) state.input = at::Tensor();
    for (const auto member : kTensors) {
        at::Tensor& tensor = state.*member;
        if (!tensor.defined()) continue;
        if (where_ == Where::Disk) {
            tensor = at::empty(tensor.sizes(), tensor.options());
            file_.readAt(offset, bytesOf(tensor));
            offset += tensor.nbytes();
        }
        tensor = tensor.to(device);
    }
    if (viewed != nullptr) state.input = viewed->view(inputSizes);
    return state;
}

void LayerStates::put(std::size_t number, LayerState state) {
    if (where_ == Where::Device) {
        states_[number] = std::move(state);
        return;
    }
    std::uint64_t offset = number * largestBytes_;
    at::Tensor* const viewed = viewedBy(state);
    const std::vector<std::int64_t> inputSizes = state.input.sizes().vec();
    if (viewed != nullptr) state.input = at::Tensor();
    for (const auto member : kTensors) {
        at::Tensor& tensor = state.*member;
        if (!tensor.defined()) continue;
        tensor = tensor.cpu().contiguous();
        if (where_ != Where::Disk) continue;
        file_.writeAt(offset, bytesOf(tensor));
        offset += tensor.nbytes();
        tensor = at::empty({1}, tensor.options()).expand(tensor.sizes());  // its shape, without its memory
    }
    if (viewed != nullptr) state.input = viewed->view(inputSizes);
    states_[number] = std::move(state);
}

}  // namespace aimerge
