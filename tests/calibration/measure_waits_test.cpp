// Run with ranks that give up after two seconds: while one measures longer than that, the others hear of every step of it.

#include "aimerge/calibration/measure_experts.h"
#include "corpus/golden_corpus.h"
#include "support/mpi_world.h"
#include "support/temp_folder.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace aimerge {
namespace {

constexpr double kTimeoutSeconds = 2;  // as tests/calibration/CMakeLists.txt sets it

void takeTime() {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
}

/// @return seconds
double measureSlowly(void (*measure)(World&, const CalibrationJob&, const std::filesystem::path&)) {
    const auto start = std::chrono::steady_clock::now();
    const TempFolder folder;
    const Checkpoint expert = Checkpoint::open(goldenPath("family_f32/expert_a").string());
    CalibrationConfig config;
    config.dtype = Dtype::F32;
    const TokenBlocks blocks = goldenBlocks(12);
    const Plan plan = planOfThreeLayers(testWorld().size(), false);
    CalibrationJob job{expert, config, plan, blocks};
    job.safePoint = takeTime;

    measure(testWorld(), job, folder.path());

    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(MeasureWaits, OfGramsAreNoLongerThanAStep) {
    EXPECT_GT(measureSlowly(measureGrams), 3 * kTimeoutSeconds);  // 12 steps of each of 3 layers, one after another
}

TEST(MeasureWaits, OfFisherInformationAreNoLongerThanAStep) {
    EXPECT_GT(measureSlowly(measureFisher), 2 * kTimeoutSeconds);  // 3 groups pass 3 layers, the head and 3 layers
}

}  // namespace
}  // namespace aimerge
