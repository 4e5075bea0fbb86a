#include "device/cuda_memory.h"

#include "aimerge/core/error.h"
#include "device/cuda_call.h"

#include <utility>

namespace aimerge {

void checkCuda(cudaError_t result, const char* call, std::size_t size, const char* unit) {
    if (result != cudaSuccess)
        throw RuntimeFault("{} of {} {} failed: {} ({})", call, size, unit, cudaGetErrorString(result),
                           cudaGetErrorName(result));
}

DeviceMemory::DeviceMemory(std::size_t bytes) : size_(bytes) {
    checkCuda(cudaMalloc(&data_, bytes), "cudaMalloc", bytes, "bytes");
}

DeviceMemory::DeviceMemory(std::span<const std::byte> content) : DeviceMemory(content.size()) {
    checkCuda(cudaMemcpy(data_, content.data(), content.size(), cudaMemcpyHostToDevice), "cudaMemcpy to the device",
              content.size(), "bytes");
}

DeviceMemory::~DeviceMemory() {
    cudaFree(data_);
}

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

void DeviceMemory::download(std::span<std::byte> out) const {
    checkCuda(cudaMemcpy(out.data(), data_, out.size(), cudaMemcpyDeviceToHost), "cudaMemcpy from the device", out.size(),
              "bytes");
}

PinnedMemory::PinnedMemory(std::size_t bytes) : size_(bytes) {
    checkCuda(cudaHostAlloc(&data_, bytes, cudaHostAllocPortable), "cudaHostAlloc", bytes, "bytes");
}

PinnedMemory::~PinnedMemory() {
    cudaFreeHost(data_);
}

PinnedMemory::PinnedMemory(PinnedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

PinnedMemory& PinnedMemory::operator=(PinnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

CudaStream::CudaStream() {
    checkCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate", 1, "stream");
}

CudaStream::~CudaStream() {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

CudaStream::CudaStream(CudaStream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}

void CudaStream::upload(std::span<const std::byte> from, std::byte* to) const {
    checkCuda(cudaMemcpyAsync(to, from.data(), from.size(), cudaMemcpyHostToDevice, stream_),
              "cudaMemcpyAsync to the device", from.size(), "bytes");
}

void CudaStream::download(const std::byte* from, std::span<std::byte> to) const {
    checkCuda(cudaMemcpyAsync(to.data(), from, to.size(), cudaMemcpyDeviceToHost, stream_),
              "cudaMemcpyAsync from the device", to.size(), "bytes");
}

void CudaStream::wait() const {
    checkCuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize", 1, "stream");
}

}  // namespace aimerge
