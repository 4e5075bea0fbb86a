#include "merge/device_tile.h"

namespace aimerge {

std::span<float> DeviceCoefficients::make(std::size_t count) {
    if (used_ == slots_.size()) slots_.emplace_back();
    Slot& slot = slots_[used_++];
    slot.bytes = count * sizeof(float);
    if (slot.host.size() < slot.bytes) {
        slot.host = PinnedMemory(slot.bytes);
        slot.device = DeviceMemory(slot.bytes);
    }
    return {static_cast<float*>(static_cast<void*>(slot.host.data())), count};
}

const float* DeviceCoefficients::place() {
    const Slot& slot = slots_[used_ - 1];
    stream_.upload({slot.host.data(), slot.bytes}, slot.device.data());
    return static_cast<const float*>(static_cast<const void*>(slot.device.data()));
}

}  // namespace aimerge
