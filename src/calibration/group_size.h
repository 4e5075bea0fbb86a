#pragma once
// How many micro-batches pass a layer before a stage that streams its layers reads the next one.

#include "aimerge/calibration/calibrate.h"
#include "aimerge/distributed/stage.h"

namespace aimerge {

/// groupSize() with as many hidden states as the job's memory limit holds.
std::int64_t groupSizeOf(const CalibrationJob& job, const MicroBatches& steps);

}  // namespace aimerge
