#include "calibration/layer_states.h"

#include "calibration/tensor_bytes.h"

#include <ATen/ATen.h>

#include <array>

namespace aimerge {
namespace {

constexpr std::array kTensors{&LayerState::hidden, &LayerState::input, &LayerState::kept,
                              &LayerState::query,  &LayerState::key,   &LayerState::value};

/// Calls work(tensor) for each that is there.
template <typename Work>
void overTensors(LayerState& state, const Work& work) {
    for (const auto member : kTensors)
        if ((state.*member).defined()) work(state.*member);
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
    overTensors(state, [&](at::Tensor& tensor) {
        if (where_ == Where::Disk) {
            tensor = at::empty(tensor.sizes(), tensor.options());
            file_.readAt(offset, bytesOf(tensor));
            offset += tensor.nbytes();
        }
        tensor = tensor.to(device);
    });
    return state;
}

void LayerStates::put(std::size_t number, LayerState state) {
    std::uint64_t offset = number * largestBytes_;
    if (where_ != Where::Device)
        overTensors(state, [&](at::Tensor& tensor) {
            tensor = tensor.cpu().contiguous();
            if (where_ != Where::Disk) return;
            file_.writeAt(offset, bytesOf(tensor));
            offset += tensor.nbytes();
            tensor = at::empty({1}, tensor.options()).expand(tensor.sizes());  // its shape, without its memory
        });
    states_[number] = std::move(state);
}

}  // namespace aimerge
