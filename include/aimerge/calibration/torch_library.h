#pragma once
// Calibration without linking libtorch: loading libtorch costs 0.3 s, which a command that only merges or inspects should
// not pay. libaimerge_torch.so, beside the executable, has the model and calibration rooms and is loaded when first needed.

#include "aimerge/calibration/calibrate.h"

namespace aimerge {

/// Collective. calibrate() of libaimerge_torch.so. Its exceptions pass through; libtorch's own become RuntimeFault.
/// @throws RuntimeFault also when the library cannot be loaded
CalibrationResult calibrateWithTorch(World& world, const CalibrationJob& job);

}  // namespace aimerge

/// The library's only exported function.
extern "C" [[gnu::visibility("default")]] void aimerge_calibrate_v1(aimerge::World* world,
                                                                    const aimerge::CalibrationJob* job,
                                                                    aimerge::CalibrationResult* result);
