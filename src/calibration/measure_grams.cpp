#include "aimerge/calibration/measure_experts.h"

#include "calibration/gram_observer.h"
#include "calibration/stage_link.h"
#include "calibration/stage_run.h"
#include "calibration/torch_threads.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

namespace aimerge {
namespace {

/// Waits while the stages of ranks [first, end) work, one after another.
void follow(World& world, const CalibrationJob& job, int first, int end) {
    const std::int64_t microBatches = MicroBatches(job.blocks.blocks, job.config.microBatch).count();
    for (int rank = first; rank < end; ++rank) {
        const RankPlan& plan = job.plan.ranks.at(static_cast<std::size_t>(rank));
        StepNotice::follow(world, rank, microBatches * (plan.endLayer - plan.firstLayer));
    }
}

}  // namespace

void measureGrams(World& world, const CalibrationJob& job, const std::filesystem::path& folder) {
    setTorchThreads(job.threads);
    const c10::InferenceMode inference;
    useDevice(job.device);
    const Stage stage = stageOf(job.plan, world.rank(), job.base.modelConfig().layers);
    const std::unique_ptr<HiddenTransport> transport = openTransport(world, stage, job.device);
    follow(world, job, 0, world.rank());
    if (!stage.empty()) {
        GramObserver observer(folder, job.base.name(), world.rank());
        runStage(world, *transport, job, stage, MicroBatches(job.blocks.blocks, job.config.microBatch), otherRanks(world),
                 observer, LayerOrder::OneAtATime);
        observer.finish();
    }
    follow(world, job, world.rank() + 1, world.size());
    world.barrier();
}

}  // namespace aimerge
