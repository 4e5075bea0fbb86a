#include "aimerge/core/bfloat.h"
#include "aimerge/device/cuda_call.h"
#include "calibration/channel_sums.h"
#include "calibration/raw_channel_sums.h"

namespace aimerge {
namespace {

constexpr int kThreads = 128, kAddingThreads = 32;

/// Float32 sums of each channel over a tile of rows: a thread per channel, a row of blocks per tile.
template <typename Element>
__global__ void sumTiles(const Element* rows, std::int64_t rowCount, std::int64_t channels, float* tiles) {
    const std::int64_t channel = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
    if (channel >= channels) return;
    const std::int64_t first = blockIdx.y * kTileRows, left = rowCount - first;
    const Element* from = rows + first * channels + channel;
    float sumAbs = 0, sumSquares = 0, maxAbs = 0;
    for (std::int64_t row = 0; row < (left < kTileRows ? left : kTileRows); ++row, from += channels) {
        const float magnitude = fabsf(widen(*from));
        sumAbs += magnitude;
        sumSquares += magnitude * magnitude;
        maxAbs = magnitude > maxAbs ? magnitude : maxAbs;
    }
    float* const to = tiles + blockIdx.y * 3 * channels + channel;
    to[0] = sumAbs;
    to[channels] = sumSquares;
    to[2 * channels] = maxAbs;
}

/// Adds the tiles of each channel in order, in float64; several are on their way at a time. A tile that is not there adds 0,
/// which changes nothing: no sum is negative.
__global__ void addTiles(const float* tiles, std::int64_t tileCount, const RawChannelSums sums, unsigned long long* firstBad,
                         unsigned long long place) {
    constexpr int kAtOnce = 8;
    const std::int64_t channel = std::int64_t{blockIdx.x} * kAddingThreads + threadIdx.x;
    if (channel >= sums.channels) return;
    double sumAbs = sums.sumAbs[channel], sumSquares = sums.sumSquares[channel];
    float maxAbs = sums.maxAbs[channel];
    for (std::int64_t first = 0; first < tileCount; first += kAtOnce) {
        float magnitudes[kAtOnce], squares[kAtOnce], largest[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            const float* const tile = tiles + (first + i) * 3 * sums.channels + channel;
            const bool isThere = first + i < tileCount;
            magnitudes[i] = isThere ? tile[0] : 0;
            squares[i] = isThere ? tile[sums.channels] : 0;
            largest[i] = isThere ? tile[2 * sums.channels] : 0;
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            sumAbs += magnitudes[i];
            sumSquares += squares[i];
            maxAbs = largest[i] > maxAbs ? largest[i] : maxAbs;
        }
    }
    sums.sumAbs[channel] = sumAbs;
    sums.sumSquares[channel] = sumSquares;
    sums.maxAbs[channel] = maxAbs;
    if (!isfinite(sumAbs + sumSquares)) atomicMin(firstBad, place);
}

}  // namespace

template <typename Element>
void addRowsOnDevice(const Element* rows, std::int64_t rowCount, const RawChannelSums& sums, float* tiles,
                     std::uint64_t* firstBad, std::uint64_t place, CUstream_st* stream) {
    if (rowCount == 0) return;
    const std::int64_t tileCount = (rowCount + kTileRows - 1) / kTileRows;
    const dim3 blocks(static_cast<unsigned>((sums.channels + kThreads - 1) / kThreads), static_cast<unsigned>(tileCount));
    sumTiles<<<blocks, kThreads, 0, stream>>>(rows, rowCount, sums.channels, tiles);
    const auto addingBlocks = static_cast<unsigned>((sums.channels + kAddingThreads - 1) / kAddingThreads);
    addTiles<<<addingBlocks, kAddingThreads, 0, stream>>>(tiles, tileCount, sums,
                                                          reinterpret_cast<unsigned long long*>(firstBad), place);
    checkCuda(cudaGetLastError(), "start of the channel sums' kernels", static_cast<std::size_t>(rowCount), "rows");
}

template void addRowsOnDevice(const float*, std::int64_t, const RawChannelSums&, float*, std::uint64_t*, std::uint64_t,
                              CUstream_st*);
template void addRowsOnDevice(const std::uint16_t*, std::int64_t, const RawChannelSums&, float*, std::uint64_t*,
                              std::uint64_t, CUstream_st*);

}  // namespace aimerge
