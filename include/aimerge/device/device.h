#pragma once
// Where a rank computes: on its processors, or on a GPU of its machine. Without AIMERGE_CUDA there are no GPUs.

#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

struct Device {
    int gpu = -1;                   // CUDA's number of it in this process; -1: the CPU
    std::string name = "CPU";       // "NVIDIA H100 80GB HBM3"
    std::string uuid;               // of a GPU: the same in every process of the machine, whatever CUDA_VISIBLE_DEVICES says
    std::uint64_t memoryBytes = 0;  // of a GPU

    bool isGpu() const { return gpu >= 0; }
};

/// GPUs that this process can use, in CUDA's order.
struct VisibleGpus {
    std::vector<Device> gpus;
    std::string whyNone;  // "this build has no CUDA"; empty when there is one
};
VisibleGpus visibleGpus();

/// Whether this build has CUDA.
bool hasGpuCode();

/// The most memory that was seen in use on the GPU, whoever used it: seen here, after the work, and by this library whenever
/// it takes some. 0 for the CPU. @throws RuntimeFault
std::uint64_t peakMemoryInUse(const Device& device);

/// From here on the calling thread works on this GPU; nothing happens for the CPU. @throws RuntimeFault
void useDevice(const Device& device);

}  // namespace aimerge
