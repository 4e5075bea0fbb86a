#pragma once
// Where a test computes. Some are compiled twice: with AIMERGE_TEST_ON_GPU (aimerge_test(... GPU)) for the first GPU.

#include "aimerge/device/device.h"

#include <fmt/core.h>

namespace aimerge {

/// What a test program that needs a GPU ends with where there is none; CTest counts it as skipped.
inline constexpr int kSkipped = 77;

/// Says why when there is no GPU.
inline bool hasTestGpu() {
    const std::string reason = visibleGpus().whyNone;
    if (!reason.empty()) fmt::print("skipped: no GPU: {}\n", reason);
    return reason.empty();
}

inline Device testDevice() {
#ifdef AIMERGE_TEST_ON_GPU
    const Device device = visibleGpus().gpus.at(0);
    useDevice(device);
    return device;
#else
    return {};
#endif
}

}  // namespace aimerge
