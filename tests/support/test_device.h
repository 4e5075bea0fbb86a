#pragma once
// Where a test computes. Some are compiled twice: with AIMERGE_TEST_ON_GPU (aimerge_test(... GPU)) for the first GPU.

#include "aimerge/device/device.h"

namespace aimerge {

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
