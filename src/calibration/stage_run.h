#pragma once
// One rank's part of a calibration: the micro-batches of its replica through the layers of its stage.

#include "aimerge/calibration/calibrate.h"
#include "aimerge/calibration/hidden_transport.h"
#include "aimerge/distributed/stage.h"
#include "aimerge/statistics/statistics.h"
#include "calibration/stage_observer.h"

namespace aimerge {

/// Grouped: as the stage's plan says, all layers in memory, or streamed with as many micro-batches as fit.
/// OneAtATime: streamed, all micro-batches pass a layer before the next is read. What is kept per layer need not be kept for
/// two of them, but the hidden states of all micro-batches are, and the stages work one after another.
/// Sequential: OneAtATime, and each layer of the base is followed by the merged one (CalibrationJob::merged), through which
/// the hidden states go on.
enum class LayerOrder { Grouped, OneAtATime, Sequential };

/// Talks only to the neighbouring stages and to `waitingRanks`; a stage that is the whole model talks to nobody.
/// @param steps the rank's
/// @param waitingRanks follow this rank (StepNotice): a step per micro-batch, but for Grouped per micro-batch and layer
/// @pre !stage.empty()
StageRecord runStage(World& world, HiddenTransport& transport, const CalibrationJob& job, const Stage& stage,
                     const MicroBatches& steps, const std::vector<int>& waitingRanks, StageObserver& observer,
                     LayerOrder order = LayerOrder::Grouped);

}  // namespace aimerge
