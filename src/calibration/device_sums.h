#pragma once
// ChannelSums on a GPU: the same sums in the same order, so the same bits for the same rows. Built with AIMERGE_CUDA.

#include "aimerge/device/cuda_memory.h"
#include "calibration/channel_sums.h"
#include "calibration/raw_channel_sums.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace aimerge {

class DeviceChannelSums {
public:
    explicit DeviceChannelSums(std::int64_t channels);

    std::int64_t channels() const { return raw_.channels; }
    const RawChannelSums& raw() const { return raw_; }
    ChannelSums download() const;

    std::int64_t rows = 0;

private:
    DeviceMemory memory_;
    RawChannelSums raw_;
};

/// Adds rows to sums and keeps a note of the first ones that were not finite.
class DeviceSummation {
public:
    DeviceSummation();

    static constexpr std::uint64_t kNothing = ~std::uint64_t{0};

    /// Queues the addition of `rows` ([..., channels], F32 or BF16, contiguous) on libtorch's current stream.
    /// @param place what firstBad() says when a sum is not finite afterwards
    void add(const at::Tensor& rows, DeviceChannelSums& sums, std::uint64_t place);

    /// The smallest place of those whose sums were not finite, as far as the GPU has come; kNothing when there is none.
    std::uint64_t firstBad() const;
    /// Waits until everything queued has been added.
    void wait() const;

private:
    PinnedMemory firstBad_;
    DeviceMemory tiles_;
};

}  // namespace aimerge
