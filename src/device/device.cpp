#include "aimerge/device/device.h"

#if AIMERGE_HAS_CUDA
#include "aimerge/device/cuda_call.h"
#include "aimerge/device/cuda_memory.h"

#include <fmt/format.h>
#endif

namespace aimerge {

bool hasGpuCode() {
    return AIMERGE_HAS_CUDA;
}

#if AIMERGE_HAS_CUDA

namespace {

/// As nvidia-smi writes it: GPU-8a6c2f12-...
std::string uuidText(const cudaUUID_t& uuid) {
    std::string text = "GPU";
    for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
        if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
    }
    return text;
}

}  // namespace

VisibleGpus visibleGpus() {
    VisibleGpus visible;
    int count = 0;
    const cudaError_t result = cudaGetDeviceCount(&count);
    if (result != cudaSuccess) {
        visible.whyNone = cudaGetErrorString(result);
        return visible;
    }
    for (int gpu = 0; gpu < count; ++gpu) {
        cudaDeviceProp properties{};
        checkCuda(cudaGetDeviceProperties(&properties, gpu), "cudaGetDeviceProperties", static_cast<std::size_t>(gpu),
                  "(GPU)");
        visible.gpus.push_back({gpu, properties.name, uuidText(properties.uuid), properties.totalGlobalMem});
    }
    if (count == 0) visible.whyNone = "none is visible";
    return visible;
}

void useDevice(const Device& device) {
    if (device.isGpu()) checkCuda(cudaSetDevice(device.gpu), "cudaSetDevice", static_cast<std::size_t>(device.gpu), "(GPU)");
}

std::uint64_t peakMemoryInUse(const Device& device) {
    if (!device.isGpu()) return 0;
    useDevice(device);
    return lookAtDeviceMemory();
}

#else

VisibleGpus visibleGpus() {
    return {{}, "this build has no CUDA"};
}

void useDevice(const Device&) {}

std::uint64_t peakMemoryInUse(const Device&) {
    return 0;
}

#endif

}  // namespace aimerge
