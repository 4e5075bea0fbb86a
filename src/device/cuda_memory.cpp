#include "aimerge/device/cuda_memory.h"

#include "aimerge/core/error.h"
#include "aimerge/device/cuda_call.h"

#include <algorithm>
#include <atomic>

namespace aimerge {

void checkCuda(cudaError_t result, const char* call, std::size_t size, const char* unit) {
    if (result != cudaSuccess)
        throw RuntimeFault("{} of {} {} failed: {} ({})", call, size, unit, cudaGetErrorString(result),
                           cudaGetErrorName(result));
}

namespace {

void* allocatedOnDevice(std::size_t bytes) {
    void* data = nullptr;
    checkCuda(cudaMalloc(&data, bytes), "cudaMalloc", bytes, "bytes");
    lookAtDeviceMemory();
    return data;
}

void* allocatedPinned(std::size_t bytes) {
    void* data = nullptr;
    checkCuda(cudaHostAlloc(&data, bytes, cudaHostAllocPortable), "cudaHostAlloc", bytes, "bytes");
    return data;
}

}  // namespace

std::uint64_t lookAtDeviceMemory() {
    static std::atomic<std::uint64_t> most = 0;
    std::size_t free = 0, total = 0;
    checkCuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo", 1, "device");
    std::uint64_t known = most;
    while (known < total - free && !most.compare_exchange_weak(known, total - free)) {
    }
    return std::max<std::uint64_t>(known, total - free);
}

void ReleaseOnDevice::operator()(std::byte* data) const {
    cudaFree(data);
}

void ReleasePinned::operator()(std::byte* data) const {
    cudaFreeHost(data);
}

DeviceMemory::DeviceMemory(std::size_t bytes) : CudaBuffer(allocatedOnDevice(bytes), bytes) {}

DeviceMemory::DeviceMemory(std::span<const std::byte> content) : DeviceMemory(content.size()) {
    checkCuda(cudaMemcpy(data(), content.data(), content.size(), cudaMemcpyHostToDevice), "cudaMemcpy to the device",
              content.size(), "bytes");
}

void DeviceMemory::download(std::span<std::byte> out) const {
    checkCuda(cudaMemcpy(out.data(), data(), out.size(), cudaMemcpyDeviceToHost), "cudaMemcpy from the device", out.size(),
              "bytes");
}

PinnedMemory::PinnedMemory(std::size_t bytes) : CudaBuffer(allocatedPinned(bytes), bytes) {}

void StagedMemory::reserve(std::size_t bytes) {
    if (host.size() >= bytes) return;
    host = PinnedMemory(bytes);
    device = DeviceMemory(bytes);
}

CudaStream::CudaStream() {
    CUstream_st* stream = nullptr;
    checkCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate", 1, "stream");
    stream_.reset(stream);
}

void CudaStream::Release::operator()(CUstream_st* stream) const {
    cudaStreamDestroy(stream);
}

void CudaStream::upload(std::span<const std::byte> from, std::byte* to) const {
    checkCuda(cudaMemcpyAsync(to, from.data(), from.size(), cudaMemcpyHostToDevice, stream_.get()),
              "cudaMemcpyAsync to the device", from.size(), "bytes");
}

void CudaStream::download(const std::byte* from, std::span<std::byte> to) const {
    checkCuda(cudaMemcpyAsync(to.data(), from, to.size(), cudaMemcpyDeviceToHost, stream_.get()),
              "cudaMemcpyAsync from the device", to.size(), "bytes");
}

void CudaStream::wait() const {
    checkCuda(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize", 1, "stream");
}

}  // namespace aimerge
