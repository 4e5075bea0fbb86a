#include "aimerge/distributed/hardware.h"

#include "aimerge/core/error.h"

namespace aimerge {

Hardware processorHardware(int threads) {
    return {.name = "",
            .ranks = 1,
            .memoryBytes = 0,
            .flopsPerSecond = 40e9 * threads,
            .exactFlopsPerSecond = 20e9 * threads,
            .bytesPerSecond = 2e9 * threads};
}

Hardware gpuHardware() {
    return {.name = "",
            .isGpu = true,
            .ranks = 1,
            .memoryBytes = 0,
            .flopsPerSecond = 400e12,
            .exactFlopsPerSecond = 40e12,
            .bytesPerSecond = 3e9};
}

Hardware findHardware(const std::string& name) {
    if (name != "h100x4") throw UsageError("--hardware {}: known is h100x4", name);
    Hardware node = gpuHardware();
    node.name = name;
    node.ranks = 4;
    node.memoryBytes = 80'000'000'000;
    return node;
}

}  // namespace aimerge
