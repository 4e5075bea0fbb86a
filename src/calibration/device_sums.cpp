#include "calibration/device_sums.h"

#include "device/cuda_call.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>

#include <cstring>
#include <span>
#include <vector>

namespace aimerge {
namespace {

constexpr std::int64_t kTileRows = 32;

template <typename Value>
std::vector<Value> downloaded(const Value* from, std::int64_t count) {
    std::vector<Value> values(static_cast<std::size_t>(count));
    checkCuda(cudaMemcpy(values.data(), from, values.size() * sizeof(Value), cudaMemcpyDeviceToHost),
              "cudaMemcpy from the device", values.size() * sizeof(Value), "bytes");
    return values;
}

}  // namespace

DeviceChannelSums::DeviceChannelSums(std::int64_t channels)
    : memory_(static_cast<std::size_t>(channels) * (2 * sizeof(double) + sizeof(float))) {
    checkCuda(cudaMemset(memory_.data(), 0, memory_.size()), "cudaMemset", memory_.size(), "bytes");
    raw_.channels = channels;
    raw_.sumAbs = static_cast<double*>(static_cast<void*>(memory_.data()));
    raw_.sumSquares = raw_.sumAbs + channels;
    raw_.maxAbs = static_cast<float*>(static_cast<void*>(raw_.sumSquares + channels));
}

ChannelSums DeviceChannelSums::download() const {
    ChannelSums sums(raw_.channels);
    sums.sumAbs = downloaded(raw_.sumAbs, raw_.channels);
    sums.sumSquares = downloaded(raw_.sumSquares, raw_.channels);
    sums.maxAbs = downloaded(raw_.maxAbs, raw_.channels);
    sums.rows = rows;
    return sums;
}

DeviceSummation::DeviceSummation() : firstBad_(sizeof kNothing) {
    std::memcpy(firstBad_.data(), &kNothing, sizeof kNothing);
}

void DeviceSummation::add(const at::Tensor& rows, DeviceChannelSums& sums, std::uint64_t place) {
    const std::int64_t rowCount = rows.numel() / sums.channels();
    const auto tileBytes =
        static_cast<std::size_t>(3 * ((rowCount + kTileRows - 1) / kTileRows) * sums.channels()) * sizeof(float);
    if (tiles_.size() < tileBytes) {
        wait();  // kernels may still use the smaller one
        tiles_ = DeviceMemory(tileBytes);
    }
    auto* const tiles = static_cast<float*>(static_cast<void*>(tiles_.data()));
    auto* const firstBad = static_cast<std::uint64_t*>(static_cast<void*>(firstBad_.data()));
    CUstream_st* const stream = c10::cuda::getCurrentCUDAStream(rows.device().index()).stream();
    if (rows.scalar_type() == at::kFloat)
        addRowsOnDevice(static_cast<const float*>(rows.const_data_ptr()), rowCount, sums.raw(), tiles, firstBad, place,
                        stream);
    else
        addRowsOnDevice(static_cast<const Bf16Bits*>(rows.const_data_ptr()), rowCount, sums.raw(), tiles, firstBad, place,
                        stream);
    sums.rows += rowCount;
}

std::uint64_t DeviceSummation::firstBad() const {
    return *static_cast<const volatile std::uint64_t*>(static_cast<const void*>(firstBad_.data()));
}

void DeviceSummation::wait() const {
    checkCuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize", 1, "device");
}

}  // namespace aimerge
