#include "calibration/device_sums.h"

#include "aimerge/device/cuda_call.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>

#include <span>
#include <vector>

namespace aimerge {
namespace {

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
    raw_.sumAbs = memory_.as<double>();
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
    *firstBad_.as<std::uint64_t>() = kNothing;
}

void DeviceSummation::add(const at::Tensor& rows, DeviceChannelSums& sums, std::uint64_t place) {
    const std::int64_t rowCount = rows.numel() / sums.channels();
    const auto tileBytes =
        static_cast<std::size_t>(3 * ((rowCount + kTileRows - 1) / kTileRows) * sums.channels()) * sizeof(float);
    if (tiles_.size() < tileBytes) {
        wait();  // kernels may still use the smaller one
        tiles_ = DeviceMemory(tileBytes);
    }
    auto* const tiles = tiles_.as<float>();
    auto* const firstBad = firstBad_.as<std::uint64_t>();
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
    return *firstBad_.as<const volatile std::uint64_t>();
}

void DeviceSummation::wait() const {
    checkCuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize", 1, "device");
}

}  // namespace aimerge
