#pragma once
// One rank's part of a calibration: all micro-batches through the layers of its stage.

#include "aimerge/calibration/calibrate.h"
#include "calibration/stage.h"
#include "calibration/statistics_observer.h"

namespace aimerge {

/// Talks only to the neighbouring stages, and as the last stage to `idleRanks`; a stage that is the whole model talks to
/// nobody.
/// @pre !stage.empty()
StageRecord runStage(World& world, const CalibrationJob& job, const Stage& stage, const std::vector<int>& idleRanks,
                     StatisticsObserver& observer);

}  // namespace aimerge
