#include "aimerge/distributed/hardware.h"

namespace aimerge {

Hardware processorHardware(int threads) {
    return {.name = "",
            .flopsPerSecond = 40e9 * threads,
            .exactFlopsPerSecond = 20e9 * threads,
            .bytesPerSecond = 2e9 * threads};
}

Hardware gpuHardware() {
    return {.name = "", .isGpu = true, .flopsPerSecond = 400e12, .exactFlopsPerSecond = 40e12, .bytesPerSecond = 3e9};
}

}  // namespace aimerge
