#include "aimerge/calibration/calibrate.h"

#include "aimerge/architecture/decoder_family.h"
#include "aimerge/calibration/hidden_transport.h"
#include "aimerge/calibration/stage_link.h"
#include "aimerge/calibration/torch_threads.h"
#include "aimerge/distributed/stage.h"
#include "calibration/stage_report.h"
#include "calibration/stage_run.h"

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

/// Those that follow this stage.
std::vector<int> waitingRanks(const World& world, const CalibrationJob& job, const Stage& stage) {
    if (job.merged != nullptr) return otherRanks(world);
    return stage.last() && stage.replica == 0 ? idleRanks(job.plan) : std::vector<int>{};
}

/// Part after part of the corpus, replica after replica.
StatisticsByModule byModule(const std::vector<StageReport>& reports, const DecoderDescription& decoder) {
    std::map<ModuleInput, ChannelSums> total;
    for (const StageReport& report : reports)
        for (const auto& [key, parts] : report.sums)
            for (const ChannelSums& part : parts) {
                const auto [known, isFirst] = total.try_emplace(key, part);
                if (!isFirst) addPart(part, known->second);
            }
    StatisticsByModule modules;
    for (const auto& [key, sums] : total) addModules(decoder, key, sums, modules);
    return modules;
}

}  // namespace

CalibrationResult calibrate(World& world, const CalibrationJob& job) {
    setTorchThreads(job.threads);
    const c10::InferenceMode inference;
    useDevice(job.device);
    const DecoderDescription& decoder = decoderOf(job.base.modelConfig(), job.base.name());
    const Stage stage = stageOf(job.plan, world.rank(), job.base.modelConfig().layers);
    const std::unique_ptr<HiddenTransport> transport = openTransport(world, stage, job.device);

    const MicroBatches steps(job.blocks.blocks, job.config.microBatch, stage.replica, job.plan.replicas);
    StageReport report;
    report.record.rank = world.rank();
    if (job.merged != nullptr) followStages(world, job, 0, world.rank());
    if (!stage.empty()) {
        StatisticsObserver observer(job.base.name(), decoder, world.rank(), steps);
        report.record = runStage(world, *transport, job, stage, steps, waitingRanks(world, job, stage), observer,
                                 job.merged != nullptr ? LayerOrder::Sequential : LayerOrder::Grouped);
        report.sums = observer.takeSums();
    } else if (job.merged == nullptr) {
        StepNotice::follow(world, lastStage(job.plan),
                           MicroBatches(job.blocks.blocks, job.config.microBatch, 0, job.plan.replicas).count());
    }
    if (job.merged != nullptr) followStages(world, job, world.rank() + 1, world.size());
    report.record.peakMemoryBytes = peakMemoryBytes();
    report.record.peakDeviceBytes = static_cast<std::int64_t>(peakMemoryInUse(job.device));

    std::vector<StageReport> reports;
    for (const std::string& bytes : world.gather(report.toBytes())) reports.push_back(StageReport::fromBytes(bytes));
    CalibrationResult result;
    result.own = report.record;
    result.modules = byModule(reports, decoder);
    for (const StageReport& gathered : reports) result.stages.push_back(gathered.record);
    return result;
}

}  // namespace aimerge
