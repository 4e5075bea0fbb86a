// The main of tests that need a CUDA device. Where there is none it says why and ends with kSkipped, which CTest counts as
// skipped: GoogleTest itself would report success.

#include "support/test_device.h"

#include <gtest/gtest.h>

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    return aimerge::hasTestGpu() ? RUN_ALL_TESTS() : aimerge::kSkipped;
}
