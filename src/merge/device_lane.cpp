#include "merge/device_lane.h"

#include <cstring>

namespace aimerge {

void DeviceLane::Buffer::reserve(std::size_t bytes) {
    if (host.size() >= bytes) return;
    host = PinnedMemory(bytes);
    device = DeviceMemory(bytes);
}

std::span<const RawValues> DeviceLane::fetch(std::span<const TensorSource* const> sources, std::int64_t first,
                                             std::size_t count) {
    if (inputs_.size() < sources.size()) inputs_.resize(sources.size());
    values_.clear();
    for (std::size_t i = 0; i < sources.size(); ++i) {
        const std::size_t bytes = count * bytesPerElement(sources[i]->dtype());
        inputs_[i].reserve(bytes);
        const std::span<std::byte> host{inputs_[i].host.data(), bytes};
        sources[i]->fetch(first, host);
        stream_.upload(host, inputs_[i].device.data());
        values_.push_back({inputs_[i].device.data(), sources[i]->dtype()});
    }
    return values_;
}

DeviceTile DeviceLane::tile(std::size_t bytes) {
    output_.reserve(bytes);
    coefficients_.clear();
    std::memset(flag_.data(), 0, flag_.size());
    stream_.upload({flag_.data(), flag_.size()}, flagOnDevice_.data());
    DeviceTile tile;
    tile.out.data = output_.device.data();
    tile.notFinite = static_cast<std::uint32_t*>(static_cast<void*>(flagOnDevice_.data()));
    tile.stream = &stream_;
    tile.coefficients = &coefficients_;
    return tile;
}

const std::byte* DeviceLane::finish(std::size_t bytes) {
    stream_.download(output_.device.data(), {output_.host.data(), bytes});
    stream_.download(flagOnDevice_.data(), {flag_.data(), flag_.size()});
    stream_.wait();
    std::uint32_t notFinite = 0;
    std::memcpy(&notFinite, flag_.data(), sizeof notFinite);
    return notFinite == 0 ? output_.host.data() : nullptr;
}

}  // namespace aimerge
