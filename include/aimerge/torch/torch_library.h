#pragma once
// Running a model without linking libtorch: loading libtorch costs 0.3 s, which a command that only merges or inspects
// should not pay. libaimerge_torch.so, beside the executable, has what needs libtorch and is loaded when first needed.

#include "aimerge/calibration/calibrate.h"
#include "aimerge/calibration/featcal.h"
#include "aimerge/calibration/measure_experts.h"
#include "aimerge/scoring/score_batches.h"

namespace aimerge {

/// Collective. calibrate() of libaimerge_torch.so. Its exceptions pass through; libtorch's own become RuntimeFault.
/// @throws RuntimeFault also when the library cannot be loaded
CalibrationResult calibrateWithTorch(World& world, const CalibrationJob& job);

/// Collective. measureGrams(), measureFisher() and measureSensitivity() likewise.
void measureGramsWithTorch(World& world, const CalibrationJob& job, const std::filesystem::path& folder);
void measureFisherWithTorch(World& world, const CalibrationJob& job, const std::filesystem::path& folder);
void measureSensitivityWithTorch(World& world, const CalibrationJob& job, const std::filesystem::path& folder);

/// Collective. calibrateFeatures() likewise.
FeatcalResult calibrateFeaturesWithTorch(World& world, const FeatcalJob& job);

/// Collective. scoreBatches() likewise.
BatchScores scoreBatchesWithTorch(World& world, const ScoringJob& job);

}  // namespace aimerge

/// What the library exports.
extern "C" [[gnu::visibility("default")]] void aimerge_calibrate_v1(aimerge::World* world,
                                                                    const aimerge::CalibrationJob* job,
                                                                    aimerge::CalibrationResult* result);
extern "C" [[gnu::visibility("default")]] void aimerge_measure_grams_v1(aimerge::World* world,
                                                                        const aimerge::CalibrationJob* job,
                                                                        const std::filesystem::path* folder);
extern "C" [[gnu::visibility("default")]] void aimerge_measure_fisher_v1(aimerge::World* world,
                                                                         const aimerge::CalibrationJob* job,
                                                                         const std::filesystem::path* folder);
extern "C" [[gnu::visibility("default")]] void aimerge_measure_sensitivity_v1(aimerge::World* world,
                                                                              const aimerge::CalibrationJob* job,
                                                                              const std::filesystem::path* folder);
extern "C" [[gnu::visibility("default")]] void aimerge_calibrate_features_v1(aimerge::World* world,
                                                                             const aimerge::FeatcalJob* job,
                                                                             aimerge::FeatcalResult* result);
extern "C" [[gnu::visibility("default")]] void aimerge_score_batches_v1(aimerge::World* world,
                                                                        const aimerge::ScoringJob* job,
                                                                        aimerge::BatchScores* scores);
