#include "merge/device/device_tile.h"

namespace aimerge {

std::span<float> DeviceCoefficients::make(std::size_t count) {
    if (used_ == slots_.size()) slots_.emplace_back();
    Slot& slot = slots_[used_++];
    slot.bytes = count * sizeof(float);
    slot.memory.reserve(slot.bytes);
    return {slot.memory.host.as<float>(), count};
}

const float* DeviceCoefficients::place() {
    const Slot& slot = slots_[used_ - 1];
    stream_.upload({slot.memory.host.data(), slot.bytes}, slot.memory.device.data());
    return slot.memory.device.as<const float>();
}

}  // namespace aimerge
