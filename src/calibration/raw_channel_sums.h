#pragma once
// The sums of a point of the decoder in the device's memory, for device_sums.cu, which sees no libtorch.

#include <cstdint>

struct CUstream_st;

namespace aimerge {

struct RawChannelSums {
    double *sumAbs = nullptr, *sumSquares = nullptr;
    float* maxAbs = nullptr;
    std::int64_t channels = 0;
};

/// Queues the addition of rows [rowCount, channels], float or BF16 bits. All pointers are the device's, or pinned.
/// @param tiles room for 3 floats for each channel and each kTileRows rows
/// @param firstBad becomes `place`, if that is smaller, when a sum is not finite afterwards
template <typename Element>
void addRowsOnDevice(const Element* rows, std::int64_t rowCount, const RawChannelSums& sums, float* tiles,
                     std::uint64_t* firstBad, std::uint64_t place, CUstream_st* stream);

}  // namespace aimerge
