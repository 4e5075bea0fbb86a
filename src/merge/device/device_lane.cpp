#include "merge/device/device_lane.h"

namespace aimerge {

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
    *flag_.host.as<std::uint32_t>() = 0;
    stream_.upload({flag_.host.data(), sizeof(std::uint32_t)}, flag_.device.data());
    DeviceTile tile;
    tile.out.data = output_.device.data();
    tile.notFinite = flag_.device.as<std::uint32_t>();
    tile.stream = &stream_;
    tile.coefficients = &coefficients_;
    return tile;
}

const std::byte* DeviceLane::finish(std::size_t bytes) {
    stream_.download(output_.device.data(), {output_.host.data(), bytes});
    stream_.download(flag_.device.data(), {flag_.host.data(), sizeof(std::uint32_t)});
    stream_.wait();
    return *flag_.host.as<std::uint32_t>() == 0 ? output_.host.data() : nullptr;
}

}  // namespace aimerge
