#include "aimerge/calibration/measure_experts.h"

#include "calibration/gram_observer.h"
#include "calibration/stage_link.h"
#include "calibration/stage_run.h"
#include "calibration/torch_threads.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

namespace aimerge {

void measureGrams(World& world, const CalibrationJob& job, const std::filesystem::path& folder) {
    setTorchThreads(job.threads);
    const c10::InferenceMode inference;
    const Stage stage = stageOf(job.plan, world.rank(), job.base.modelConfig().layers);
    if (stage.empty()) {
        IdleNotice::follow(world, lastStage(job.plan), MicroBatches(job.blocks.blocks, job.config.microBatch).count());
    } else {
        GramObserver observer(folder, job.base.name(), world.rank());
        runStage(world, job, stage, idleRanks(job.plan), observer, LayerOrder::OneAtATime);
        observer.finish();
    }
    world.barrier();
}

}  // namespace aimerge
