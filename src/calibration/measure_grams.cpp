#include "aimerge/calibration/measure_experts.h"

#include "aimerge/architecture/decoder_family.h"
#include "aimerge/calibration/stage_link.h"
#include "aimerge/calibration/torch_threads.h"
#include "calibration/gram_observer.h"
#include "calibration/stage_run.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

namespace aimerge {
void measureGrams(World& world, const CalibrationJob& job, const std::filesystem::path& folder) {
    setTorchThreads(job.threads);
    const c10::InferenceMode inference;
    useDevice(job.device);
    const Stage stage = stageOf(job.plan, world.rank(), job.base.modelConfig().layers);
    const std::unique_ptr<HiddenTransport> transport = openTransport(world, stage, job.device);
    followStages(world, job, 0, world.rank());
    if (!stage.empty()) {
        GramObserver observer(folder, job.base.name(), decoderOf(job.base.modelConfig(), job.base.name()), world.rank());
        runStage(world, *transport, job, stage, MicroBatches(job.blocks.blocks, job.config.microBatch), otherRanks(world),
                 observer, LayerOrder::OneAtATime);
        observer.finish();
    }
    followStages(world, job, world.rank() + 1, world.size());
    world.barrier();
}

}  // namespace aimerge
