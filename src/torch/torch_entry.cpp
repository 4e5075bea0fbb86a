// The doors of the shared library that brings libtorch into the process.

#include "aimerge/core/error.h"
#include "aimerge/torch/torch_library.h"

#include <c10/util/Exception.h>

namespace {

template <typename Work>
void withItsErrors(const Work& work) {
    try {
        work();
    } catch (const c10::Error& error) {
        throw aimerge::RuntimeFault("libtorch: {}", error.what_without_backtrace());
    }
}

}  // namespace

extern "C" void aimerge_calibrate_v1(aimerge::World* world, const aimerge::CalibrationJob* job,
                                     aimerge::CalibrationResult* result) {
    withItsErrors([&] { *result = aimerge::calibrate(*world, *job); });
}

extern "C" void aimerge_measure_grams_v1(aimerge::World* world, const aimerge::CalibrationJob* job,
                                         const std::filesystem::path* folder) {
    withItsErrors([&] { aimerge::measureGrams(*world, *job, *folder); });
}

extern "C" void aimerge_measure_fisher_v1(aimerge::World* world, const aimerge::CalibrationJob* job,
                                          const std::filesystem::path* folder) {
    withItsErrors([&] { aimerge::measureFisher(*world, *job, *folder); });
}

extern "C" void aimerge_measure_sensitivity_v1(aimerge::World* world, const aimerge::CalibrationJob* job,
                                               const std::filesystem::path* folder) {
    withItsErrors([&] { aimerge::measureSensitivity(*world, *job, *folder); });
}

extern "C" void aimerge_calibrate_features_v1(aimerge::World* world, const aimerge::FeatcalJob* job,
                                              aimerge::FeatcalResult* result) {
    withItsErrors([&] { *result = aimerge::calibrateFeatures(*world, *job); });
}

extern "C" void aimerge_score_batches_v1(aimerge::World* world, const aimerge::ScoringJob* job,
                                         aimerge::BatchScores* scores) {
    withItsErrors([&] { *scores = aimerge::scoreBatches(*world, *job); });
}
