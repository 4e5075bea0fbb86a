#include "aimerge/calibration/calibrate.h"

#include "calibration/hidden_transport.h"
#include "calibration/stage.h"
#include "calibration/stage_link.h"
#include "calibration/stage_report.h"
#include "calibration/stage_run.h"
#include "calibration/torch_threads.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <sys/resource.h>

namespace aimerge {
namespace {

std::int64_t peakMemoryBytes() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

StatisticsByModule byModule(const StatisticsByPoint& points) {
    StatisticsByModule modules;
    for (const auto& [key, statistics] : points)
        for (const std::string& module : modulesAt(key.point, key.layer)) modules.emplace(module, statistics);
    return modules;
}

}  // namespace

CalibrationResult calibrate(World& world, const CalibrationJob& job) {
    setTorchThreads(job.threads);
    const c10::InferenceMode inference;
    useDevice(job.device);
    const Stage stage = stageOf(job.plan, world.rank(), job.base.modelConfig().layers);
    const std::unique_ptr<HiddenTransport> transport = openTransport(world, stage, job.device);

    StageReport report;
    report.record.rank = world.rank();
    if (stage.empty()) {
        StepNotice::follow(world, lastStage(job.plan), MicroBatches(job.blocks.blocks, job.config.microBatch).count());
    } else {
        StatisticsObserver observer(job.base.name(), world.rank());
        report.record =
            runStage(world, *transport, job, stage, stage.last() ? idleRanks(job.plan) : std::vector<int>{}, observer);
        report.statistics = observer.statistics();
    }
    report.record.peakMemoryBytes = peakMemoryBytes();

    CalibrationResult result;
    for (const std::string& bytes : world.gather(report.toBytes())) {
        const StageReport gathered = StageReport::fromBytes(bytes);
        result.modules.merge(byModule(gathered.statistics));
        result.stages.push_back(gathered.record);
    }
    return result;
}

}  // namespace aimerge
