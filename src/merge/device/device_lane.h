#pragma once
// What one thread merges blocks with on the device: a stream, and a block's inputs and outputs on both sides. Built with
// AIMERGE_CUDA.

#include "aimerge/merge/tensor_source.h"
#include "merge/device/device_tile.h"

#include <cstdint>
#include <span>
#include <vector>

namespace aimerge {

class DeviceLane {
public:
    DeviceLane() : coefficients_(stream_) { flag_.reserve(sizeof(std::uint32_t)); }

    /// Reads elements [first, first + count) of every source and starts their way to the device.
    /// @return where they will be, one per source
    std::span<const RawValues> fetch(std::span<const TensorSource* const> sources, std::int64_t first, std::size_t count);

    /// A tile of this lane with room for `bytes` of output; the caller fills in the rest.
    DeviceTile tile(std::size_t bytes);

    /// Waits for the tile. Null when a value that was read or made is NaN or infinite.
    /// @return its output, until the next tile
    const std::byte* finish(std::size_t bytes);

private:
    CudaStream stream_;
    DeviceCoefficients coefficients_;
    std::vector<StagedMemory> inputs_;
    std::vector<RawValues> values_;
    StagedMemory output_, flag_;
};

}  // namespace aimerge
