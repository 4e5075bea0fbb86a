// The main of tests that need a CUDA device. Where there is none it says why and ends with kSkipped, which CTest counts as
// skipped: GoogleTest itself would report success.

#include "aimerge/device/device.h"

#include <gtest/gtest.h>

#include <iostream>

int main(int argc, char** argv) {
    constexpr int kSkipped = 77;
    testing::InitGoogleTest(&argc, argv);
    if (const std::string reason = aimerge::visibleGpus().whyNone; !reason.empty()) {
        std::cout << "skipped: no GPU: " << reason << '\n';
        return kSkipped;
    }
    return RUN_ALL_TESTS();
}
