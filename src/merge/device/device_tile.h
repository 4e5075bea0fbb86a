#pragma once
// A stretch of a parameter on the device, as a prepared parameter combines it: from the files' own values to finished ones
// of every omega. Built with AIMERGE_CUDA.

#include "merge/device/device_walk.h"

#include <array>
#include <cstddef>
#include <deque>
#include <span>
#include <stdexcept>

namespace aimerge {

/// Coefficients of elements on their way to the device. What was given stays until clear().
class DeviceCoefficients {
public:
    explicit DeviceCoefficients(const CudaStream& stream) : stream_(stream) {}

    /// Memory of the host for `count` numbers; place() starts their way.
    std::span<float> make(std::size_t count);
    /// Where the numbers of the last make() are on the device.
    const float* place();
    void clear() { used_ = 0; }

private:
    struct Slot {
        StagedMemory memory;
        std::size_t bytes = 0;
    };
    const CudaStream& stream_;
    std::deque<Slot> slots_;
    std::size_t used_ = 0;
};

struct DeviceTile {
    RawValues base;  // the method's; null when it takes none
    std::span<const RawValues> inputs;
    RawRelaxation relaxation;
    RawValues relaxedFrom;
    RawOutput out;  // [points][pointStride]
    std::size_t pointStride = 0;
    std::size_t count = 0;
    std::uint32_t* notFinite = nullptr;
    const CudaStream* stream = nullptr;
    DeviceCoefficients* coefficients = nullptr;
};

/// forEachElement() for a tile: the same text of a combine, from the device's memory.
template <int kInputs, typename Combine>
void forEachElement(const Combine& combine, const DeviceTile& tile) {
    if constexpr (kInputs == kAnyNumber) {
        throw std::logic_error("a tile of more inputs than kernels take");
    } else {
        const StridedWalk<kInputs, Combine> walk{.combine = combine,
                                                 .base = tile.base,
                                                 .inputs = PerInput<RawValues, kInputs>::from(tile.inputs.data()),
                                                 .relaxation = tile.relaxation,
                                                 .relaxedFrom = tile.relaxedFrom,
                                                 .out = tile.out,
                                                 .pointStride = tile.pointStride,
                                                 .count = tile.count,
                                                 .notFinite = tile.notFinite};
        forEachElementOnDevice(walk, tile.stream->handle());
    }
}

/// Calls run(part of the tile).
template <typename Run>
void withPart(const DeviceTile& tile, std::size_t offset, std::size_t count, const Run& run) {
    const auto from = [offset](RawValues values) {
        if (values.data != nullptr)
            values.data = static_cast<const std::byte*>(values.data) + offset * bytesPerElement(values.dtype);
        return values;
    };
    std::array<RawValues, 2 * kMostUnrolledInputs> inputs;
    for (std::size_t i = 0; i < tile.inputs.size(); ++i) inputs[i] = from(tile.inputs[i]);
    DeviceTile part = tile;
    part.base = from(tile.base);
    part.inputs = {inputs.data(), tile.inputs.size()};
    part.relaxation.firstChannel = (tile.relaxation.firstChannel + offset) % tile.relaxation.channels;
    part.relaxedFrom = from(tile.relaxedFrom);
    part.out.data = static_cast<std::byte*>(tile.out.data) + offset * bytesPerElement(tile.out.dtype);
    part.count = count;
    run(part);
}

}  // namespace aimerge
