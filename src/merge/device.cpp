#include "merge/device.h"

#include "aimerge/core/error.h"
#include "merge/cuda_call.h"

#include <utility>

namespace aimerge {

void checkCuda(cudaError_t result, const char* call, std::size_t size, const char* unit) {
    if (result != cudaSuccess)
        throw RuntimeFault("{} of {} {} failed: {} ({})", call, size, unit, cudaGetErrorString(result),
                           cudaGetErrorName(result));
}

std::string whyNoDevice() {
    int count = 0;
    const cudaError_t result = cudaGetDeviceCount(&count);
    if (result != cudaSuccess) return fmt::format("no CUDA device: {}", cudaGetErrorString(result));
    return count == 0 ? "no CUDA device: none is visible" : "";
}

DeviceMemory::DeviceMemory(std::size_t bytes) {
    checkCuda(cudaMalloc(&data_, bytes), "cudaMalloc", bytes, "bytes");
}

DeviceMemory::DeviceMemory(std::span<const std::byte> content) : DeviceMemory(content.size()) {
    checkCuda(cudaMemcpy(data_, content.data(), content.size(), cudaMemcpyHostToDevice), "cudaMemcpy to the device",
              content.size(), "bytes");
}

DeviceMemory::~DeviceMemory() {
    cudaFree(data_);
}

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}

void DeviceMemory::download(std::span<std::byte> out) const {
    checkCuda(cudaMemcpy(out.data(), data_, out.size(), cudaMemcpyDeviceToHost), "cudaMemcpy from the device", out.size(),
              "bytes");
}

}  // namespace aimerge
